"""Strategy files in the dialects of other programs: what a dialect must do, and which there are.

Every dialect reads every file before this program's own form is checked. It takes out what its
program ignores and rewrites what this program says in another way; all that it does is reported.
To add one, implement `StrategyDialect` in a module of `interop` and name it in DIALECTS.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol

from ktrdr_mcp.strategy.sections import Report

DIALECTS: Final = ("ktrdr_mcp.interop.ktrdr.strategies",)  # modules with DIALECT
LEFT_OUT: Final = object()  # in the place of an indicator that a dialect passes over


class StrategyDialect(Protocol):
    """How another program writes a strategy file."""

    def translate(self, values: Mapping[str, Any], report: Report) -> dict[str, Any]:
        """The file in this program's form.

        Args:
            values: the file's plain values; nothing of them is checked.
            report: gets what has no effect, what differs and what cannot be honoured.
        """
        ...


@cache
def dialects() -> tuple[StrategyDialect, ...]:
    """All of them."""
    return tuple(import_module(name).DIALECT for name in DIALECTS)
