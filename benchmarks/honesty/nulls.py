"""Noise of many kinds, artefacts, planted signals and leaks, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from scipy import stats

from benchmarks.honesty.direct import AT_ONCE, Found, judge_all, read_strategy
from benchmarks.honesty.rivals import RIVALS
from benchmarks.honesty.run import Run
from benchmarks.honesty.series import (
    ARTEFACTS,
    FOUND,
    LEAKS,
    NOISE,
    PLANTED,
    garch_series,
    planted_series,
)
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.notes import repeats
from ktrdr_mcp.evaluation.alarms import data_alarms
from ktrdr_mcp.evaluation.multiple_testing import CRITICAL_P
from ktrdr_mcp.strategy.form import Strategy

Maker = Callable[[int, int], Bars]

SERIES: Final = {"nulls": 40, "artefacts": 20, "found": 8, "leaks": 20, "today": 20}  # of each kind
COST_BPS: Final = 5.0  # the default
LEVELS: Final = "level features, wide span"
WIDE: Final[dict[str, Any]] = {"walk_forward": {"folds": 1, "span": 0.85}}
COLUMNS: Final = ("series", "skill", "95 %", "p<=0.02", "survives", "95 %", "bars alarm", "other")
TODAY: Final[dict[str, Maker]] = {
    f"q {strength} L {length:.0f}": partial(planted_series, strength=strength, length=length)
    for strength, length in PLANTED
}
KINDS: Final[dict[str, dict[str, Maker]]] = {
    "nulls": {**NOISE, LEVELS: garch_series},
    "artefacts": ARTEFACTS,
    "found": {**TODAY, **FOUND},
    "leaks": LEAKS,
    "today": TODAY,
}


@dataclass(frozen=True)
class Batch:
    """What one process does at a time: some series of one kind."""

    table: str
    kind: str
    seeds: Sequence[int]
    run: Run


@dataclass(frozen=True)
class Told:
    """What is said of one series."""

    kind: str
    skill: bool = False
    small_p: bool = False
    survives: bool = False
    of_data: bool = False
    other: bool = False
    refused: str = ""
    rivals: frozenset[str] = frozenset()  # those that foresee the direction, too


def level_strategy() -> Strategy:
    """The default strategy with averages in price units, which wander as the price does."""
    raw = read_strategy("default").to_dict()
    for indicator in raw["indicators"]:
        if indicator["type"] in {"sma", "ema"}:
            indicator["type"] = f"talib.{indicator['type'].upper()}"
            indicator["params"] = {"timeperiod": indicator["params"]["period"]}
            indicator["raw"] = True
    return Strategy.from_dict(raw)


def judged(batch: Batch) -> list[Told]:
    """The verdicts on one batch."""
    make = KINDS[batch.table][batch.kind]
    series = [make(batch.run.bars, seed) for seed in batch.seeds]
    strategy, config = read_strategy("default"), {"epochs": batch.run.epochs}
    if batch.kind == LEVELS:
        strategy, config = level_strategy(), {**config, **WIDE}
    seeds = [seed % 2**31 for seed in batch.seeds]
    rivals = RIVALS if batch.table == "found" else {}
    return [told(batch.kind, one) for one in judge_all(series, config, strategy, seeds, rivals)]


def told(kind: str, one: Found | str) -> Told:
    """One series in figures."""
    if isinstance(one, str):
        return Told(kind, refused=one)
    return Told(
        kind,
        skill=one.verdict.prediction == "skill",
        small_p=one.scores.direction.p <= CRITICAL_P,
        survives=one.verdict.trading == "survives_costs",
        of_data=any(alarm.of_data for alarm in one.scores.alarms),
        other=any(not alarm.of_data for alarm in one.scores.alarms),
        rivals=frozenset(name for name, p in one.rivals.items() if p <= CRITICAL_P),
    )


def batches(table: str, run: Run) -> list[Batch]:
    """The series of a table, a few at a time."""
    found = []
    for stream, kind in enumerate(KINDS[table]):
        seeds = run.seeds(SERIES[table], 500 + 50 * list(KINDS).index(table) + stream)
        found += [
            Batch(table, kind, seeds[start : start + AT_ONCE], run)
            for start in range(0, len(seeds), AT_ONCE)
        ]
    return found


def show_table(table: str, run: Run) -> None:
    """Judges and prints one table."""
    everything = [one for some in run.in_processes(judged, batches(table, run)) for one in some]
    show(everything)


def interval(count: int, total: int) -> str:
    """The exact 95 % interval of a share, in percent."""
    if not total:
        return ""
    found = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
    return f"{100 * found.low:.1f}-{100 * found.high:.1f}"


def show(everything: Iterable[Told]) -> None:
    """Counts by kind, and of all."""
    by_kind: dict[str, list[Told]] = {}
    for one in everything:
        by_kind.setdefault(one.kind, []).append(one)
    total = [one for some in by_kind.values() for one in some]
    width = max(map(len, [*by_kind, "all"]))
    print(f"{'kind':{width}}" + "".join(f"{column:>12}" for column in COLUMNS))
    for kind, some in [*by_kind.items(), ("all", total)]:
        skill, survives = sum(one.skill for one in some), sum(one.survives for one in some)
        cells = (
            str(len(some)),
            str(skill),
            interval(skill, len(some)),
            str(sum(one.small_p for one in some)),
            str(survives),
            interval(survives, len(some)),
            str(sum(one.of_data or bool(one.refused) for one in some)),
            str(sum(one.other for one in some)),
        )
        print(f"{kind:{width}}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


TESTED_FROM: Final = 0.4  # of the bars, where the default's walk-forward begins


def heard(task: tuple[str, int, int]) -> list[str]:
    """The alarms about the bars of one series, and whether a start refuses it."""
    kind, seed, count = task
    bars = {**NOISE, **ARTEFACTS, **LEAKS}[kind](count, seed)
    used = slice(int(TESTED_FROM * len(bars)), None)
    repeated = int((repeats(bars)[0] >= used.start).sum())
    found = data_alarms(bars.open[used], bars.close[used], bars.volume[used], COST_BPS, repeated)
    return [each.name for each in found]


def alarms(run: Run) -> None:
    """How often bars raise alarms, without networks: 400 series of each null, 20 of each leak."""
    names = ("half_spread", "foretelling_column", "foretelling_close", "repeated_history")
    kinds = [*((kind, 400) for kind in NOISE), *((kind, 20) for kind in {**ARTEFACTS, **LEAKS})]
    print(f"{'kind':28}{'series':>8}{'any':>6}{'95 %':>12}" + "".join(f"{n:>20}" for n in names))
    total = []
    for stream, (kind, count) in enumerate(kinds):
        tasks = [(kind, seed, run.bars) for seed in run.seeds(count, 800 + stream)]
        found = [heard(task) for task in tasks]
        total += found if kind in NOISE else []
        show_alarms(kind, found, names)
    show_alarms("all nulls", total, names)


def show_alarms(kind: str, found: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    """One row of that table."""
    hit = sum(map(bool, found))
    counts = "".join(f"{sum(name in each for each in found):>20}" for name in names)
    print(f"{kind:28}{len(found):>8}{hit:>6}{interval(hit, len(found)):>12}{counts}", flush=True)


def nulls(run: Run) -> None:
    """True nulls: 40 series of each of eleven kinds, each in a trial log of its own."""
    show_table("nulls", run)


def artefacts(run: Run) -> None:
    """A direction that nobody can trade: `survives_costs` may not say otherwise."""
    show_table("artefacts", run)


def found(run: Run) -> None:
    """Planted signals of seven kinds: how often the default finds them, and other models do.

    A logistic regression and boosted trees learn from the inputs of the same folds and stand the
    same test at the same level, 2 %.
    """
    everything: dict[str, list[Told]] = {}
    for some in run.in_processes(judged, batches("found", run)):
        for one in some:
            everything.setdefault(one.kind, []).append(one)
    width = max(map(len, everything))
    names = ("series", "network", *RIVALS, "survives")
    print(f"{'kind':{width}}" + "".join(f"{name:>10}" for name in names))
    for kind, told_of in everything.items():
        counts = [len(told_of), sum(one.skill for one in told_of)]
        counts += [sum(name in one.rivals for one in told_of) for name in RIVALS]
        counts += [sum(one.survives for one in told_of)]
        print(f"{kind:{width}}" + "".join(f"{count:>10}" for count in counts), flush=True)


def today(run: Run) -> None:
    """The three planted signals of the tables before: about 20, 20 and 19 of 20."""
    show_table("today", run)


def leaks(run: Run) -> None:
    """What is wrong with the bars must be heard, or refused, in 19 of 20."""
    show_table("leaks", run)
