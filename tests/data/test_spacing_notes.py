"""Bars that lie closer or wider than their file's name says are told of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.notes import spacing_notes
from ktrdr_mcp.data.timestamps import MINUTE_NS
from ktrdr_mcp.paths import TIMEFRAME_MINUTES, Workspace

DAY = 1_440


def bars(timeframe: str, gaps_minutes: list[int]) -> Bars:
    time = np.cumsum([0, *gaps_minutes], dtype=np.int64) * MINUTE_NS
    one = np.ones(len(time))
    return Bars("Z", timeframe, time, one, one, one, one, one)


@pytest.mark.parametrize("timeframe", TIMEFRAME_MINUTES)
def test_bars_as_wide_as_their_name_says_have_no_note(timeframe: str) -> None:
    width = TIMEFRAME_MINUTES[timeframe]
    assert spacing_notes(bars(timeframe, [width] * 9 + [5 * width])) == []


def test_daily_bars_in_a_file_of_minutes_are_told_by_their_own_name() -> None:
    [note] = spacing_notes(bars("5m", [DAY, DAY, DAY, DAY, 3 * DAY] * 4))
    assert "1440 minutes apart, which looks like 1d, not 5m" in note
    assert "rename the file to Z_1d" in note


def test_a_width_without_a_name_is_only_more() -> None:
    assert spacing_notes(bars("1h", [180] * 9)) == [
        "The bars are usually 180 minutes apart, which is more than 1h."
    ]


def test_gaps_that_are_no_multiple_are_no_width() -> None:
    assert spacing_notes(bars("1h", [90] * 9)) == []


@pytest.mark.parametrize("day", [[240, 1_200], [240, 1_200, 1_440]])
def test_nights_between_short_trading_days_are_no_width(day: list[int]) -> None:
    for more in ([], [1_200], [3_840]):
        assert spacing_notes(bars("4h", day * 20 + more)) == []


def test_a_weekend_in_a_short_file_is_no_width() -> None:
    assert spacing_notes(bars("1d", [3 * DAY])) == []
    assert spacing_notes(bars("1d", [3 * DAY, DAY])) == []


def test_bars_aggregated_from_a_misnamed_file_carry_the_note(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.data.mkdir()
    days = np.datetime64("2024-01-01") + np.arange(20)
    lines = ["t,open,high,low,close", *(f"{day},10,12,9,11" for day in days)]
    (workspace.data / "Z_5m.csv").write_text("\n".join(lines), encoding="utf-8")
    notes = BarCatalog(workspace).load("Z", "1h").notes
    assert any("looks like 1d, not 5m" in note for note in notes)
