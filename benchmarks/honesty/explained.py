"""Whether explanations name what was planted, and nothing where there is nothing."""

from __future__ import annotations

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

SERIES_EACH: Final = 30  # of every strength, and of noise
STRENGTHS: Final = (0.75, 0.5)  # of a planted hour's mean move, in standard deviations of a bar
NOISE_ROW: Final = "noise"
HOURS: Final[dict[str, Any]] = {
    "indicators": [
        {"name": "hour"},
        {"name": "rsi"},
        {"name": "trend", "type": "sma"},
        {"name": "size", "type": "realised_volatility", "window": 3},
    ],
    "fuzzy_sets": {"hour": "cyclic", "rsi": "auto", "trend": "auto", "size": "crisp"},
    "model": {
        "architecture": {"hidden_layers": [16], "dropout": 0.0},
        "training": {"epochs": 30, "batch_size": 128, "learning_rate": 0.003},
    },
    "training": {"labels": {"method": "triple_barrier", "horizon": 2, "width": 0.6}},
}


async def explanation(bars: Bars, seed: int, run: Run) -> responses.Explanation:
    """What is said of a training on one series that nothing was tried on."""
    config = {"epochs": min(run.epochs, 30), "seed": seed % 2**31}
    written = parse(requests.SaveStrategy, {"name": "hours", "strategy": HOURS})
    async with open_service_with(bars) as series:
        await series.service.save_strategy(written)
        trained = await series.train(config, strategy="hours")
        asked = parse(requests.ExplainModel, {"task_id": trained.task_id})
        return await series.service.explain_model(asked)


def named(task: tuple[str, float, int, Run]) -> tuple[list[str], list[float]]:
    """The groups distinguishable from zero on one series, and the fidelity of its rules."""
    kind, strength, seed, run = task
    made = hours_series(run.bars, seed, strength) if strength else NOISE[kind](run.bars, seed)
    found = anyio.run(explanation, made, seed, run)
    groups = [each.group for each in found.groups if each.p <= LEVEL]
    return groups, [rule.fidelity for rule in found.rules]


def explained(run: Run) -> None:
    """The planted group should be the only one in 90 % of series, none in 90 % of noise."""
    kinds = list(NOISE)
    noise = [
        (kinds[place % len(kinds)], 0.0, seed)
        for place, seed in enumerate(run.seeds(SERIES_EACH, 800))
    ]
    rows = {
        f"hours, {strength:g} sigma": (
            ["hour"],
            [("hours", strength, seed) for seed in run.seeds(SERIES_EACH, 801 + place)],
        )
        for place, strength in enumerate(STRENGTHS)
    } | {NOISE_ROW: ([], noise)}
    print(
        f"{'series':18}{'of them':>8}{'as planted':>12}{'missed':>8}{'others':>8}   95 % interval"
    )
    for name, (right, some) in rows.items():
        found = list(run.in_processes(named, [(*each, run) for each in some]))
        good = sum(groups == right for groups, _ in found)
        missed = sum(not set(right) <= set(groups) for groups, _ in found)
        others = sum(bool(set(groups) - set(right)) for groups, _ in found)
        low, high = interval(good, len(found))
        print(
            f"{name:18}{len(found):>8}{good:>12}{missed:>8}{others:>8}   {low:.1%} to {high:.1%}",
            flush=True,
        )
