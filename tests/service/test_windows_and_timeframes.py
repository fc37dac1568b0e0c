"""Strategies of several bars and timeframes from the tool to a prediction."""

from __future__ import annotations

from typing import Any

import pytest

from ktrdr_mcp.api.operations import BACKTEST_MODEL, SAVE_STRATEGY, START_TRAINING
from ktrdr_mcp.errors import InvalidStrategy, NotEnoughData
from ktrdr_mcp.training.bundle import read_manifest
from tests.support.service_calls import SHORT, Bench, card_of

pytestmark = pytest.mark.asyncio

WIDE: dict[str, Any] = {
    "indicators": [
        {"name": "move", "type": "returns", "params": {"period": 1}, "window": 6},
        {"name": "daily", "type": "rsi", "params": {"period": 5}, "timeframe": "1d"},
        {"name": "week", "type": "returns", "params": {"period": 1}, "timeframe": "1w"},
    ],
    "fuzzy_sets": {"move": "crisp", "daily": "auto", "week": "crisp"},
}


async def save(bench: Bench, strategy: dict[str, Any]) -> Any:
    return await SAVE_STRATEGY.answer(bench.service, {"name": "wide", "strategy": strategy})


async def test_it_trains_saves_predicts_and_backtests(bench: Bench) -> None:
    await save(bench, WIDE)
    task_id = await bench.trained(strategy="wide", task_id="one")
    assert (await bench.save(task_id, "wide")).ktrdr_backtest_compatible is False
    card = await card_of(bench.service, "wide")
    names = [name for name in card["feature_names"] if name.startswith("move")]
    assert names == ["move", *(f"move_ago_{lag}" for lag in range(1, 6))]
    parity = read_manifest(bench.workspace.bundle_directory(task_id)).parity
    assert parity is not None
    assert parity.largest_difference_after_loading == 0
    prediction = await bench.predict("wide", test_date="2026-01-15")
    assert set(prediction.input_features) == {"move", "daily", "week"}
    backtest = await BACKTEST_MODEL.answer(bench.service, {"model_name": "wide"})
    assert backtest.in_sample.bars > 100
    with pytest.raises(NotEnoughData):
        await bench.predict("wide", test_date="2024-08-12")


async def test_a_window_for_all_inputs_is_that_of_each(bench: Bench) -> None:
    each = {"indicators": [{"name": "rsi", "window": 4}], "fuzzy_sets": {"rsi": "auto"}}
    every = {"indicators": [{"name": "rsi"}], "fuzzy_sets": {"rsi": "auto"}, "window": 4}
    sums = []
    for number, strategy in enumerate((each, every)):
        await save(bench, strategy)
        await bench.trained(strategy="wide", task_id=f"task_{number}")
        weights = bench.workspace.bundle_directory(f"task_{number}") / "weights.safetensors"
        sums.append(weights.read_bytes())
    assert sums[0] == sums[1]


@pytest.mark.parametrize("window", [0, 65, 2.5, "many"])
async def test_impossible_windows_are_refused(bench: Bench, window: object) -> None:
    strategy = {"indicators": [{"name": "rsi", "window": window}], "fuzzy_sets": {"rsi": "auto"}}
    with pytest.raises(InvalidStrategy) as caught:
        await save(bench, strategy)
    assert caught.value.field == "strategy.indicators.0.window"


async def test_a_window_longer_than_the_data_is_refused(bench: Bench, write_csv: Any) -> None:
    write_csv(bench.workspace, rows=70)
    await save(
        bench, {"indicators": [{"name": "rsi", "window": 64}], "fuzzy_sets": {"rsi": "auto"}}
    )
    with pytest.raises(NotEnoughData):
        await START_TRAINING.answer(
            bench.service,
            {"symbol": "TEST", "timeframe": "1h", "strategy": "wide", "config": SHORT},
        )


async def test_a_timeframe_that_does_not_fit_the_series_is_refused(bench: Bench) -> None:
    await save(bench, WIDE)
    with pytest.raises(InvalidStrategy) as caught:
        await bench.start(strategy="wide", timeframe="1w")
    assert caught.value.field == "strategy.indicators.daily.timeframe"


async def test_a_prediction_says_how_much_of_its_bar_is_novel(bench: Bench) -> None:
    every_hour = {
        "indicators": [
            {"name": "hour"},
            {"name": "week", "type": "returns", "timeframe": "1w"},
        ],
        "fuzzy_sets": {"hour": "crisp", "week": "crisp"},
    }
    await save(bench, every_hour)
    task_id = await bench.trained(strategy="wide", task_id="one")
    await bench.save(task_id, "novel")
    manifest = read_manifest(bench.workspace.bundle_directory(task_id))
    assert manifest.feature_ranges is not None
    (low, high), scaler = manifest.feature_ranges[1], manifest.scaler
    seen = set()
    for day in ("2025-03-03", "2025-04-14", "2025-05-05", "2026-01-15", "2026-02-02"):
        reply = await bench.predict("novel", test_date=day)
        value = (reply.input_features["week"] - scaler["shift"][1]) / scaler["scale"][1]
        outside = not low <= value <= high
        assert reply.novelty.features == (["week"] if outside else [])
        assert reply.novelty.share == (0.5 if outside else 0)
        seen.add(outside)
    assert False in seen
