"""What of a reply is kept: everything but prose, times, places and what is random."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

# sentences for people and agents; their wording is free
PROSE = frozenset(
    {
        *("message", "hint", "detail", "reason", "next", "needs", "luck", "summary", "meaning"),
        *("error", "alarm", "description", "title", "defects", "notes", "not_read", "warnings"),
        *("ktrdr_incompatibilities", "instructions", "remedy", "text", "note", "differences"),
    }
)
TIMESTAMPS = frozenset({"estimated_completion", "timestamp", "saved", "trained_at"})
DURATIONS = re.compile(r".*_(minutes|duration|seconds|ms|s)|duration|elapsed|training_time")
PLACES = frozenset({"pid", "url", "port", "token", "instance", "stopped", "path_of_workspace"})
SIZES = frozenset({"freed_bytes"})
RANDOM_ID = re.compile(r"(training|reproduction)_\d{8}_\d{6}_[0-9a-f]{8}")
ISO = re.compile(r"20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")
LONG = 40  # numbers of a list; a longer list is told by a few of them
DIGITS = 6
SCHEMA_WORDS = frozenset({"description", "title", "summary", "example", "examples"})


class Mask:
    """Masks the replies of one conversation.

    Args:
        said: every text that the script itself says; it is kept wherever it comes back.
        hidden: texts of this run, with what stands for each.
    """

    def __init__(self, said: Iterable[str], hidden: dict[str, str]) -> None:
        self.said = {text for text in said if text}
        self.hidden = hidden
        self.ids: dict[str, str] = {}
        self.given: set[bytes] = set()  # contents of files that the script itself wrote

    def reply(self, value: Any, key: str = "", keep: Iterable[str] = ()) -> Any:
        """A reply without what is free to differ.

        Args:
            value: decoded JSON.
            key: under which it lies.
            keep: keys whose prose is kept.
        """
        kept = frozenset(keep)
        if isinstance(value, dict):
            if key in {"versions", "libraries"}:
                return dict.fromkeys(value, "<version>")
            return {self.place(name): self.reply(each, name, kept) for name, each in value.items()}
        if key == "workers":  # how many there are depends on the machine and the moment
            return "<workers>"
        if isinstance(value, list):
            return self.items(value, key, kept)
        if isinstance(value, str):
            return self.text(value, key, kept)
        if isinstance(value, bool) or value is None:
            return value
        return self.number(value, key)

    def items(self, values: list[Any], key: str, kept: frozenset[str]) -> Any:
        """A list; a long one of numbers is told by its length and a few of them."""
        plain = all(isinstance(each, int | float) for each in values)
        pairs = all(isinstance(each, list) and len(each) == 2 for each in values)
        if len(values) > LONG and plain:
            some = [values[0], values[len(values) // 2], values[-1], sum(values)]
            return {"<numbers>": len(values), "some": self.reply(some, key, kept)}
        if len(values) > LONG and pairs:
            some = [values[0], values[len(values) // 2], values[-1]]
            return {"<pairs>": len(values), "some": self.reply(some, key, kept)}
        records = all(isinstance(each, dict) and each.keys() == values[0].keys() for each in values)
        if len(values) > LONG and records:
            some = [values[0], values[len(values) // 2], values[-1]]
            return {"<objects>": len(values), "some": self.reply(some, key, kept)}
        return [self.reply(each, key, kept) for each in values]

    def text(self, value: str, key: str, kept: frozenset[str]) -> str:
        """A text, unless it is prose, a moment or random."""
        if not value or value in self.said or key in kept:
            return self.place(value)
        if key in PROSE:
            return "<text>"
        if key == "version":
            return "<version>"
        if key in PLACES:
            return f"<{key}>"
        if key.endswith("_at") or key in TIMESTAMPS:
            return "<moment>" if ISO.fullmatch(value) else "<not a moment>"
        return self.place(value)

    def place(self, value: str) -> str:
        """A text with random ids numbered, and with what is this run's own hidden."""
        for own, instead in self.hidden.items():
            value = value.replace(own, instead)
        return RANDOM_ID.sub(self.numbered, value)

    def numbered(self, match: re.Match[str]) -> str:
        """The same word for the same id wherever it comes."""
        return self.ids.setdefault(match[0], f"<{match[1]} id {len(self.ids) + 1}>")

    def number(self, value: float, key: str) -> Any:
        """A number, unless it is a duration or names a process."""
        if key in PLACES:
            return f"<{key}>"
        if key in SIZES:
            return "<size>"
        if DURATIONS.fullmatch(key) and key not in {"wait_s"}:
            return "<duration>"
        return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def schema(value: Any, key: str = "") -> Any:
    """A JSON schema without its words for people."""
    if isinstance(value, dict):
        named = key in {"properties", "$defs", "schemas", "responses", "paths"}
        return {
            name: each if name == "const" else schema(each, "" if named else name)
            for name, each in value.items()
            if named or name not in SCHEMA_WORDS
        }
    if isinstance(value, list):
        return [schema(each) for each in value]
    return value


def without_references(value: Any, document: dict[str, Any]) -> Any:
    """A schema with everything that it refers to in its place, whatever its name was."""
    if isinstance(value, list):
        return [without_references(each, document) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        target: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return without_references(target, document)
    return {name: without_references(each, document) for name, each in value.items()}


def sha256(content: bytes) -> str:
    """The hash of a file's content."""
    return hashlib.sha256(content).hexdigest()
