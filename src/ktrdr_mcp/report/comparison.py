"""The report of several tasks side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ktrdr_mcp.report.drawing import Chart, epoch_axis, linear_axis
from ktrdr_mcp.report.page import (
    decimal,
    figure,
    page,
    paragraph,
    percent,
    section,
    table,
    text,
    value,
)
from ktrdr_mcp.report.training import WORDS, Epochs
from ktrdr_mcp.schemas.responses import ComparedTask, Comparison

STYLES = ("own", "other", "faint", "loss")


def comparison_page(reply: Comparison, epochs: Mapping[str, Epochs]) -> str:
    """The report as one HTML file.

    Args:
        reply: the comparison's.
        epochs: of each task whose result is kept, by its id.
    """
    return page(
        "Comparison of trainings",
        [
            "<h1>Comparison of trainings</h1>",
            paragraph(text(reply.summary, 2_000), "lead"),
            section("Ranked by validation", ranking(reply.tasks)),
            section("What differs", differences(reply)),
            section("More than luck?", render_pairs(reply)),
            section("Validation loss", curves(reply.tasks, epochs)),
        ],
    )


def ranking(tasks: Sequence[ComparedTask]) -> str:
    """One row for each task, best first."""
    rows = [
        [
            f"{task.rank}. <code>{text(task.task_id)}</code>",
            value(f"tasks.{place}.val_gain", task.val_gain, percent(task.val_gain, signed=True)),
            value(f"tasks.{place}.val_accuracy", task.val_accuracy, percent(task.val_accuracy)),
            value(f"tasks.{place}.statistic", task.statistic, decimal(task.statistic)),
            text(WORDS.get(task.prediction, task.prediction)),
        ]
        for place, task in enumerate(tasks)
    ]
    return table(
        ["task", "gain", "validation", "T", "verdict"],
        rows,
        "Gain: validation accuracy above always answering the most frequent class.",
    )


def differences(reply: Comparison) -> str:
    """Settings that are not the same everywhere, in the order of the ranking."""
    rows = [
        [text(name), *(text(json.dumps(each), 120) for each in values)]
        for name, values in reply.differences.items()
    ]
    return table(["setting", *(f"{task.rank}." for task in reply.tasks)], rows)


def render_pairs(reply: Comparison) -> str:
    """The first task against each other one."""
    rows = [
        [
            f"<code>{text(each.second)}</code>",
            value(f"tests.{place}.difference", each.difference, decimal(each.difference)),
            value(f"tests.{place}.p", each.p, decimal(each.p)),
            text(each.meaning),
        ]
        for place, each in enumerate(reply.tests)
    ]
    return table(["first against", "difference of T", "p", "meaning"], rows)


def curves(tasks: Sequence[ComparedTask], epochs: Mapping[str, Epochs]) -> str:
    """Validation loss of each task over its epochs."""
    known = [task for task in tasks if len(epochs.get(task.task_id, ())) > 1][: len(STYLES)]
    if not known:
        return ""
    lines = {
        task.task_id: [
            (float(each["epoch"]), float(each["val_loss"])) for each in epochs[task.task_id]
        ]
        for task in known
    }
    last = max(line[-1][0] for line in lines.values())
    chart = Chart(
        "Validation loss per epoch",
        epoch_axis(1, last),
        linear_axis([y for line in lines.values() for _, y in line], "log loss, nats"),
    )
    for task, style in zip(known, STYLES, strict=False):
        chart.line(lines[task.task_id], style)
    key = [
        (style, f"{task.rank}. {task.task_id}") for task, style in zip(known, STYLES, strict=False)
    ]
    return figure(chart.svg(), "Loss on each task's own validation rows after every epoch.", key)
