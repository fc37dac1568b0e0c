"""Which epoch was the best, and when to stop waiting for a better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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

    def exhausted(self, patience: int | None) -> bool:
        """Whether as many epochs as allowed have brought nothing better."""
        return patience is not None and self.epochs_without >= patience

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BestEpoch:
        """The inverse of to_dict."""
        return cls(**values)
