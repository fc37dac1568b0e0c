"""Random numbers that depend on (seed, purpose, epoch) alone.

A training has no generator whose state would have to be kept: every epoch opens its streams
anew, and each stream is read in the order of the steps. What else runs in the process, how steps
are grouped and how many networks train together changes no number.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for; the numbers are part of every saved seed's meaning."""

    WEIGHTS = 0
    ORDER = 1
    DROPOUT = 2


def stream(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
    """A generator of its own for one purpose in one epoch.

    SFC64 fills an array three times as fast as torch's Mersenne Twister, and SeedSequence keeps
    neighbouring seeds and epochs apart (torch's CPU generator uses 32 bits of its seed).

    Args:
        seed: the network's seed, 0 or more.
        purpose: what the numbers are for.
        epoch: 1-based; 0 where epochs do not matter.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(int(purpose), epoch))
    return np.random.Generator(np.random.SFC64(sequence))
