"""The view of a training in a chat: one HTML file that speaks to its host alone (MCP Apps)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from ktrdr_mcp.report.page import DARK, LIGHT, STYLE, document, figure, paragraph, source_hash, text
from ktrdr_mcp.report.training import (
    TrainingReport,
    equity_section,
    loss_curve,
    luck_section,
    unfinished,
    verdict_section,
)

# A host's theme wins over what the system prefers.
MORE_STYLE: Final = f"""
:root[data-theme=light]{{color-scheme:light;{LIGHT}}}
:root[data-theme=dark]{{color-scheme:dark;{DARK}}}
body{{max-width:none;padding:.75rem 1rem}}
h2{{margin-top:1.25rem}}
progress{{width:100%;accent-color:var(--own)}}
""".strip()
LOSSES: Final = ("Loss after each epoch.", (("own", "validation"), ("other", "training")))


@cache
def view_page() -> str:
    """The file, which holds no data: it asks the server through its host."""
    here = files("ktrdr_mcp.report")
    script = here.joinpath("view.js").read_text(encoding="utf-8")
    style = f"{STYLE}\n{MORE_STYLE}"
    policy = (
        f"default-src 'none'; script-src {source_hash(script)}; style-src {source_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    content = here.joinpath("view.html").read_text(encoding="utf-8")
    return document("Training", style, content, script, policy)


def view_drawing(report: TrainingReport) -> str:
    """What the view shows of a task, as HTML: the losses so far; at the end what it is worth."""
    performance, result = report.performance, report.result
    best = None if result is None else result.training_metrics.best_epoch
    curve = figure(loss_curve(report.epochs, best), *LOSSES) if report.epochs else ""
    if performance is None or result is None:
        ended = report.status.status in {"failed", "cancelled"}
        return f"{curve}{unfinished(report) if ended else ''}"
    parts = [
        verdict_section(performance),
        luck_section(report.luck),
        equity_section(report, result, performance),
        curve,
        *(paragraph(text(note)) for note in report.notes),
    ]
    return "\n".join(part for part in parts if part)
