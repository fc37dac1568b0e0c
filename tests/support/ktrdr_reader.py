"""KTRDR's reading rules, written down a second time, from the written files alone.

Nothing of the program under test is imported. A backtest reads the strategy file for indicators and
fuzzy sets, config.json for the network's shape and model.pt for its weights; bars are a table with
the columns open, high, low, close and volume.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

CLASSES = {"rsi": "RSI", "sma": "SMA", "ema": "EMA", "macd": "MACD"}
LAYERS = {
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
    "leaky_relu": torch.nn.LeakyReLU,
}


def rsi(close: pd.Series, period: int = 14) -> pd.Series:
    """Wilder's loop, seeded by the mean of the first `period` changes."""
    change = close.diff().to_numpy()
    gain, loss = np.maximum(change, 0), np.maximum(-change, 0)
    mean_gain, mean_loss = gain[1 : period + 1].mean(), loss[1 : period + 1].mean()
    values = np.full(len(close), np.nan)
    for index in range(period, len(close)):
        if index > period:
            mean_gain = (mean_gain * (period - 1) + gain[index]) / period
            mean_loss = (mean_loss * (period - 1) + loss[index]) / period
        if mean_loss == 0:
            values[index] = 50.0 if mean_gain == 0 else 100.0
        else:
            values[index] = 100 - 100 / (1 + mean_gain / mean_loss)
    return pd.Series(values, close.index)


def columns(entry: dict[str, Any], bars: pd.DataFrame) -> dict[str, pd.Series]:
    """One indicator's columns, under the names that KTRDR's engine gives them.

    Parameters beside `params` are dropped, as its configuration model drops them.
    """
    name = entry["name"].lower()
    kind = (entry.get("type") or CLASSES[name]).upper()
    params = dict(entry.get("params") or {})
    price = bars[params.pop("source", "close")]
    if kind == "RSI":
        period = params.pop("period", 14)
        found = {f"{name}_{period}": rsi(price, period)}
    elif kind == "SMA":
        period = params.pop("period", 20)
        found = {f"{name}_{period}": price.rolling(window=period).mean()}
    elif kind == "EMA":
        period = params.pop("period", 20)
        found = {f"{name}_{period}": price.ewm(span=period, adjust=True).mean()}
    else:
        fast, slow = params.pop("fast_period", 12), params.pop("slow_period", 26)
        signal_period = params.pop("signal_period", 9)
        line = price.ewm(span=fast, adjust=False).mean() - price.ewm(span=slow, adjust=False).mean()
        signal = line.ewm(span=signal_period, adjust=False).mean()
        found = {
            f"MACD_{fast}_{slow}": line,
            f"MACD_signal_{fast}_{slow}_{signal_period}": signal,
            f"MACD_hist_{fast}_{slow}_{signal_period}": line - signal,
        }
    assert not params, "KTRDR's constructor would refuse these"
    return found


def indicator_values(strategy: dict[str, Any], bars: pd.DataFrame) -> dict[str, pd.Series]:
    """What is fuzzified, by the strategy's names; a column is found by how its name begins."""
    table = bars.copy()
    for entry in strategy["indicators"]:
        for name, column in columns(entry, bars).items():
            table[name] = column
    values = {}
    for entry in strategy["indicators"]:
        wanted = entry["name"].upper()
        matching = [name for name in table.columns if name.upper().startswith(wanted)]
        if wanted == "MACD":
            matching = [
                name
                for name in matching
                if name.startswith("MACD_") and "_signal_" not in name and "_hist_" not in name
            ]
        column = table[matching[0]]
        values[entry["name"]] = bars["close"] / column if wanted in {"SMA", "EMA"} else column
    return values


def triangle(values: pd.Series, parameters: list[float]) -> np.ndarray:
    """Membership in a triangle, value by value."""
    left, peak, right = parameters

    def one(x: float) -> float:
        if np.isnan(x):
            return np.nan
        if x == peak:
            return 1.0
        if x <= left or x >= right:
            return 0.0
        return (x - left) / (peak - left) if x < peak else (right - x) / (right - peak)

    return np.array([one(x) for x in values])


def features(strategy: dict[str, Any], bars: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """The feature matrix of a strategy without price context, volume context and scaling."""
    settings = strategy["model"]["features"]
    assert settings["include_price_context"] is False
    assert settings["include_volume_context"] is False
    assert settings["scale_features"] is False
    names, found = [], []
    for name, values in indicator_values(strategy, bars).items():
        for set_name, fuzzy_set in strategy["fuzzy_sets"].get(name, {}).items():
            assert fuzzy_set["type"] == "triangular"
            names.append(f"{name}_{set_name}")
            found.append(triangle(values, fuzzy_set["parameters"]))
    return names, np.nan_to_num(np.column_stack(found), nan=0.0).astype(np.float32)


def network(config: dict[str, Any], metadata: dict[str, Any]) -> torch.nn.Sequential:
    """[Linear, activation, Dropout] for each hidden layer, Linear, Softmax."""
    architecture = config["model"]["architecture"]
    assert config["model"]["type"] == "mlp"
    assert architecture["output_activation"] == "softmax"
    layers: list[torch.nn.Module] = []
    width = metadata["input_size"]
    for units in architecture["hidden_layers"]:
        layers += [
            torch.nn.Linear(width, units),
            LAYERS[architecture["activation"]](),
            torch.nn.Dropout(architecture["dropout"]),
        ]
        width = units
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 3), torch.nn.Softmax(dim=1))


def load_network(directory: Path) -> torch.nn.Sequential:
    """The network of a model's folder."""
    documents = {
        name: json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("config", "metadata", "metrics", "features")
    }
    built = network(documents["config"], documents["metadata"])
    built.load_state_dict(torch.load(directory / "model.pt", weights_only=True))
    return built.eval()


def backtest_probabilities(root: Path, name: str, series: str, bars: pd.DataFrame) -> np.ndarray:
    """What KTRDR's backtester would see on every bar: its newest model, its own strategy file."""
    strategy = yaml.safe_load((root / "strategies" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert strategy["name"] == name
    built = load_network(root / "models" / strategy["name"] / f"{series}_latest")
    with torch.no_grad():
        return built(torch.from_numpy(features(strategy, bars)[1])).numpy()


def passed_signals(
    strategy: dict[str, Any], probabilities: np.ndarray, time: np.ndarray
) -> np.ndarray:
    """+1, 0, -1 as its decision engine passes them on, each one counting as traded.

    Its defaults hold where the strategy file is silent; a backtest's own threshold comes on top.
    """
    decisions = strategy.get("decisions", {})
    modes = strategy.get("orchestrator", {}).get("modes", {})
    least = decisions.get("confidence_threshold", 0.5)
    second = modes.get("backtest", {}).get("confidence_threshold") or 0.0
    hours = decisions.get("filters", {}).get("min_signal_separation", 4)
    passed, last = [], None
    for row, timestamp in zip(probabilities, time.tolist(), strict=True):
        signal = 1 - int(row.argmax())
        sure = row.max() >= max(least, second)
        soon = last is not None and (timestamp - last) / 3.6e12 < hours
        passed.append(signal if sure and not soon else 0)
        last = timestamp if passed[-1] else last
    return np.array(passed)
