"""(d) Features and labels of a million bars."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.report import Report, Table, under
from benchmarks.timing import seconds_of
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.features import build
from ktrdr_mcp.features.inputs import fit
from ktrdr_mcp.labels import registry as labels
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.strategy.catalog import DEFAULT_STRATEGY, StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.strategy.parsing import parse_strategy
from ktrdr_mcp.strategy.writing import text_of
from ktrdr_mcp.training.dataset import Dataset, series_of, view_of

BARS = 1_000_000
TRAIN_SHARE = 0.65
MINUTE_NS = 60 * 10**9
MOST_S = 2.0
WIDE_MOST_S = 10.0
WIDE_TIMEFRAMES = ("1m", "1h", "1d")
WIDE = {"rsi": range(5, 15), "sma": range(5, 15), "returns": range(1, 11)}  # periods


def measure(short: bool) -> Report:
    """Every built-in strategy and every labeler; the stages of the default strategy."""
    count, rounds = (2_000, 1) if short else (BARS, 3)
    bars = random_walk(count)
    work = stages(bars)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, one in work.items():
            seconds[name].append(seconds_of(one))
    figures = {name: median(each) for name, each in seconds.items()}
    rows = [
        [name, f"{1e3 * value:.0f}", f"{1e9 * value / count:.0f}"]
        for name, value in figures.items()
    ]
    table = Table(f"Features and labels, {count:,} bars", ["what", "ms", "ns a bar"], rows)
    whole = f"{DEFAULT_STRATEGY}: features and labels"
    return Report(
        [table],
        [
            under(f"{whole}, {count:,} bars", figures[whole], MOST_S, " s"),
            under(f"{NINETY}, {count:,} bars", figures[NINETY], WIDE_MOST_S, " s"),
        ],
    )


NINETY = "30 indicators in 3 timeframes, window 8"


def ninety_columns() -> Strategy:
    """Thirty indicators, each in three timeframes, whose last eight values a network sees."""
    entries = {
        f"{kind}_{period}_{timeframe}": {
            "type": kind,
            "params": {"period": period},
            "timeframe": timeframe,
        }
        for timeframe in WIDE_TIMEFRAMES
        for kind, periods in WIDE.items()
        for period in periods
    }
    values = {"indicators": entries, "fuzzy_sets": dict.fromkeys(entries, "crisp"), "window": 8}
    return parse_strategy(text_of(values), "ninety")


def random_walk(count: int) -> Bars:
    """Bars of a minute whose closes wander."""
    generator = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(0.0005 * generator.standard_normal(count)))
    opens = np.r_[close[0], close[:-1]]
    wicks = 0.0003 * generator.random((2, count))
    return Bars(
        "WALK",
        "1m",
        np.arange(count, dtype=np.int64) * MINUTE_NS + 10**18,
        opens,
        np.maximum(opens, close) * (1 + wicks[0]),
        np.minimum(opens, close) * (1 - wicks[1]),
        close,
        generator.integers(1, 10_000, count).astype(np.float64),
    )


def stages(bars: Bars) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    with tempfile.TemporaryDirectory() as folder:  # nothing in it: the built-in strategies
        library = StrategyCatalog(Workspace(Path(folder)))
        strategies = {name: library.read(name) for name in library.names()}
    train = np.arange(len(bars) // 20, int(TRAIN_SHARE * len(bars)))
    default = strategies[DEFAULT_STRATEGY]
    table = build.compute_indicators(bars, default)
    fitted = build.fit_fuzzy(table, default, train)
    values = build.feature_matrix(table, fitted)[1]
    work: dict[str, Callable[[], object]] = {
        f"{name}: features and labels": lambda each=each: view_of(
            Dataset(each, (series_of(bars, 0, each, each.training.get("labels", {})),)), train
        )
        for name, each in strategies.items()
    }
    work |= {
        "default, indicators": lambda: build.compute_indicators(bars, default),
        "default, placing fuzzy sets": lambda: build.fit_fuzzy(table, default, train),
        "default, memberships": lambda: build.feature_matrix(table, fitted),
        "default, scaling": lambda: fit(values[train], "standard").transform(values),
    }
    if len(bars) > 10_000:  # else no day has closed
        ninety = ninety_columns()
        work[NINETY] = lambda: build.feature_matrix(build.compute_indicators(bars, ninety), ninety)
    else:
        work[NINETY] = ninety_columns
    return work | {
        f"labels, {method}": lambda method=method: labels.make_labels(bars, {"method": method})
        for method in labels.LABELERS
    }
