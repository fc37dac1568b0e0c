"""The networks of one task: seeds of the model, walk-forward folds and noise twins."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal

from ktrdr_mcp.contract.config import EffectiveConfig
from ktrdr_mcp.errors import DataError
from ktrdr_mcp.learn.judge.twins import noise_twin
from ktrdr_mcp.learn.judge.walk_forward import WalkForward, walk_forward
from ktrdr_mcp.learn.split import Split
from ktrdr_mcp.research.dataset import Dataset, View, dataset_of, view_of
from ktrdr_mcp.research.prepare import Prepared

TWINS = 4
# a twin predicts the last 60 % of its rows, after training on those before
TWIN_SPLIT = WalkForward(folds=1, span=0.6, window="expanding")


@dataclass(frozen=True, eq=False)
class Member:
    """One network: what it learns from and what it is tested on."""

    role: Literal["seed", "fold", "twin"]
    seed: int
    dataset: Dataset
    view: View  # fitted on the member's own training rows
    split: Split


def cohort(prepared: Prepared, config: EffectiveConfig) -> list[Member]:
    """All networks that a task trains at once; the seeds of the model come first.

    Args:
        prepared: the data and the specification's split.
        config: how many seeds, which folds, whether twins.
    """
    seeds = [
        Member("seed", config.seed + number, prepared.dataset, prepared.view, prepared.split)
        for number in range(config.seeds)
    ]
    folds = [
        fold
        for split in folds_of(prepared, config)
        if (fold := member("fold", config.seed, prepared.dataset, split)) is not None
    ]
    twins = [
        twin
        for number in range(TWINS if config.control else 0)
        if (twin := twin_of(prepared, config, number)) is not None
    ]
    return seeds + folds + twins


def folds_of(prepared: Prepared, config: EffectiveConfig) -> list[Split]:
    """The walk-forward splits; none if they are switched off or the rows are too few."""
    return fold_splits(prepared.dataset, config)


def fold_splits(dataset: Dataset, config: EffectiveConfig) -> list[Split]:
    """The same, of a series without the specification's split."""
    chosen = config.walk_forward
    if chosen is None:
        return []
    return splits_of(dataset, config, WalkForward(chosen.folds, chosen.span, chosen.window))


def splits_of(dataset: Dataset, config: EffectiveConfig, how: WalkForward) -> list[Split]:
    """Folds with the same share of validation rows as the main split's training part has."""
    share = config.validation_split / (1 - config.test_split)
    return walk_forward(dataset.rows.usable, dataset.end, share, how)


def member(
    role: Literal["fold", "twin"], seed: int, dataset: Dataset, split: Split
) -> Member | None:
    """A network of its own data, or nothing where a part of them does not vary."""
    with contextlib.suppress(DataError):
        return Member(role, seed, dataset, view_of(dataset, split.train), split)
    return None


def twins_fit(prepared: Prepared, config: EffectiveConfig) -> bool:
    """Whether the rows are enough for a twin, which has about as many as the bars themselves."""
    return bool(splits_of(prepared.dataset, config, TWIN_SPLIT))


def twin_of(prepared: Prepared, config: EffectiveConfig, number: int) -> Member | None:
    """A network that is trained on a noise twin of the bars, or nothing if that cannot be."""
    own = prepared.dataset
    with contextlib.suppress(DataError):
        bars = noise_twin(own.bars, config.seed, number)
        twin = dataset_of(bars, own.rows.first, own.strategy, config.labels)
        splits = splits_of(twin, config, TWIN_SPLIT)
        if splits:
            return member("twin", config.seed, twin, splits[0])
    return None
