"""Trainings in this process, the networks of many series as one batch, judged as by the service."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from benchmarks.honesty.rivals import Rival, p_of_rival
from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.bars import Bars, LoadedBars
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.evaluation.multiple_testing import EarlierTrials
from ktrdr_mcp.evaluation.verdict import verdict
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.schemas.responses import Verdict
from ktrdr_mcp.schemas.results import TaskResult, TrialScores
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training.candidates import own_candidates
from ktrdr_mcp.training.checkpointer import Checkpointer
from ktrdr_mcp.training.config import effective
from ktrdr_mcp.training.learners import fit, make_learners, splits_of_task
from ktrdr_mcp.training.pipeline import measure, task_result
from ktrdr_mcp.training.prepare import Prepared, prepare
from ktrdr_mcp.training.search import Searched, by_place
from ktrdr_mcp.training.spec import SeriesSpec, TrainingSpec

NO_RIVALS: Final[Mapping[str, Rival]] = {}
AT_ONCE: Final = 6  # series whose networks train as one batch


@dataclass(frozen=True)
class OneSeries:
    """A source of bars with one series."""

    bars: Bars

    def load(self, *_: object) -> LoadedBars:
        """The series, whatever is asked for."""
        return LoadedBars(self.bars, "benchmark", [])


@dataclass(frozen=True)
class Found:
    """One series judged, as the only trial on it."""

    verdict: Verdict
    result: TaskResult
    scores: TrialScores
    rivals: Mapping[str, float]  # p by name, where they were asked for


def read_strategy(name: str) -> Strategy:
    """A strategy that ships with the program."""
    return StrategyCatalog(Workspace(Path(tempfile.gettempdir()))).read(name)


@dataclass(frozen=True)
class TrainedAlone:
    """One training in this process, before it is judged."""

    spec: TrainingSpec
    prepared: Prepared
    searched: Searched


def train_alone(bars: Bars, config: dict[str, Any], strategy: Strategy) -> TrainedAlone:
    """Trains on one series, without judging it."""
    chosen = effective(TrainingConfig.model_validate(config), strategy)
    one = SeriesSpec(bars.symbol, bars.timeframe, None, None)
    spec = TrainingSpec("alone", (one,), strategy, chosen)
    prepared = prepare(spec, cast(BarCatalog, OneSeries(bars)))
    learners = make_learners(prepared, spec)
    with tempfile.TemporaryDirectory() as folder:
        networks = fit(learners, Checkpointer(Path(folder), spec, NullContext()))
    pairs = list(zip(learners, networks, strict=True))
    splits, candidates = splits_of_task(prepared, spec), own_candidates(spec)
    return TrainedAlone(
        spec, prepared, Searched(spec, splits, candidates, by_place(pairs), [], 0.0)
    )


def judge_all(
    series: Sequence[Bars],
    config: dict[str, Any],
    strategy: Strategy,
    seeds: Sequence[int],
    rivals: Mapping[str, Rival] = NO_RIVALS,
) -> list[Found | str]:
    """Trains and judges each series by itself, all networks as one batch.

    Args:
        series: of about the same length.
        config: of all.
        strategy: of all.
        seeds: one for each series.
        rivals: models that are tested on the same folds.
    Returns:
        what was found, or the error by which a series was refused.
    """
    found: list[Found | str] = ["" for _ in series]
    tasks = []
    for number, (bars, seed) in enumerate(zip(series, seeds, strict=True)):
        chosen = effective(TrainingConfig.model_validate({**config, "seed": seed}), strategy)
        one = SeriesSpec(bars.symbol, bars.timeframe, None, None)
        spec = TrainingSpec(f"series{number}", (one,), strategy, chosen)
        try:
            prepared = prepare(spec, cast(BarCatalog, OneSeries(bars)))
        except KtrdrError as error:
            found[number] = error.message
            continue
        tasks.append((number, spec, prepared, make_learners(prepared, spec)))
    if not tasks:
        return found
    learners = [learner for *_, some in tasks for learner in some]
    with tempfile.TemporaryDirectory() as folder:
        networks = fit(learners, Checkpointer(Path(folder), tasks[0][1], NullContext()))
    done = 0
    for number, spec, prepared, some in tasks:
        pairs = list(zip(some, networks[done : done + len(some)], strict=True))
        done += len(some)
        splits, candidates = splits_of_task(prepared, spec), own_candidates(spec)
        searched = Searched(spec, splits, candidates, by_place(pairs), [], 0.0)
        try:
            outcome = measure(prepared, searched)
        except KtrdrError as error:
            found[number] = error.message
            continue
        result, scores = task_result(spec, prepared, outcome), outcome.judgement.scores()
        judged = verdict(scores, EarlierTrials(), result, spec.config.labels)
        beside = {name: p_of_rival(searched, rival) for name, rival in rivals.items()}
        found[number] = Found(judged, result, scores, beside)
    return found
