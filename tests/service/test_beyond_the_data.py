"""What is asked for beyond the bars that there are is answered with a word, or refused with one."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.errors import NotEnoughData
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse

pytestmark = pytest.mark.asyncio

STRATEGY = (
    "name: ruled\nindicators:\n  - {name: rsi, type: rsi, params: {period: 14}}\n"
    "  - {name: sma, type: sma, params: {period: 30}}\nfuzzy_sets: {rsi: auto, sma: auto}\n"
)


async def saved(bench) -> None:
    """A model called "kept" of two indicators."""
    bench.workspace.strategies.mkdir(parents=True, exist_ok=True)
    (bench.workspace.strategies / "ruled.yaml").write_text(STRATEGY, encoding="utf-8")
    await bench.save(await bench.trained(strategy="ruled"), "kept")


async def test_a_prediction_beyond_the_newest_bar_says_which_bar_it_is_for(bench) -> None:
    await saved(bench)
    notes = BarCatalog(bench.workspace).load("AAPL", "1h").notes
    newest = await bench.predict("kept")
    assert newest.warnings == notes
    same_day = await bench.predict("kept", test_date=newest.as_of[:10])
    assert same_day == newest
    later = await bench.predict("kept", test_date="2031-01-01")
    assert later.as_of == newest.as_of
    assert later.prediction == newest.prediction
    assert "2031-01-01 lies after the newest bar" in later.warnings[0]
    assert newest.as_of in later.warnings[0]


@pytest.mark.parametrize(
    ("timeframe", "date", "noted"),
    [("1h", "2025-06-08", True), ("1h", "2025-06-09", False), ("1w", "2025-06-08", False)],
    ids=["a Sunday", "a Monday", "a Sunday that a week's bar reaches to"],
)
async def test_a_day_without_a_bar_is_noted(bench, timeframe, date, noted) -> None:
    await bench.save(await bench.trained(timeframe=timeframe), "kept")
    predicted = await bench.predict("kept", timeframe=timeframe, test_date=date)
    sentences = [each for each in predicted.warnings if f"no bar on {date}" in each]
    assert bool(sentences) == noted
    assert all(predicted.as_of in each for each in sentences)


async def test_a_backtest_beyond_the_bars_says_from_when_to_when_there_are(bench) -> None:
    await saved(bench)
    notes = BarCatalog(bench.workspace).load("AAPL", "1h").notes

    async def warnings(**range_: str) -> list[str]:
        raw = {"model_name": "kept", **range_}
        return (await bench.service.backtest_model(parse(requests.BacktestModel, raw))).warnings

    assert await warnings() == notes
    beyond, *others = await warnings(end_date="2031-01-01")
    assert "The range ends at 2031-01-01" in beyond
    assert "to 2026-08-05T19:30:00Z" in beyond
    assert others == notes
    assert "before the first stored bar" in (await warnings(start_date="2020-01-01"))[0]


async def test_a_prediction_too_early_names_the_earliest_day_that_can_be_used(bench) -> None:
    await saved(bench)
    with pytest.raises(NotEnoughData) as refused:
        await bench.predict("kept", test_date="2024-08-06")
    assert refused.value.field == "test_date"
    earliest = refused.value.hint.removesuffix(" is the earliest.").rpartition(" ")[2]
    assert (await bench.predict("kept", test_date=earliest)).test_date == earliest
    before = date.fromisoformat(earliest) - timedelta(days=1)
    with pytest.raises(NotEnoughData) as refused:
        await bench.predict("kept", test_date=before.isoformat())
    assert "strategy" not in refused.value.hint


@pytest.mark.parametrize("test_date", [None, "2024-01-01"])
async def test_a_series_too_short_for_any_prediction_asks_for_more_bars(
    bench, write_csv, test_date
) -> None:
    await saved(bench)
    write_csv(bench.workspace, rows=20)
    asked = {} if test_date is None else {"test_date": test_date}
    with pytest.raises(NotEnoughData) as refused:
        await bench.predict("kept", symbol="TEST", **asked)
    assert refused.value.field == "symbol"
    assert "20 in all" in refused.value.message
    assert "TEST 1h" in refused.value.hint
