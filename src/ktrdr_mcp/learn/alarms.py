"""What a training's epochs warn of while it runs, each with what to try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ktrdr_mcp.learn.settings import EpochMetrics

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
