"""The page around drawings: style, security policy, figures and tables. It runs no script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

LIGHT: Final = (
    "--paper:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--own:#0b62c4;--other:#b35900;"
    "--good:#1a7f37;--bad:#c4232b;--shade:#0b62c414;--past:#57606a14"
)
DARK: Final = (
    "--paper:#0d1117;--ink:#e6edf3;--soft:#9aa4af;--line:#30363d;--own:#6cb0ff;--other:#f0a35a;"
    "--good:#5fd07a;--bad:#ff8a82;--shade:#6cb0ff1c;--past:#9aa4af1c"
)
COLOURS: Final = f"""
:root{{color-scheme:light dark;{LIGHT}}}
@media(prefers-color-scheme:dark){{:root{{{DARK}}}}}
""".lstrip()
RULES: Final = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:46rem;padding:1.5rem 1rem 4rem;background:var(--paper);
color:var(--ink);font:16px/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem}
h2{font-size:1.125rem;margin:2.5rem 0 .5rem}
p{margin:.5rem 0}
.soft,figcaption{color:var(--soft)}
.lead{font-size:1.125rem}
.tag{display:inline-block;padding:0 .5rem;border:1px solid currentColor;border-radius:1rem;
font-size:.875rem;font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}.open{color:var(--other)}
figure{margin:1rem 0}figcaption{font-size:.9375rem}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font:12px system-ui,sans-serif;fill:var(--soft)}
svg text.label{fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:3px}
.grid,.axis{stroke:var(--line);fill:none}
.line{fill:none;stroke-width:1.75;stroke-linejoin:round}
.whisker{fill:none;stroke-width:1.25}
.rule{fill:none;stroke-width:1.25;stroke-dasharray:4 3}
.own{stroke:var(--own)}.other{stroke:var(--other)}.faint{stroke:var(--soft)}
.loss{stroke:var(--bad)}
.bar.own,.dot.own{fill:var(--own);stroke:none}.bar.other,.dot.other{fill:var(--other);stroke:none}
.bar.faint{fill:var(--line);stroke:none}.bar.gain{fill:var(--good)}.bar.fall{fill:var(--bad)}
.dot.faint{fill:var(--soft);stroke:none}
svg text.own{fill:var(--own)}svg text.other{fill:var(--other)}
svg text.faint{fill:var(--soft)}
.dots{fill:none;stroke-width:7;stroke-linecap:round}.dots.faint{opacity:.45}
.reach{fill:none;stroke-width:12}.reach.faint{stroke:var(--line)}
.area{stroke:none}.area.loss{fill:var(--bad);opacity:.25}.area.own{fill:var(--shade)}
.band{stroke:none}.band.own{fill:var(--shade)}.band.past{fill:var(--past)}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;margin:.25rem 0;padding:0;
font-size:.875rem}
.key li::before{content:"";display:inline-block;width:1.25rem;height:.1875rem;margin:0 .375rem .2rem
0;background:currentColor}
.key .own{color:var(--own)}.key .other{color:var(--other)}.key .faint{color:var(--soft)}
.key .loss{color:var(--bad)}.key .gain{color:var(--good)}
.many{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:0 1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9375rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .75rem .25rem 0;text-align:right;vertical-align:top;font-weight:400;
white-space:nowrap}
th:first-child,td:first-child{text-align:left}th[scope=row],.words{white-space:normal}
.tight th,.tight td{padding:.25rem .375rem .25rem 0;font-size:.8125rem}
.words{min-width:14rem;text-align:left}th[scope=row]+td{white-space:normal}
thead th{color:var(--soft)}tbody tr{border-top:1px solid var(--line)}
code{font:.875em ui-monospace,monospace}
a{color:var(--own)}
@media(max-width:30rem){svg text{font-size:19px}.many svg text{font-size:12px}
.wide-only{display:none}}
@media print{body{max-width:none;padding:0}h2,figure,tr{break-inside:avoid}
:root{--paper:#fff;--ink:#000;--soft:#444;--line:#bbb;--own:#0b62c4;--other:#b35900;--good:#1a7f37;
--bad:#c4232b}}
""".strip()
STYLE: Final = f"{COLOURS}{RULES}"


def source_hash(content: str) -> str:
    """How a security policy names a style or a script that it allows."""
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


# What a browser allows the page, also where it is opened from a disk.
POLICY: Final = (
    f"default-src 'none'; style-src {source_hash(STYLE)}; base-uri 'none'; form-action 'none'"
)

# Controls and marks that turn the direction of writing: a name with them would show as another.
UNSEEN: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069]"
)
NONE: Final = "\N{EN DASH}"
MINUS: Final = "\N{MINUS SIGN}"
MOST_CHARACTERS: Final = 400  # of a text from outside
MOST_WIDE_COLUMNS: Final = 8  # more are set closer together
MOST_IN_A_LINE: Final = 32  # of a cell of a table
MARKUP: Final = re.compile(r"<[^>]*>|&\w+;")


def text(words: str, most: int = MOST_CHARACTERS) -> str:
    """A text from outside as HTML that shows as the text: without marks, controls or excess."""
    seen = UNSEEN.sub("\N{REPLACEMENT CHARACTER}", words)
    return escape(seen if len(seen) <= most else f"{seen[: most - 1]}…")


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document without script.

    Args:
        title: as text.
        parts: HTML, from top to bottom.
    """
    content = "\n".join(["<main>", *(part for part in parts if part), "</main>"])
    return document(title, STYLE, content, policy=POLICY)


def document(
    title: str, style: str, content: str, script: str | None = None, policy: str | None = None
) -> str:
    """A whole HTML file.

    Args:
        title: as text.
        style: its only one.
        content: HTML.
        script: its only one, at the end; None for none.
        policy: of its security, where nothing else says it.
    """
    inside = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n' if policy else ""
    runs = f"<script>{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'{inside}<meta name="viewport" content="width=device-width">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"{content}\n{runs}</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A part of a page under a heading; nothing where no part has anything."""
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def paragraph(content: str, style: str = "") -> str:
    """A paragraph of HTML; nothing without content."""
    if not content:
        return ""
    return f'<p class="{style}">{content}</p>' if style else f"<p>{content}</p>"


def figure(drawing: str, caption: str, key: Sequence[tuple[str, str]] = ()) -> str:
    """A drawing with the sentence that says what it shows.

    Args:
        drawing: SVG.
        caption: HTML.
        key: style and name of each line.
    """
    names = "".join(f'<li class="{style}">{escape(name)}</li>' for style, name in key)
    listed = f'<ul class="key">{names}</ul>' if names else ""
    return f"<figure>{drawing}{listed}<figcaption>{caption}</figcaption></figure>"


def side_by_side(figures: Iterable[str]) -> str:
    """Small figures, as many in a row as the page holds."""
    return f'<div class="many">{"".join(figures)}</div>'


def value(field: str, number: float | str | list[str] | None, shown: str) -> str:
    """A figure of the JSON, written for people and kept as it is for programs.

    Args:
        field: dotted path in the JSON.
        number: what stands there.
        shown: what a reader sees.
    """
    raw = escape(json.dumps(number), quote=True)
    return f'<data data-field="{escape(field)}" value="{raw}">{escape(shown)}</data>'


def percent(number: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """A share as people read it; a dash for none."""
    if number is None:
        return NONE
    return f"{number * 100:{'+' if signed else ''},.{digits}f} %".replace("-", MINUS)


def decimal(number: float | None, digits: int = 2) -> str:
    """A number as people read it; a dash for none."""
    return NONE if number is None else f"{number:,.{digits}f}".replace("-", MINUS)


def trials_in_words(count: int) -> str:
    """ "one trial" or "3 trials"."""
    return "one trial" if count == 1 else f"{count} trials"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Rows of cells that are HTML already, under heads that are text."""
    lines = list(rows)
    if not lines:
        return ""
    columns = zip(*lines, strict=True)
    words = [any(len(MARKUP.sub("", cell)) > MOST_IN_A_LINE for cell in each) for each in columns]
    kinds = [' class="words"' if long else "" for long in words]
    named = "".join(
        f'<th scope="col"{kind}>{escape(head)}</th>'
        for head, kind in zip(heads, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(line, kinds, strict=True))
        + "</tr>"
        for line in lines
    )
    kind = ' class="tight"' if len(heads) > MOST_WIDE_COLUMNS else ""
    drawn = wide(f"<table{kind}><thead><tr>{named}</tr></thead><tbody>{body}</tbody></table>")
    return f"{paragraph(caption, 'soft')}{drawn}"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns; the names are text, the values HTML."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{content}</td></tr>' for name, content in pairs
    )
    return wide(f"<table><tbody>{rows}</tbody></table>")


def wide(content: str) -> str:
    """What may be wider than a phone, to be scrolled by finger and by keyboard."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="Table">{content}</div>'
