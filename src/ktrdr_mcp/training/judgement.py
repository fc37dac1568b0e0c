"""Judges trained learners: predictions, failed folds, the tested window, all a verdict needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars, timestamps_per_year
from ktrdr_mcp.data.notes import repeats
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.evaluation.alarms import MOST_ROWS, data_alarms, has_unit_root, result_alarms
from ktrdr_mcp.evaluation.backtest import (
    Backtest,
    Leg,
    backtest_legs,
    confident_signals,
    trading_rule,
)
from ktrdr_mcp.evaluation.baselines import logistic_probabilities, rows_to_fit
from ktrdr_mcp.evaluation.direction import (
    DirectionalTest,
    PredictedFold,
    ScoredRows,
    directional_test,
    is_constant,
    scored_rows,
    scores_of,
)
from ktrdr_mcp.evaluation.edge import break_even_accuracy
from ktrdr_mcp.evaluation.metrics import calibrate, evaluate
from ktrdr_mcp.evaluation.walk_forward import Split
from ktrdr_mcp.nn.settings import TrainedNetwork
from ktrdr_mcp.schemas.results import (
    Alarm,
    CalibrationBin,
    EquityPoint,
    FailedFold,
    FailedFolds,
    FailedNetworks,
    FoldRows,
    JudgedFold,
    TradingRule,
    TrialScores,
    WalkForwardResult,
)
from ktrdr_mcp.training.dataset import Dataset, Integers, View
from ktrdr_mcp.training.learners import (
    SURROGATES,
    Learner,
    Splits,
    horizon_of,
    probabilities_of_rows,
)

if TYPE_CHECKING:  # the server judges too, and imports no torch
    from ktrdr_mcp.training.search import Pair


def tested_window(dataset: Dataset, splits: Splits) -> tuple[str, str]:
    """From the opening of the first tested bar to the close of the last that a label depends on.

    Labels reach beyond the last tested bar, and a wide bar beyond its own opening: another series
    of the same symbol that is tested there shares what happened.

    Args:
        dataset: the bars.
        splits: what is tested of them.
    Returns:
        two timestamps, ISO 8601 UTC.
    """
    first = min(int(splits.timeline.at[split.test[0]]) for split in splits.all)
    closes = max(dataset.closes_ns(split.test, splits.timeline) for split in splits.all)
    return format_timestamp(int(dataset.timestamps[first])), format_timestamp(closes)


@dataclass(frozen=True, eq=False)
class MissingFold:
    """A walk-forward fold without predictions."""

    split: Split
    cause: Literal["diverged", "no usable data"]


def missing_folds(pairs: Sequence[Pair], folds: Sequence[Split]) -> list[MissingFold]:
    """The folds that have rows enough and no predictions, in the order of time.

    Too few rows for a fold are known, and said, before anything is trained.

    Args:
        pairs: the networks that are judged.
        folds: those that have rows enough.
    """
    trained = {learner.fold: network for learner, network in pairs if learner.role == "fold"}
    missing = []
    for number, split in enumerate(folds):
        network = trained.get(number)
        if network is None:
            missing.append(MissingFold(split, "no usable data"))
        elif network.diverged is not None:
            missing.append(MissingFold(split, "diverged"))
    return missing


def count_failed_folds(missing: Sequence[MissingFold], used: int) -> FailedFolds:
    """The same in numbers.

    Args:
        missing: the folds without predictions.
        used: how many folds have some.
    """
    diverged = sum(fold.cause == "diverged" for fold in missing)
    return FailedFolds(
        planned=used + len(missing), diverged=diverged, unusable=len(missing) - diverged
    )


def count_failed_surrogates(pairs: Sequence[Pair], planned: int) -> FailedFolds:
    """The sign-flip surrogates that say nothing.

    Args:
        pairs: the networks that are judged.
        planned: how many surrogates there should be.
    """
    twins = [network for learner, network in pairs if learner.role == "twin"]
    diverged = [network.diverged is not None for network in twins]
    return FailedFolds(planned=planned, diverged=sum(diverged), unusable=planned - len(diverged))


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predicted:
    """A learner's probabilities on its validation and test rows."""

    learner: Learner
    validation: Floats  # (v, 3)
    test: Floats  # (t, 3)


@dataclass(frozen=True, eq=False)
class Judgement:
    """The tests that the verdict rests on."""

    direction: DirectionalTest
    trading: Backtest
    rule: TradingRule
    surrogate_p: list[float]  # p of the directional test on each sign-flip surrogate
    model_constant: bool  # on the final split
    walk_forward: WalkForwardResult
    calibration: list[CalibrationBin]
    failed: FailedNetworks
    alarms: list[Alarm]
    wandering: list[str]  # features of any judged strategy with a unit root on training rows
    beats_linear: bool  # accuracy above logistic regression's on the tested rows

    def scores(self) -> TrialScores:
        """What the trial log keeps."""
        return TrialScores(
            direction=self.direction.to_stored(),
            trading=self.trading.scores(),
            twins=self.surrogate_p,
            model_constant=self.model_constant,
            lost=self.failed,
            alarms=self.alarms,
            wandering=self.wandering,
        )


def judge(pairs: Sequence[Pair], splits: Splits, horizon: int) -> Judgement:
    """Tests the pooled predictions of the folds, or the model's own where there are no folds.

    Args:
        pairs: the model's own learner with its network, the one that each fold has chosen, and
            those of surrogates.
        splits: the rows that all candidates share.
        horizon: the longest look ahead of any candidate, in bars; blocks are cut by it.
    """
    model = pairs[0][0]
    own, config, trained = model.dataset, model.candidate.config, splits.main.train
    finite = [predict_rows(*pair) for pair in pairs if pair[1].diverged is None]
    walked = [each for each in finite if each.learner.role == "fold"]
    folds, missing = walked or finite[:1], missing_folds(pairs, splits.folds)
    failed = FailedNetworks(
        folds=count_failed_folds(missing, len(walked)),
        twins=count_failed_surrogates(pairs, SURROGATES if config.control else 0),
    )
    rule = trading_rule(own.strategy, horizon_of(model, trained))
    rows = np.concatenate([fold.learner.split.test for fold in folds])
    pooled = np.concatenate([fold.test for fold in folds])
    came = np.concatenate([actual(fold) for fold in folds])
    direction = directional_test(
        [score(fold, horizon) for fold in folds],
        own.timestamps,
        horizon,
        break_even=break_even_accuracy(moves_ahead(own, rows, horizon), rule.cost_bps),
    )
    trading = backtest_legs(
        legs_of(own, rows, *signals_by_fold(folds, trained)),
        own.timestamps,
        rule.model_copy(update={"horizon": horizon}),
        timestamps_per_year(own.timestamps),
    )
    return Judgement(
        direction=direction,
        trading=trading,
        rule=rule,
        surrogate_p=[
            p_on_surrogate(each, horizon) for each in finite if each.learner.role == "twin"
        ],
        model_constant=is_constant(scores_of(finite[0].test)),
        walk_forward=WalkForwardResult(
            tested=[own.time(int(rows[0])), own.time(int(rows[-1]))],
            planned=failed.folds.planned,
            used=failed.folds.planned - failed.folds.lost,
            folds=all_folds(folds, missing),
        ),
        calibration=calibrate(pooled, came, own.at(rows), own.timestamps, direction.width_bars),
        failed=failed,
        alarms=[
            *alarms_of_data(own, rows, rule.cost_bps),
            *result_alarms(
                direction.statistic,
                direction.tested_blocks,
                trading.net.sharpe,
                trading.buy_and_hold.sharpe,
            ),
        ],
        wandering=wandering_features([model, *(each.learner for each in walked)], trained),
        beats_linear=tells_apart(pooled) and pooled_accuracy(folds) > linear_accuracy(folds),
    )


def moves_ahead(dataset: Dataset, rows: Integers, horizon: int) -> Floats:
    """float64[m], moves from the opening after each row to that a horizon later, as fractions."""
    moves = []
    for number, (one, own) in enumerate(dataset.split_by_series(rows)):
        entry = dataset.bars_of(number, rows[own]) + 1
        entry = entry[entry + horizon < len(one.bars)]
        moves.append(one.bars.open[entry + horizon] / one.bars.open[entry] - 1)
    return np.concatenate(moves)


def alarms_of_data(dataset: Dataset, rows: Integers, cost_bps: float) -> Iterator[Alarm]:
    """What is wrong with the bars of each series, once by name."""
    seen: set[str] = set()
    for number, (one, own) in enumerate(dataset.split_by_series(rows)):
        bars, tested = one.bars, dataset.bars_of(number, rows[own])
        if not len(tested):
            continue
        used = slice(int(tested[0]), None)  # positions are entered there
        for alarm in alarms_of_bars(bars, used, tested, cost_bps):
            if alarm.name not in seen:
                seen.add(alarm.name)
                yield alarm


def alarms_of_bars(
    bars: Bars, used: slice | Integers, tested: Integers, cost_bps: float
) -> Iterator[Alarm]:
    """What is wrong with the bars of one series.

    Args:
        bars: the series.
        used: those that were used.
        tested: int64[m], indices of those that were tested.
        cost_bps: what a trade is taken to cost.
    """
    repeated = np.intersect1d(repeats(bars)[0], tested)
    return data_alarms(
        bars.open[used], bars.close[used], bars.volume[used], cost_bps, len(repeated)
    )


def wandering_features(learners: Sequence[Learner], trained: Integers) -> list[str]:
    """The names of features that have a unit root on the training rows, of every strategy once.

    Args:
        learners: the kept network's and each fold's; folds may have chosen other strategies.
        trained: int64[n], the training rows of the main split, which hold the most of a feature.
    """
    views: dict[str, View] = {}
    for learner in learners:
        views.setdefault(learner.dataset.strategy.name, learner.view)
    rows = trained[-MOST_ROWS:]
    found = [
        name
        for view in views.values()
        for name, column in zip(view.feature_names, view.features_of(rows).T, strict=True)
        if has_unit_root(column)
    ]
    return list(dict.fromkeys(found))


def tells_apart(pooled: Floats) -> bool:
    """Whether float64[rows, 3] ever name another class; one on every row beats nothing."""
    return len(np.unique(pooled.argmax(axis=1))) > 1


def pooled_accuracy(folds: Sequence[Predicted]) -> float:
    """Of all folds' test rows, the share whose class was right."""
    right = [fold.test.argmax(axis=1) == actual(fold) for fold in folds]
    return float(np.concatenate(right).mean())


def linear_accuracy(folds: Sequence[Predicted]) -> float:
    """The same of logistic regressions that learn from each fold's training rows."""
    right = []
    for fold in folds:
        learner = fold.learner
        view, label, split = learner.view, learner.dataset.label, learner.split
        fitting = rows_to_fit(split.train)
        linear = logistic_probabilities(
            view.features_of(fitting), label[fitting], view.features_of(split.test)
        )
        right.append(linear.argmax(axis=1) == actual(fold))
    return float(np.concatenate(right).mean())


def actual(fold: Predicted) -> Integers:
    """int64[t], the classes of a fold's test rows."""
    classes: Integers = fold.learner.dataset.label[fold.learner.split.test]
    return classes


def signals_by_fold(folds: Sequence[Predicted], trained: Integers) -> tuple[Integers, Integers]:
    """Each test row's signal and how long its position lasts, by its own fold's rule.

    Args:
        folds: their predictions.
        trained: int64[n], the training rows of the main split.
    Returns:
        int64[rows] of +1, 0 and -1, and int64[rows] of bars.
    """
    signals, holding = [], []
    for fold in folds:
        learner = fold.learner
        rule = trading_rule(learner.dataset.strategy, horizon_of(learner, trained))
        signals.append(confident_signals(fold.test, rule.confidence_threshold))
        holding.append(np.full(len(fold.test), rule.holding_bars))
    return np.concatenate(signals), np.concatenate(holding)


def predict_rows(learner: Learner, network: TrainedNetwork) -> Predicted:
    """What a network says of the rows that it was not fitted on."""
    shape, view, split = learner.shape, learner.view, learner.split
    return Predicted(
        learner,
        probabilities_of_rows(shape, network.weights, view, split.validation),
        probabilities_of_rows(shape, network.weights, view, split.test),
    )


def score(each: Predicted, horizon: int) -> ScoredRows:
    """A learner's predictions as the directional test wants them."""
    split, dataset = each.learner.split, each.learner.dataset
    fold = PredictedFold(
        at=dataset.at(split.test),
        probabilities=each.test,
        labels=dataset.label[split.test],
        validation_at=dataset.at(split.validation),
        validation_probabilities=each.validation,
        train_at=dataset.at(split.train),
        train_labels=dataset.label[split.train],
    )
    return scored_rows(fold, horizon)


def legs_of(
    dataset: Dataset, rows: Integers, signal: Integers, holding_bars: Integers
) -> list[Leg]:
    """The signals on each series that has any.

    Args:
        dataset: the series.
        rows: int64[n], in the order of time.
        signal: int64[n], +1, 0, -1.
        holding_bars: int64[n], the most bars that a position outlives its signal.
    """
    legs = []
    for number, (one, own) in enumerate(dataset.split_by_series(rows)):
        at = dataset.at(np.arange(dataset.starts[number], dataset.starts[number + 1]))
        bars = dataset.bars_of(number, rows[own])
        if len(bars):
            leg = Leg(one.bars.time, one.bars.open, bars, signal[own], at, holding_bars[own])
            legs.append(leg)
    return legs


def p_on_surrogate(each: Predicted, horizon: int) -> float:
    """How surely a sign-flip surrogate was "foreseen"; small for a leak."""
    return directional_test([score(each, horizon)], each.learner.dataset.timestamps, horizon).p


def all_folds(
    folds: Sequence[Predicted], missing: Sequence[MissingFold]
) -> list[FailedFold | JudgedFold]:
    """Every fold for the resource, the failed ones too, in the order of time."""
    dataset = folds[0].learner.dataset
    found: list[FailedFold | JudgedFold] = [judge_fold(fold) for fold in folds]
    found += [FailedFold(**dict(rows_of(fold.split, dataset)), lost=fold.cause) for fold in missing]
    return sorted(found, key=lambda fold: fold.test[0])


def judge_fold(fold: Predicted) -> JudgedFold:
    """One fold with the figures of its test rows."""
    split, dataset = fold.learner.split, fold.learner.dataset
    figures = evaluate(fold.test, dataset.label[split.test])
    return JudgedFold(
        **dict(rows_of(split, dataset)),
        loss=figures.loss,
        accuracy=figures.accuracy,
        precision=figures.precision,
        recall=figures.recall,
        f1_score=figures.f1_score,
        lost=None,
    )


def rows_of(split: Split, dataset: Dataset) -> FoldRows:
    """The time and the rows of a fold."""
    train, test = (
        [dataset.time(int(rows[index])) for index in (0, -1)] for rows in (split.train, split.test)
    )
    return FoldRows(train=train, test=test, train_rows=len(split.train), test_rows=len(split.test))


def equity_curve(trading: Backtest, points: int = 200) -> list[EquityPoint]:
    """The growth of one unit after costs, thinned out for a resource."""
    chosen = np.unique(np.linspace(0, trading.bars - 1, min(points, trading.bars)).astype(int))
    return [
        EquityPoint(
            time=format_timestamp(int(trading.time[index])), equity=float(trading.equity[index])
        )
        for index in chosen
    ]
