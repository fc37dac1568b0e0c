"""What is doubtful about bars is said where they are used: at the start and with predictions."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import DataInvalid
from ktrdr_mcp.paths import Workspace
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

QUICK = {**SHORT, "walk_forward": None}
COUNT = 1_500


def write(workspace: Workspace, index: pd.DatetimeIndex, split_at: int | None = None) -> None:
    """Daily bars X that walk at random, with a split of four to one at a row."""
    close = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.012, len(index))))
    opened = np.r_[100, close[:-1]]
    columns = {"open": opened, "high": np.maximum(opened, close), "close": close}
    frame = pd.DataFrame({**columns, "low": np.minimum(opened, close)}, index=index)
    if split_at is not None:
        frame.iloc[split_at:] *= 0.25
    workspace.data.mkdir(parents=True, exist_ok=True)
    frame.assign(volume=1).to_csv(workspace.data / "X_1d.csv", index_label="Date")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


async def test_a_split_is_said_at_the_start_and_with_a_prediction(workspace: Workspace) -> None:
    index = pd.bdate_range("2015-01-01", periods=COUNT)
    write(workspace, index, split_at=900)
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        started = await bench.start(task_id="mine", symbol="X", timeframe="1d", config=QUICK)
        assert (await bench.finish("mine")).status == "completed"
        await bench.save("mine", "model")
        predicted = await bench.predict("model", symbol="X", timeframe="1d")
    for warnings in (started.warnings, predicted.warnings):
        assert any(f"on {index[900].date()} the price falls to 0.25" in one for one in warnings)


async def test_a_date_is_the_files_own_day_and_the_rule_is_stored(workspace: Workspace) -> None:
    index = pd.bdate_range("2015-01-01", periods=COUNT, tz="Europe/Berlin")
    write(workspace, index)
    day = f"{index[-3].date()}"
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        asked = {"symbol": "X", "timeframe": "1d", "end_date": day}
        started = await bench.start(task_id="mine", config=QUICK, **asked)
        assert started.data.last_bar == index[-3].tz_convert("UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
        await bench.finish("mine")
        await bench.save("mine", "model")
        predicted = await bench.predict("model", symbol="X", timeframe="1d", test_date=day)
    assert predicted.test_date == day
    assert predicted.as_of == started.data.last_bar
    with closing(sqlite3.connect(workspace.database)) as connection:
        spec = json.loads(connection.execute("SELECT spec FROM training_tasks").fetchone()[0])
    assert [one["days"] for one in spec["series"]] == ["file"]


async def test_where_days_are_utc_days_no_rule_is_stored(workspace: Workspace) -> None:
    write(workspace, pd.bdate_range("2015-01-01", periods=COUNT))
    async with open_workspace(workspace) as opened:
        await Bench(opened.service, workspace).start(symbol="X", timeframe="1d", config=QUICK)
    with closing(sqlite3.connect(workspace.database)) as connection:
        spec = json.loads(connection.execute("SELECT spec FROM training_tasks").fetchone()[0])
    assert [sorted(one) for one in spec["series"]] == [
        ["end_date", "start_date", "symbol", "timeframe"]
    ]


async def test_repeated_history_among_the_test_rows_is_refused(workspace: Workspace) -> None:
    write(workspace, pd.bdate_range("2015-01-01", periods=COUNT))
    path = workspace.data / "X_1d.csv"
    frame = pd.read_csv(path)
    prices = ["open", "high", "low", "close"]
    frame.loc[1_300:1_399, prices] = frame.loc[300:399, prices].to_numpy()
    frame.loc[1_300, "open"] = frame.loc[1_300, "low"]
    frame.to_csv(path, index=False)
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        with pytest.raises(DataInvalid, match="test rows of X 1d move exactly"):
            await bench.start(symbol="X", timeframe="1d", config=QUICK)
