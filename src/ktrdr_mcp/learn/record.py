"""What is known of one network while it trains: history, best epoch, learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from ktrdr_mcp.learn.schedules import Schedule
from ktrdr_mcp.learn.scores import Score
from ktrdr_mcp.learn.settings import EpochMetrics, TrainedNetwork, TrainerSettings
from ktrdr_mcp.learn.stopping import BestEpoch


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
        self.early_stopped = self.best.exhausted(settings.patience) and not last
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
