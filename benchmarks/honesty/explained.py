"""Whether explanations name what was planted, and nothing where there is nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import anyio

from benchmarks.honesty.run import Run
from benchmarks.honesty.series import NOISE, hours_series
from benchmarks.honesty.sweep import interval
from benchmarks.honesty.trainings import open_service_with
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.training.explain import LEVEL

SERIES_EACH: Final = 20  # of every row
STRENGTH: Final = 0.75  # of a planted hour's mean move, in standard deviations of a bar
INDICATORS: Final[dict[str, dict[str, Any]]] = {
    "size": {"type": "realised_volatility", "window": 3},
    "weekday": {},
    "rsi": {},
    "trend": {"type": "sma"},
}
UNRELATED: Final = ("size", "weekday")
RELATED: Final = ("size", "rsi", "trend")  # moves of the hours before tell what the hour is
SETS: Final = {"hour": "cyclic", "weekday": "cyclic", "size": "crisp"}  # else auto


def strategy(beside: tuple[str, ...]) -> dict[str, Any]:
    """The hour beside other indicators."""
    names = ("hour", *beside)
    return {
        "indicators": [{"name": name, **INDICATORS.get(name, {})} for name in names],
        "fuzzy_sets": {name: SETS.get(name, "auto") for name in names},
        "model": {
            "architecture": {"hidden_layers": [16], "dropout": 0.0},
            "training": {"epochs": 30, "batch_size": 128, "learning_rate": 0.003},
        },
        "training": {"labels": {"method": "triple_barrier", "horizon": 2, "width": 0.6}},
    }


async def explanation(
    bars: Bars, beside: tuple[str, ...], seed: int, run: Run
) -> responses.Explanation:
    """What is said of a training on one series that nothing was tried on."""
    config = {"epochs": min(run.epochs, 30), "seed": seed % 2**31}
    written = parse(requests.SaveStrategy, {"name": "hours", "strategy": strategy(beside)})
    async with open_service_with(bars) as series:
        await series.service.save_strategy(written)
        trained = await series.train(config, strategy="hours")
        asked = parse(requests.ExplainModel, {"task_id": trained.task_id})
        return await series.service.explain_model(asked)


def named(task: tuple[str | None, tuple[str, ...], int, Run]) -> set[str]:
    """The groups that are distinguishable from zero on one series."""
    noise, beside, seed, run = task
    bars = hours_series(run.bars, seed, STRENGTH) if noise is None else NOISE[noise](run.bars, seed)
    found = anyio.run(explanation, bars, beside, seed, run)
    return {each.group for each in found.groups if each.p <= LEVEL}


def explained(run: Run) -> None:
    """The planted group should be the only one in 90 % of series, none in 90 % of noise."""
    kinds = list(NOISE)
    seeds = run.seeds(SERIES_EACH, 800)
    noise = [(kinds[place % len(kinds)], RELATED, seed) for place, seed in enumerate(seeds)]
    rows = {
        "hours, unrelated beside": ({"hour"}, [(None, UNRELATED, seed) for seed in seeds]),
        "hours, rsi and sma beside": ({"hour"}, [(None, RELATED, seed) for seed in seeds]),
        "noise": (set[str](), noise),
    }
    head = f"{'series':27}{'of them':>8}{'as planted':>12}{'missed':>8}{'others':>8}"
    print(f"{head}   95 % interval      which others")
    for name, (right, some) in rows.items():
        found = list(run.in_processes(named, [(*each, run) for each in some]))
        counts = (
            len(found),
            sum(groups == right for groups in found),
            sum(not right <= groups for groups in found),
            sum(bool(groups - right) for groups in found),
        )
        low, high = interval(counts[1], counts[0])
        cells = "".join(f"{n:>{w}}" for n, w in zip(counts, (8, 12, 8, 8), strict=True))
        others = Counter(group for groups in found for group in sorted(groups - right))
        which = ", ".join(f"{group} {count}" for group, count in others.items())
        print(f"{name:27}{cells}   {low:.1%} to {high:.1%}   {which}", flush=True)
