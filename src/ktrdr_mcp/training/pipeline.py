"""The way of a training, from its specification to a published bundle and its figures."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, Final

import numpy as np
import torch

from ktrdr_mcp import files, limits
from ktrdr_mcp.context import CHECKPOINTS, Context
from ktrdr_mcp.data import bars as bars_of
from ktrdr_mcp.data.catalog import BarReader
from ktrdr_mcp.data.timestamps import parse_timestamp
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.evaluation.backtest import monthly_returns
from ktrdr_mcp.evaluation.baselines import baselines
from ktrdr_mcp.evaluation.metrics import CLASSES, Evaluation, class_shares, evaluate
from ktrdr_mcp.nn.network import to_dict
from ktrdr_mcp.nn.settings import TrainedNetwork
from ktrdr_mcp.schemas.responses import (
    DataUsed,
    HeldOutMetrics,
    ModelInfo,
    SeedFigures,
    Spread,
    SweepFigures,
    TrainingMetrics,
)
from ktrdr_mcp.schemas.results import CandidateResult, Json, Period, RunResult, TaskResult
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.batches import train_part
from ktrdr_mcp.training.bundle import Bundle, BundleManifest, Parity, Periods
from ktrdr_mcp.training.dataset import Dataset, Integers, View
from ktrdr_mcp.training.estimate import weights_megabytes
from ktrdr_mcp.training.explain import keep_folds
from ktrdr_mcp.training.handover import take_or_prepare
from ktrdr_mcp.training.judgement import Judgement, equity_curve, judge, tested_window
from ktrdr_mcp.training.learners import MAIN, Learner, probabilities_of_rows
from ktrdr_mcp.training.predictor import model_of, predict
from ktrdr_mcp.training.prepare import Prepared
from ktrdr_mcp.training.publish import earlier_result
from ktrdr_mcp.training.search import Searched, search
from ktrdr_mcp.training.search_result import candidate_results, seed_spread, sweep_figures
from ktrdr_mcp.training.seen import SeenGrams
from ktrdr_mcp.training.spec import TrainingSpec

LIBRARIES: Final = ("ktrdr-mcp", "torch", "numpy", "pandas", "ta-lib", "safetensors")
RANGE_QUANTILES: Final = (0.01, 0.99)
RANGE_ROWS: Final = 20_000  # are enough to place them
PARITY_ROWS: Final = 64  # the newest bars, whose probabilities prove that loading changes nothing

log = logging.getLogger(__name__)


def run_any(
    raw_spec: Json, directory: Path, context: Context, sources: BarReader
) -> dict[str, Any]:
    """Runs a task or a part of one; arguments as of `run`, a part with its own as "part".

    Returns:
        its result as JSON.
    """
    if "part" in raw_spec:
        return train_part(raw_spec, directory, context, sources)
    return run(raw_spec, directory, context, sources).to_json()


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a training produced, measured."""

    learner: Learner  # whose network is kept
    trained: TrainedNetwork  # with the weights of its best epoch
    parts: Mapping[str, Evaluation]  # of the "train", "validation" and "test" rows
    seeds: Sequence[Mapping[str, Evaluation]]  # the same of every seed with the kept settings
    seed_spread: Mapping[str, float]  # of T over these seeds
    sweep: SweepFigures | None  # of a search
    candidates: Sequence[CandidateResult]  # likewise
    used: DataUsed
    judgement: Judgement
    minutes: float


def run(raw_spec: Json, directory: Path, context: Context, sources: BarReader) -> RunResult:
    """Trains one model and publishes its bundle.

    Args:
        raw_spec: a `TrainingSpec` as JSON.
        directory: where the bundle is published; it must not exist.
        context: the way to the world while training.
        sources: where bars come from.
    Raises:
        KtrdrError: the data or the numbers did not allow a model.
        Cancelled: the training was asked to stop.
    """
    spec = TrainingSpec.from_dict(raw_spec)
    if directory.exists() and (earlier := adopt(directory, spec)) is not None:
        return earlier
    trained = UNPUBLISHED.pop(directory, None)
    if trained is None or trained.spec != spec:
        trained = train(spec, directory, context, sources)
    try:
        return publish(directory, spec, trained.prepared, trained.outcome, trained.window).result()
    except StorageError as error:
        keep_unpublished(directory, trained)
        error.stage = "publishing"  # whatever this run has reported
        raise


@dataclass(frozen=True)
class Trained:
    """What came of a training whose bundle is not published yet."""

    spec: TrainingSpec
    prepared: Prepared
    outcome: Outcome
    window: tuple[str, str]


# By folder: where the disk was full, a further run publishes them and does not train again.
UNPUBLISHED: Final[dict[Path, Trained]] = {}


def keep_unpublished(directory: Path, trained: Trained) -> None:
    """Keeps the newest results that could not be published, as many as trainings run at once."""
    UNPUBLISHED[directory] = trained
    while len(UNPUBLISHED) > limits.CONCURRENT_TRAININGS:
        UNPUBLISHED.pop(next(iter(UNPUBLISHED)), None)


def train(spec: TrainingSpec, directory: Path, context: Context, sources: BarReader) -> Trained:
    """Trains and measures one model; arguments as in `run`."""
    prepared = take_or_prepare(directory.with_name(CHECKPOINTS), spec, sources)
    searched = search(spec, prepared, directory, context)
    context.end_turn()
    outcome = measure(prepared, searched)
    keep_folds(directory.parent, searched.select_judged())
    return Trained(spec, prepared, outcome, window_of(prepared, searched))


def adopt(directory: Path, spec: TrainingSpec) -> RunResult | None:
    """The result of an earlier attempt that published and died before it could say so.

    Anything else is quarantined: an older database that was put back does not know every result.

    Args:
        directory: what lies there; it stays if it is whole and of this specification.
        spec: what is to be trained.
    """
    earlier = earlier_result(directory, spec)
    if earlier is None:
        aside = files.set_aside(directory)
        log.warning(
            "task %s: another training's result, or a damaged one, had its place and is kept as %s",
            spec.task_id,
            aside.name,
        )
    return earlier


def window_of(prepared: Prepared, searched: Searched) -> tuple[str, str]:
    """The time that the model and those of its folds that have data were tested on."""
    splits, known = searched.splits, {fold for _, fold in searched.pairs}
    folds = [split for number, split in enumerate(splits.folds) if number in known]
    return tested_window(prepared.dataset, replace(splits, folds=folds))


def measure(prepared: Prepared, searched: Searched) -> Outcome:
    """Evaluates every candidate's model, chooses one and judges it. Raises Diverged."""
    learner, network = searched.kept
    alike = [
        pair
        for each in searched.candidates
        if each.settings == learner.candidate.settings
        and (pair := searched.pair(each, MAIN)) is not None
    ]
    results = candidate_results(searched) if searched.spec.config.sweep else []
    task_id = searched.spec.task_id
    parts = evaluations(learner, network)
    return Outcome(
        learner=learner,
        trained=network,
        parts=parts,
        seeds=[parts if pair[1] is network else evaluations(*pair) for pair in alike],
        seed_spread=seed_spread(searched),
        sweep=sweep_figures(searched, results, task_id) if results else None,
        candidates=results,
        used=describe_data(prepared, searched),
        judgement=judge(searched.select_judged(), searched.splits, searched.horizon),
        minutes=searched.seconds / 60,
    )


def describe_data(prepared: Prepared, searched: Searched) -> DataUsed:
    """The account of the data that the kept network used."""
    learner = searched.kept[0]
    if learner.split is prepared.split:
        return prepared.used
    split, used = learner.split, prepared.used
    shares = class_shares(learner.dataset.label[split.train]).tolist()
    counts = {
        "usable_rows": len(learner.dataset.usable),
        "train_rows": len(split.train),
        "validation_rows": len(split.validation),
        "test_rows": len(split.test),
        "purged_rows": split.purged_rows,
        "class_shares": {n: round(share, 4) for n, share in zip(CLASSES, shares, strict=True)},
    }
    return used.model_copy(update=counts)


def evaluations(learner: Learner, trained: TrainedNetwork) -> dict[str, Evaluation]:
    """Evaluates a restored network on each part of its split, without dropout."""
    split = learner.split
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return {
        name: evaluate(
            probabilities_of_rows(learner.shape, trained.weights, learner.view, rows),
            learner.dataset.label[rows],
        )
        for name, rows in parts.items()
    }


def task_result(spec: TrainingSpec, prepared: Prepared, outcome: Outcome) -> TaskResult:
    """Everything that a performance reply and its resource say, but for the verdict.

    Args:
        spec: what was trained.
        prepared: its data.
        outcome: what came of it.
    """
    learner, judgement = outcome.learner, outcome.judgement
    dataset, split, shape = learner.dataset, learner.split, learner.shape
    train, validation, test = (outcome.parts[name] for name in ("train", "validation", "test"))
    simple = baselines(
        learner.view.features_of, dataset.label, dataset.newest_label, split.train, split.test
    )
    return TaskResult(
        training_metrics=TrainingMetrics(
            final_train_loss=train.loss,
            final_val_loss=validation.loss,
            final_train_accuracy=train.accuracy,
            final_val_accuracy=validation.accuracy,
            epochs_completed=outcome.trained.epochs_completed,
            early_stopped=outcome.trained.early_stopped,
            training_time_minutes=outcome.minutes,
            best_epoch=outcome.trained.best_epoch,
        ),
        test_metrics=HeldOutMetrics(
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            precision=test.precision,
            recall=test.recall,
            f1_score=test.f1_score,
        ),
        baselines=simple,
        beats_linear=judgement.beats_linear,
        trading=judgement.trading.figures(),
        trading_rule=judgement.rule,
        model_info=ModelInfo(
            model_size_mb=weights_megabytes(shape.parameters_count),
            parameters_count=shape.parameters_count,
            architecture=shape.architecture,
        ),
        collapsed=test.collapsed,
        seeds=seed_figures(outcome) if len(outcome.seeds) > 1 else None,
        sweep=outcome.sweep,
        data=outcome.used,
        test_period=period_of(dataset, split.test),
        predicted_shares=dict(zip(CLASSES, test.predicted_shares, strict=True)),
        validation_collapsed=validation.collapsed,
        validation_majority=float(class_shares(dataset.label[split.validation]).max()),
        walk_forward=judgement.walk_forward,
        equity=equity_curve(judgement.trading),
        confusion=[list(row) for row in test.confusion],
        calibration=judgement.calibration,
        months=monthly_returns(judgement.trading.time, judgement.trading.equity),
        details=f"training://{spec.task_id}",
    )


def seed_figures(outcome: Outcome) -> SeedFigures:
    """Figures over the seeds that did not diverge."""

    def spread(part: str) -> Spread:
        values = [seed[part].accuracy for seed in outcome.seeds]
        return Spread(mean=fmean(values), deviation=pstdev(values))

    return SeedFigures(
        count=len(outcome.seeds),
        val_accuracy=spread("validation"),
        test_accuracy=spread("test"),
        **dict(outcome.seed_spread),
    )


def publish(
    directory: Path,
    spec: TrainingSpec,
    prepared: Prepared,
    outcome: Outcome,
    window: tuple[str, str],
) -> BundleManifest:
    """Writes the bundle with the proof that it predicts what was measured.

    Args:
        directory: where it is published.
        spec: what was trained.
        prepared: its data.
        outcome: what came of it.
        window: the time that was tested.
    """
    learner, trained = outcome.learner, outcome.trained
    rows = learner.split.test[-PARITY_ROWS:]
    measured = probabilities_of_rows(learner.shape, trained.weights, learner.view, rows)
    base = manifest_of(spec, prepared, outcome, window)

    bars = prepared.dataset.series[0].bars

    def with_parity(weights: dict[str, torch.Tensor]) -> BundleManifest:
        loaded = model_of(Bundle(weights, base))
        scores = predict(loaded, bars, rows)
        parity = Parity(
            times=[bars.timestamp(row) for row in rows.tolist()],
            probabilities=measured.tolist(),
            largest_difference_after_loading=float(np.abs(scores.probabilities - measured).max()),
        )
        return base.model_copy(update={"parity": parity})

    return bundle.write(
        directory, trained.weights, history(trained), collect_grams(prepared, base), with_parity
    )


def collect_grams(prepared: Prepared, manifest: BundleManifest) -> SeenGrams:
    """The grams of all bars that made a model, by what they decided."""
    periods = manifest.periods
    last = (manifest.tested_window or periods.test)[1]
    first, chosen, after, until = map(
        nanoseconds_of, (periods.train[0], periods.validation[0], periods.test[0], last)
    )
    return SeenGrams.of(prepared.grams, (first, chosen, after, until))


def nanoseconds_of(moment: str) -> int:
    """A stored moment as UTC nanoseconds."""
    return parse_timestamp(moment, "moment", end_of_day=False)


def manifest_of(
    spec: TrainingSpec, prepared: Prepared, outcome: Outcome, window: tuple[str, str]
) -> BundleManifest:
    """All that a bundle says but for its hashes and the parity proof; arguments as in `publish`."""
    learner = outcome.learner
    split, shape, fitted = learner.split, learner.shape, learner.view.fits[0]
    libraries = {library: version(library) for library in LIBRARIES}
    return BundleManifest(
        task_id=spec.task_id,
        spec=spec.to_dict(),
        own_config=learner.candidate.config.model_dump() if learner.candidate.settings else None,
        strategy=fitted.strategy.to_dict(),
        feature_names=list(learner.view.input_names),
        scaler=fitted.scaler.to_dict(),
        network=to_dict(shape),
        classes=list(CLASSES),
        seeds=[spec.config.seed if spec.choice is None else learner.seed],
        best_epoch=outcome.trained.best_epoch,
        data_fingerprint=bars_of.fingerprint(prepared.dataset.series[0].bars),
        periods=Periods(
            train=period_of(learner.dataset, split.train),
            validation=period_of(learner.dataset, split.validation),
            test=period_of(learner.dataset, split.test),
        ),
        versions={"python": platform.python_version()} | libraries,
        metrics=task_result(spec, prepared, outcome),
        scores=outcome.judgement.scores(),
        tested_window=window,
        candidates=list(outcome.candidates) or None,
        feature_ranges=ranges_of(outcome.learner.view, outcome.learner.split.train),
    )


def ranges_of(view: View, rows: Integers) -> list[tuple[float, float]]:
    """The 1st and 99th percentile of each feature on training rows, which tell of novel bars.

    Args:
        view: of the rows.
        rows: int64[n], training rows; of many, some.
    """
    chosen = view.features_of(rows[:: max(1, len(rows) // RANGE_ROWS)])
    low, high = np.quantile(chosen, RANGE_QUANTILES, axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def period_of(dataset: Dataset, rows: Integers) -> Period:
    """The opening of the first and of the last bar of some rows."""
    return [dataset.time(int(rows[index])) for index in (0, -1)]


def history(trained: TrainedNetwork) -> bundle.History:
    """Every epoch as JSON; losses in nats, of the training rows with dropout active."""
    names = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "learning_rate")
    return [
        {"epoch": number, **dict(zip(names, map(float, epoch), strict=True))}
        for number, epoch in enumerate(trained.history, start=1)
    ]
