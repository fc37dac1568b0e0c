"""What judging costs beside the training of the model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import numpy as np
import torch

from benchmarks.honesty.direct import read_strategy, train_alone
from benchmarks.honesty.run import Run
from benchmarks.honesty.series import NOISE
from benchmarks.honesty.trainings import Series, Trained, open_service_with
from ktrdr_mcp.data.bars import timestamps_per_year
from ktrdr_mcp.data.content import Sketch, grams_of
from ktrdr_mcp.evaluation.backtest import backtest_legs
from ktrdr_mcp.evaluation.direction import directional_test
from ktrdr_mcp.evaluation.multiple_testing import EarlierTrials
from ktrdr_mcp.evaluation.verdict import verdict
from ktrdr_mcp.schemas.results import TrialScores
from ktrdr_mcp.service.training import sketches_of_task
from ktrdr_mcp.store.record import Outcome, TrialRecord
from ktrdr_mcp.store.task_row import json_text
from ktrdr_mcp.store.trials import Trial
from ktrdr_mcp.training.judgement import (
    alarms_of_data,
    legs_of,
    linear_accuracy,
    predict_rows,
    score,
    signals_by_fold,
    tested_window,
    wandering_features,
)
from ktrdr_mcp.training.pipeline import collect_grams, manifest_of, measure, task_result

ROUNDS = 5
WAYS: dict[str, dict[str, Any]] = {
    "the model alone": {"walk_forward": None},
    "default, four folds": {},
    "folds and four surrogates": {"control": True},
}


def cost(run: Run) -> None:
    """Seconds of training and of all the rest, with and without folds and sign-flip surrogates."""
    anyio.run(compared, run)


def processor_ms(work: Callable[[], object]) -> float:
    """Processor time of some work, the least of several rounds."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) * 1e3)
    return min(found)


def judging(run: Run) -> None:
    """Processor time of each part of judging a default training, as a share of the training's.

    Processor time, so that a busy machine counts little; the first round of all warms up.
    """
    torch.set_num_threads(1)
    bars, strategy = NOISE["garch"](run.bars, run.seed), read_strategy("default")
    config = {"epochs": run.epochs, "seed": 42}
    trained = train_alone(bars, config, strategy)
    searched, spec, prepared = trained.searched, trained.spec, trained.prepared
    outcome = measure(prepared, searched)
    result, scores = task_result(spec, prepared, outcome), outcome.judgement.scores()
    folds = [predict_rows(*each) for each in searched.select_judged() if each[0].role == "fold"]
    own, horizon = folds[0].learner.dataset, searched.horizon
    rows = np.concatenate([fold.learner.split.test for fold in folds])
    rule, main = outcome.judgement.rule, searched.splits.main.train
    rows_scored = [score(fold, horizon) for fold in folds]
    legs = legs_of(own, rows, *signals_by_fold(folds, main))
    per_year = timestamps_per_year(own.timestamps)
    ninth = EarlierTrials([scores] * 9)
    window = tested_window(prepared.dataset, searched.splits)
    tested = sketches_of_task(prepared, window).tested
    manifest = manifest_of(spec, prepared, outcome, window)
    work: dict[str, Callable[[], object]] = {
        "training, prepared anew": lambda: train_alone(bars, config, strategy),
        "everything after it": lambda: task_result(spec, prepared, measure(prepared, searched)),
        "  logistic regressions of the folds": lambda: linear_accuracy(folds),
        "  directional test, edge": lambda: directional_test(rows_scored, own.timestamps, horizon),
        "  trading, bootstrap": lambda: backtest_legs(legs, own.timestamps, rule, per_year),
        "  alarms about the bars": lambda: list(alarms_of_data(own, rows, rule.cost_bps)),
        "  unit roots": lambda: wandering_features(
            [learner for learner, _ in searched.select_judged()], searched.splits.main.train
        ),
        "grams, sketches, seen bars": lambda: (
            grams_of(bars),
            sketches_of_task(prepared, window),
            collect_grams(prepared, manifest).to_bytes(),
        ),
        "the record of trials": lambda: anyio.run(record_one, scores, tested, window),
        "verdict of a first trial": lambda: verdict(
            scores, EarlierTrials(), result, spec.config.labels
        ),
        "verdict of a tenth": lambda: verdict(scores, ninth, result, spec.config.labels),
    }
    times = {name: processor_ms(each) for name, each in work.items()}
    whole = times["training, prepared anew"]
    epochs = sum(network.epochs_completed for _, network in searched.select_judged())
    about = f"{epochs} epochs in all, {len(rows):,} tested rows"
    print(f"{about:40}{'ms':>10}{'share':>10}")
    for name, spent in times.items():
        print(f"{name:40}{spent:>10.1f}{spent / whole:>10.1%}")


async def record_one(scores: TrialScores, tested: Sketch | None, window: tuple[str, str]) -> None:
    """Adds one trial with its end to a new record, and reads what all others tried."""
    key, sketches = (None, {}) if tested is None else (tested.key, {tested.key: tested})
    trial = Trial("task", "completed", "NOISE", window[0], window[1], *window, key)
    end = Outcome("task", "completed", window[1], False, json_text(scores.to_json()))
    with tempfile.TemporaryDirectory() as folder:
        record = TrialRecord(Path(folder) / "trials.db", "one")
        await record.missing([trial], [], [])
        await record.add([trial], sketches, [end], [], [])
        await record.others()


async def compared(run: Run) -> None:
    """Trains each way in turn, on one series and in one service."""
    found: dict[str, list[Trained]] = {way: [] for way in WAYS}
    async with open_service_with(NOISE["garch"](run.bars, run.seed)) as series:
        await rounds(series, found, run)
    width = max(map(len, WAYS))
    print(
        f"{'':{width}}{'whole, s':>10}{'training, s':>13}{'the rest, s':>13}{'rest / training':>17}"
    )
    for way, trials in found.items():
        training = median(training_s(trial) for trial in trials)
        rest = median(trial.wall_s - training_s(trial) for trial in trials)
        whole = median(trial.wall_s for trial in trials)
        print(f"{way:{width}}{whole:>10.2f}{training:>13.2f}{rest:>13.2f}{rest / training:>17.1%}")


async def rounds(series: Series, found: dict[str, list[Trained]], run: Run) -> None:
    """The same epochs each time, so that only what is judged differs."""
    for seed in range(run.part(ROUNDS)):
        for way, special in WAYS.items():
            config = {"epochs": run.epochs, "early_stopping": None, "seed": seed, **special}
            found[way].append(await series.train(config))


def training_s(trial: Trained) -> float:
    """Seconds inside the trainer; the rest is data, features, labels, judging and storing."""
    return trial.performance.training_metrics.training_time_minutes * 60
