"""The training loop: trains K networks of one shape at once, epoch by epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, Final, cast

import torch
from torch import Tensor

from ktrdr_mcp.context import Context, Progress
from ktrdr_mcp.errors import Diverged, OutOfMemory, TrainingFailed
from ktrdr_mcp.nn.batches import DeviceRows
from ktrdr_mcp.nn.group import Pace
from ktrdr_mcp.nn.network import Network, TrainableNetworks
from ktrdr_mcp.nn.optimizers import Schedule, effective_scheduler
from ktrdr_mcp.nn.record import NetworkRecord, alarm
from ktrdr_mcp.nn.settings import (
    EpochMetrics,
    NetworkSettings,
    TrainedNetwork,
    TrainerSettings,
    TrainerState,
    TrainingRows,
    device_named,
)

__all__ = [
    "EpochMetrics",
    "NetworkSettings",
    "TrainedNetwork",
    "Trainer",
    "TrainerSettings",
    "TrainerState",
    "TrainingRows",
    "train",
]

MATHEMATICS: Final = 1  # one more with every change after which the same training has other bits
_STATE_FORMAT: Final = 1


class Trainer:
    """A training between its epochs.

    Args:
        shape: of every network.
        settings: what all networks share.
        networks: K settings.
        rows: the data.
        dtype: float32; float64 only to check the mathematics.
    """

    def __init__(
        self,
        shape: Network,
        settings: TrainerSettings,
        networks: Sequence[NetworkSettings],
        rows: TrainingRows,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._shape, self._settings, self._networks = shape, settings, tuple(networks)
        self._scheduler = effective_scheduler(settings.scheduler)
        self._records = [NetworkRecord(Schedule(network.learning_rate)) for network in networks]
        self._finished_weights: dict[int, dict[str, Tensor]] = {}
        self._epoch = 0
        self._active = list(range(len(networks)))
        with torch.inference_mode():
            self._data = DeviceRows(
                rows,
                len(networks),
                settings.class_weights,
                shape.outputs,
                dtype,
                device_named(settings.device),
            )
            self._training: TrainableNetworks | None = self._networks_of(self._active)

    def _networks_of(
        self, numbers: Sequence[int], tensors: dict[str, Tensor] | None = None
    ) -> TrainableNetworks:
        chosen = [self._networks[number] for number in numbers]
        return self._shape.trainable(self._settings, numbers, chosen, self._data, tensors)

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return self._epoch

    @property
    def finished(self) -> bool:
        """Whether no network has anything left to do."""
        return self._training is None

    def run_epoch(self, context: Context) -> None:
        """One epoch of every network that is still training.

        Raises:
            Cancelled: the context said stop; the trainer cannot be used any more.
            Diverged: no network is left whose loss is a finite number.
        """
        tiles = self._training
        if tiles is None:
            raise ValueError("the training is finished")
        pace = Pace(context)
        records = [self._records[number] for number in self._active]
        with torch.inference_mode():
            rates = [record.schedule.rate for record in records]
            trained = tiles.train_epoch(self._epoch + 1, rates, pace)
            validated = tiles.validate(pace)
            self._epoch += 1
            improved = [
                record.take(self._settings, self._scheduler, *scores)
                for record, *scores in zip(records, trained, validated, strict=True)
            ]
            tiles.remember(improved)
        self._report(context)
        self._release(tiles)
        if self.finished and all(record.diverged for record in self._records):
            raise Diverged(
                self._records[0].diverged or "",
                hint="Start again with a lower learning_rate, or set gradient_clip (1.0).",
                field="config.learning_rate",
            )

    def _report(self, context: Context) -> None:
        """Publishes the mean of the reported networks that took part and did not diverge.

        Once all of them have finished, while others go on, it is that of their last epochs.
        """
        reported = range(len(self._records))[: self._settings.reported_networks]
        took_part = [number for number in reported if number in self._active] or reported
        records = [self._records[number] for number in took_part]
        histories = [r.history for r in records if r.history and r.diverged is None]
        if histories:
            latest = [history[-1] for history in histories]
            alarms = [found for history in histories if (found := alarm(history))]
            context.report(
                Progress(
                    epoch=self._epoch,
                    total_epochs=self._settings.epochs,
                    train_loss=fmean(epoch.train_loss for epoch in latest),
                    val_loss=fmean(epoch.val_loss for epoch in latest),
                    train_accuracy=fmean(epoch.train_accuracy for epoch in latest),
                    val_accuracy=fmean(epoch.val_accuracy for epoch in latest),
                    alarm=alarms[0] if alarms else None,
                )
            )

    def _release(self, tiles: TrainableNetworks) -> None:
        """Takes the networks that have finished out of the tiles."""
        over = self._epoch == self._settings.epochs
        places = range(len(self._active))
        kept = [p for p in places if not (over or self._records[self._active[p]].stopped)]
        for place in places:
            if place not in kept:
                self._finished_weights[self._active[place]] = tiles.best_weights(place)
        if len(kept) < len(self._active):
            self._active = [self._active[place] for place in kept]
            with torch.inference_mode():
                self._training = tiles.keep(kept) if kept else None

    def results(self) -> list[TrainedNetwork]:
        """What each network has come to, in the order given."""
        results = []
        for number, record in enumerate(self._records):
            if self._training is not None and number in self._active:
                weights = self._training.best_weights(self._active.index(number))
            else:
                weights = self._finished_weights[number]
            results.append(record.result(weights))
        return results

    def state(self) -> TrainerState:
        """Copies of everything that the rest of the training depends on, at an epoch's end."""
        tensors = {
            f"finished.{number}.{name}": tensor.clone()
            for number, weights in self._finished_weights.items()
            for name, tensor in weights.items()
        }
        if self._training is not None:
            tensors |= {
                f"training.{name}": tensor.cpu() for name, tensor in self._training.tensors.items()
            }
        values = {
            "format": _STATE_FORMAT,
            "training": self._identity(),
            "epoch": self._epoch,
            "active": list(self._active),
            "networks": [record.to_dict() for record in self._records],
        }
        return TrainerState(tensors, values)

    def restore(self, state: TrainerState) -> None:
        """Goes back to a state; what follows has the same bits as if nothing had come between.

        Raises:
            TrainingFailed: the state is of another training or form; use this trainer no more.
        """
        values = state.values
        try:
            if values["format"] != _STATE_FORMAT or values["training"] != self._identity():
                raise _other_settings()
            self._epoch, self._active = values["epoch"], list(values["active"])
            self._records = [NetworkRecord.from_dict(record) for record in values["networks"]]
            self._restore_tensors(state.tensors)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise _other_settings() from error

    def _restore_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The networks of a state: those that have finished and those that still train."""
        self._finished_weights = {}
        training = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "finished":
                number, _, weight = rest.partition(".")
                self._finished_weights.setdefault(int(number), {})[weight] = tensor.clone()
            elif kind == "training":
                training[rest] = tensor
        with torch.inference_mode():
            self._training = self._networks_of(self._active, training) if self._active else None

    def _identity(self) -> dict[str, Any]:
        """What a state's training must have in common with this one, as JSON gives it back."""
        shared = asdict(self._settings)
        for free in ("epochs", "patience", "device"):
            del shared[free]
        networks = [asdict(network) for network in self._networks]
        shape = {**self._shape.to_dict(), "outputs": self._shape.outputs}
        identity = {"shape": shape, "settings": shared, "networks": networks}
        return cast(dict[str, Any], json.loads(json.dumps(identity, default=float)))


def _other_settings() -> TrainingFailed:
    """The error for a state that this training cannot go on from."""
    message = "The checkpoint belongs to a training with other settings."
    return TrainingFailed(message, hint="Start the training again from its first epoch.")


def train(
    shape: Network,
    settings: TrainerSettings,
    networks: Sequence[NetworkSettings],
    rows: TrainingRows,
    context: Context,
    *,
    resume_from: TrainerState | None = None,
    at_epoch_end: Callable[[Callable[[], TrainerState]], None] | None = None,
) -> list[TrainedNetwork]:
    """Trains K networks and gives back the best epoch of each.

    Args:
        shape: of every network.
        settings: what all networks share.
        networks: K settings.
        rows: the data.
        context: progress, turns and cancelling.
        resume_from: a state of the same training, to go on from.
        at_epoch_end: called after every epoch with a function that takes the state out.
    Returns:
        K results, in the order of `networks`.
    Raises:
        Diverged: in every network the loss stopped being a finite number.
        OutOfMemory: the data, the networks or a batch did not fit.
        Cancelled: the context said stop.
    """
    try:
        trainer = Trainer(shape, settings, networks, rows)
        if resume_from is not None:
            trainer.restore(resume_from)
        while not trainer.finished:
            trainer.run_epoch(context)
            if at_epoch_end is not None:
                at_epoch_end(trainer.state)
        return trainer.results()
    except (MemoryError, RuntimeError) as error:
        if not _ran_out_of_memory(error):
            raise
        raise OutOfMemory(
            "The training needed more memory than there was.",
            hint="Use smaller hidden_layers, a smaller batch_size or fewer seeds.",
        ) from error


def _ran_out_of_memory(error: BaseException) -> bool:
    """Whether numpy, or torch on either device, could not allocate."""
    known = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, known) or "can't allocate memory" in str(error)
