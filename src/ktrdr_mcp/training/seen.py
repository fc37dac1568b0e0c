"""Which bars a model has seen, by their content: in training, in choosing, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars, LoadedBars, width_ns
from ktrdr_mcp.data.content import GRAM, Grams, Hashes, ascending, grams_of

FRESH: Final = 0
CHOOSING: Final = 1  # validation and walk-forward: they decided which model it is
TRAINING: Final = 2  # they decided its weights
TENSORS: Final = ("training", "choosing")  # in the file

Levels = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class SeenGrams:
    """All grams of the bars that made a model.

    Args:
        training: uint64[m], ascending, of bars that it was fitted on.
        choosing: uint64[k], ascending, of validation and walk-forward rows and of what their labels
            depend on.
    """

    training: Hashes
    choosing: Hashes

    @classmethod
    def of(cls, grams: Grams, trained: int, chosen: int, until: int) -> SeenGrams:
        """From the grams of the bars that a training used.

        Args:
            grams: of the stored bars.
            trained: opening of the first training row, UTC nanoseconds.
            chosen: opening of the first validation row.
            until: close of the last bar that a tested label depends on.
        """
        return cls(
            ascending(grams.between(trained, chosen)), ascending(grams.between(chosen, until))
        )

    def to_bytes(self) -> bytes:
        """As the bundle keeps it: the same bytes for the same grams."""
        from safetensors.numpy import save

        return save(dict(zip(TENSORS, (self.training, self.choosing), strict=True)))

    @classmethod
    def from_bytes(cls, raw: bytes) -> SeenGrams:
        """From what `to_bytes` made.

        Raises:
            SafetensorError, KeyError, ValueError: it is something else.
        """
        from safetensors.numpy import load

        found = load(raw)
        arrays = [found[name] for name in TENSORS]
        if any(array.dtype != np.uint64 or array.ndim != 1 for array in arrays):
            raise ValueError("not grams")
        return cls(*arrays)

    def levels(self, loaded: LoadedBars) -> Levels | None:
        """How the model has seen each bar of a series, under whatever name and dates.

        A bar is known by the gram that ends with it. One without such a gram, as at a series'
        beginning or where prices rest, is taken as the bar before it; so are at most eight bars
        between seen ones, which one other bar makes strange.

        Args:
            loaded: the series; of aggregated bars, those that they were made from are looked up.
        Returns:
            int8[n] of FRESH, CHOOSING and TRAINING; None if no gram counts, so that symbol and time
            alone can tell.
        """
        stored = loaded.bars if loaded.stored is None else loaded.stored
        grams = grams_of(stored)
        if not len(grams.hashes):
            return None
        found = np.where(np.isin(grams.hashes, self.choosing), CHOOSING, FRESH)
        found = np.where(np.isin(grams.hashes, self.training), TRAINING, found).astype(np.int8)
        place = np.searchsorted(grams.time, stored.time, side="right") - 1
        levels = close_gaps(found[np.maximum(place, 0)])
        return levels if loaded.stored is None else widest(levels, stored, loaded.bars)


def close_gaps(levels: Levels) -> Levels:
    """The same with short runs of fresh bars between seen ones taken as the bar before them."""
    edges = np.flatnonzero(np.diff(levels != FRESH)) + 1
    starts, stops = np.r_[0, edges], np.r_[edges, len(levels)]
    closed = levels.copy()
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        inside = start > 0 and stop < len(levels)
        if inside and levels[start] == FRESH and stop - start <= GRAM:
            closed[start:stop] = levels[start - 1]
    return closed


def widest(levels: Levels, stored: Bars, wide: Bars) -> Levels:
    """int8[wide], the highest level of the stored bars that each wide bar was made from."""
    if not len(wide):
        return np.empty(0, np.int8)
    first = np.searchsorted(stored.time, wide.time)
    stop = int(np.searchsorted(stored.time, wide.time[-1] + width_ns(wide.timeframe)))
    highest: Levels = np.maximum.reduceat(levels[:stop], first)
    return highest
