"""Training the networks of one task at once: the configuration in the trainer's words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.contract.config import EffectiveConfig
from ktrdr_mcp.learn import train
from ktrdr_mcp.learn.evaluate import balanced_weights
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.research.checkpointed import Keeper
from ktrdr_mcp.research.cohort import Member
from ktrdr_mcp.research.dataset import View


def fit(
    shape: NetworkShape, config: EffectiveConfig, members: Sequence[Member], keeper: Keeper
) -> list[train.TrainedNetwork]:
    """Trains every member on its training rows, watched on its validation rows.

    Args:
        shape: of every network.
        config: what all share.
        members: the networks; those of the model come first.
        keeper: trains, and keeps the training's state.
    Returns:
        one result for each member.
    """
    networks = [
        train.NetworkSettings(
            seed=member.seed,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            dropout_rate=config.dropout_rate,
        )
        for member in members
    ]
    settings = trainer_settings(config)
    return keeper.train(shape, settings, networks, stacked(members, config))


def stacked(members: Sequence[Member], config: EffectiveConfig) -> train.TrainingRows:
    """The members' data, one below the other; those that share a view share its rows."""
    first_of: dict[int, Member] = {}
    for member in members:
        first_of.setdefault(id(member.view), member)
    offset, start = {}, 0
    for key, member in first_of.items():
        offset[key] = start
        start += len(member.view.features)
    owners = list(first_of.values())
    return train.TrainingRows(
        features=np.concatenate([features_of(member.view) for member in owners]),
        labels=np.concatenate([member.dataset.label for member in owners]),
        train_rows=[member.split.train + offset[id(member.view)] for member in members],
        validation_rows=[member.split.validation + offset[id(member.view)] for member in members],
        row_weights=(
            np.concatenate([class_weights_of_rows(member) for member in owners])
            if config.class_weights
            else None
        ),
    )


def features_of(view: View) -> npt.NDArray[np.float32]:
    """(bars, features) as the trainer wants them."""
    return view.features.astype(np.float32)


def class_weights_of_rows(member: Member) -> npt.NDArray[np.float64]:
    """(bars,) the balanced weight of each row's class, by the member's own training rows."""
    label = member.dataset.label
    weights = np.array(balanced_weights(label[member.split.train]))
    return np.where(label >= 0, weights[label], 0.0)


def trainer_settings(config: EffectiveConfig) -> train.TrainerSettings:
    """What all networks of a task share."""
    stopping = config.early_stopping
    scheduler = config.lr_scheduler
    return train.TrainerSettings(
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
