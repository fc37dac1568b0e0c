"""What a training may see of its data, and what it is told of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.errors import InvalidRequest, InvalidStrategy, NotEnoughData
from ktrdr_mcp.evaluation.walk_forward import Timeline, chronological
from ktrdr_mcp.labels.registry import make_labels

STRATEGIES = ["default", "mean_reversion", "trend_following", "volatility_breakout"]


def changed_after(bars, index):
    """The same bars with other prices from an index on."""
    factor = np.ones(len(bars))
    factor[index:] = np.linspace(1.5, 3.0, len(bars) - index)
    return replace(
        bars,
        open=bars.open * factor,
        high=bars.high * factor,
        low=bars.low * factor,
        close=bars.close * factor,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scaler_and_fuzzy_sets_do_not_see_validation_or_test_rows(trial, noise, strategy) -> None:
    before = trial.prepare(noise, strategy=strategy)
    boundary = int(before.split.validation[0])
    after = trial.prepare(changed_after(noise, boundary), strategy=strategy)
    assert after.split.train.tolist() == before.split.train.tolist()
    assert after.view.fits[0].strategy == before.view.fits[0].strategy
    assert after.view.fits[0].scaler.to_dict() == before.view.fits[0].scaler.to_dict()
    train = before.split.train
    assert np.array_equal(after.view.features[train], before.view.features[train])
    assert np.array_equal(after.dataset.label[train], before.dataset.label[train])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_features_do_not_change_when_the_future_is_cut_off(trial, noise, strategy) -> None:
    whole = trial.prepare(noise, strategy=strategy)
    cut = trial.prepare(noise.slice(0, 700), strategy=strategy)
    scaler, fitted = cut.view.fits[0].scaler, whole.view.fits[0].strategy
    refitted = (cut.view.features * scaler.scale + scaler.shift)[600:700]
    assert cut.view.feature_names == whole.view.feature_names
    assert np.isfinite(refitted).all()
    # The same fuzzy sets must be compared, so the later one's are put to the earlier bars.
    from ktrdr_mcp.features.build import compute_indicators, feature_matrix

    tables = [compute_indicators(noise.slice(0, stop), fitted) for stop in (700, 900)]
    values = [feature_matrix(table, fitted)[1] for table in tables]
    assert np.array_equal(values[0][600:700], values[1][600:700])


@pytest.mark.parametrize(
    "labels",
    [
        {"method": "triple_barrier", "horizon": 20},
        {"method": "forward_return", "horizon": 15},
        {"method": "zigzag", "threshold": 0.02},
        {"method": "zigzag_segments", "threshold": 0.02},
    ],
    ids=lambda labels: labels["method"],
)
def test_no_label_reaches_past_its_boundary(trial, noise, labels) -> None:
    prepared = trial.prepare(noise, {"labels": labels})
    config = trial.spec({"labels": labels}).config
    end = make_labels(noise, config.labels).end
    split = prepared.split
    assert end[split.train].max() < split.validation[0]
    assert end[split.validation].max() < split.test[0]
    assert end[split.test].max() < len(noise)
    assert split.purged_rows > 0
    assert np.all(np.diff(np.concatenate([split.train, split.validation, split.test])) > 0)


def test_a_range_ends_at_its_last_bar_even_for_labels(trial, noise) -> None:
    end = format_timestamp(int(noise.time[599]))
    ranged = trial.prepare(noise, start=format_timestamp(int(noise.time[100])), end=end)
    assert (ranged.used.first_bar, ranged.used.last_bar) == (
        format_timestamp(int(noise.time[100])),
        end,
    )
    assert ranged.used.bars == 500
    assert ranged.split.train[0] == 100
    other_future = trial.prepare(changed_after(noise, 600), end=end)
    same_range = trial.prepare(noise, end=end)
    assert np.array_equal(other_future.dataset.label, same_range.dataset.label)
    assert np.array_equal(other_future.view.features, same_range.view.features, equal_nan=True)


def test_the_account_of_the_rows_adds_up(trial, noise) -> None:
    used = trial.prepare(noise).used
    parts = used.train_rows + used.validation_rows + used.test_rows + used.purged_rows
    assert parts == used.usable_rows <= used.bars == 900
    assert sum(used.class_shares.values()) == pytest.approx(1, abs=1e-3)


def test_too_few_bars_are_refused_with_the_sum(trial, noise) -> None:
    with pytest.raises(NotEnoughData) as refused:
        trial.prepare(noise.slice(0, 150))
    assert "150 in the range" in refused.value.message
    assert "100, 20 and 20 are needed" in refused.value.message


def test_one_class_only_is_refused(trial, noise) -> None:
    with pytest.raises(NotEnoughData, match="'hold'"):
        trial.prepare(noise, {"labels": {"method": "triple_barrier", "width": 100.0}})


def test_purging_equals_a_scalar_loop() -> None:
    generator = np.random.default_rng(3)
    rows = np.sort(generator.choice(500, 300, replace=False)).astype(np.int64)
    end = np.arange(500) + generator.integers(0, 40, 500)
    split = chronological(rows, Timeline.of_one_series(end), 0.2, 0.15)
    train, validation, test = rows[:195], rows[195:255], rows[255:]
    kept = [int(row) for row in train if end[row] < validation[0]]
    assert split.train.tolist() == kept
    assert split.validation.tolist() == [int(r) for r in validation if end[r] < test[0]]
    assert split.test.tolist() == test.tolist()


class TestEffectiveConfiguration:
    """Request over strategy over defaults, deeply."""

    def test_a_partial_request_keeps_the_rest_of_a_nested_setting(self, trial) -> None:
        config = trial.spec({"early_stopping": {"patience": 3}}).config
        assert config.early_stopping is not None
        assert config.early_stopping.monitor == "val_accuracy"
        assert config.early_stopping.patience == 3

    def test_null_switches_a_nested_setting_off(self, trial) -> None:
        assert trial.spec({"early_stopping": None}).config.early_stopping is None

    def test_labels_are_completed(self, trial) -> None:
        labels = trial.spec({"labels": {"horizon": 4}}).config.labels
        assert labels == {"method": "triple_barrier", "horizon": 4, "width": 0.85}

    def test_labels_of_another_method_replace_the_strategys(self, trial) -> None:
        labels = {"method": "zigzag_segments", "threshold": 0.05}
        assert trial.spec({"labels": labels}, strategy="trend_following").config.labels == labels

    def test_a_scheduler_is_completed(self, trial) -> None:
        scheduler = trial.spec({"lr_scheduler": {"type": "exponential"}}).config.lr_scheduler
        assert scheduler is not None
        assert scheduler.model_dump(exclude_none=True) == {"type": "exponential", "gamma": 0.95}

    @pytest.mark.parametrize(
        ("config", "field"),
        [
            ({"momentum": 0.9}, "config.momentum"),
            ({"validation_split": 0.5, "test_split": 0.45}, "config.validation_split"),
            ({"lr_scheduler": {"type": "exponential", "step_size": 3}}, "step_size"),
            ({"labels": {"method": "triple_barier"}}, "config.labels.method"),
            ({"labels": {"threshold": 0.1}}, "config.labels.threshold"),
            ({"labels": {"horizon": 2.5}}, "config.labels.horizon"),
        ],
        ids=str,
    )
    def test_a_contradiction_names_its_field(self, trial, config, field) -> None:
        with pytest.raises(InvalidRequest) as refused:
            trial.spec(config)
        assert field in (refused.value.field or "")

    def test_a_strategys_own_mistake_is_the_strategys(self, trial) -> None:
        strategies = trial.root / "strategies"
        strategies.mkdir()
        text = (
            "name: broken\nindicators:\n  - {name: rsi, period: 14}\nfuzzy_sets: {rsi: auto}\n"
            "model: {type: mlp, training: {epochs: 0}}\ntraining: {}\n"
        )
        (strategies / "broken.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(InvalidStrategy, match="epochs"):
            trial.spec(strategy="broken")


def with_sets(trial, name: str, **sets: str) -> str:
    """A strategy over two indicators, in the trial's own folder."""
    lines = [f"  {each}: {text}" for each, text in sets.items()]
    text = (
        "indicators: [{name: rsi_14, type: rsi}, {name: sma_20, type: sma, period: 20}]\n"
        "fuzzy_sets:\n" + "\n".join(lines) + "\n"
    )
    folder = trial.root / "strategies"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return name


def test_a_strategy_of_which_no_feature_varies_is_refused_with_the_range_of_its_values(
    trial, noise
) -> None:
    dead = with_sets(
        trial,
        "dead",
        rsi_14="{low: [-9, -5, -1]}",
        sma_20="{low: [50, 100, 150], high: [200, 300, 400]}",
    )
    with pytest.raises(InvalidStrategy, match="No feature of strategy 'dead' varies") as told:
        trial.prepare(noise, strategy=dead)
    assert "rsi_14 runs from" in told.value.message
    assert "sma_20 runs from" in told.value.message
    assert "auto" in told.value.hint


def test_features_that_never_vary_are_named_with_the_range_of_their_indicator(trial, noise) -> None:
    half = with_sets(
        trial,
        "half",
        rsi_14="auto",
        sma_20="{low: [50, 100, 150], near: [0.5, 1, 1.5], high: [200, 300, 400]}",
    )
    prepared = trial.prepare(noise, strategy=half)
    (warning,) = [text for text in prepared.warnings if "never var" in text]
    train = prepared.split.train
    average = np.convolve(noise.close, np.ones(20) / 20, "valid")
    ratio = (noise.close[19:] / average)[train - 19]
    ratio = ratio if f"{ratio.min():.4g}" in warning else 1 / ratio
    assert warning == (
        "Features sma_20_low, sma_20_high never vary on the training rows: sma_20 runs from"
        f" {ratio.min():.4g} to {ratio.max():.4g} there."
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_features_of_our_strategies_vary(trial, noise, strategy) -> None:
    assert not [text for text in trial.prepare(noise, strategy=strategy).warnings if "var" in text]
