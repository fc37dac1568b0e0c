"""What a task's networks learned: what each indicator is worth, beside what luck reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ktrdr_mcp.report.drawing import BOTTOM, TOP, Axis, Chart, linear_axis
from ktrdr_mcp.report.page import decimal, figure, paragraph, section, table, text, value
from ktrdr_mcp.schemas.responses import Explanation, GroupImportance

MOST_DRAWN: Final = 20
NAME_CHARACTERS: Final = 14
ROW: Final = 22  # units of an indicator's row
LEFT: Final = 165  # room for their names


def explanation_section(explained: Explanation | None) -> str:
    """The importance of each indicator with the null, drawn and in figures."""
    if explained is None or not explained.groups:
        return ""
    shown = explained.groups[:MOST_DRAWN]
    rows = [
        [
            text(each.group, 60),
            value(f"groups.{place}.importance", each.importance, decimal(each.importance, 5)),
            value(f"groups.{place}.error", each.error, decimal(each.error, 5)),
            value(f"groups.{place}.p", each.p, decimal(each.p, 4)),
        ]
        for place, each in enumerate(shown)
    ]
    left_out = len(explained.groups) + explained.left_out - len(shown)
    more = f" {left_out} less important ones are not shown." if left_out else ""
    return section(
        "What the networks rest on",
        paragraph(text(explained.summary, 1_000)),
        importances_figure(shown, explained.critical),
        table(
            ["indicator", "importance", "error", "p"],
            rows,
            f"Of {explained.rows:,} test rows in {explained.blocks} blocks; p is the chance that "
            f"the largest of all indicators is as large by luck.{more}",
        ),
    )


def importances_figure(groups: Sequence[GroupImportance], critical: float | None) -> str:
    """Each indicator's importance with its error, over what the largest reaches by luck."""
    luck = [0.0 if critical is None else critical * each.error for each in groups]
    ends = [
        end
        for each in groups
        for end in (each.importance - each.error, each.importance + each.error)
    ]
    last = len(groups) - 1
    names = [
        each.group
        if len(each.group) <= NAME_CHARACTERS
        else f"{each.group[: NAME_CHARACTERS - 1]}…"
        for each in groups
    ]
    chart = Chart(
        "Importance of each indicator, and what luck reaches",
        linear_axis([0.0, *ends, *luck], "loss of directional score per row, shuffled"),
        Axis(
            "indicator",
            tuple(float(place) for place in range(len(groups))),
            lambda place: names[last - round(place)],
            margin=0.5,
        ),
        height=TOP + BOTTOM + ROW * len(groups),
        left=LEFT,
    )
    for place, (each, by_luck) in enumerate(zip(groups, luck, strict=True)):
        row = float(last - place)
        chart.reach(0.0, by_luck, row, "faint")
        chart.across(each.importance, row, "own", each.error)
    said = (
        "Grey: what the largest of all indicators reaches by luck in 98 of 100 draws."
        if critical is not None
        else "What luck reaches was not kept with this explanation."
    )
    return figure(
        chart.svg(),
        "What the directional score of the test rows loses where an indicator is shuffled; "
        f"whiskers are one standard error over blocks of time. {said}",
    )
