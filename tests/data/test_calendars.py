"""Sessions of exchanges: what a series lacks, told from holidays."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.calendars import session_notes
from ktrdr_mcp.errors import InvalidRequest

DAY_NS = 86_400 * 10**9
INSTALLED = importlib.util.find_spec("exchange_calendars") is not None

# exchange_calendars reads its own tables in a way that pandas 3.1 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Series.values:pandas.errors.Pandas4Warning")


def daily(*days: str) -> Bars:
    time = np.array([np.datetime64(day, "ns").astype(np.int64) for day in days])
    ones = np.ones(len(days))
    return Bars("X", "1d", time, ones, ones, ones, ones, ones)


@pytest.mark.skipif(not INSTALLED, reason="exchange_calendars is not installed: make test-feeds")
def test_a_missing_session_is_told_from_a_holiday_and_a_bar_on_a_holiday_is_named() -> None:
    # 2024-01-15 was a holiday in New York, 2024-01-16 was not, the 20th was a Saturday.
    days = ["2024-01-12", "2024-01-17", "2024-01-18", "2024-01-19", "2024-01-20"]
    missing, closed = session_notes(daily(*days), "XNYS")
    assert "1 of 5 sessions" in missing
    assert "2024-01-16" in missing
    assert "2024-01-15" not in missing
    assert "2024-01-20" in closed


@pytest.mark.skipif(not INSTALLED, reason="exchange_calendars is not installed: make test-feeds")
def test_an_unknown_exchange_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        session_notes(daily("2024-01-12"), "NOWHERE")


@pytest.mark.skipif(INSTALLED, reason="exchange_calendars is installed")
def test_without_the_extra_it_is_said_what_to_install() -> None:
    with pytest.raises(InvalidRequest) as caught:
        session_notes(daily("2024-01-12"), "XNYS")
    assert "ktrdr-mcp[calendars]" in caught.value.hint
