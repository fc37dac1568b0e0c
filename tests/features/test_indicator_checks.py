"""The generic checks find the defects that they are there for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ktrdr_mcp.features.indicator import INDICATORS, Output, indicator
from ktrdr_mcp.strategy.form import IndicatorSpec
from tests.support.indicator_checks import check_indicator


def centred(bars, source, params):
    value = source - source.mean()
    return Output(value, value)


def hole(bars, source, params):
    value = source.copy()
    value[20] = np.nan
    return Output(value, value)


def infinite(bars, source, params):
    value = source.copy()
    value[20] = np.inf
    return Output(value, value)


def short(bars, source, params):
    return Output(source[1:], source[1:])


def late(bars, source, params):
    value = source.copy()
    value[:9] = np.nan
    return Output(value, value)


def counting() -> Iterator[float]:
    number = 0.0
    while True:
        yield (number := number + 1)


NUMBERS = counting()


def changing(bars, source, params):
    value = source + next(NUMBERS)
    return Output(value, value)


@pytest.mark.parametrize(
    ("function", "defect"),
    [
        (centred, "changes when later bars become known"),
        (hole, "missing values after its first value"),
        (infinite, "infinite"),
        (short, "for 100 bars"),
        (late, "begins at bar 9"),
        (changing, "differs from run to run"),
    ],
)
def test_a_defect_is_found(make_market, monkeypatch, function, defect):
    monkeypatch.setitem(INDICATORS, "defective", INDICATORS["rsi"])  # taken out again afterwards
    indicator("defective", warm_up=lambda _: 0)(function)
    found = check_indicator(IndicatorSpec("x", "defective"), make_market(100))
    assert any(defect in sentence for sentence in found)
