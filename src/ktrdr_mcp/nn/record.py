"""What is known of one network while it trains: history, best epoch, learning rate, alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from statistics import fmean
from typing import Any, Final

from ktrdr_mcp.context import EpochFigures
from ktrdr_mcp.nn.group import Score
from ktrdr_mcp.nn.optimizers import Schedule
from ktrdr_mcp.nn.settings import EpochMetrics, TrainedNetwork, TrainerSettings, TrainerState

FLAT_EPOCHS: Final = 10
FLAT_LOSS: Final = 1e-4  # nats between the highest and the lowest validation loss of those
STILL_EPOCHS: Final = 5  # with one and the same validation accuracy
# Nats that it may not have fallen by meanwhile. Networks that foresee one class on every row moved
# by less than 0.02 once their first fall was over, ones that learn fall by more.
FALLING_LOSS: Final = 0.03
RISING_FACTOR: Final = 1.5  # of the lowest training loss
RISING_LOSS: Final = 0.1  # nats above it, at least; near zero a factor says nothing
GAP: Final = 0.2  # training accuracy above validation accuracy


def alarm(history: Sequence[EpochMetrics]) -> str | None:
    """The gravest thing that the newest epochs show, or nothing.

    Args:
        history: every epoch of one network so far.
    """
    newest = history[-1]
    lowest = min(epoch.train_loss for epoch in history)
    if newest.train_loss > max(RISING_FACTOR * lowest, lowest + RISING_LOSS):
        return "diverging: training loss rises; lower learning_rate or set gradient_clip"
    if is_flat(history[-FLAT_EPOCHS:]) and len(history) >= FLAT_EPOCHS:
        return "flat: validation loss stands still; raise learning_rate or change the strategy"
    if seems_collapsed(history[-STILL_EPOCHS:]):
        return "collapsed? validation accuracy stands still; try class_weights 'balanced'"
    if newest.train_accuracy - newest.val_accuracy > GAP:
        return "overfitting: training far above validation; raise dropout_rate or weight_decay"
    return None


def is_flat(epochs: Sequence[EpochMetrics]) -> bool:
    """Whether the validation loss stands still; the training loss moves by dropout's noise."""
    losses = [epoch.val_loss for epoch in epochs]
    return max(losses) - min(losses) < FLAT_LOSS


def seems_collapsed(epochs: Sequence[EpochMetrics]) -> bool:
    """Whether the answers stay the same although the network moves, and to no good."""
    still = len({epoch.val_accuracy for epoch in epochs}) == 1
    fallen = epochs[0].val_loss - epochs[-1].val_loss
    return len(epochs) == STILL_EPOCHS and still and not is_flat(epochs) and fallen < FALLING_LOSS


@dataclass
class BestEpoch:
    """One network's best epoch so far on its validation rows."""

    epoch: int = 0  # 1-based; 0 before the first
    val_loss: float | None = None
    val_accuracy: float | None = None
    epochs_without: int = 0  # since the best one

    def update(self, monitor: str, epoch: int, val_loss: float, val_accuracy: float) -> bool:
        """Takes an epoch in. An equal accuracy with a lower loss is an improvement.

        Args:
            monitor: "val_accuracy" or "val_loss".
            epoch: 1-based.
            val_loss, val_accuracy: finite numbers.
        Returns:
            Whether this epoch is the best one now.
        """
        if self._improves(monitor, val_loss, val_accuracy):
            self.epoch, self.val_loss, self.val_accuracy = epoch, val_loss, val_accuracy
            self.epochs_without = 0
            return True
        self.epochs_without += 1
        return False

    def _improves(self, monitor: str, val_loss: float, val_accuracy: float) -> bool:
        if self.val_loss is None or self.val_accuracy is None:
            return True
        if monitor == "val_accuracy" and val_accuracy != self.val_accuracy:
            return val_accuracy > self.val_accuracy
        return val_loss < self.val_loss

    def is_exhausted(self, patience: int | None) -> bool:
        """Whether as many epochs as allowed have brought nothing better."""
        return patience is not None and self.epochs_without >= patience

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BestEpoch:
        """The inverse of to_dict."""
        return cls(**values)


@dataclass
class NetworkRecord:
    """One network's way so far."""

    schedule: Schedule
    best: BestEpoch = field(default_factory=BestEpoch)
    history: list[EpochMetrics] = field(default_factory=list)
    early_stopped: bool = False
    diverged: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether the network has ended before the last epoch."""
        return self.early_stopped or self.diverged is not None

    def take(
        self,
        settings: TrainerSettings,
        scheduler: Mapping[str, Any] | None,
        trained: Score,
        validated: Score,
    ) -> bool:
        """Takes an epoch in.

        Args:
            settings: of the training.
            scheduler: a complete description, or None.
            trained, validated: the epoch's scores.
        Returns:
            Whether it is the best epoch now.
        """
        if not (isfinite(trained.loss) and isfinite(validated.loss)):
            self.diverged = self._divergence(trained)
            return False
        self.history.append(
            EpochMetrics(
                train_loss=trained.loss,
                val_loss=validated.loss,
                train_accuracy=trained.accuracy,
                val_accuracy=validated.accuracy,
                learning_rate=self.schedule.rate,
            )
        )
        self.schedule.advance(scheduler, validated.loss)
        improved = self.best.update(
            settings.monitor, len(self.history), validated.loss, validated.accuracy
        )
        last = len(self.history) == settings.epochs
        self.early_stopped = self.best.is_exhausted(settings.patience) and not last
        return improved

    def _divergence(self, trained: Score) -> str:
        last = trained.last_finite_loss
        if last is None and self.history:
            last = self.history[-1].train_loss
        before = (
            "no batch had a finite loss" if last is None else f"the last finite loss was {last:.4g}"
        )
        return (
            f"The loss stopped being a finite number in epoch {len(self.history) + 1} at learning "
            f"rate {self.schedule.rate:g}; {before}."
        )

    def result(self, weights: dict[str, Any]) -> TrainedNetwork:
        """The network's result, with the weights of its best epoch."""
        return TrainedNetwork(
            weights=weights,
            best_epoch=self.best.epoch,
            epochs_completed=len(self.history),
            early_stopped=self.early_stopped,
            history=tuple(self.history),
            diverged=self.diverged,
        )

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        return {
            "schedule": self.schedule.to_dict(),
            "best": self.best.to_dict(),
            "history": [list(epoch) for epoch in self.history],
            "early_stopped": self.early_stopped,
            "diverged": self.diverged,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkRecord:
        """The inverse of to_dict."""
        return cls(
            schedule=Schedule.from_dict(values["schedule"]),
            best=BestEpoch.from_dict(values["best"]),
            history=[EpochMetrics(*epoch) for epoch in values["history"]],
            early_stopped=values["early_stopped"],
            diverged=values["diverged"],
        )


def reported_figures(
    state: TrainerState, settings: TrainerSettings, most: int
) -> list[EpochFigures]:
    """What was reported of the epochs that led to a state, evenly spaced from the first one on.

    Args:
        state: of a training at an epoch's end.
        settings: of the training.
        most: how many epochs at most.
    """
    try:
        networks = state.values["networks"][: settings.reported_networks]
        histories = [each["history"] for each in networks if each["diverged"] is None]
        last, stride = max(map(len, histories), default=0), 1
        while last > most * stride:
            stride *= 2
        return [
            EpochFigures(
                number + 1,
                *(
                    fmean(each[number][place] for each in histories if len(each) > number)
                    for place in range(len(EpochFigures._fields) - 1)
                ),
            )
            for number in range(0, last, stride)
        ]
    except (KeyError, TypeError, IndexError):  # of another form, which `restore` will refuse
        return []
