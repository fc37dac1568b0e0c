"""The pages that run a script: the live page, and the view of a training in a chat (MCP Apps).

Each is one HTML file whose only script is allowed by its hash; the view speaks to its host alone.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from ktrdr_mcp.report.page import DARK, LIGHT, STYLE, document, figure, paragraph, source_hash, text
from ktrdr_mcp.report.training import (
    TrainingReport,
    describe_unfinished,
    equity_section,
    loss_curve,
    luck_section,
    verdict_section,
)

LIVE_STYLE: Final = """
body{max-width:80rem}
header{display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:baseline}
#running{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:.75rem}
article{border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem;max-width:42rem;
contain:content}
h3{font-size:1rem;margin:0}
progress{width:100%;accent-color:var(--own)}
button,input{font:inherit;color:inherit;background:transparent;border:1px solid var(--soft);
border-radius:.375rem;padding:.125rem .625rem}
button{cursor:pointer}button:hover{background:var(--shade)}
:focus-visible{outline:2px solid var(--own);outline-offset:2px}
th,td{text-align:left}td{vertical-align:middle}.words{min-width:30rem}
tbody tr{content-visibility:auto;contain-intrinsic-size:auto 2rem}
#tasks .wide{max-height:28rem;overflow:auto;contain:content}
dialog{background:var(--paper);color:var(--ink);border:1px solid var(--line);border-radius:.5rem}
dialog::backdrop{background:#0008}
""".strip()

# A host's theme wins over what the system prefers.
VIEW_STYLE: Final = f"""
:root[data-theme=light]{{color-scheme:light;{LIGHT}}}
:root[data-theme=dark]{{color-scheme:dark;{DARK}}}
body{{max-width:none;padding:.75rem 1rem}}
h2{{margin-top:1.25rem}}
progress{{width:100%;accent-color:var(--own)}}
""".strip()
LOSSES: Final = ("Loss after each epoch.", (("own", "validation"), ("other", "training")))


def policy(script: str, style: str) -> str:
    """What a browser allows the page; reports are opened from it and come with their own style."""
    return (
        f"default-src 'none'; script-src {source_hash(script)}; "
        f"style-src {source_hash(style)} {source_hash(STYLE)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def live_page() -> tuple[str, str]:
    """The page, which holds no data, and the policy that it is to be served with."""
    here = files("ktrdr_mcp.report")
    script = here.joinpath("live.js").read_text(encoding="utf-8")
    style = f"{STYLE}\n{LIVE_STYLE}"
    content = here.joinpath("live.html").read_text(encoding="utf-8")
    html = document("ktrdr-mcp", style, content, script)
    return html, policy(script, style)


@cache
def view_page() -> str:
    """The file, which holds no data: it asks the server through its host."""
    here = files("ktrdr_mcp.report")
    script = here.joinpath("view.js").read_text(encoding="utf-8")
    style = f"{STYLE}\n{VIEW_STYLE}"
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
        return f"{curve}{describe_unfinished(report) if ended else ''}"
    parts = [
        verdict_section(performance),
        luck_section(report.luck),
        equity_section(report, result, performance),
        curve,
        *(paragraph(text(note)) for note in report.notes),
    ]
    return "\n".join(part for part in parts if part)
