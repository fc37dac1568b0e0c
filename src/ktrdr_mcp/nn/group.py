"""K networks of one shape trained in the same steps, in tiles that fit the cache."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ktrdr_mcp.context import Context
from ktrdr_mcp.nn.batches import Batches, Block, DeviceRows
from ktrdr_mcp.nn.mlp import Backpropagation, DropoutMasks, Layout, initial_parameters, join
from ktrdr_mcp.nn.optimizers import OPTIMIZERS, Correction, GradientClip
from ktrdr_mcp.nn.perceptron import ACTIVATIONS, Mlp
from ktrdr_mcp.nn.settings import NetworkSettings, TrainerSettings

_INTERVAL_S: Final = 0.005  # a tenth of the longest turn


class Pace:
    """Yields the turn every few milliseconds; costs a tenth of a microsecond otherwise."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._due = 0.0

    def step(self) -> None:
        """Called between steps. Raises Cancelled when the training must stop."""
        if perf_counter() >= self._due:
            self._context.yield_turn()
            self._due = perf_counter() + _INTERVAL_S


class Score(NamedTuple):
    """One network on one set of rows."""

    loss: float  # nats per unit of weight
    accuracy: float  # share of rows, whatever their weight
    last_finite_loss: float | None  # of the last batch before the first non-finite one


class ScoreSums:
    """Sums per batch and network; they stay on the device until the end.

    The order of summation does not depend on how many networks or batches come at once, so that a
    network's score has the same bits alone and beside others.
    """

    def __init__(self) -> None:
        self._sums: list[Tensor] = []  # (3, S, K): weighted loss, weight, correct rows

    def add(self, logits: Tensor, block: Block) -> None:
        """Takes batches in.

        Args:
            logits: (S, K, outputs, B).
            block: the batches they belong to.
        """
        log_probabilities = torch.log_softmax(logits, 2)
        loss = log_probabilities.gather(2, block.labels.unsqueeze(2)).squeeze(2).neg_()
        correct = _most_probable(logits) == block.labels
        if block.real is not None:
            correct &= block.real
        weighted = torch.where(block.weight > 0, loss.mul_(block.weight), 0)
        columns = (weighted, block.weight, correct)
        self._sums.append(torch.stack([c.sum(-1, dtype=torch.float64) for c in columns]))

    def scores(self, rows: list[int]) -> list[Score]:
        """The K networks' scores; rows are their numbers of rows."""
        sums = torch.cat(self._sums, dim=1).cpu().numpy()
        per_network = [np.ascontiguousarray(sums[:, :, network]) for network in range(len(rows))]
        return [_score(sums, count) for sums, count in zip(per_network, rows, strict=True)]


def _most_probable(logits: Tensor) -> Tensor:
    """(S, K, B) the first class with the largest logit; argmax takes ten times as long here."""
    largest, *others = logits.unbind(2)
    winner = torch.zeros_like(largest, dtype=torch.int64)
    for number, column in enumerate(others, start=1):
        winner = torch.where(column > largest, number, winner)
        largest = torch.maximum(largest, column)
    return winner


def _score(sums: NDArray[np.float64], rows: int) -> Score:
    """One network's score from its sums (3, batches)."""
    losses, weights, correct = sums
    with np.errstate(all="ignore"):
        loss = float(losses.sum() / weights.sum())
        per_batch = losses / weights
    broken = np.flatnonzero(~np.isfinite(losses))
    last = None
    if len(broken) == 0:
        last = loss
    elif broken[0] > 0:
        last = float(per_batch[broken[0] - 1])
    return Score(loss, float(correct.sum() / rows), last)


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
        shape: Mlp,
        settings: TrainerSettings,
        numbers: Sequence[int],
        networks: Sequence[NetworkSettings],
        data: DeviceRows,
        tensors: dict[str, Tensor] | None = None,
    ) -> None:
        self._shape, self._settings, self._data = shape, settings, data
        self._numbers, self._networks = list(numbers), list(networks)
        self.layout = Layout(shape, len(networks))
        like = data.like
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
            self._seeds, rates, shape.hidden, batch_rows, data.like.dtype, data.like.device
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
        first, *others, output = self.layout.view_stored(self._parameters)
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


_CACHE_BYTES: Final = 4 * 1024**2  # more networks at a time than fit in it train no faster
_VECTORS: Final = 7  # parameters, gradients, moments, and what an optimizer needs beside them
_VALUES_PER_UNIT: Final = 4  # pre-activation, slope, output and delta, for every row of a batch


class Tiles:
    """All networks that are still training.

    They do not know each other: any division into groups gives the same numbers.

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
        shape: Mlp,
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
        if self._data.like.device.type == "cpu":
            per_row = sum(self._shape.hidden) * _VALUES_PER_UNIT + self._shape.inputs
            values = self._shape.parameters_count * _VECTORS + self._settings.batch_size * per_row
            largest = max(_CACHE_BYTES // (values * self._data.like.itemsize), 1)
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
