"""What a trained cohort says of its model: everything that a verdict needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.contract.config import EffectiveConfig
from ktrdr_mcp.data.bars import bars_per_year
from ktrdr_mcp.data.moments import moment_text
from ktrdr_mcp.labels.registry import horizon_bars
from ktrdr_mcp.learn.evaluate import evaluate
from ktrdr_mcp.learn.inference import probabilities
from ktrdr_mcp.learn.judge.blocks import reach_bars
from ktrdr_mcp.learn.judge.direction import (
    DirectionalTest,
    ScoredRows,
    directional_test,
    is_constant,
    scored_rows,
    scores_of,
)
from ktrdr_mcp.learn.judge.doubts import Losses
from ktrdr_mcp.learn.judge.positions import confident_signals
from ktrdr_mcp.learn.judge.trading import Backtest, TradingRule, backtest
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.learn.train import TrainedNetwork
from ktrdr_mcp.research.cohort import Member
from ktrdr_mcp.research.losses import (
    LostFold,
    extent,
    losses_of_folds,
    losses_of_twins,
    lost_figures,
    lost_folds,
)
from ktrdr_mcp.research.trading_rule import trading_rule

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predicted:
    """A member's probabilities on its validation and test rows."""

    member: Member
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
    lost_folds: Losses
    lost_twins: Losses
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
    members: Sequence[Member],
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
        lost_folds=losses_of_folds(lost, len(walked)),
        lost_twins=losses_of_twins(members, networks, config),
        tested=[own.bars.moment(int(rows[0])), own.bars.moment(int(rows[-1]))],
    )


def predicted(shape: NetworkShape, member: Member, network: TrainedNetwork) -> Predicted:
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


def all_folds(folds: Sequence[Predicted], lost: Sequence[LostFold]) -> list[dict[str, Any]]:
    """Every fold for the resource, the lost ones too, in the order of time."""
    dataset = folds[0].member.dataset
    told = [fold_figures(fold) for fold in folds] + [lost_figures(fold, dataset) for fold in lost]
    return sorted(told, key=lambda fold: str(fold["test"][0]))


def equity_curve(trading: Backtest, points: int = 200) -> list[dict[str, Any]]:
    """The growth of one unit after costs, thinned out for a resource."""
    chosen = np.unique(np.linspace(0, trading.bars - 1, min(points, trading.bars)).astype(int))
    return [
        {"time": moment_text(int(trading.time[index])), "equity": float(trading.equity[index])}
        for index in chosen
    ]
