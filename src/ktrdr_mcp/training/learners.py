"""The networks that a task trains: of seeds, walk-forward folds and surrogates."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.errors import DataError
from ktrdr_mcp.evaluation.metrics import balanced_weights
from ktrdr_mcp.evaluation.walk_forward import (
    Split,
    WalkForward,
    flip_signs,
    sign_flip_surrogate,
    walk_forward,
)
from ktrdr_mcp.nn.network import (
    Estimator,
    Network,
    Weights,
    probabilities,
    windowed_probabilities,
)
from ktrdr_mcp.nn.settings import (
    NetworkSettings,
    TrainedNetwork,
    TrainerSettings,
    TrainingRows,
)
from ktrdr_mcp.schemas.config import EffectiveConfig
from ktrdr_mcp.training.dataset import Dataset, View, series_of, view_of
from ktrdr_mcp.training.prepare import Prepared

if TYPE_CHECKING:  # the server plans learners, and imports no torch
    from ktrdr_mcp.training.checkpointer import Checkpointer

SURROGATES: Final = 4
# a surrogate predicts the last 60 % of its rows, after training on those before
SURROGATE_SPLIT: Final = WalkForward(folds=1, span=0.6, window="expanding")


@dataclass(frozen=True, eq=False)
class Learner:
    """One network: what it learns from and what it is tested on."""

    role: Literal["seed", "fold", "twin"]
    seed: int
    dataset: Dataset
    view: View  # fitted on the learner's own training rows
    split: Split


def make_learners(prepared: Prepared, config: EffectiveConfig) -> list[Learner]:
    """All networks that a task trains at once; the seeds of the model come first.

    Args:
        prepared: the data and the specification's split.
        config: how many seeds, which folds, whether surrogates.
    """
    seeds = [
        Learner("seed", config.seed + number, prepared.dataset, prepared.view, prepared.split)
        for number in range(config.seeds)
    ]
    folds = [
        fold
        for split in folds_of(prepared, config)
        if (fold := make_learner("fold", config.seed, prepared.dataset, split)) is not None
    ]
    surrogates = [
        surrogate
        for number in range(SURROGATES if config.control else 0)
        if (surrogate := surrogate_of(prepared, config, number)) is not None
    ]
    return seeds + folds + surrogates


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
    return walk_forward(dataset.usable, dataset.timeline, share, how)


def make_learner(
    role: Literal["fold", "twin"], seed: int, dataset: Dataset, split: Split
) -> Learner | None:
    """A network of its own data, or nothing where a part of them does not vary."""
    with contextlib.suppress(DataError):
        return Learner(role, seed, dataset, view_of(dataset, split.train), split)
    return None


def surrogates_fit(prepared: Prepared, config: EffectiveConfig) -> bool:
    """Whether the rows are enough for a surrogate, which has about as many as the bars."""
    return bool(splits_of(prepared.dataset, config, SURROGATE_SPLIT))


def surrogate_of(prepared: Prepared, config: EffectiveConfig, number: int) -> Learner | None:
    """A network that is trained on a sign-flip surrogate of the bars, if that can be."""
    own = prepared.dataset
    with contextlib.suppress(DataError):
        signs = flip_signs(len(own.timestamps), config.seed, number)
        dataset = flipped(own, signs, config)
        splits = splits_of(dataset, config, SURROGATE_SPLIT)
        if splits:
            return make_learner("twin", config.seed, dataset, splits[0])
    return None


def flipped(own: Dataset, signs: npt.NDArray[np.float64], config: EffectiveConfig) -> Dataset:
    """A dataset of the same series, whose moves have got a sign for each timestamp.

    Args:
        own: the series.
        signs: float64[timestamps], +1 or -1.
        config: whose labels.
    Raises:
        DataError: a flipped series does not carry the indicators.
    """
    series = []
    for one in own.series:
        at = np.searchsorted(own.timestamps, one.bars.time)
        bars = sign_flip_surrogate(one.bars, signs[at])
        series.append(series_of(bars, one.first, own.strategy, config.labels))
    return Dataset(own.strategy, tuple(series))


def fit(
    shape: Network,
    config: EffectiveConfig,
    learners: Sequence[Learner],
    checkpointer: Checkpointer,
) -> list[TrainedNetwork]:
    """Trains every learner on its training rows, watched on its validation rows.

    Args:
        shape: of every network.
        config: what all share.
        learners: the networks; those of the model come first.
        checkpointer: trains, and keeps the training's state.
    Returns:
        one result for each learner.
    """
    networks = [
        NetworkSettings(
            seed=learner.seed,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            dropout_rate=config.dropout_rate,
        )
        for learner in learners
    ]
    settings = trainer_settings(config)
    return checkpointer.train(shape, settings, networks, stacked(learners, config))


def stacked(learners: Sequence[Learner], config: EffectiveConfig) -> TrainingRows:
    """The learners' data, one below the other; those that share a view share its rows."""
    first_of: dict[int, Learner] = {}
    for learner in learners:
        first_of.setdefault(id(learner.view), learner)
    offset, start = {}, 0
    for key, learner in first_of.items():
        offset[key] = start
        start += len(learner.view.features)
    owners = list(first_of.values())
    return TrainingRows(
        features=np.concatenate([features_of(learner.view) for learner in owners]),
        labels=np.concatenate([learner.dataset.label for learner in owners]),
        train_rows=[learner.split.train + offset[id(learner.view)] for learner in learners],
        validation_rows=[
            learner.split.validation + offset[id(learner.view)] for learner in learners
        ],
        row_weights=(
            np.concatenate([class_weights_of_rows(learner) for learner in owners])
            if config.class_weights
            else None
        ),
        windows=owners[0].view.windows,
    )


def features_of(view: View) -> npt.NDArray[np.float32]:
    """(rows, features) as the trainer wants them."""
    return view.features.astype(np.float32)


def probabilities_of_rows(
    shape: Estimator, weights: Weights, view: View, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(rows, classes) what a network says of some rows, in evaluation mode."""
    if view.windows is None:
        return probabilities(shape, weights, view.features[rows])
    return windowed_probabilities(shape, weights, view.windows, view.features, rows)


def class_weights_of_rows(learner: Learner) -> npt.NDArray[np.float64]:
    """(rows,) the balanced weight of each row's class, by the learner's own training rows."""
    label = learner.dataset.label
    weights = np.array(balanced_weights(label[learner.split.train]))
    return np.where(label >= 0, weights[label], 0.0)


def trainer_settings(config: EffectiveConfig) -> TrainerSettings:
    """What all networks of a task share."""
    stopping = config.early_stopping
    scheduler = config.lr_scheduler
    return TrainerSettings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimizer=config.optimizer,
        momentum=config.momentum,
        gradient_clip=config.gradient_clip,
        scheduler=scheduler.model_dump(exclude_none=True) if scheduler else None,
        patience=stopping.patience if stopping else None,
        monitor=stopping.monitor if stopping else "val_loss",
        device=config.device,
        reported_networks=config.seeds,
    )
