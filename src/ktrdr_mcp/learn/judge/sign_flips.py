"""The sign-flip test: if nothing is foreseen, each block's sum is as likely as its negative."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.learn.judge.blocks import Floats

Signs = NDArray[np.int8]

FLIPS: Final = 4_999  # random sign vectors; with the observed one, 5,000
MAX_EXACT_BLOCKS: Final = 12  # up to here all 2^n sign vectors are taken
TIE: Final = 1e-9  # statistics closer than this differ by rounding only
_FLIPS_AT_ONCE: Final = 512  # bounds the memory of a pass


def statistic(sums: Floats) -> float:
    """T = sum b / sqrt(sum b^2), about standard normal if signs are random; 0 if all b are 0.

    Args:
        sums: float64[b], block sums.
    """
    return float(studentised(sums[None])[0].sum())


def studentised(sums: Floats) -> Floats:
    """Block sums of k trials over the root of their sum of squares; zeros stay zeros.

    Args:
        sums: float64[k, b].
    """
    size = np.sqrt(np.square(sums).sum(axis=1, keepdims=True))
    result: Floats = np.divide(sums, size, out=np.zeros_like(sums), where=size > 0)
    return result


def is_exact(blocks: int) -> bool:
    """Whether all sign vectors are taken for this many blocks."""
    return blocks <= MAX_EXACT_BLOCKS


def sign_vectors(blocks: int, seed: int, flips: int = FLIPS) -> Signs:
    """int8[blocks, m] of +1 and -1: all 2^blocks vectors, or `flips` random ones.

    More blocks leave the signs of the first ones as they are, so that a trial alone and in its
    family sees the same ones.
    """
    if is_exact(blocks):
        bits = (np.arange(2**blocks) >> np.arange(blocks)[:, None] & 1).astype(np.uint8)
    else:
        drawn = np.random.default_rng(seed).integers(0, 256, (blocks, flips // 8 + 1), np.uint8)
        bits = np.unpackbits(drawn, axis=1, count=flips)
    signs: Signs = 1 - 2 * bits.astype(np.int8)
    return signs


def flipped_statistics(sums: Floats, signs: Signs) -> Floats:
    """T of k trials under sign vectors that they share.

    Args:
        sums: float64[k, b], block sums.
        signs: int8[b, m].
    Returns:
        float64[k, m].
    """
    rows = studentised(sums)
    flips = signs.shape[1]
    result = np.empty((len(rows), flips))
    for start in range(0, flips, _FLIPS_AT_ONCE):
        part = slice(start, min(start + _FLIPS_AT_ONCE, flips))
        np.matmul(rows, signs[:, part].astype(np.float64), out=result[:, part])
    return result


def share_reaching(flipped: Floats, observed: float, exact: bool) -> float:
    """p: the share of sign vectors whose statistic reaches the observed one.

    Args:
        flipped: float64[m], the statistic under each sign vector.
        observed: the statistic itself.
        exact: whether the m vectors are all there are; if not, the observed one is added to them.
    """
    reaching = int(np.count_nonzero(flipped >= observed - TIE))
    return reaching / len(flipped) if exact else (1 + reaching) / (1 + len(flipped))


def sign_flip_p(sums: Floats, seed: int, flips: int = FLIPS) -> float:
    """One-sided p of T; 1 without blocks.

    Args:
        sums: float64[b], block sums.
        seed: of the random signs.
        flips: random sign vectors, when there are more than 12 blocks.
    Source:
        E. S. Edgington, P. Onghena, Randomization Tests, 4th ed. 2007; the "1 +" keeps p valid
        (B. Phipson, G. Smyth, 2010).
    """
    if not len(sums):
        return 1.0
    flipped = flipped_statistics(sums[None], sign_vectors(len(sums), seed, flips))[0]
    return share_reaching(flipped, statistic(sums), is_exact(len(sums)))
