"""Hours, days and months against pandas' calendar, and their cyclic form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.errors import InvalidStrategy
from ktrdr_mcp.features.build import compute_indicators, feature_matrix, feature_names
from ktrdr_mcp.features.registry import check, problems, resolve
from ktrdr_mcp.strategy.form import IndicatorSpec
from ktrdr_mcp.strategy.parsing import parse_strategy

HOUR_NS = 3_600 * 10**9


def new_york(make_market, bars=24 * 400):
    """Hourly bars named in New York's time, whose clocks change twice a year."""
    made = make_market(bars)
    local = pd.DatetimeIndex(made.time, tz="UTC").tz_convert("America/New_York")
    naive = local.tz_localize(None).as_unit("ns").asi8
    return replace(made, offset=naive - made.time), local


def value(bars, kind):
    resolved = resolve(IndicatorSpec("x", kind))
    (output,) = resolved.indicator.compute(bars, bars.close, resolved.params)
    return output.value


def test_the_clock_and_the_calendar_are_those_of_the_file(make_market):
    bars, local = new_york(make_market)
    np.testing.assert_array_equal(value(bars, "hour"), local.hour)
    np.testing.assert_array_equal(value(bars, "weekday"), local.day_of_week)
    np.testing.assert_array_equal(value(bars, "month"), local.month)


def test_the_day_opens_with_its_first_bar(make_market):
    bars, local = new_york(make_market)
    in_session = (local.hour >= 9) & (local.hour < 16) & (local.day_of_week < 5)
    kept = np.flatnonzero(in_session)
    session = replace(
        bars,
        time=bars.time[kept],
        offset=bars.offset[kept],
        **{name: getattr(bars, name)[kept] for name in ("open", "high", "low", "close", "volume")},
    )
    frame = pd.DataFrame({"time": session.time, "day": local[kept].strftime("%Y-%m-%d")})
    expected = (frame["time"] - frame.groupby("day")["time"].transform("min")) / (60 * 10**9)
    np.testing.assert_array_equal(value(session, "minutes_since_open"), expected)


def test_cyclic_inputs_are_sine_and_cosine_of_the_cycle(make_market):
    text = "indicators: [{name: hour}, {name: rsi}]\nfuzzy_sets: {hour: cyclic, rsi: crisp}"
    strategy = parse_strategy(text, "s")
    check(strategy)
    assert feature_names(strategy) == ("hour_sine", "hour_cosine", "rsi")
    bars = make_market(200)
    names, values = feature_matrix(compute_indicators(bars, strategy), strategy)
    assert names == feature_names(strategy)
    clock = np.exp(2j * np.pi * (np.arange(200) % 24) / 24)
    np.testing.assert_allclose(values[:, 0], clock.imag, atol=1e-12)
    np.testing.assert_allclose(values[:, 1], clock.real, atol=1e-12)
    assert type(strategy).from_dict(strategy.to_dict()) == strategy


def test_what_does_not_come_round_cannot_be_cyclic():
    strategy = parse_strategy("indicators: [{name: rsi}]\nfuzzy_sets: {rsi: cyclic}", "s")
    (problem,) = problems(strategy)
    assert problem.field == "strategy.fuzzy_sets.rsi"
    with pytest.raises(InvalidStrategy):
        check(strategy)
