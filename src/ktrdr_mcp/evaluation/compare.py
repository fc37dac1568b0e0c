"""Completed trainings side by side: settings that differ, and whether results do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ktrdr_mcp.evaluation.blocks import BlockSums, Floats
from ktrdr_mcp.evaluation.direction import TIE, sign_flip_p, studentised
from ktrdr_mcp.evaluation.multiple_testing import cells_of, on_shared_cells
from ktrdr_mcp.evaluation.verdict import blocks_of
from ktrdr_mcp.schemas.results import TrialScores

SURE_P = 0.05
SEED = 0  # of the random signs


@dataclass(frozen=True)
class Difference:
    """Of T, on the time that both tested."""

    statistic: float  # first minus second
    p: float  # two-sided
    common_blocks: int
    constant: tuple[bool, bool] = (False, False)  # whether the first's, the second's output is

    @property
    def better(self) -> Literal["first", "second"] | None:
        """Which one foresees significantly more; None if there is no telling."""
        if self.p > SURE_P:
            return None
        return "first" if self.statistic > 0 else "second"


def difference(first: TrialScores, second: TrialScores) -> Difference | None:
    """Compares two trials block by block, each in units of its own T.

    The signs of the differences of block sums are flipped, as in the directional test. The blocks
    are those of the trial with the wider ones; the other's are added up, so that both speak of the
    same time whatever their horizons. A constant output foresees nothing: its sums count as zeros.

    Args:
        first: scores of one trial.
        second: scores of the other.
    Returns:
        None where they tested no time in common.
    """
    common = common_sums(tested_blocks(first), tested_blocks(second))
    if not common.shape[1]:
        return None
    constant = first.direction.constant, second.direction.constant
    common[list(constant)] = 0.0
    gap = np.subtract(*studentised(common))
    gap[np.abs(gap) < TIE] = 0.0
    p = min(1.0, 2 * min(sign_flip_p(gap, SEED), sign_flip_p(-gap, SEED))) if gap.any() else 1.0
    return Difference(float(gap.sum()), p, common.shape[1], constant)


def tested_blocks(scores: TrialScores) -> BlockSums:
    """A trial's block sums without those of rows that were only trained on."""
    blocks, first = blocks_of(scores), -scores.direction.count_tested() or None
    return BlockSums(blocks.start[first:], blocks.stop[first:], blocks.sums[first:])


def common_sums(one: BlockSums, other: BlockSums) -> Floats:
    """float64[2, b], the sums of two trials over the wider blocks of the time that both tested."""
    if not len(one) or not len(other):
        return np.empty((2, 0))
    swapped = width(one) < width(other)
    wide, fine = (other, one) if swapped else (one, other)
    sums = on_shared_cells(wide, [fine])[:, : len(wide)]
    tested = np.isin(np.arange(len(wide)), cells_of(wide, fine))
    common = sums[:, tested]
    return common[::-1].copy() if swapped else common


def width(blocks: BlockSums) -> float:
    """The mean width of some blocks, in nanoseconds."""
    return float(blocks.stop[-1] - blocks.start[0]) / len(blocks)


def meaning(found: Difference | None) -> str:
    """A difference in words."""
    if found is None:
        return "They tested no time in common, so they cannot be compared."
    if all(found.constant):
        return "Both give every row the same answer: neither foresees anything."
    constant = ""
    if any(found.constant):
        which = "first" if found.constant[0] else "second"
        constant = f"The {which} gives every row the same answer, so it foresees nothing. "
    if found.better is None:
        return f"{constant}Not significant: prefer neither on this evidence."
    return f"{constant}The {found.better} foresees more on the same time."


def differing_settings(settings: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """Dotted names of settings that are not the same everywhere, with each one's value.

    Args:
        settings: nested settings, one for each task.
    """
    flat = [flatten_settings(each) for each in settings]
    names = sorted({name for each in flat for name in each})
    values = {name: [each.get(name) for each in flat] for name in names}
    return {name: each for name, each in values.items() if any(v != each[0] for v in each)}


def flatten_settings(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested settings by their dotted names."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten_settings(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
