"""Times of contenders that take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple, Protocol

import numpy as np

WARM_UP_STEPS = 20


class Cost(NamedTuple):
    """What one step took."""

    wall_s: float
    cpu_s: float  # of the calling thread, which a neighbour's load does not change


class Watch:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def per(self, steps: int) -> Cost:
        """The cost of each of so many steps."""
        wall, cpu = time.perf_counter() - self._wall, time.thread_time() - self._cpu
        return Cost(wall / steps, cpu / steps)


class Contender(Protocol):
    """Something that takes steps."""

    def run(self, steps: int) -> Cost:
        """Takes about so many steps and says what one of them cost."""


Samples = Mapping[str, Sequence[Cost]]


def interleaved(contenders: Mapping[str, Contender], rounds: int, turn_s: float) -> Samples:
    """Lets each contender run in every round, after a warm-up.

    Args:
        contenders: by name.
        rounds: turns of each.
        turn_s: how long a turn should take.
    Returns:
        the costs of each contender, one for each round.
    """
    steps = {}
    for name, contender in contenders.items():
        contender.run(WARM_UP_STEPS)
        steps[name] = max(1, round(turn_s / contender.run(WARM_UP_STEPS).wall_s))
    samples: dict[str, list[Cost]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            samples[name].append(contender.run(steps[name]))
    return samples


def times_as_fast(
    samples: Samples, name: str, reference: str, clock: Literal["wall_s", "cpu_s"] = "wall_s"
) -> float:
    """How many steps a contender takes in the time of one of the reference.

    The median over rounds of the ratio within a round.
    """
    pairs = zip(samples[reference], samples[name], strict=True)
    return median(getattr(slow, clock) / getattr(fast, clock) for slow, fast in pairs)


def microseconds(samples: Samples, name: str) -> float:
    """The median wall time of a step."""
    return 1e6 * median(cost.wall_s for cost in samples[name])


def seconds_of(work: Callable[[], object]) -> float:
    """The wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Latencies(NamedTuple):
    """Percentiles of many calls, in milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latencies:
        """From the time of each call."""
        return cls(*(1e3 * float(value) for value in np.percentile(seconds, [50, 95, 99])))

    def cells(self) -> list[str]:
        """As a table shows them."""
        return [f"{value:.2f}" for value in self]
