"""Sums over blocks of consecutive bars, the independent units, and their bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.schemas.results import Blocks

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_BLOCKS: Final = 2_000  # beyond, more blocks add cost and storage, and no power


@dataclass(frozen=True, eq=False)
class BlockSums:
    """One trial's block sums, oldest block first.

    Args:
        start: int64[b], opening of each block's first bar, UTC nanoseconds since 1970.
        stop: int64[b], opening of each block's last bar.
        sums: float64[b], in the unit of the summed quantity.
    """

    start: Integers
    stop: Integers
    sums: Floats

    def __len__(self) -> int:
        """How many blocks there are."""
        return len(self.sums)

    def to_stored(self) -> Blocks:
        """As the trial log keeps it."""
        return Blocks(start=self.start.tolist(), stop=self.stop.tolist(), sums=self.sums.tolist())

    @classmethod
    def of(cls, stored: Blocks) -> Self:
        """What was stored."""
        return cls(
            np.array(stored.start, dtype=np.int64),
            np.array(stored.stop, dtype=np.int64),
            np.array(stored.sums, dtype=np.float64),
        )


def block_sums(values: Floats, at: Integers, time: Integers, width_bars: int) -> BlockSums:
    """Sums over the blocks of a grid of timestamps.

    Args:
        values: float64[n], one per row.
        at: int64[n], the place of each row's timestamp in `time`, never falling; rows of several
            series share one.
        time: int64[t], every timestamp, UTC nanoseconds.
        width_bars: of a block, in timestamps. A first or last block with less than half of it joins
            its neighbour.
    """
    if not len(at):
        empty = np.empty(0, dtype=np.int64)
        return BlockSums(empty, empty, np.empty(0))
    place, totals = sum_by_timestamp(values, at)
    first = block_starts(place, width_bars)
    last = np.r_[first[1:], len(place)] - 1
    return BlockSums(time[place[first]], time[place[last]], np.add.reduceat(totals, first))


def sum_by_timestamp(values: Floats, at: Integers) -> tuple[Integers, Floats]:
    """int64[m], the distinct of int64[n], and float64[m], what float64[n] sums to at each."""
    first = np.flatnonzero(np.diff(at, prepend=-1))
    if len(first) == len(at):
        return at, values
    return at[first], np.add.reduceat(values, first)


def block_starts(place: Integers, width_bars: int) -> Integers:
    """int64[b], where blocks begin in int64[m], m >= 1 rising places of timestamps."""
    block = place // width_bars
    first: Integers = np.r_[0, np.flatnonzero(np.diff(block)) + 1]
    if len(first) > 1 and 2 * (first[1] - first[0]) < width_bars:
        first = np.r_[first[0], first[2:]]
    if len(first) > 1 and 2 * (len(place) - first[-1]) < width_bars:
        first = first[:-1]
    return first


def block_width(timestamps: int, least_bars: int) -> int:
    """The width of a block, in timestamps: the least, doubled until there are at most MAX_BLOCKS.

    Args:
        timestamps: how many the blocks share out.
        least_bars: 6 horizons for the directional test, 3 to choose candidates, 2 for trading.
    """
    width = max(least_bars, 1)
    while timestamps > width * MAX_BLOCKS:
        width *= 2
    return width


def reach_bars(horizon: int, ahead: Integers) -> int:
    """How far ahead labels look, for the width of blocks: a labeler's horizon is only nominal.

    Args:
        horizon: the labeler's nominal horizon, in bars.
        ahead: int64[n], how many timestamps the labels of training rows really look ahead.
    Returns:
        the horizon, or the 90 % quantile of those, if longer.
    """
    if not len(ahead):
        return horizon
    return max(horizon, int(np.ceil(np.quantile(ahead, 0.9))))


DRAWS: Final = 1_999
_STARTS_AT_ONCE: Final = 2**21  # bounds the memory of a pass


def bootstrap_means(values: Floats, block_bars: int, seed: int, draws: int = DRAWS) -> Floats:
    """Means of series put together from blocks that begin anywhere and wrap around the end.

    Circular blocks, so that every bar is drawn equally often and the draws centre on the mean.

    Args:
        values: float64[k, n], n >= 1; the k series are drawn together.
        block_bars: length of a block; at most n is used.
        seed: of the draws.
        draws: how many.
    Returns:
        float64[k, draws].
    Source:
        D. Politis, J. Romano, A Circular Block-Resampling Procedure for Stationary Data, 1992.
    """
    count = values.shape[1]
    width = min(block_bars, count)
    wrapped = np.concatenate([np.zeros((len(values), 1)), values, values[:, : width - 1]], axis=1)
    total = np.cumsum(wrapped, axis=1)
    block = (total[:, width:] - total[:, :-width]) / width  # (k, n): mean of the block at each bar
    blocks = -(-count // width)
    generator = np.random.default_rng(seed)
    at_once = max(_STARTS_AT_ONCE // blocks, 1)
    parts = [
        block[:, generator.integers(0, count, (min(at_once, draws - done), blocks))].mean(axis=2)
        for done in range(0, draws, at_once)
    ]
    return np.concatenate(parts, axis=1)
