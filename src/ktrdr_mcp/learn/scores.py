"""Loss and accuracy of K networks, summed batch by batch and divided once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ktrdr_mcp.learn.batches import Block


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
