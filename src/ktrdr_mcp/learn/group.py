"""K networks of one shape, trained in the same steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ktrdr_mcp.learn.backpropagation import Backpropagation
from ktrdr_mcp.learn.batches import Batches, DeviceRows
from ktrdr_mcp.learn.clipping import GradientClip
from ktrdr_mcp.learn.dropout import DropoutMasks
from ktrdr_mcp.learn.nets import ACTIVATIONS, NetworkShape
from ktrdr_mcp.learn.optimizers import OPTIMIZERS, Correction
from ktrdr_mcp.learn.pace import Pace
from ktrdr_mcp.learn.parameters import Layout, initial_parameters
from ktrdr_mcp.learn.scores import Score, ScoreSums
from ktrdr_mcp.learn.settings import NetworkSettings, TrainerSettings

_BLOCK_ELEMENTS: Final = 2**21  # gathered features and masks at a time: they should stay in cache
_MOST_STEPS_PER_BLOCK: Final = 256
_VALIDATION_MULTIPLICATIONS: Final = 10_000_000  # per network and batch: a few milliseconds
_MOST_VALIDATION_ROWS: Final = 256  # per network and batch


class NetworkGroup:
    """Networks in flat tensors.

    Args:
        shape: of every network.
        settings: of the training.
        numbers: which networks these are.
        networks: their settings.
        data: all rows, on the device.
        tensors: "parameters", "best" and the optimizer's slots, or nothing for a fresh start.
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
        self.layout = Layout(shape, len(networks))
        like = data.features
        self._owners = self.layout.owners(like.device)
        if tensors is None:
            start = initial_parameters(self.layout, self._seeds, like.dtype).to(like.device)
            tensors = {"parameters": start, "best": start.clone()}
        self._parameters, self._best = tensors["parameters"].to(like), tensors["best"].to(like)
        self._prepare_steps()
        for name, slot in self._optimizer.slots.items():
            if name in tensors:
                slot.copy_(tensors[name])
        self._prepare_batches()

    def _prepare_steps(self) -> None:
        """Builds what a single step needs."""
        settings, layout = self._settings, self.layout
        gradients = torch.zeros_like(self._parameters)
        self._pass = Backpropagation(layout, self._parameters, gradients, settings.batch_size)
        self._clip = None
        if settings.gradient_clip is not None:
            self._clip = GradientClip(layout, gradients, self._owners, settings.gradient_clip)
        decay = None
        if any(network.weight_decay for network in self._networks):
            decay = self._per_parameter([network.weight_decay for network in self._networks])
        self._optimizer = OPTIMIZERS[settings.optimizer](
            settings, self._parameters, gradients, decay, self._owners
        )

    def _prepare_batches(self) -> None:
        """Builds what brings rows and masks to the steps."""
        data, shape, batch_rows = self._data, self._shape, self._settings.batch_size
        train = [data.train_rows[number] for number in self._numbers]
        validation = [data.validation_rows[number] for number in self._numbers]
        self._train_counts = [len(rows) for rows in train]
        self._validation_counts = [len(rows) for rows in validation]
        self._batches = Batches(data, self._numbers, train, batch_rows)
        rows = _VALIDATION_MULTIPLICATIONS // shape.parameters_count
        rows = min(max(rows, 1), _MOST_VALIDATION_ROWS)
        self._validation = Batches(data, self._numbers, validation, rows).in_order()
        rates = [network.dropout_rate for network in self._networks]
        self._dropout = DropoutMasks(
            self._seeds, rates, shape.hidden, batch_rows, data.features.dtype, data.features.device
        )
        per_row = shape.inputs + 1 + self._dropout.elements_per_row
        per_step = len(self._networks) * batch_rows * per_row
        self._block_steps = min(max(_BLOCK_ELEMENTS // per_step, 1), _MOST_STEPS_PER_BLOCK)

    @property
    def _seeds(self) -> list[int]:
        return [network.seed for network in self._networks]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything that training has changed, by name; not copied."""
        return {"parameters": self._parameters, "best": self._best, **self._optimizer.slots}

    def _per_parameter(self, values: Sequence[float]) -> Tensor:
        """(length,): each network's value at each of its parameters."""
        return torch.tensor(values, dtype=torch.float64).to(self._parameters)[self._owners]

    def train_epoch(self, epoch: int, rates: Sequence[float], pace: Pace) -> list[Score]:
        """Passes once through every network's training rows.

        Args:
            epoch: 1-based.
            rates: K learning rates.
            pace: called between steps.
        Returns:
            K scores, on outputs as they were when each row was learnt from.
        """
        self._optimizer.set_rates(torch.tensor(rates, dtype=torch.float64).to(self._parameters))
        self._batches.shuffle(self._seeds, epoch)
        self._dropout.begin_epoch(epoch)
        steps = np.array(self._batches.steps)
        sums = ScoreSums()
        start, finished = 0, []
        for end in sorted(set(self._batches.steps)):
            while start < end:
                stop = min(start + self._block_steps, end)
                first = (epoch - 1) * steps + start + 1
                corrections = self._optimizer.corrections(first, stop - start)
                self._train_block(start, stop, corrections, sums, pace)
                start = stop
            if end < steps.max():
                finished.append(self._copy_of(np.flatnonzero(steps == end).tolist()))
        for places, copies in finished:
            for name, values in copies.items():
                self.tensors[name][places] = values
        return sums.scores(self._train_counts)

    def _train_block(
        self, start: int, stop: int, corrections: list[Correction], sums: ScoreSums, pace: Pace
    ) -> None:
        """Steps start to stop of the epoch."""
        block = self._batches.block(start, stop)
        masks = self._dropout.draw(stop - start)
        weight = block.normalised_weight()
        target = block.negative_target(weight, self._shape.outputs)
        steps, networks, outputs, rows = target.shape
        stored_logits = target.new_empty(steps, networks, self.layout.output_rows, rows)
        logits = stored_logits[:, :, :outputs]
        per_step = zip(
            block.features.unbind(0),
            masks,
            weight.unbind(0),
            target.unbind(0),
            stored_logits.unbind(0),
            logits.unbind(0),
            strict=True,
        )
        for arguments, correction in zip(per_step, corrections, strict=True):
            pace.step()
            self._pass.run(*arguments)
            if self._clip is not None:
                self._clip.apply()
            self._optimizer.step(correction)
        sums.add(logits, block)

    def _copy_of(self, networks: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Where some networks' parameters lie, and copies of all that changes there."""
        chosen = torch.tensor(networks, device=self._owners.device)
        places = torch.isin(self._owners, chosen).nonzero().squeeze(1)
        changing = {name: flat for name, flat in self.tensors.items() if name != "best"}
        return places, {name: flat[places] for name, flat in changing.items()}

    def validate(self, pace: Pace) -> list[Score]:
        """K scores on the validation rows."""
        sums = ScoreSums()
        for step in range(max(self._validation.steps)):
            pace.step()
            block = self._validation.block(step, step + 1)
            sums.add(self._forward(block.features[0]).unsqueeze(0), block)
        return sums.scores(self._validation_counts)

    def _forward(self, features: Tensor) -> Tensor:
        """(K, rows, inputs + 1) to (K, outputs, rows), without dropout."""
        activation = ACTIVATIONS[self._shape.activation]
        first, *others, output = self.layout.stored(self._parameters)
        values = activation(torch.bmm(features, first))
        for block in others:
            values = activation(torch.baddbmm(block[:, -1:], values, block[:, :-1]))
        logits = torch.baddbmm(output[..., -1:], output[..., :-1], values.mT)
        return logits[:, : self._shape.outputs]

    def remember(self, improved: Sequence[bool]) -> None:
        """Copies the weights of the networks whose epoch was their best."""
        chosen = torch.tensor(improved, device=self._owners.device)[self._owners]
        torch.where(chosen, self._parameters, self._best, out=self._best)

    def best_weights(self, place: int) -> dict[str, Tensor]:
        """A copy of one network's best weights, by its place in this group."""
        return self.layout.weights_of(self._best, place)
