"""Training the networks of one task: what the configuration asks for, in the trainer's words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.context import Context
from ktrdr_mcp.contract.config import EffectiveConfig
from ktrdr_mcp.learn import train
from ktrdr_mcp.learn.evaluate import balanced_weights
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.research.prepare import Prepared


def fit(
    shape: NetworkShape, config: EffectiveConfig, prepared: Prepared, context: Context
) -> train.TrainedNetwork:
    """Trains the network on the training rows, watched on the validation rows."""
    rows = train.TrainingRows(
        features=prepared.view.features.astype(np.float32),
        labels=prepared.labels,
        train_rows=[prepared.split.train],
        validation_rows=[prepared.split.validation],
    )
    network = train.NetworkSettings(
        seed=config.seed,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        dropout_rate=config.dropout_rate,
    )
    settings = trainer_settings(config, prepared.labels[prepared.split.train])
    return train.train(shape, settings, [network], rows, context)[0]


def trainer_settings(
    config: EffectiveConfig, train_labels: npt.NDArray[np.int64]
) -> train.TrainerSettings:
    """The configuration in the trainer's words."""
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
        class_weights=balanced_weights(train_labels) if config.class_weights else None,
        device=config.device,
    )
