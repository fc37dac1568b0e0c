"""Looking at a series: what it says, that it spends no test rows, and that it is remembered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.api.operations import GET_MARKET_DATA_SUMMARY
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.content import NO_GRAMS, grams_of, sketch_of
from ktrdr_mcp.errors import DataNotFound, NotEnoughData
from ktrdr_mcp.limits import PAGE_BYTES
from ktrdr_mcp.training.look import content_of, look_at, rows_looked_at
from tests.support.service_calls import Bench

pytestmark = pytest.mark.asyncio


async def looked(bench: Bench, **which: Any) -> Any:
    wanted = {"symbol": "AAPL", "timeframe": "1h", **which}
    return await GET_MARKET_DATA_SUMMARY.answer(bench.service, wanted)


def hourly(symbol: str, close: np.ndarray, start: int) -> Bars:
    time = start + np.arange(len(close), dtype=np.int64) * 3_600 * 10**9
    return Bars(symbol, "1h", time, *(close.copy() for _ in range(5)))


def warned(started: Any) -> list[str]:
    return [each for each in started.warnings if "looked at before" in each]


async def test_a_series_is_described_by_its_first_rows_alone(bench: Bench) -> None:
    reply = await looked(bench)
    assert len(reply.model_dump_json()) <= PAGE_BYTES
    (series,) = reply.series
    assert (series.symbol, series.timeframe) == ("AAPL", "1h")
    found = reply.description
    bars = BarCatalog(bench.workspace).load("AAPL", "1h").bars
    assert found.of_bars == len(bars)
    assert found.bars == len(bars) - int(0.6 * len(bars))
    shown = bars.slice(0, found.bars)
    assert shown.offset is not None
    local = pd.to_datetime(shown.time + shown.offset)
    moves = pd.Series(np.log(shown.close), index=local).diff().dropna() * 1e4
    by_hour = moves.groupby(moves.index.hour).agg(["mean", "sem"])
    for hour, (mean, error) in found.hour_bps.items():
        np.testing.assert_allclose((mean, error), by_hour.loc[int(hour)], atol=0.006)
    by_day = moves.groupby(moves.index.day_name()).agg(["mean", "sem"])
    for day, (mean, error) in found.weekday_bps.items():
        row = by_day[by_day.index.str.startswith(day)].iloc[0]
        np.testing.assert_allclose((mean, error), row, atol=0.006)
    eight = moves.rolling(8).sum().dropna()
    assert found.volatility_bps["8"] == pytest.approx(np.sqrt((eight**2).mean()), abs=0.06)
    assert found.up_share == pytest.approx((moves > 0).sum() / (moves != 0).sum(), abs=1e-4)
    demeaned = moves - moves.mean()
    lagged = (demeaned * demeaned.shift(2)).sum() / (demeaned**2).sum()
    assert found.autocorrelation["2"] == pytest.approx(lagged, abs=1e-4)
    assert found.bars_per_day == 7


async def test_bars_of_whole_days_have_no_hours(bench: Bench) -> None:
    hourly, daily, weekly = [
        (await looked(bench, timeframe=each)).model_dump(mode="json")["description"]
        for each in ("1h", "1d", "1w")
    ]
    assert {"hour_bps", "weekday_bps"} <= hourly.keys()
    assert "hour_bps" not in daily
    assert set(daily["weekday_bps"]) == {"Mon", "Tue", "Wed", "Thu", "Fri"}
    assert not {"hour_bps", "weekday_bps"} & weekly.keys()


async def test_the_default_folds_do_not_reach_what_is_shown_and_others_say_so(
    bench: Bench,
) -> None:
    await looked(bench)
    assert warned(await bench.start(task_id="whole")) == []
    (sentence,) = warned(await bench.start(task_id="early", end_date="2025-03-01"))
    number = int(sentence.split()[0].replace(",", ""))
    assert number > 100


async def test_what_was_looked_at_is_known_under_another_name(bench: Bench) -> None:
    bars = BarCatalog(bench.workspace).load("AAPL", "1h").bars
    look = look_at(bars.slice(0, 500), NO_GRAMS)
    renamed = type(bars)("OTHER", "1h", bars.time, *bars.columns(), offset=bars.offset)
    rows = np.arange(400, 600)
    assert rows_looked_at([look], renamed, rows) == 100
    other = type(bars)("OTHER", "1h", bars.time, *(3.0 * column[::-1] for column in bars.columns()))
    assert rows_looked_at([look], other, rows) == 0
    scaled = type(bars)("X", "1h", bars.time, *(4.0 * column for column in bars.columns()))
    assert content_of(scaled) == content_of(bars)


@pytest.mark.parametrize(("count", "error"), [(3_000, 0), (60_000, 40)])
async def test_what_was_looked_at_is_known_at_another_time_under_another_name(
    count: int, error: int
) -> None:
    moves = 0.004 * np.random.default_rng(5).standard_normal(count + 400)
    series = hourly("FIRST", np.exp(np.cumsum(moves)), 0)
    shown = series.slice(0, count // 2)
    look = look_at(shown, grams_of(shown))
    later = hourly("OTHER", 7 * series.close[400:], 10**18)
    grams, rows = grams_of(later), np.arange(count // 4, count)
    sketch = sketch_of(grams.between(int(later.time[rows[0]]), int(later.time[-1]) + 1))
    told = rows_looked_at([look], later, rows, grams, sketch)
    assert told == pytest.approx(count // 2 - 400 - count // 4, abs=error)
    strange = hourly("OTHER", np.exp(np.cumsum(moves[::-1])), 10**18)
    other = sketch_of(grams_of(strange).hashes)
    assert rows_looked_at([look], strange, rows, grams_of(strange), other) == 0


async def test_what_cannot_be_described_is_refused(bench: Bench, write_csv: Any) -> None:
    write_csv(bench.workspace, rows=100)
    with pytest.raises(NotEnoughData):
        await looked(bench, symbol="TEST")
    with pytest.raises(DataNotFound):
        await looked(bench, symbol="NOTHING")
    plain = await GET_MARKET_DATA_SUMMARY.answer(bench.service, {"symbol": "AAPL"})
    assert "description" not in plain.model_dump(mode="json")
