"""Bars that are the same on every machine: a random walk from the standard library's generator."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

HEADER = "timestamp,open,high,low,close,volume"


def bars(rows: int, seed: int, minutes: int = 60, drift: float = 0.0) -> str:
    """A CSV file of bars.

    Args:
        rows: how many.
        seed: of the walk.
        minutes: from one bar to the next.
        drift: strength of a direction that holds for 40 bars and then turns.
    """
    walk = random.Random(seed)
    timestamp = datetime(2024, 1, 1, tzinfo=UTC)
    close, lines = 100.0, [HEADER]
    for number in range(rows):
        opened = close
        turn = drift if number // 40 % 2 == 0 else -drift
        close = opened * math.exp(0.005 * (turn + walk.gauss(0, 1)))
        high = max(opened, close) * (1 + 0.002 * walk.random())
        low = min(opened, close) * (1 - 0.002 * walk.random())
        prices = ",".join(f"{price:.4f}" for price in (opened, high, low, close))
        lines.append(f"{timestamp:%Y-%m-%d %H:%M:%S},{prices},{walk.randrange(1_000, 9_000)}")
        timestamp += timedelta(minutes=minutes)
    return "\n".join(lines) + "\n"


def edited(text: str, edits: dict[int, str | None]) -> str:
    """The file with some lines replaced, or left out where None stands."""
    lines = text.splitlines()
    kept = [edits.get(number, line) for number, line in enumerate(lines)]
    return "\n".join(line for line in kept if line is not None) + "\n"
