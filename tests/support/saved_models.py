"""Models saved without a training: random weights on real features, published as a save does it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.content import NO_GRAMS
from ktrdr_mcp.features import build
from ktrdr_mcp.features.inputs import fit
from ktrdr_mcp.nn.perceptron import Mlp
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service import models
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.strategy.parsing import parse_strategy
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.config import effective
from ktrdr_mcp.training.predictor import model_of, predict
from ktrdr_mcp.training.seen import SeenGrams
from tests.support.sample_results import task_result

TRAINING_ROWS = 2_000
SEEN = SeenGrams.of(NO_GRAMS, (0, 0, 0, 0))
EPOCH = {"epoch": 1, "train_loss": 1.0, "val_loss": 1.1, "train_accuracy": 0.4, "val_accuracy": 0.3}
FINGERPRINT = "f" * 64
PERIOD = ["2024-08-06T13:30:00Z"] * 2
METRICS = task_result(
    training_metrics={
        "final_train_loss": 1.0,
        "final_val_loss": 1.1,
        "final_train_accuracy": 0.4,
        "final_val_accuracy": 0.3,
        "epochs_completed": 1,
        "early_stopped": False,
        "training_time_minutes": 0.5,
        "best_epoch": 1,
    },
    test_metrics={"test_loss": 1.2, "test_accuracy": 0.35},
    model_info={"architecture": "mlp", "model_size_mb": 0.01},
)


@cache
def hourly_bars() -> Bars:
    """The built-in hourly AAPL bars."""
    return BarCatalog(Workspace(Path("nowhere"))).load("AAPL", "1h").bars


def table_of(bars: Bars) -> pd.DataFrame:
    """Bars as KTRDR holds them."""
    names = ("open", "high", "low", "close", "volume")
    return pd.DataFrame({name: getattr(bars, name) for name in names})


@dataclass
class Saver:
    """Saves models into one workspace."""

    root: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def strategy(self, name: str, text: str | None) -> Strategy:
        return parse_strategy(text, name) if text else StrategyCatalog(self.workspace).read(name)

    def train(self, task_id: str, strategy: Strategy, seed: int = 0, **config: Any) -> None:
        """Leaves the bundle of a training whose weights are random."""
        table = build.compute_indicators(hourly_bars(), strategy)
        rows = np.arange(table.warm_up_bars, TRAINING_ROWS)
        fitted = build.fit_fuzzy(table, strategy, rows)
        names, values = build.feature_matrix(table, fitted)
        scaler = fit(values[rows], fitted.features.scaling)
        settings = effective(TrainingConfig.model_validate(config), fitted)
        shape = Mlp(len(names), tuple(settings.hidden_layers), settings.activation)
        generator = torch.Generator().manual_seed(seed)
        weights = {}
        for layer, (inputs, outputs) in enumerate(shape.layers):
            random = torch.randn(outputs, inputs + 1, generator=generator) * (2 / inputs) ** 0.5
            weights[f"layers.{layer}.weight"] = random[:, :-1]
            weights[f"layers.{layer}.bias"] = random[:, -1]
        manifest = bundle.BundleManifest(
            task_id=task_id,
            spec={"config": settings.model_dump()},
            strategy=fitted.to_dict(),
            feature_names=list(names),
            scaler=scaler.to_dict(),
            network=shape.to_dict(),
            classes=["buy", "hold", "sell"],
            seeds=[seed],
            best_epoch=1,
            data_fingerprint=FINGERPRINT,
            periods=bundle.Periods(train=PERIOD, validation=PERIOD, test=PERIOD),
            metrics=METRICS,
            versions={"torch": torch.__version__},
        )
        destination = self.workspace.bundle_directory(task_id)
        bundle.write(destination, weights, [EPOCH], SEEN, lambda _: manifest)

    def save(self, name: str, task_id: str, strategy: str = "default", version: int = 1):
        task = dict.fromkeys((each.name for each in dataclasses.fields(TaskRow)), None)
        task |= {"task_id": task_id, "symbol": "AAPL", "timeframe": "1h", "strategy": strategy}
        task |= {"stored_result": METRICS.to_json(), "data_fingerprint": FINGERPRINT}
        request = parse(requests.SaveModel, {"task_id": task_id, "model_name": name})
        return models.publish(self.workspace, request, TaskRow(**task), version)

    def saved(
        self, name: str, strategy: str = "default", text: str | None = None, **config: Any
    ) -> ModelRow:
        """A model of a strategy, in one step."""
        self.train(f"task-{name}", self.strategy(strategy, text), **config)
        return self.save(name, f"task-{name}", strategy)

    def our_probabilities(self, row: ModelRow, rows: np.ndarray) -> np.ndarray:
        """What this program predicts with a saved version."""
        model = model_of(bundle.read(self.root / row.path, row.bundle_sha256))
        return predict(model, hourly_bars(), rows).probabilities
