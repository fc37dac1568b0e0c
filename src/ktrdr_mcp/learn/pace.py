"""How often a training lets others run."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from ktrdr_mcp.context import Context

_INTERVAL_S: Final = 0.005  # a tenth of the longest turn


class Pace:
    """Yields the turn every few milliseconds; costs a tenth of a microsecond otherwise."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._due = 0.0

    def step(self) -> None:
        """Called between steps. Raises Cancelled when the training must stop."""
        if perf_counter() >= self._due:
            self._context.yield_turn()
            self._due = perf_counter() + _INTERVAL_S
