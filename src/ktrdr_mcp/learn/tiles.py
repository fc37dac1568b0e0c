"""K networks in groups that are small enough for the processor's cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from torch import Tensor

from ktrdr_mcp.learn.batches import DeviceRows
from ktrdr_mcp.learn.group import NetworkGroup
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.learn.pace import Pace
from ktrdr_mcp.learn.parameters import Layout, join
from ktrdr_mcp.learn.scores import Score
from ktrdr_mcp.learn.settings import NetworkSettings, TrainerSettings

_CACHE_BYTES: Final = 4 * 1024**2  # more networks at a time than fit in it train no faster
_VECTORS: Final = 7  # parameters, gradients, moments, and what an optimizer needs beside them
_VALUES_PER_UNIT: Final = 4  # pre-activation, slope, output and delta, for every row of a batch


class Tiles:
    """All networks that are still training. They do not know each other: any division into
    groups gives the same numbers.

    Args:
        shape: of every network.
        settings: of the training.
        numbers: which networks these are.
        networks: their settings.
        data: all rows, on the device.
        tensors: what `tensors` gave, to go on from there, or None to begin.
    """

    def __init__(
        self,
        shape: NetworkShape,
        settings: TrainerSettings,
        numbers: Sequence[int],
        networks: Sequence[NetworkSettings],
        data: DeviceRows,
        tensors: dict[str, Tensor] | None = None,
    ) -> None:
        self._shape, self._settings, self._data = shape, settings, data
        self._numbers, self._networks = list(numbers), list(networks)
        layout = Layout(shape, len(networks))
        self._groups: list[tuple[NetworkGroup, slice]] = []  # and its part of all networks
        self._place: list[tuple[NetworkGroup, int]] = []  # of each network
        for places in self._division():
            part = tensors and {name: layout.select(flat, places) for name, flat in tensors.items()}
            group = NetworkGroup(
                shape,
                settings,
                [numbers[place] for place in places],
                [networks[place] for place in places],
                data,
                part,
            )
            self._groups.append((group, slice(places[0], places[-1] + 1)))
            self._place += [(group, place) for place in range(len(places))]

    def _division(self) -> list[list[int]]:
        """The places of the networks, group by group."""
        count = len(self._networks)
        largest = count
        if self._data.features.device.type == "cpu":
            per_row = sum(self._shape.hidden) * _VALUES_PER_UNIT + self._shape.inputs
            values = self._shape.parameters_count * _VECTORS + self._settings.batch_size * per_row
            largest = max(_CACHE_BYTES // (values * self._data.features.itemsize), 1)
        parts = np.array_split(np.arange(count), -(-count // largest))
        return [part.tolist() for part in parts]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything that training has changed, by name, for all networks at once: a copy."""
        names = self._groups[0][0].tensors
        return {
            name: join([(group.layout, group.tensors[name]) for group, _ in self._groups])
            for name in names
        }

    def train_epoch(self, epoch: int, rates: Sequence[float], pace: Pace) -> list[Score]:
        """K scores of one pass through every network's training rows, at K learning rates."""
        return [
            score
            for group, part in self._groups
            for score in group.train_epoch(epoch, rates[part], pace)
        ]

    def validate(self, pace: Pace) -> list[Score]:
        """K scores on the validation rows."""
        return [score for group, _ in self._groups for score in group.validate(pace)]

    def remember(self, improved: Sequence[bool]) -> None:
        """Copies the weights of the networks whose epoch was their best."""
        for group, part in self._groups:
            group.remember(improved[part])

    def best_weights(self, place: int) -> dict[str, Tensor]:
        """A copy of one network's best weights."""
        group, within = self._place[place]
        return group.best_weights(within)

    def keep(self, places: Sequence[int]) -> Tiles:
        """Goes on with some of the networks."""
        layout = Layout(self._shape, len(self._networks))
        return Tiles(
            self._shape,
            self._settings,
            [self._numbers[place] for place in places],
            [self._networks[place] for place in places],
            self._data,
            {name: layout.select(flat, places) for name, flat in self.tensors.items()},
        )
