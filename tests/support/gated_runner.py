"""A runner that waits inside until the test lets it go on."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktrdr_mcp.context import Context, Progress
from tests.support.sample_results import run_result

BOUND_S = 60.0  # a wait that lasts so long is a failure
RESULT = run_result().to_json()


def progress(epoch: int, total_epochs: int = 100) -> Progress:
    """What a training reports at an epoch's end."""
    return Progress(epoch, total_epochs, 0.7, 0.8, 0.5, 0.4)


@dataclass
class Gate:
    """One run: says when it is inside, and goes on when the test lets it."""

    entered: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    async def until_entered(self) -> None:
        """Waits until the run is inside."""
        assert await asyncio.to_thread(self.entered.wait, BOUND_S), "the run never began"


class GatedRunner:
    """A run that reports one epoch, waits for its gate and then does what its task id says.

    The first word of the id: ok returns; obey asks for a turn, then returns; others raise.
    """

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()
        self.errors: dict[str, BaseException] = {}
        self.begun: list[str] = []

    def gate(self, task_id: str) -> Gate:
        """The gate of one task."""
        with self._lock:
            return self._gates.setdefault(task_id, Gate())

    def __call__(self, spec: dict[str, Any], directory: Path, context: Context) -> dict[str, Any]:
        """The run itself."""
        task_id = directory.name
        self.begun.append(task_id)
        context.report(progress(1))
        gate = self.gate(task_id)
        gate.entered.set()
        assert gate.opened.wait(BOUND_S), "the gate was never opened"
        if task_id in self.errors:
            raise self.errors[task_id]
        if task_id.startswith("obey"):
            context.yield_turn()
        return RESULT
