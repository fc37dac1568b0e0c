"""Completed trainings side by side: settings that differ, and whether results do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ktrdr_mcp.learn.judge.blocks import BlockSums
from ktrdr_mcp.learn.judge.family import on_shared_cells
from ktrdr_mcp.learn.judge.sign_flips import TIE, sign_flip_p
from ktrdr_mcp.research.verdict import blocks_of

SURE_P = 0.05
SEED = 0  # of the random signs


@dataclass(frozen=True)
class Difference:
    """Of T, on the time that both tested."""

    statistic: float  # first minus second
    p: float  # two-sided
    common_blocks: int


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> Difference | None:
    """Compares two trials block by block, each in units of its own T.

    The signs of the differences of block sums are flipped, as in the directional test. The blocks
    are those of the trial with the wider ones; the other's are added up, so that both speak of the
    same time whatever their horizons.

    Args:
        first: scores of one trial.
        second: scores of the other.
    Returns:
        None where they tested no time in common.
    """
    one, other = blocks_of(first), blocks_of(second)
    if not len(one) or not len(other):
        return None
    wider = 0 if width(one) >= width(other) else 1
    sums = on_shared_cells((one, other)[wider], [(other, one)[wider]])
    common = sums[:, (sums != 0).all(axis=0)]
    common = common[::-1] if wider else common
    if not common.shape[1]:
        return None
    lengths = np.linalg.norm(common, axis=1, keepdims=True)
    units = common / np.where(lengths > 0, lengths, 1.0)
    gap = units[0] - units[1]
    gap[np.abs(gap) < TIE] = 0.0
    p = min(1.0, 2 * min(sign_flip_p(gap, SEED), sign_flip_p(-gap, SEED))) if gap.any() else 1.0
    return Difference(float(gap.sum()), p, common.shape[1])


def width(blocks: BlockSums) -> float:
    """The mean width of some blocks, in nanoseconds."""
    return float(blocks.stop[-1] - blocks.start[0]) / len(blocks)


def meaning(found: Difference | None) -> str:
    """A difference in words."""
    if found is None:
        return "They tested no time in common, so they cannot be compared."
    if found.p > SURE_P:
        return "Not significant: prefer neither on this evidence."
    better = "first" if found.statistic > 0 else "second"
    return f"The {better} foresees more on the same time."


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted names of settings that are not the same everywhere, with each one's value.

    Args:
        settings: nested settings, one for each task.
    """
    flat = [flattened(each) for each in settings]
    names = sorted({name for each in flat for name in each})
    values = {name: [each.get(name) for each in flat] for name in names}
    return {name: each for name, each in values.items() if any(v != each[0] for v in each)}


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
