"""The reference's pages, made from the contract, and the hook by which mkdocs gets them.

    python -m tools.docs FOLDER    writes them as Markdown, to be read or compared

`make docs` asks for them at every build, so they cannot be out of date.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import click

from ktrdr_mcp.api.http.openapi import REFUSALS
from ktrdr_mcp.api.operations import OPERATIONS, Operation
from ktrdr_mcp.api.schema import OURS, inline_references
from ktrdr_mcp.cli import cli
from ktrdr_mcp.errors import kinds_by_code
from ktrdr_mcp.features.registry import ListedIndicator, list_indicators
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.strategy import parsing
from ktrdr_mcp.strategy.sections import Section

ROOT: Final = Path(__file__).parents[1]
# Sections of the navigation and their pages, those first that a reader wants first. A page that
# stands nowhere comes last in "How to".
NAVIGATION: Final[Mapping[str, Sequence[str]]] = {
    "Start": ["index.md", "tutorial.md", "clients.md"],
    "How to": [
        "data.md",
        "strategies.md",
        "research.md",
        "sweeps.md",
        "cluster.md",
        "containers.md",
        "operations.md",
        "ktrdr.md",
    ],
    "Reference": [
        "reference/tools.md",
        "reference/http.md",
        "reference/resources.md",
        "mcp.md",
        "conformance.md",
        "reference/commands.md",
        "reference/configuration.md",
        "reference/strategy.md",
        "reference/indicators.md",
        "reference/errors.md",
        "workspace.md",
    ],
    "Explanation": ["verdict.md", "method.md", "processes.md", "speed.md"],
    "Project": ["project/architecture.md", "project/contributing.md", "project/changelog.md"],
}
INCLUDED: Final = {
    "project/architecture.md": "ARCHITECTURE.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/changelog.md": "CHANGELOG.md",
}
WIDE: Final = "| {} |"


def main() -> None:
    """Writes the pages."""
    parser = argparse.ArgumentParser(prog="tools.docs", description="The reference as Markdown.")
    parser.add_argument("folder", type=Path, help="where to write it; made if it is missing")
    folder: Path = parser.parse_args().folder
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Every page that is not written by hand, by its place in the documentation."""
    return {
        "reference/tools.md": tools_page(),
        "reference/http.md": http_page(),
        "reference/resources.md": resources_page(),
        "reference/commands.md": commands_page(),
        "reference/configuration.md": configuration_page(),
        "reference/strategy.md": strategy_page(),
        "reference/indicators.md": indicators_page(),
        "reference/errors.md": errors_page(),
    } | {name: included(file) for name, file in INCLUDED.items()}


# ---- mkdocs


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages, and the navigation of all that there are."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    there = [file.src_uri for file in files.documentation_pages()]
    config.nav = navigation(there)
    return files


def navigation(there: Iterable[str]) -> list[dict[str, list[str]]]:
    """The navigation of the pages that there are."""
    present = set(there)
    placed = {name for names in NAVIGATION.values() for name in names}
    more = {"How to": sorted(present - placed)}
    return [
        {section: [name for name in (*names, *more.get(section, ())) if name in present]}
        for section, names in NAVIGATION.items()
    ]


def included(file: str) -> str:
    """A file of the root as a page: its links lead where they led."""
    text = (ROOT / file).read_text(encoding="utf-8")
    text = re.sub(r"```mermaid\n(.*?)```", lambda found: layers_table(found[1]), text, flags=re.S)
    for page, source in INCLUDED.items():
        text = text.replace(f"]({source})", f"]({Path(page).name})")
    return text.replace("](docs/", "](../")


def layers_table(diagram: str) -> str:
    """A diagram of layers as a table, since a reader's browser fetches nothing to draw one."""
    nodes = re.findall(r'\["(.*?)"\]', diagram)
    return table(["layer", "what it is"], [each.partition(": ")[::2] for each in nodes])


# ---- Markdown


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; nothing of a cell is read as its end."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(WIDE.format(" | ".join(map(cell, line))) for line in lines) + "\n"


def cell(value: object) -> str:
    """A value in a table."""
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return re.sub(r"(?<!`)<(?=\w)", "&lt;", text)


def code(value: object) -> str:
    """A word of the contract."""
    return f"`{value}`"


def block(value: object) -> str:
    """JSON."""
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```\n"


def kind_of(node: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "enum" in node:
        return ", ".join(code(each) for each in node["enum"])
    if "const" in node:
        return code(node["const"])
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(kind_of(each) for each in node["anyOf"]))
    if node.get("type") == "array":
        inside = kind_of(node["items"]) if "items" in node else "anything"
        return f"list of {inside}"
    return str(node.get("type", "anything"))


def bounds_of(node: Mapping[str, Any]) -> str:
    """The bounds of a number."""
    nodes = [node, *node.get("anyOf", [])]
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    found = [
        f"{word} {each[key]:,}" for each in nodes for key, word in words.items() if key in each
    ]
    return ", ".join(found)


def default_of(name: str, schema: Mapping[str, Any]) -> str:
    """What a field is without being given."""
    if name in schema.get("required", []):
        return "required"
    value = schema["properties"][name].get("default")
    return "" if value is None else code(json.dumps(value))


def fields_table(schema: Mapping[str, Any], above: str = "") -> str:
    """The fields of an object and of the objects inside it."""
    return table(["field", "type", "default", "bounds", "meaning"], list(field_rows(schema, above)))


def field_rows(schema: Mapping[str, Any], above: str = "") -> Iterator[list[str]]:
    """A row for each field; those of an object follow it under dotted names."""
    for name, node in schema.get("properties", {}).items():
        if name in OURS:
            continue
        inside = next((one for one in objects_in(node) if one.get("properties")), None)
        yield [
            code(above + name),
            kind_of(node),
            "" if inside else default_of(name, schema),
            bounds_of(node),
            str(node.get("description", "")),
        ]
        if inside:
            yield from field_rows(inside, f"{above}{name}.")


def objects_in(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A schema and its alternatives."""
    return [node, *node.get("anyOf", [])]


# ---- pages


def tools_page() -> str:
    """Every MCP tool."""
    offered = [one for one in OPERATIONS.values() if one.tool is not None]
    rows = [[f"[`{one.name}`](#{one.name})", one.summary] for one in offered]
    intro = (
        "# Tools\n\nWhat an agent can call over MCP. Arguments are strict in meaning and not in"
        " spelling; errors have one [shape](errors.md). Replies are short: histories are"
        " [resources](resources.md), and [HTTP](http.md) has everything.\n\n"
    )
    parts = [intro, table(["tool", "what it does"], rows)]
    for one in offered:
        parts += ["\n", tool_section(one)]
    return "".join(parts)


def tool_section(one: Operation[Any, Any]) -> str:
    """One tool: when to use it, arguments, reply."""
    assert one.tool is not None
    also = [f"{one.method} `{one.path}`"]
    if one.command:
        also.append(f"`ktrdr-mcp {one.command}`")
    if one.resource:
        also.append(f"`{one.resource.template}`")
    schema = inline_references(one.request)
    given = fields_table(schema) if schema.get("properties") else "It takes no arguments.\n"
    parts = [
        f"## {one.name}\n\n{one.tool.description}\n\nThe same: {', '.join(also)}.\n\n",
        given,
        f"\n{reply_fields(one)}",
    ]
    if one.request_example:
        parts.append(f"\nAn example:\n\n{block(dict(one.request_example))}")
    return "".join(parts)


def reply_fields(one: Operation[Any, Any]) -> str:
    """The names of a reply's fields, folded away."""
    schema = inline_references(one.reply, mode="serialization")
    rows = [[code(name), kind_of(node)] for name, node in schema["properties"].items()]
    lines = table(["field", "type"], rows).splitlines()
    return '??? note "The reply"\n\n' + "".join(f"    {line}\n" for line in lines)


def http_page() -> str:
    """Every route."""
    rows = [
        [one.method, code(one.path), one.summary, ", ".join(map(str, one.refusals))]
        for one in OPERATIONS.values()
    ]
    refusals = table(["status", "why"], list(REFUSALS.items()))
    return (
        "# HTTP\n\n`ktrdr-mcp serve` answers on http://127.0.0.1:8000. Every route exists with and"
        " without `/api/v1`; `/docs` shows requests and replies with examples, `/openapi.json` is"
        " the document itself. Progress of a task comes as server-sent events at GET"
        " `/training/{task_id}/events`, and MCP at `/mcp`.\n\n"
        + table(["method", "path", "what it does", "refusals"], rows)
        + f"\n## Refusals\n\nErrors have one [shape](errors.md).\n\n{refusals}"
        + "\n`serve` refuses other Host names (421) and Origins (403) than the loopback's, bodies"
        " that are not JSON (415) or above 1 MiB (413). `--token-file` sets a bearer token; any"
        " address but the loopback needs one. `--allow-host` and `--allow-origin` extend the lists,"
        " for requests that a reverse proxy or an extension passes on: pages of other origins get"
        " no CORS headers and cannot read replies.\n"
    )


def resources_page() -> str:
    """What can be read by address."""
    rows = [
        [code(one.resource.template), one.resource.mime_type, one.resource.description]
        for one in OPERATIONS.values()
        if one.resource is not None
    ]
    return (
        "# Resources\n\nWhat is too long for a conversation can be read by its address over MCP;"
        " clients that subscribe hear of a change.\n\n"
        + table(["address", "type", "what it is"], rows)
        + "\nThe prompt `research_session` begins a session with the log of the research.\n"
    )


def commands_page() -> str:
    """Every command, as its help says it."""
    parts = [
        (
            "# Commands\n\nEvery command has `--json`: the same replies as over MCP and HTTP,"
            " errors too. The beginning of a task id will do where only one begins so. Without a"
            " command, `ktrdr-mcp` speaks MCP over standard input and output.\n"
        )
    ]
    with click.Context(cli, info_name="ktrdr-mcp", max_content_width=96) as context:
        for names, command in commands_under(cli):
            own = click.Context(command, info_name=names[-1], parent=context)
            own.info_name = " ".join(names)
            parts.append(f"\n## {' '.join(names)}\n\n```\n{command.get_help(own)}\n```\n")
    return "".join(parts)


def commands_under(
    group: click.Group, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The commands of a group and of the groups inside it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from commands_under(command, (*above, name))
        else:
            yield (*above, name), command


LABELS: Final = """
## Labels

Labels are buy, hold or sell. `triple_barrier` (`horizon` 8 bars, `width` 0.85): which of two
barriers, set at the recent volatility around the next open, is touched first. Others:
`forward_return`, `zigzag`, `zigzag_segments`. Rows whose label reaches into the next part of the
split are dropped, and the reply says how many.
"""


def configuration_page() -> str:
    """Every setting of a training."""
    return (
        "# Configuration of a training\n\nEach setting comes from the request's `config`, else from"
        " the [strategy](strategy.md), else from here; the reply echoes all of them. On the command"
        " line: `--set early_stopping.patience=5`. A field that is unknown, or would have no"
        " effect, is refused. null switches off what may be null.\n\n"
        + fields_table(inline_references(TrainingConfig))
        + LABELS
        + "\n[Sweeps](../sweeps.md) says what `sweep` does, and [the verdict](../verdict.md) what"
        " `walk_forward`, `control` and `seeds` are for.\n"
    )


def strategy_page() -> str:
    """Every key of a strategy file, as its reader asks for them."""
    named = {place: name for name, place in parsing.PLACES.items()}
    named |= {f"model.training.{key}": key for key in parsing.MODEL_TRAINING}
    about = {name: field.description for name, field in TrainingConfig.model_fields.items()}
    rows = []
    for place, keys in sections_read().items():
        for key in keys:
            dotted = f"{place}.{key}" if place else key
            setting = named.get(dotted)
            more = (
                f"[`{setting}`](configuration.md): {about[setting]}" if setting else ABOUT[dotted]
            )
            rows.append([code(dotted), more])
    text = (ROOT / "strategies" / "mean_reversion.yaml").read_text(encoding="utf-8")
    return (
        "# Strategy file\n\nEvery key that is read; any other is refused with the nearest one, but"
        " for those of [KTRDR](../ktrdr.md) that are known to have no effect. "
        "[How to write a strategy](../strategies.md) says what they mean, "
        "[Indicators](indicators.md) what there is to choose from.\n\n"
        + table(["key", "what it is"], rows)
        + f"\n`strategies/mean_reversion.yaml`:\n\n```yaml\n{text}```\n"
    )


ABOUT: Final[Mapping[str, str]] = {  # keys that are no setting of a training
    "name": "the file's own, if it is there",
    "description": "one line for lists",
    "indicators": "list of {name, type, params, source, raw, timeframe, window}",
    "fuzzy_sets": "by output: auto, crisp, cyclic, or sets by name",
    "window": "bars of every input that a network sees",
    "model": "the network and how it is trained",
    "model.architecture": "layers",
    "model.architecture.output_activation": "softmax; KTRDR writes it",
    "model.training": "settings of the training",
    "model.features": "scaling",
    "model.features.include_raw_indicators": "false; `crisp` is the way here",
    "model.features.scale_features": "whether inputs are scaled",
    "model.features.scaling_method": "standard or minmax",
    "training": "labels and shares",
    "training.data_split": "shares; two of them give the third",
    "training.data_split.train": "share of all usable rows that train",
    "decisions": "how signals are traded",
    "decisions.fuzzy_outputs": "sets of p(buy) - p(sell) in predictions",
    "decisions.long_only": "whether sell means no position",
    "decisions.cost_bps": "basis points per unit of position change",
    "decisions.max_holding_bars": "a position ends after so many bars",
    "decisions.confidence_threshold": "below it, a signal is hold",
    "decisions.position_awareness": "for KTRDR's engine",
    "decisions.filters": "filters of signals",
    "decisions.filters.min_signal_separation": "hours between trades",
    "orchestrator": "for KTRDR's engine",
    "orchestrator.max_position_size": "for KTRDR's engine",
    "orchestrator.modes": "thresholds by mode; that of backtest counts here",
    "orchestrator.modes.backtest.confidence_threshold": "as decisions.confidence_threshold",
    "orchestrator.modes.backtest.require_confirmation": "for KTRDR's engine",
}
WHOLE: Final = """
description: every section
indicators: [{name: rsi, type: rsi, params: {period: 14}, source: close, window: 2}]
fuzzy_sets: {rsi: auto}
model: {type: mlp, architecture: {}, training: {}, features: {}}
training: {labels: {method: triple_barrier}, data_split: {validation: 0.2, test: 0.15}}
decisions: {filters: {min_signal_separation: 4}}
orchestrator: {modes: {backtest: {confidence_threshold: 0.5}}}
"""


def sections_read() -> dict[str, list[str]]:
    """The keys that the reader of strategies knows in each section, by its place."""
    found: dict[str, list[str]] = {}
    ended, only = Section.end, Section.only

    def end(self: Section) -> None:
        found[self.place] = list(dict.fromkeys(self.known))
        ended(self)

    def refuse_others(self: Section, *known: str) -> None:
        found[self.place] = list(dict.fromkeys([*self.known, *known]))
        only(self, *known)

    with patch.object(Section, "end", end), patch.object(Section, "only", refuse_others):
        parsing.parse_strategy(WHOLE, "every_section")
    whole = {key: found[key] for key in sorted(found, key=lambda place: (place != "", place))}
    return {
        place.replace("indicators.rsi", "indicators.NAME"): keys for place, keys in whole.items()
    }


def indicators_page() -> str:
    """Every indicator by group."""
    groups: dict[str, list[ListedIndicator]] = {}
    for one in list_indicators():
        groups.setdefault(one.group, []).append(one)
    parts = [
        (
            "# Indicators\n\nAll are causal: every value is known at its bar's close. What is in"
            " price units is divided by the close unless the strategy says `raw: true`. Of those"
            " that are cyclic, the input may be sine and cosine. Parameters have their default and"
            " bounds.\n"
        )
    ]
    for group, some in groups.items():
        rows = [
            [
                code(one.type),
                one.about + (" Cyclic." if one.cyclic else ""),
                "; ".join(f"{code(name)} {text}" for name, text in one.parameters.items()),
                ", ".join(map(code, one.outputs)),
                one.units,
                one.warm_up_bars,
            ]
            for one in some
        ]
        titles = ["type", "what it is", "parameters", "outputs", "units", "warm-up, bars"]
        parts.append(f"\n## {group}\n\n{table(titles, rows)}")
    return "".join(parts)


def errors_page() -> str:
    """Every error."""
    shape = {
        "success": False,
        "detail": "There is no strategy 'defualt'. Did you mean 'default'?",
        "error": {
            "code": "strategy_not_found",
            "message": "There is no strategy 'defualt'. Did you mean 'default'?",
            "hint": "Strategies: default, mean_reversion, ...",
            "field": "strategy",
        },
    }
    rows = [
        [code(name), kind.http_status, (inspect.getdoc(kind) or "").split("\n\n")[0]]
        for name, kind in sorted(kinds_by_code().items())
    ]
    help_text = inspect.cleandoc(cli.epilog or "").replace("\b\n", "")
    return (
        "# Errors\n\nOne shape everywhere; over MCP it is the result's structured content with"
        f" `isError`. `hint` says what to do next.\n\n{block(shape)}\n"
        + table(["code", "HTTP", "what it is"], rows)
        + f"\n## Exit codes of commands\n\n```\n{help_text}\n```\n"
    )


if __name__ == "__main__":
    main()
