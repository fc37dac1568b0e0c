"""Which networks of a cohort were planned and have nothing to say, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ktrdr_mcp.contract.config import EffectiveConfig
from ktrdr_mcp.learn.judge.doubts import Losses
from ktrdr_mcp.learn.split import Split
from ktrdr_mcp.learn.train import TrainedNetwork
from ktrdr_mcp.research.cohort import TWINS, Member, fold_splits
from ktrdr_mcp.research.dataset import Dataset


@dataclass(frozen=True, eq=False)
class LostFold:
    """A walk-forward fold without predictions."""

    split: Split
    cause: Literal["diverged", "no usable data"]


def lost_folds(
    members: Sequence[Member], networks: Sequence[TrainedNetwork], config: EffectiveConfig
) -> list[LostFold]:
    """The folds that have rows enough and no predictions, in the order of time.

    Too few rows for a fold are known, and said, before anything is trained.

    Args:
        members: the cohort; the first is the model's own.
        networks: their results, in the same order.
        config: the effective configuration.
    """
    trained = {
        int(member.split.test[0]): network
        for member, network in zip(members, networks, strict=True)
        if member.role == "fold"
    }
    lost = []
    for split in fold_splits(members[0].dataset, config):
        network = trained.get(int(split.test[0]))
        if network is None:
            lost.append(LostFold(split, "no usable data"))
        elif network.diverged is not None:
            lost.append(LostFold(split, "diverged"))
    return lost


def losses_of_folds(lost: Sequence[LostFold], used: int) -> Losses:
    """The same in numbers.

    Args:
        lost: the folds without predictions.
        used: how many folds have some.
    """
    diverged = sum(fold.cause == "diverged" for fold in lost)
    return Losses(used + len(lost), diverged, len(lost) - diverged)


def losses_of_twins(
    members: Sequence[Member], networks: Sequence[TrainedNetwork], config: EffectiveConfig
) -> Losses:
    """The noise twins that say nothing; arguments as of `lost_folds`."""
    planned = TWINS if config.control else 0
    diverged = [
        network.diverged is not None
        for member, network in zip(members, networks, strict=True)
        if member.role == "twin"
    ]
    return Losses(planned, sum(diverged), planned - len(diverged))


def lost_figures(fold: LostFold, dataset: Dataset) -> dict[str, Any]:
    """A lost fold for the resource."""
    return {**extent(fold.split, dataset), "lost": fold.cause}


def extent(split: Split, dataset: Dataset) -> dict[str, Any]:
    """The time and the rows of a fold for the resource."""
    return {
        "train": [dataset.bars.moment(int(split.train[index])) for index in (0, -1)],
        "test": [dataset.bars.moment(int(split.test[index])) for index in (0, -1)],
        "train_rows": len(split.train),
        "test_rows": len(split.test),
    }
