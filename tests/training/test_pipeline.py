"""A training from bars to bundle: true numbers, the same every time."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from sklearn import metrics as sklearn_metrics

from ktrdr_mcp.context import Cancelled, NullContext
from ktrdr_mcp.errors import Diverged, ModelCorrupted, StorageError
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.predictor import model_of, predict

SHORT = {"epochs": 8, "hidden_layers": [16, 8]}


def softmax(values: np.ndarray) -> np.ndarray:
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def forward(weights: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """A network of relu layers in plain float64, from the weights file alone."""
    values = features.astype(np.float32).astype(np.float64)
    layers = len(weights) // 2
    for layer in range(layers):
        weight = weights[f"layers.{layer}.weight"].astype(np.float64)
        values = values @ weight.T + weights[f"layers.{layer}.bias"]
        if layer < layers - 1:
            values = np.maximum(values, 0)
    return softmax(values)


def triangle(points: list[float], x: np.ndarray) -> np.ndarray:
    left, peak, right = points
    return np.clip(np.minimum((x - left) / (peak - left), (right - x) / (right - peak)), 0, None)


def independent_features(document: dict, bars) -> np.ndarray:
    """The default strategy's features by the textbook, with pandas and loops over the bars."""
    import pandas as pd

    close = pd.Series(bars.close)
    change = close.diff().to_numpy()
    gain = np.mean(np.maximum(change[1:15], 0))
    loss = np.mean(np.maximum(-change[1:15], 0))
    rsi = np.full(len(close), np.nan)
    rsi[14] = 100 - 100 / (1 + gain / loss)
    for t in range(15, len(close)):
        gain = (gain * 13 + max(change[t], 0)) / 14
        loss = (loss * 13 + max(-change[t], 0)) / 14
        rsi[t] = 100 - 100 / (1 + gain / loss)
    columns = {
        "rsi_14": rsi,
        "sma_20": (close / close.rolling(20).mean()).to_numpy(),
        "ema_20": (close / close.ewm(span=20, adjust=True).mean()).to_numpy(),
    }
    fuzzy = {
        f"{one['indicator_output']}_{each['name']}": triangle(
            each["parameters"], columns[one["indicator_output"]]
        )
        for one in document["strategy"]["fuzzy_inputs"]
        for each in one["sets"]
    }
    values = np.column_stack([fuzzy[name] for name in document["feature_names"]])
    scaler = document["scaler"]
    return (values - np.array(scaler["shift"])) / np.array(scaler["scale"])


def independent_labels(bars, horizon: int = 8, width: float = 0.85) -> np.ndarray:
    """Triple barriers, one bar after the other."""
    squared = np.r_[np.nan, np.diff(np.log(bars.close)) ** 2]
    labels = np.full(len(bars), -1)
    alpha, top, bottom = 2 / 51, 0.0, 0.0
    for t in range(1, len(bars)):
        top, bottom = squared[t] + (1 - alpha) * top, 1 + (1 - alpha) * bottom
        if t + horizon >= len(bars):
            continue
        reach = width * np.sqrt(top / bottom) * np.sqrt(horizon)
        upper, lower = bars.open[t + 1] * np.exp(reach), bars.open[t + 1] * np.exp(-reach)
        labels[t] = 1
        for later in range(t + 1, t + horizon + 1):
            up, down = bars.high[later] >= upper, bars.low[later] <= lower
            if up or down:
                labels[t] = 1 if up and down else 0 if up else 2
                break
    return labels


def test_reported_test_metrics_equal_an_independent_recomputation(trial, noise) -> None:
    result = trial.run(noise, SHORT)
    folder = trial.root / "bundle"
    document = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    weights = safetensors.numpy.load_file(folder / "weights.safetensors")
    first, last = result.metrics.test_period
    times = np.array(noise.times())
    rows = np.flatnonzero((times >= first) & (times <= last))
    probabilities = forward(weights, independent_features(document, noise)[rows])
    labels, predicted = independent_labels(noise)[rows], probabilities.argmax(axis=1)
    assert len(rows) == result.metrics.data.test_rows
    reported = result.metrics.test_metrics
    options = {"average": "macro", "zero_division": 0.0, "labels": [0, 1, 2]}
    expected = {
        "test_loss": sklearn_metrics.log_loss(labels, probabilities, labels=[0, 1, 2]),
        "test_accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "precision": sklearn_metrics.precision_score(labels, predicted, **options),
        "recall": sklearn_metrics.recall_score(labels, predicted, **options),
        "f1_score": sklearn_metrics.f1_score(labels, predicted, **options),
    }
    assert {name: getattr(reported, name) for name in expected} == pytest.approx(expected, abs=1e-6)


def test_the_same_seed_gives_the_same_bits_whatever_trains_beside_it(trial, noise) -> None:
    trial.run(noise, SHORT, folder="alone")
    beside = threading.Barrier(3)

    class Together(NullContext):
        def __init__(self) -> None:
            super().__init__()
            self.met = False

        def yield_turn(self) -> None:
            if not self.met:  # all three are inside their training now
                self.met = True
                beside.wait(timeout=60)

    def run(seed: int, folder: str) -> None:
        trial.run(noise, {**SHORT, "seed": seed}, context=Together(), folder=folder)

    threads = [threading.Thread(target=run, args=(seed, f"beside-{seed}")) for seed in (0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    weights = {
        name: (trial.root / name / "weights.safetensors").read_bytes()
        for name in ("alone", "beside-0", "beside-1")
    }
    assert weights["alone"] == weights["beside-0"]
    assert weights["alone"] != weights["beside-1"]


def test_a_planted_signal_is_learned_and_a_random_walk_is_not(
    trial, make_bars, planted_close
) -> None:
    def gain(strength: float, seed: int) -> float:
        bars = make_bars(planted_close(3_000, strength, seed), seed=seed)
        figures = trial.run(bars, {"epochs": 40}, folder=f"{strength}-{seed}").metrics
        majority = figures.baselines.majority.accuracy
        return float(figures.test_metrics.test_accuracy - majority)

    planted = [gain(1.0, seed) for seed in range(4)]
    walk = [gain(0.0, seed) for seed in range(4)]
    assert min(planted) > 0.05
    assert np.mean(planted) > 0.15
    assert max(walk) < 0.06  # two standard errors of the 445 test rows, and more with overlap
    assert abs(np.mean(walk)) < 0.04


def test_metrics_are_those_of_the_restored_best_epoch(trial, noise) -> None:
    context = NullContext()
    config = {**SHORT, "epochs": 30, "walk_forward": None}
    figures = trial.run(noise, config, context=context).metrics
    best = figures.training_metrics.best_epoch
    reports = {report.epoch: report for report in context.reports}
    highest = max(report.val_accuracy for report in context.reports)
    assert reports[best].val_accuracy == highest
    assert best < figures.training_metrics.epochs_completed == len(context.reports)
    assert figures.training_metrics.final_val_accuracy == pytest.approx(highest, abs=1e-6)
    assert figures.training_metrics.final_val_loss == pytest.approx(
        reports[best].val_loss, rel=1e-5
    )


def test_a_bundle_predicts_what_was_measured(trial, noise) -> None:
    trial.run(noise, SHORT)
    loaded = bundle.read(trial.root / "bundle")
    parity = loaded.manifest.parity
    assert parity is not None
    assert parity.largest_difference_after_loading == 0.0
    rows = np.flatnonzero(np.isin(noise.times(), parity.times))
    scores = predict(model_of(loaded), noise, rows)
    assert scores.probabilities.tolist() == parity.probabilities
    alone = predict(model_of(loaded), noise.slice(0, int(rows[3]) + 1), rows[3:4])
    assert alone.probabilities[0] == pytest.approx(parity.probabilities[3], abs=1e-6)


def test_a_learning_rate_that_diverges_says_when_and_leaves_nothing(trial, noise) -> None:
    with pytest.raises(Diverged) as failed:
        trial.run(noise, {**SHORT, "learning_rate": 1e6, "optimizer": "sgd"})
    assert "epoch" in failed.value.message
    assert "learning_rate" in failed.value.hint
    assert not (trial.root / "bundle").exists()


def test_a_cancelled_training_leaves_nothing(trial, noise) -> None:
    class Stop(NullContext):
        def yield_turn(self) -> None:
            if self.reports:
                raise Cancelled

    with pytest.raises(Cancelled):
        trial.run(noise, SHORT, context=Stop())
    assert list(trial.root.iterdir()) == []


def test_a_bundle_of_an_earlier_attempt_is_adopted(trial, noise) -> None:
    first = trial.run(noise, SHORT)
    context = NullContext()
    assert trial.run(noise, SHORT, context=context) == first
    assert context.reports == []


def test_a_damaged_bundle_of_an_earlier_attempt_is_replaced_and_kept(trial, noise) -> None:
    trial.run(noise, SHORT)
    (trial.root / "bundle" / "weights.safetensors").write_bytes(b"damaged")
    trial.run(noise, SHORT)
    assert bundle.read(trial.root / "bundle").manifest.task_id == "trial"
    kept = trial.root / "bundle.earlier-1" / "weights.safetensors"
    assert kept.read_bytes() == b"damaged"


def test_whole_bundles_of_other_settings_are_set_aside_and_named(trial, noise, caplog) -> None:
    for seed in (1, 2, 3):
        trial.run(noise, {**SHORT, "seed": seed})
    seeds = {
        path.name: bundle.read(path).manifest.spec["config"]["seed"]
        for path in trial.root.glob("bundle*")
    }
    assert seeds == {"bundle.earlier-1": 1, "bundle.earlier-2": 2, "bundle": 3}
    assert [record.args for record in caplog.records if record.levelname == "WARNING"] == [
        ("trial", "bundle.earlier-1"),
        ("trial", "bundle.earlier-2"),
    ]


def test_a_bundle_that_cannot_be_set_aside_is_not_touched(trial, noise, monkeypatch) -> None:
    trial.run(noise, {**SHORT, "seed": 1})

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError, match="setting bundle aside"):
        trial.run(noise, {**SHORT, "seed": 2})
    monkeypatch.undo()
    assert bundle.read(trial.root / "bundle").manifest.spec["config"]["seed"] == 1


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "history.json", "seen.safetensors", "bundle.json"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "flipped", "truncated", "link", "huge"])
def test_a_damaged_file_is_named_and_never_used(trial, noise, name, damage) -> None:
    trial.run(noise, SHORT)
    path = trial.root / "bundle" / name
    content = path.read_bytes()
    digest = bundle.files.sha256_of_file(trial.root / "bundle" / "bundle.json")
    path.unlink()
    if damage == "flipped":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "link":
        (trial.root / "copy").write_bytes(content)
        path.symlink_to(trial.root / "copy")
    elif damage != "missing":
        changed = {"empty": b"", "truncated": content[: len(content) // 2]}
        path.write_bytes(changed.get(damage, b"\xff" * 8 + content))
    with pytest.raises(ModelCorrupted, match=name):
        bundle.read(trial.root / "bundle", expected_sha256=digest)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("activation", "tanh"),
        ("batch_size", 64),
        ("class_weights", "balanced"),
        ("dropout_rate", 0.0),
        ("gradient_clip", 0.01),
        ("hidden_layers", [8]),
        ("labels", {"method": "forward_return", "horizon": 5}),
        ("learning_rate", 0.01),
        ("lr_scheduler", {"type": "step", "step_size": 1, "gamma": 0.5}),
        ("optimizer", "rmsprop"),
        ("seed", 1),
        ("test_split", 0.3),
        ("validation_split", 0.3),
        ("weight_decay", 0.1),
    ],
)
def test_every_setting_has_an_effect(trial, noise, setting, value) -> None:
    # Without early stopping the best epoch is chosen by loss, so that both runs are whole.
    base = {**SHORT, "early_stopping": {"monitor": "val_loss", "patience": 100}}
    trial.run(noise, base, folder="base")
    trial.run(noise, {**base, setting: value}, folder="changed")
    weights = [
        (trial.root / name / "weights.safetensors").read_bytes() for name in ("base", "changed")
    ]
    assert weights[0] != weights[1]


def test_epochs_and_early_stopping_have_an_effect(trial, noise) -> None:
    def epochs(config: dict) -> tuple[int, bool]:
        folder = f"run-{len(list(trial.root.iterdir()))}"
        figures = trial.run(noise, {**SHORT, **config}, folder=folder).metrics
        training = figures.training_metrics
        return training.epochs_completed, training.early_stopped

    assert epochs({"epochs": 5, "early_stopping": None}) == (5, False)
    stopped, early = epochs({"epochs": 60, "early_stopping": {"patience": 2}})
    assert early
    assert stopped < 60
    other, _ = epochs({"epochs": 60, "early_stopping": {"patience": 2, "monitor": "val_loss"}})
    longer, _ = epochs({"epochs": 60, "early_stopping": {"patience": 6, "monitor": "val_loss"}})
    assert other != stopped or longer > other


def test_momentum_has_an_effect_where_it_is_allowed(trial, noise) -> None:
    for momentum in (0.0, 0.9):
        config = {**SHORT, "optimizer": "sgd", "momentum": momentum, "learning_rate": 0.05}
        trial.run(noise, config, folder=str(momentum))
    weights = [(trial.root / name / "weights.safetensors").read_bytes() for name in ("0.0", "0.9")]
    assert weights[0] != weights[1]
