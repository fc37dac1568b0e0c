"""Bars made of other bars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ktrdr_mcp.data.bars import Bars


def changed_from(bars: Bars, row: int) -> Bars:
    """The same bars before a row, and other prices from it on."""
    steps = np.random.default_rng(8).normal(0, 0.05, len(bars))
    factor = np.exp(np.cumsum(np.where(np.arange(len(bars)) < row, 0.0, steps)))
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")}
    return replace(bars, **prices)
