"""Learning-rate schedules, one per network, with the rules of torch.optim.lr_scheduler.

step               gamma (0.1) every step_size (30) epochs
exponential        gamma (0.95) every epoch
reduce_on_plateau  factor (0.5) after more than `patience` (5) epochs in which the validation
                   loss was not 0.01 % below the best so far
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

_PLATEAU_THRESHOLD: Final = 1e-4  # relative
_SMALLEST_CHANGE: Final = 1e-8
_DEFAULTS: Final[dict[str, dict[str, float]]] = {
    "step": {"step_size": 30, "gamma": 0.1},
    "exponential": {"gamma": 0.95},
    "reduce_on_plateau": {"factor": 0.5, "patience": 5},
}


def effective_scheduler(scheduler: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A complete description of a schedule: defaults where a setting is absent or None."""
    if scheduler is None:
        return None
    given = {name: value for name, value in scheduler.items() if value is not None}
    kind = given.pop("type", "step")
    if kind not in _DEFAULTS:
        raise ValueError(f"unknown scheduler {kind!r}; known: {list(_DEFAULTS)}")
    unknown = set(given) - set(_DEFAULTS[kind])
    if unknown:
        raise ValueError(f"scheduler {kind} has no setting {sorted(unknown)[0]!r}")
    return {"type": kind, **_DEFAULTS[kind], **given}


@dataclass
class Schedule:
    """One network's learning rate over the epochs."""

    rate: float  # of the epoch that comes
    epochs: int = 0  # finished
    best_loss: float = float("inf")  # reduce_on_plateau
    bad_epochs: int = 0  # reduce_on_plateau

    def advance(self, scheduler: Mapping[str, Any] | None, val_loss: float) -> None:
        """Moves on to the next epoch.

        Args:
            scheduler: a complete description, or None for a constant rate.
            val_loss: of the epoch that has ended.
        """
        self.epochs += 1
        if scheduler is None:
            return
        if scheduler["type"] == "step":
            if self.epochs % scheduler["step_size"] == 0:
                self.rate *= scheduler["gamma"]
        elif scheduler["type"] == "exponential":
            self.rate *= scheduler["gamma"]
        else:
            self._reduce_on_plateau(scheduler["factor"], scheduler["patience"], val_loss)

    def _reduce_on_plateau(self, factor: float, patience: int, val_loss: float) -> None:
        if val_loss < self.best_loss * (1 - _PLATEAU_THRESHOLD):
            self.best_loss, self.bad_epochs = val_loss, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > patience:
            reduced = self.rate * factor
            if self.rate - reduced > _SMALLEST_CHANGE:
                self.rate = reduced
            self.bad_epochs = 0

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        values = asdict(self)
        values["best_loss"] = None if self.best_loss == float("inf") else self.best_loss
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schedule:
        """The inverse of to_dict."""
        best = values["best_loss"]
        return cls(**{**values, "best_loss": float("inf") if best is None else best})
