"""What a search tried, by validation alone: scores of candidates over settings that varied."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr_mcp.report.drawing import SMALL_WIDTH, Axis, Chart, growth_axis, linear_axis
from ktrdr_mcp.report.page import (
    decimal,
    figure,
    paragraph,
    percent,
    section,
    side_by_side,
    table,
    text,
    trials_in_words,
    value,
)
from ktrdr_mcp.schemas.responses import BestSettings, SweepFigures

MOST_DRAWN: Final = 4  # settings, those that matter most
NAME_CHARACTERS: Final = 16


@dataclass(frozen=True)
class Candidate:
    """One that a search trained.

    Args:
        number: from 1.
        settings: the value of each setting that varied.
        score: mean T on validation rows.
    """

    number: int
    settings: Mapping[str, object]
    score: float


def sweep_section(sweep: SweepFigures | None, candidates: Sequence[Candidate]) -> str:
    """The search in words, its candidates drawn, and the best of them.

    Args:
        sweep: as `get_model_performance` says it; None without a search.
        candidates: those that have a score; none where the bundle is gone.
    """
    if sweep is None:
        return ""
    known = {each.number: each.settings for each in candidates}
    scored = [
        [
            value(f"sweep.best.{place}.candidate", each.candidate, str(each.candidate)),
            text(settings_text(each, known), 200),
            value(f"sweep.best.{place}.score", each.score, decimal(each.score)),
        ]
        for place, each in enumerate(sweep.best)
    ]
    chosen = ", ".join(str(number or "none") for number in sweep.chosen_by_fold)
    return section(
        "Search",
        paragraph(
            f"{sweep.trials:,} sets of settings by {text(sweep.sampler)}, {sweep.diverged} "
            f"diverged. The folds chose candidates {chosen}; the kept network is candidate "
            f"{sweep.kept}. {sweep.not_distinguishable_from_best} are not distinguishable from "
            f"the best. The search counts as {trials_in_words(sweep.counts_as)} on these bars."
        ),
        candidates_figures(sweep, candidates),
        table(["candidate", "settings", "score"], scored, "The best by validation."),
    )


def settings_text(best: BestSettings, known: Mapping[int, Mapping[str, object]]) -> str:
    """The settings of one of the best: those of the reply, or of the candidate where it is short.

    Args:
        best: as the reply has it.
        known: settings by number of the candidate, as far as they are kept.
    """
    settings = known.get(best.candidate) if best.settings is None else best.settings
    return "not kept" if settings is None else format_settings(settings) or "the task's own"


def format_settings(settings: Mapping[str, object]) -> str:
    """Settings in few characters."""
    return ", ".join(f"{name} {setting_text(each)}" for name, each in settings.items())


def setting_text(setting: object) -> str:
    """A value of a setting as people write it."""
    if isinstance(setting, str):
        return setting
    if isinstance(setting, list):
        return "-".join(map(str, setting))
    return json.dumps(setting)


def candidates_figures(sweep: SweepFigures, candidates: Sequence[Candidate]) -> str:
    """One small drawing for each setting that varied, those that matter most first."""
    names = list(dict.fromkeys(name for each in candidates for name in each.settings))
    varied = [
        name
        for name in names
        if len({setting_text(each.settings.get(name)) for each in candidates}) > 1
    ]
    if not varied:
        return ""
    varied.sort(key=lambda name: -sweep.matters.get(name, 0.0))
    drawn = [setting_figure(name, sweep, candidates) for name in varied[:MOST_DRAWN]]
    left_out = len(varied) - len(drawn)
    more = f" {left_out} more settings varied." if left_out else ""
    return paragraph(
        f"Each dot is one of {len(candidates):,} candidates: its score, the mean T on validation "
        "rows, over one setting. Test rows are in none of these figures."
        f"{more}"
    ) + side_by_side(drawn)


def setting_figure(name: str, sweep: SweepFigures, candidates: Sequence[Candidate]) -> str:
    """The scores of the candidates over one setting; the chosen and the kept one stand out."""
    axis, places = setting_axis(name, [each.settings.get(name) for each in candidates])
    chart = Chart(
        f"Validation score by {name}",
        axis,
        linear_axis([each.score for each in candidates], "mean T", ticks=4),
        height=200,
        width=SMALL_WIDTH,
        left=44,
    )
    chosen = {number for number in sweep.chosen_by_fold if number is not None} - {sweep.kept}
    for style, numbers in (("faint", None), ("other", chosen), ("own", {sweep.kept})):
        chart.dots(
            [
                (place, each.score)
                for each, place in zip(candidates, places, strict=True)
                if numbers is None or each.number in numbers
            ],
            style,
        )
    share = sweep.matters.get(name)
    explains = (
        f"{text(name)} explains little of the variance of the scores."
        if share is None
        else f"{text(name)} explains {value(f'sweep.matters.{name}', share, percent(share, 0))} of "
        "the variance of the scores."
    )
    key = [("own", "kept")] + ([("other", "chosen by a fold")] if chosen else [])
    return figure(chart.svg(), explains, key)


def setting_axis(name: str, values: Sequence[object]) -> tuple[Axis, list[float]]:
    """An axis for the values of a setting, and where each value lies on it.

    Numbers lie by their size, by factors where they differ many times; all else lies in a row.
    """
    numbers = [
        float(each)
        for each in values
        if isinstance(each, int | float) and not isinstance(each, bool)
    ]
    if len(numbers) == len(values):
        return growth_axis(numbers, name, ticks=4), numbers
    names = sorted({setting_text(each) for each in values})
    short = [each[:NAME_CHARACTERS] for each in names]
    # half a place of room at both ends
    axis = Axis(
        name,
        tuple(float(place) for place in range(len(names))),
        lambda place: short[round(place)],
        margin=0.5,
    )
    return axis, [float(names.index(setting_text(each))) for each in values]
