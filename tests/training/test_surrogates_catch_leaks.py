"""Two classic leaks in a strategy's features, each caught by the causality check and by twins."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.evaluation.verdict import leak_suspected
from ktrdr_mcp.features.indicator import INDICATORS, Floats, Output, Parameters, indicator
from ktrdr_mcp.strategy.form import IndicatorSpec
from tests.support.indicator_checks import check_indicator

LEAKS = ("peeking", "centred_average")
REACH_BARS = 10
CONFIG = {
    "control": True,
    "walk_forward": None,
    "epochs": 20,
    "hidden_layers": [8],
    "learning_rate": 0.01,
    "dropout_rate": 0.0,
}
STRATEGY = """
name: suspect
indicators:
  - {{name: suspect, type: {type}}}
fuzzy_sets:
  suspect: auto
"""


@pytest.fixture
def leaky_indicators() -> Iterator[None]:
    """Makes two indicators known that look ahead, and forgets them again."""

    @indicator("peeking", warm_up=lambda _: 0)
    def peeking(bars: Bars, source: Floats, params: Parameters) -> Output:
        ahead = np.r_[source[1:] / source[:-1], 1.0]
        return Output(ahead, ahead)

    @indicator("centred_average", warm_up=lambda _: 0)
    def centred_average(bars: Bars, source: Floats, params: Parameters) -> Output:
        width = 2 * REACH_BARS + 1
        average = np.convolve(np.pad(source, REACH_BARS, "edge"), np.ones(width) / width, "valid")
        return Output(average, source / average)

    yield
    for name in LEAKS:
        del INDICATORS[name]


def twins_p(trial, bars: Bars, kind: str) -> list[float]:
    """What the trial log keeps of the surrogates of a real training with one indicator."""
    folder = trial.root / "strategies"
    folder.mkdir()
    (folder / "suspect.yaml").write_text(STRATEGY.format(type=kind), encoding="utf-8")
    found: list[float] = trial.run(bars, CONFIG, strategy="suspect").scores.twins
    return found


@pytest.mark.usefixtures("leaky_indicators")
@pytest.mark.parametrize("leak", LEAKS)
def test_the_causality_check_names_a_feature_that_looks_ahead(noise, leak) -> None:
    assert f"{leak} changes when later bars become known" in check_indicator(
        IndicatorSpec(name=leak, type=leak, params={}, raw=False), noise
    )


@pytest.mark.usefixtures("leaky_indicators")
@pytest.mark.parametrize("leak", LEAKS)
def test_every_twin_trained_beside_the_model_gives_a_leak_away(trial, noise, leak) -> None:
    found = twins_p(trial, noise, leak)
    assert len(found) == 4
    assert max(found) <= 0.02
    assert leak_suspected(found)


def test_twins_say_nothing_against_a_feature_of_the_past(trial, noise) -> None:
    assert not leak_suspected(twins_p(trial, noise, "rsi"))
