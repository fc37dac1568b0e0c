"""Bars that travel to another machine are there what they were here."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.timestamps import MINUTE_NS
from ktrdr_mcp.errors import DataNotFound
from ktrdr_mcp.training.prepare import prepare
from ktrdr_mcp.training.sent import SentBars, bars_to_send, decides_bars
from tests.training.conftest import OneSeries


class Stated(OneSeries):
    """A source that knows whether its bars have changed."""

    def state_of(self, symbol: str, timeframe: str) -> str | None:
        return f"{symbol} {timeframe} as ever"


def sent(trial: Any, bars: Bars) -> tuple[Any, Any, SentBars]:
    """A specification, where its bars come from, and the same bars where they were sent."""
    spec, sources = trial.spec(), Stated(bars)
    said, files = bars_to_send(spec.to_dict(), sources)
    return spec, sources, SentBars(json.loads(json.dumps([one.to_dict() for one in said])), files)


@pytest.mark.parametrize("offset", [None, -300 * MINUTE_NS])
def test_a_training_prepares_the_same_from_bars_that_were_sent(
    trial: Any, noise: Bars, offset: int | None
) -> None:
    if offset is not None:
        noise = replace(noise, offset=np.full(len(noise), offset))
    spec, sources, there = sent(trial, noise)
    ours, theirs = prepare(spec, sources), prepare(spec, there)
    assert theirs.used == ours.used
    assert theirs.warnings == ours.warnings
    assert theirs.view.features.tobytes() == ours.view.features.tobytes()
    (here,), (away,) = ours.dataset.series, theirs.dataset.series
    assert away.bars.time.tobytes() == here.bars.time.tobytes()
    for column, other in zip(here.bars.columns(), away.bars.columns(), strict=True):
        assert other.tobytes() == column.tobytes()
    assert np.array_equal(here.bars.local_time(), away.bars.local_time())
    assert there.state_of("TEST", "1h") == sources.state_of("TEST", "1h")


def test_bars_are_sent_again_for_another_range_or_state_and_not_for_other_settings(
    trial: Any, noise: Bars
) -> None:
    class Changed(Stated):
        def state_of(self, symbol: str, timeframe: str) -> str | None:
            return f"{symbol} {timeframe} anew"

    class Unknown(Stated):
        def state_of(self, symbol: str, timeframe: str) -> str | None:
            return None

    spec, stated = trial.spec(), Stated(noise)
    key = decides_bars(spec.to_dict(), stated)
    config = spec.config.model_copy(update={"epochs": spec.config.epochs + 1})
    later = replace(spec.series[0], start_date="2024-01-03")
    assert decides_bars(replace(spec, task_id="b", config=config).to_dict(), stated) == key
    assert decides_bars(replace(spec, series=(later,)).to_dict(), stated) != key
    assert decides_bars(spec.to_dict(), Changed(noise)) != key
    assert decides_bars(spec.to_dict(), Unknown(noise)) is None


def test_bars_that_did_not_come_are_named(trial: Any, noise: Bars) -> None:
    _, _, there = sent(trial, noise)
    with pytest.raises(DataNotFound, match="MSFT 1d"):
        there.load("MSFT", "1d")
