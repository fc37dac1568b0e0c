"""What bundle.json says: all that rebuilds, explains and dates a model."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from ktrdr_mcp.data import bars as bars_of
from ktrdr_mcp.data.moments import moment_text
from ktrdr_mcp.learn.evaluate import CLASSES
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.research.prepare import Prepared
from ktrdr_mcp.research.spec import TrainingSpec

LIBRARIES = ("ktrdr-mcp", "torch", "numpy", "pandas", "ta-lib", "safetensors")


def document(
    spec: TrainingSpec, prepared: Prepared, shape: NetworkShape, best_epoch: int
) -> dict[str, Any]:
    """The bundle's document, but for figures, hashes and the parity proof.

    Args:
        spec: what was trained.
        prepared: its data, features and scaler.
        shape: the network's shape.
        best_epoch: whose weights the model has.
    """
    split, time = prepared.split, prepared.bars.time
    return {
        "task_id": spec.task_id,
        "spec": spec.to_dict(),
        "strategy": prepared.view.strategy.to_dict(),
        "feature_names": list(prepared.view.feature_names),
        "scaler": prepared.view.scaler.to_dict(),
        "network": {
            "inputs": shape.inputs,
            "hidden": list(shape.hidden),
            "activation": shape.activation,
        },
        "classes": list(CLASSES),
        "seeds": [spec.config.seed],
        "best_epoch": best_epoch,
        "data_fingerprint": bars_of.fingerprint(prepared.bars),
        "periods": {
            "train": [
                moment_text(int(time[split.train[0]])),
                moment_text(int(time[split.train[-1]])),
            ],
            "validation": [
                moment_text(int(time[split.validation[0]])),
                moment_text(int(time[split.validation[-1]])),
            ],
            "test": [moment_text(int(time[split.test[0]])), moment_text(int(time[split.test[-1]]))],
        },
        "versions": {"python": platform.python_version()}
        | {library: version(library) for library in LIBRARIES},
    }
