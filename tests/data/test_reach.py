"""Only bars within a request's reach must be sound; what its columns leave open is noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.series import Reach
from ktrdr_mcp.errors import DataInvalid
from ktrdr_mcp.paths import Workspace

BAD = 300
DAYS = pd.bdate_range("2020-01-01", periods=900)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A series with one price below zero."""
    made = Workspace(tmp_path)
    made.data.mkdir(parents=True)
    random = np.random.default_rng(1)
    close = 40 * np.exp(np.cumsum(random.normal(0, 0.01, len(DAYS))))
    opened = np.r_[40, close[:-1]]
    low = np.minimum(opened, close)
    close[BAD], low[BAD] = -37.63, -40.32
    columns = {"open": opened, "high": np.maximum(opened, close), "low": low, "close": close}
    frame = pd.DataFrame(columns, index=DAYS).assign(volume=1)
    frame.to_csv(made.data / "CL_1d.csv", index_label="Date")
    return made


def day(row: int) -> str:
    return str(DAYS[row].date())


@pytest.mark.parametrize(
    ("reach", "first", "bars"),
    [
        (Reach(start=day(BAD + 21), before=20), BAD + 1, len(DAYS) - BAD - 1),
        (Reach(end=day(BAD - 1)), 0, BAD),
        (Reach(start=day(100), end=day(200), before=50), 0, BAD),
        (Reach(before=50, newest=True), BAD + 1, len(DAYS) - BAD - 1),
        (Reach(end=day(250), before=50, newest=True), 0, BAD),
    ],
)
def test_bars_behind_or_before_the_bad_one_are_used_and_it_is_said(
    workspace: Workspace, reach: Reach, first: int, bars: int
) -> None:
    loaded = BarCatalog(workspace).load("CL", "1d", "file", reach)
    assert (loaded.bars.day(0), len(loaded.bars)) == (day(first), bars)
    (note,) = [note for note in loaded.notes if "only the bars from" in note]
    assert f"line {BAD + 2} ({day(BAD)}" in note


@pytest.mark.parametrize(
    "reach",
    [
        None,
        Reach(),
        Reach(start=day(BAD + 20), before=20),
        Reach(start=day(BAD)),
        Reach(end=day(BAD)),
        Reach(end=day(BAD + 30), before=40, newest=True),
    ],
)
def test_a_bad_bar_within_reach_is_refused_and_no_forgery_asked_for(
    workspace: Workspace, reach: Reach | None
) -> None:
    with pytest.raises(DataInvalid, match=f"line {BAD + 2} ") as caught:
        BarCatalog(workspace).load("CL", "1d", "file", reach)
    assert "Correct" not in caught.value.hint
    assert "leave these bars out" in caught.value.hint


def test_the_first_start_without_the_bad_bar_is_named_and_works(workspace: Workspace) -> None:
    with pytest.raises(DataInvalid) as caught:
        BarCatalog(workspace).load("CL", "1d", "file", Reach(before=34))
    start = caught.value.hint.split("start_date ")[1].split(" ")[0]
    assert start == day(BAD + 1 + 34)
    BarCatalog(workspace).load("CL", "1d", "file", Reach(start=start, before=34))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("date,open,high,low,close,Volume BTC,Volume USD", ["volume is 0", "volume btc", "usd"]),
        ("close_time,open_time,open,high,low,close,volume", ["'close_time'", "'open_time'"]),
        ("date,open,high,low,close,volume,dividends", ["passed over: 'dividends'"]),
        ("date,open,high,low,close,tick_volume", ["volume is 0", "tick_volume"]),
        ("date,open,high,low,close", ["volume is 0"]),
    ],
)
def test_what_the_columns_leave_open_is_noted(
    workspace: Workspace, header: str, said: list[str]
) -> None:
    values = ["2024-01-0{}", "10", "11", "9", "10", "5", "50"]
    if header.startswith("close_time"):
        values = ["2024-01-0{}", "2024-01-0{}", "10", "11", "9", "10", "5"]
    rows = [",".join(values[: header.count(",") + 1]).replace("{}", str(day)) for day in (1, 2, 3)]
    path = workspace.data / "V_1d.csv"
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    notes = " ".join(BarCatalog(workspace).load("V", "1d").notes)
    assert all(part in notes for part in said)
