"""How good predictions are, on one set of rows: loss, accuracy, macro averages, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.evaluation.blocks import Integers, block_sums
from ktrdr_mcp.schemas.results import CalibrationBin

CLASSES = ("buy", "hold", "sell")

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
BINS: Final = 8
LEAST_ROWS: Final = 20  # of a bin


@dataclass(frozen=True)
class Evaluation:
    """Figures of one set of rows. Loss in nats, the rest in [0, 1]."""

    loss: float
    accuracy: float
    precision: float  # macro average; a class that is never predicted counts as zero
    recall: float  # macro average; a class that never occurs counts as zero
    f1_score: float  # macro average
    predicted_shares: tuple[float, ...]  # by class
    confusion: tuple[tuple[int, ...], ...]  # rows are what came, columns what was predicted

    @property
    def collapsed(self) -> bool:
        """Whether one class is predicted for every row."""
        return max(self.predicted_shares) == 1.0


def evaluate(probabilities: Floats, labels: Labels) -> Evaluation:
    """Compares predicted probabilities with what happened.

    Args:
        probabilities: (n, 3) rows sum to 1.
        labels: (n,) class indices.
    """
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted)
    hits = np.diag(confusion).astype(np.float64)
    precision = ratio(hits, confusion.sum(axis=0))
    recall = ratio(hits, confusion.sum(axis=1))
    f1 = ratio(2 * precision * recall, precision + recall)
    chosen = probabilities[np.arange(len(labels)), labels]
    return Evaluation(
        loss=float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean()),
        accuracy=float(hits.sum() / len(labels)),
        precision=float(precision.mean()),
        recall=float(recall.mean()),
        f1_score=float(f1.mean()),
        predicted_shares=tuple((confusion.sum(axis=0) / len(labels)).tolist()),
        confusion=tuple(map(tuple, confusion.tolist())),
    )


def confusion_matrix(labels: Labels, predicted: Labels) -> npt.NDArray[np.int64]:
    """Counts by class.

    Args:
        labels: (n,) what happened.
        predicted: (n,) what was predicted.
    Returns:
        (3, 3) rows are what happened, columns what was predicted.
    """
    size = len(CLASSES)
    return np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)


def class_shares(labels: Labels) -> Floats:
    """(3,) the share of each class."""
    shares: Floats = np.bincount(labels, minlength=len(CLASSES)) / max(len(labels), 1)
    return shares


def balanced_weights(labels: Labels) -> tuple[float, ...]:
    """A weight for each class so that all weigh the same together; 0 for an absent one.

    Args:
        labels: (n,) class indices of the training rows.
    Source: scikit-learn's `class_weight="balanced"`, n / (classes * count).
    """
    counts = np.bincount(labels, minlength=len(CLASSES)).astype(np.float64)
    present = np.count_nonzero(counts)
    return tuple(ratio(np.full(len(CLASSES), len(labels) / present), counts).tolist())


def ratio(numerator: Floats, denominator: npt.NDArray[np.generic]) -> Floats:
    """Element-wise quotient; zero where the denominator is zero."""
    bottom = np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, bottom, out=np.zeros_like(bottom), where=bottom > 0)


def calibrate(
    probabilities: Floats, labels: Integers, at: Integers, time: Integers, width_bars: int
) -> list[CalibrationBin]:
    """The most probable class beside how often it came, in bins of as many rows each.

    The error of a bin is the root of the sum over blocks of time of squared sums of
    (hit - mean hit), over its rows: rows of one block are not independent.

    Args:
        probabilities: float64[n, 3], each row sums to 1.
        labels: int64[n], class numbers of what came.
        at: int64[n], the place of each row's timestamp in `time`, never falling.
        time: int64[t], every timestamp, UTC nanoseconds.
        width_bars: of a block, in timestamps.
    Returns:
        at most 8 bins, from the least sure to the surest; fewer where rows are few or tied.
    Source:
        C. Guo, G. Pleiss, Y. Sun, K. Weinberger, On Calibration of Modern Neural Networks, 2017,
        with bins of equal size.
    """
    sure = probabilities.max(axis=1)
    hit = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    count = min(BINS, len(sure) // LEAST_ROWS)
    if count < 1:
        return []
    edges = np.unique(np.quantile(sure, np.linspace(0, 1, count + 1)[1:-1]))
    number = np.searchsorted(edges, sure, side="right")
    bins = []
    for each in np.unique(number):
        chosen = number == each
        mean = float(hit[chosen].mean())
        sums = block_sums(hit[chosen] - mean, at[chosen], time, width_bars).sums
        bins.append(
            CalibrationBin(
                predicted=float(sure[chosen].mean()),
                observed=mean,
                error=float(np.sqrt(np.square(sums).sum())) / int(chosen.sum()),
                rows=int(chosen.sum()),
            )
        )
    return bins
