"""Judges trained candidates: predictions, failed folds, the tested window, all a verdict needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import bars_per_year, width_ns
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.evaluation.backtest import (
    Backtest,
    TradingRule,
    backtest,
    confident_signals,
    trading_rule,
)
from ktrdr_mcp.evaluation.blocks import reach_bars
from ktrdr_mcp.evaluation.direction import (
    DirectionalTest,
    ScoredRows,
    directional_test,
    is_constant,
    scored_rows,
    scores_of,
)
from ktrdr_mcp.evaluation.metrics import evaluate
from ktrdr_mcp.evaluation.verdict import FailedFolds
from ktrdr_mcp.evaluation.walk_forward import Split
from ktrdr_mcp.labels.registry import horizon_bars
from ktrdr_mcp.nn.loop import TrainedNetwork
from ktrdr_mcp.nn.network import NetworkShape, probabilities
from ktrdr_mcp.schemas.config import EffectiveConfig
from ktrdr_mcp.training.candidates import TWINS, Candidate, fold_splits
from ktrdr_mcp.training.dataset import Dataset


def tested_window(dataset: Dataset, splits: Sequence[Split]) -> tuple[str, str]:
    """From the opening of the first tested bar to the close of the last that a label depends on.

    Labels reach beyond the last tested bar, and a wide bar beyond its own opening: another series
    of the same symbol that is tested there shares what happened.

    Args:
        dataset: the bars and labels.
        splits: every network's, all on this dataset.
    Returns:
        two moments, ISO 8601 UTC.
    """
    bars = dataset.bars
    first = min(int(split.test[0]) for split in splits)
    last = max(int(dataset.end[split.test].max()) for split in splits)
    close = int(bars.time[last]) + width_ns(bars.timeframe)
    return bars.moment(first), format_timestamp(close)


@dataclass(frozen=True, eq=False)
class FailedFold:
    """A walk-forward fold without predictions."""

    split: Split
    cause: Literal["diverged", "no usable data"]


def lost_folds(
    members: Sequence[Candidate], networks: Sequence[TrainedNetwork], config: EffectiveConfig
) -> list[FailedFold]:
    """The folds that have rows enough and no predictions, in the order of time.

    Too few rows for a fold are known, and said, before anything is trained.

    Args:
        members: the cohort; the first is the model's own.
        networks: their results, in the same order.
        config: the effective configuration.
    """
    trained = {
        int(member.split.test[0]): network
        for member, network in zip(members, networks, strict=True)
        if member.role == "fold"
    }
    lost = []
    for split in fold_splits(members[0].dataset, config):
        network = trained.get(int(split.test[0]))
        if network is None:
            lost.append(FailedFold(split, "no usable data"))
        elif network.diverged is not None:
            lost.append(FailedFold(split, "diverged"))
    return lost


def failures_of_folds(lost: Sequence[FailedFold], used: int) -> FailedFolds:
    """The same in numbers.

    Args:
        lost: the folds without predictions.
        used: how many folds have some.
    """
    diverged = sum(fold.cause == "diverged" for fold in lost)
    return FailedFolds(used + len(lost), diverged, len(lost) - diverged)


def failures_of_surrogates(
    members: Sequence[Candidate], networks: Sequence[TrainedNetwork], config: EffectiveConfig
) -> FailedFolds:
    """The noise twins that say nothing; arguments as of `lost_folds`."""
    planned = TWINS if config.control else 0
    diverged = [
        network.diverged is not None
        for member, network in zip(members, networks, strict=True)
        if member.role == "twin"
    ]
    return FailedFolds(planned, sum(diverged), planned - len(diverged))


def lost_figures(fold: FailedFold, dataset: Dataset) -> dict[str, Any]:
    """A lost fold for the resource."""
    return {**extent(fold.split, dataset), "lost": fold.cause}


def extent(split: Split, dataset: Dataset) -> dict[str, Any]:
    """The time and the rows of a fold for the resource."""
    return {
        "train": [dataset.bars.moment(int(split.train[index])) for index in (0, -1)],
        "test": [dataset.bars.moment(int(split.test[index])) for index in (0, -1)],
        "train_rows": len(split.train),
        "test_rows": len(split.test),
    }


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predicted:
    """A member's probabilities on its validation and test rows."""

    member: Candidate
    validation: Floats  # (v, 3)
    test: Floats  # (t, 3)


@dataclass(frozen=True, eq=False)
class Judgement:
    """The tests that the verdict rests on, and the figures of each fold."""

    direction: DirectionalTest
    trading: Backtest
    rule: TradingRule
    twins: list[float]  # p of the directional test on each noise twin
    model_constant: bool  # on the final split
    folds: list[dict[str, Any]]  # every planned one
    lost_folds: FailedFolds
    lost_twins: FailedFolds
    tested: list[str]  # first and last bar tested

    def scores(self) -> dict[str, Any]:
        """What the ledger keeps: enough to judge this trial in any family, later."""
        direction = {name: getattr(self.direction, name) for name in DIRECTION_FIELDS}
        return {
            "direction": {**direction, "blocks": self.direction.blocks.to_dict()},
            "trading": {
                "timing_p": self.trading.timing_p,
                "timing_blocks": self.trading.timing_blocks.to_dict(),
                "net_sums": self.trading.net_blocks.sums.tolist(),  # of the same blocks
                "mean_net_high": self.trading.mean_net_high,
                "net_total_return": self.trading.net.total_return,
            },
            "twins": self.twins,
            "model_constant": self.model_constant,
            "lost": {"folds": asdict(self.lost_folds), "twins": asdict(self.lost_twins)},
        }


DIRECTION_FIELDS = (
    "statistic",
    "p",
    "width_bars",
    "rows",
    "constant",
    "accuracy",
    "accuracy_error",
)


def judge(
    shape: NetworkShape,
    members: Sequence[Candidate],
    networks: Sequence[TrainedNetwork],
    config: EffectiveConfig,
) -> Judgement:
    """Tests the pooled predictions of the folds, or the model's own where there are no folds.

    Args:
        shape: of every network.
        members: the cohort; the first is the model's own, with the best of its seeds.
        networks: their results, in the same order.
        config: the effective configuration.
    """
    own, pairs = members[0].dataset, list(zip(members, networks, strict=True))
    horizon = reach_bars(horizon_bars(config.labels), own.end, members[0].split.train)
    finite = [predicted(shape, *pair) for pair in pairs if pair[1].diverged is None]
    walked = [each for each in finite if each.member.role == "fold"]
    folds, lost = walked or finite[:1], lost_folds(members, networks, config)
    rule = trading_rule(own.strategy, horizon)
    rows = np.concatenate([fold.member.split.test for fold in folds])
    return Judgement(
        direction=directional_test([scored(fold) for fold in folds], own.bars.time, horizon),
        trading=backtest(
            own.bars.time,
            own.bars.open,
            rows,
            confident_signals(
                np.concatenate([fold.test for fold in folds]), rule.confidence_threshold
            ),
            rule,
            bars_per_year(own.bars),
        ),
        rule=rule,
        twins=[twin_p(each, horizon) for each in finite if each.member.role == "twin"],
        model_constant=is_constant(scores_of(finite[0].test)),
        folds=all_folds(folds, lost),
        lost_folds=failures_of_folds(lost, len(walked)),
        lost_twins=failures_of_surrogates(members, networks, config),
        tested=[own.bars.moment(int(rows[0])), own.bars.moment(int(rows[-1]))],
    )


def predicted(shape: NetworkShape, member: Candidate, network: TrainedNetwork) -> Predicted:
    """What a network says of the rows that it was not fitted on."""
    features, split = member.view.features, member.split
    return Predicted(
        member,
        probabilities(shape, network.weights, features[split.validation]),
        probabilities(shape, network.weights, features[split.test]),
    )


def scored(each: Predicted) -> ScoredRows:
    """A member's predictions as the directional test wants them."""
    split = each.member.split
    return scored_rows(
        split.test, each.test, each.member.dataset.label, each.validation, split.train
    )


def twin_p(twin: Predicted, horizon: int) -> float:
    """How surely a noise twin was "foreseen"; small for a leak."""
    return directional_test([scored(twin)], twin.member.dataset.bars.time, horizon).p


def fold_figures(fold: Predicted) -> dict[str, Any]:
    """One fold for the resource."""
    split, dataset = fold.member.split, fold.member.dataset
    figures = asdict(evaluate(fold.test, dataset.label[split.test]))
    figures.pop("predicted_shares")
    return {**extent(split, dataset), **figures, "lost": None}


def all_folds(folds: Sequence[Predicted], lost: Sequence[FailedFold]) -> list[dict[str, Any]]:
    """Every fold for the resource, the lost ones too, in the order of time."""
    dataset = folds[0].member.dataset
    told = [fold_figures(fold) for fold in folds] + [lost_figures(fold, dataset) for fold in lost]
    return sorted(told, key=lambda fold: str(fold["test"][0]))


def equity_curve(trading: Backtest, points: int = 200) -> list[dict[str, Any]]:
    """The growth of one unit after costs, thinned out for a resource."""
    chosen = np.unique(np.linspace(0, trading.bars - 1, min(points, trading.bars)).astype(int))
    return [
        {"time": format_timestamp(int(trading.time[index])), "equity": float(trading.equity[index])}
        for index in chosen
    ]
