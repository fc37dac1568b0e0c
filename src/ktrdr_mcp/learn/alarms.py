"""What a training's epochs warn of while it runs, each with what to try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ktrdr_mcp.learn.settings import EpochMetrics

FLAT_EPOCHS: Final = 10
FLAT_LOSS: Final = 1e-4  # nats between the highest and the lowest of those epochs
STILL_EPOCHS: Final = 5  # with one and the same validation accuracy
RISING_FACTOR: Final = 1.5  # of the lowest training loss
GAP: Final = 0.2  # training accuracy above validation accuracy


def alarm(history: Sequence[EpochMetrics]) -> str | None:
    """The gravest thing that the newest epochs show, or nothing.

    Args:
        history: every epoch of one network so far.
    """
    newest = history[-1]
    if newest.train_loss > RISING_FACTOR * min(epoch.train_loss for epoch in history):
        return "diverging: training loss rises; lower learning_rate or set gradient_clip"
    flat = [epoch.train_loss for epoch in history[-FLAT_EPOCHS:]]
    if len(flat) == FLAT_EPOCHS and max(flat) - min(flat) < FLAT_LOSS:
        return "flat: training loss stands still; raise learning_rate or change the strategy"
    still = {epoch.val_accuracy for epoch in history[-STILL_EPOCHS:]}
    if len(history) >= STILL_EPOCHS and len(still) == 1:
        return "collapsed? validation accuracy stands still; try class_weights 'balanced'"
    if newest.train_accuracy - newest.val_accuracy > GAP:
        return "overfitting: training far above validation; raise dropout_rate or weight_decay"
    return None
