"""Inverted dropout: masks of 0 and 1/(1-p), drawn for many steps at once.

Srivastava et al., "Dropout", JMLR 15 (2014). A unit's fate is decided by 16 random bits, so the
rate in effect is the nearest multiple of 1/65536; the scale belongs to that one, and the expected
output is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ktrdr_mcp.learn.random_streams import Purpose, stream

_LEVELS: Final = 2**16
_LANES_PER_WORD: Final = 4


class DropoutMasks:
    """The masks of K networks; each network reads its own stream, step after step.

    Args:
        seeds: K seeds.
        rates: K dropout rates in [0, 1).
        units: of every hidden layer.
        batch_rows: rows per batch and network.
        dtype, device: of the masks.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        rates: Sequence[float],
        units: Sequence[int],
        batch_rows: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._seeds = seeds
        self._dropped_levels = [min(round(rate * _LEVELS), _LEVELS - 1) for rate in rates]
        self._units = units
        self._batch_rows = batch_rows
        self._dtype, self._device = dtype, device
        self._streams: list[np.random.Generator] = []
        self._buffers: list[Tensor] = []  # on the CPU, where the random numbers are drawn
        self._ones = tuple(
            torch.ones(len(seeds), batch_rows, width, dtype=dtype, device=device) for width in units
        )

    @property
    def elements_per_row(self) -> int:
        """How many mask elements one row of one network needs."""
        return sum(self._units) if any(self._dropped_levels) else 0

    def begin_epoch(self, epoch: int) -> None:
        """Opens the epoch's streams."""
        self._streams = [stream(seed, Purpose.DROPOUT, epoch) for seed in self._seeds]

    def draw(self, steps: int) -> list[tuple[Tensor, ...]]:
        """The next steps' masks: per step and hidden layer (K, batch, units).

        They are valid until the next call: all calls write to the same memory.
        """
        if not any(self._dropped_levels):
            return [self._ones] * steps
        networks, rows = len(self._seeds), self._batch_rows
        if not self._buffers or len(self._buffers[0]) < steps:
            self._buffers = [
                torch.empty(steps, networks, rows, width, dtype=self._dtype)
                for width in self._units
            ]
        layers = [buffer[:steps] for buffer in self._buffers]
        views = [layer.numpy().reshape(steps, networks, -1) for layer in layers]
        for network, dropped in enumerate(self._dropped_levels):
            self._fill([view[:, network] for view in views], network, dropped)
        on_device = [layer.to(self._device) for layer in layers]
        return list(zip(*(layer.unbind(0) for layer in on_device), strict=True))

    def _fill(self, layers: list[np.ndarray], network: int, dropped: int) -> None:
        """Writes one network's masks; each layer is (steps, batch * units)."""
        if dropped == 0:
            for layer in layers:
                layer.fill(1)
            return
        steps = len(layers[0])
        words = -(-sum(layer.shape[1] for layer in layers) // _LANES_PER_WORD)
        drawn = self._streams[network].integers(
            0, 2**64 - 1, size=(steps, words), dtype=np.uint64, endpoint=True
        )
        lanes = drawn.view(np.uint16)
        scale = layers[0].dtype.type(_LEVELS / (_LEVELS - dropped))
        start = 0
        for layer in layers:
            stop = start + layer.shape[1]
            np.multiply(lanes[:, start:stop] >= dropped, scale, out=layer)
            start = stop
