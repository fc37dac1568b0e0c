"""What the command line asks for, and the processes that do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ktrdr_mcp.jobs.executors.threads import load_torch


@dataclass(frozen=True)
class Run:
    """The size of a table.

    Args:
        seed: of everything.
        bars: of each series.
        epochs: the most of a training.
        workers: processes, each with one series at a time.
        share: of the series and trials of the whole table.
    """

    seed: int
    bars: int
    epochs: int
    workers: int
    share: float

    def part(self, count: int) -> int:
        """How many of so many."""
        return max(round(count * self.share), 1)

    def seeds(self, count: int, stream: int) -> list[int]:
        """Seeds of their own for one table row."""
        words = np.random.SeedSequence([self.seed, stream]).generate_state(self.part(count))
        return [int(word) for word in words]

    def in_processes(self, work: Callable[[Any], Any], tasks: list[Any]) -> Iterator[Any]:
        """The results, in order and as they come, with one torch thread per process."""
        with ProcessPoolExecutor(self.workers, initializer=load_torch) as pool:
            yield from pool.map(work, tasks)
