"""The text of a strategy file as plain values: YAML, narrowed to what a strategy needs."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from ktrdr_mcp.errors import InvalidStrategy, quote
from ktrdr_mcp.limits import MAX_STRATEGY_BYTES

MAX_DEPTH: Final = 12
MAX_NODES: Final = 30_000  # keys, values and lists; read in about a second
INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,29})\Z")
NUMBER: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")


class CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader, narrowed to what a strategy needs."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        """Args: text: the whole file."""
        super().__init__(text)
        self.depth = 0
        self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node, if it is plain and not too deep."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise refusal(f"Line {line} has an anchor or alias (& or *)", "Write the value out.")
        if event.tag is not None:
            raise refusal(f"Line {line} has the tag {quote(event.tag)}", "Leave tags out.")
        if self.depth >= MAX_DEPTH:
            raise refusal(f"Line {line} is nested too deep", f"Nest at most {MAX_DEPTH} levels.")
        if self.nodes >= MAX_NODES:
            raise refusal("The file has too many values", f"Keep to {MAX_NODES:,} values.")
        self.nodes += 1
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are text and stand once."""
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise refusal(f"Line {line} has a key that is not text", "Put quotes around it.")
            if key.value in seen:
                raise refusal(
                    f"Line {line} repeats the key {quote(key.value)}", "Keep one of the two."
                )
            seen.add(key.value)
        return yaml.constructor.BaseConstructor.construct_mapping(self, node, deep)


for tag, pattern, first_characters in (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    ("int", INTEGER, list("-+0123456789")),
    ("float", NUMBER, list("-+.0123456789")),
):
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, first_characters)


def refusal(what: str, hint: str) -> InvalidStrategy:
    """The error for text that this program does not read."""
    return InvalidStrategy(f"{what}.", hint=hint)


def load(text: str) -> object:
    """The values of a YAML text.

    Args:
        text: at most MAX_STRATEGY_BYTES in UTF-8.
    Returns:
        nested dicts (text keys), lists, text, numbers, booleans and None.
    Raises:
        InvalidStrategy: it is too large, not YAML, or uses more than plain values.
    """
    size_bytes = len(text.encode(errors="replace"))
    if size_bytes > MAX_STRATEGY_BYTES:
        raise refusal(
            f"The file has {size_bytes:,} bytes", f"Keep it within {MAX_STRATEGY_BYTES:,} bytes."
        )
    try:
        return CoreLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise refusal(
            f"It is not YAML: {error.problem or error.context}{where}",
            "Correct that line; indent with spaces, never with tabs.",
        ) from None
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", type(error).__name__)
        raise refusal(f"It is not YAML: {reason}", "Save the file as plain UTF-8 text.") from None
