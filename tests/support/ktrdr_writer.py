"""Model folders as KTRDR itself writes them, pickles included."""

from __future__ import annotations

import json
import os
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from tests.support.ktrdr_reader import network

CONFIG: dict[str, Any] = {
    "name": "theirs",
    "description": "Momentum beside two averages.",
    "indicators": [
        {"name": "rsi", "period": 3, "params": {"period": 9}},
        {"name": "sma", "period": 5, "source": "open"},
        {"name": "ema", "params": {"period": 30}},
        {"name": "macd", "params": {"fast_period": 6}},
    ],
    "fuzzy_sets": {
        "macd": {"up": {"type": "triangular", "parameters": [0, 2, 20]}},
        "rsi": {
            "oversold": {"type": "triangular", "parameters": [0, 20, 45]},
            "neutral": {"type": "triangular", "parameters": [30, 50, 70]},
        },
        "sma": {"below": {"type": "triangular", "parameters": [0.9, 0.97, 1]}},
        "ema": {"above": {"type": "triangular", "parameters": [1, 1.02, 1.1]}},
    },
    "model": {
        "type": "mlp",
        "architecture": {
            "hidden_layers": [12, 6],
            "activation": "Tanh",
            "output_activation": "softmax",
            "dropout": 0.2,
        },
        "features": {
            "include_price_context": False,
            "include_volume_context": False,
            "scale_features": False,
            "lookback_periods": 2,
        },
    },
}
NAMES = ["rsi_oversold", "rsi_neutral", "sma_below", "ema_above", "macd_up"]


class Canary:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def config(**changes: Any) -> dict[str, Any]:
    """A configuration; `model__features__scale_features=True` changes one place."""
    made = deepcopy(CONFIG)
    for place, value in changes.items():
        *way, last = place.split("__")
        target = made
        for step in way:
            target = target[step]
        target[last] = value
    return made


def write(
    root: Path,
    name: str = "theirs",
    version: int = 1,
    series: str = "AAPL_1h",
    created_at: str = "2025-06-10T12:00:00.123456",
    made: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Writes one version with canaries where KTRDR has pickles."""
    made = made or config()
    directory = root / "models" / name / f"{series}_v{version}"
    directory.mkdir(parents=True)
    metadata = {
        "strategy_name": name,
        "symbol": series.rsplit("_", 1)[0],
        "timeframe": series.rsplit("_", 1)[1],
        "created_at": created_at,
        "model_type": "Sequential",
        "input_size": len(NAMES),
        "training_summary": {"epochs": 3, "final_accuracy": 0.6, "best_val_accuracy": 0.5},
    }
    torch.manual_seed(seed)
    lowered = deepcopy(made)
    lowered["model"]["architecture"]["activation"] = "tanh"
    lowered["model"]["architecture"]["output_activation"] = "softmax"
    lowered["model"]["type"] = "mlp"
    torch.save(network(lowered, metadata).state_dict(), directory / "model.pt")
    for pickled in ("model_full.pt", "scaler.pkl"):
        (directory / pickled).write_bytes(pickle.dumps(Canary(root / "canary")))
    documents = {
        "metadata": metadata,
        "config": made,
        "metrics": {
            "final_train_accuracy": 0.61,
            "test_accuracy": 0.43,
            "final_val_loss": float("nan"),
        },
        "features": {"feature_names": NAMES, "feature_count": len(NAMES)},
    }
    for name_of, values in documents.items():
        (directory / f"{name_of}.json").write_text(json.dumps(values, indent=2), encoding="utf-8")
    return directory
