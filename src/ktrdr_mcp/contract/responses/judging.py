"""What is told of worth: verdicts, comparisons, backtests."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ktrdr_mcp.contract.requests import Status
from ktrdr_mcp.contract.responses.base import Reply, Success
from ktrdr_mcp.contract.responses.training import HeldOutMetrics, ModelInfo, TrainingMetrics


class Verdict(Reply):
    """What the model is worth, by everything tried on its test window until now."""

    prediction: Literal["no_skill", "inconclusive", "skill"]
    trading: Literal["loses", "inconclusive", "survives_costs"]
    reason: str  # the sentences that decided
    needs: str | None  # what would settle it; null with skill
    as_of_trial: int  # trainings on this test window so far
    luck: str  # this trial beside the best of as many by luck


class BaselineFigures(Reply):
    """How good a simple rule is on the test rows."""

    accuracy: float
    macro_f1: float


class Baselines(Reply):
    """Simple rules on the same rows."""

    majority: BaselineFigures  # always the training rows' most frequent class
    prior: BaselineFigures  # at random with the training rows' class shares
    persistence: BaselineFigures  # the newest label that was resolved by then
    logistic: BaselineFigures  # logistic regression on the same features


class TradingFigures(Reply):
    """Trading the pooled walk-forward predictions after costs. Returns are fractions."""

    net_total_return: float
    sharpe: float | None  # annualised
    sharpe_error: float | None
    max_drawdown: float
    trades: int
    break_even_cost_bps: float | None
    buy_and_hold_return: float


class Spread(Reply):
    """A figure over seeds."""

    mean: float
    deviation: float


class SeedFigures(Reply):
    """Networks that differ in seed alone; the best on validation is the model."""

    count: int
    val_accuracy: Spread
    test_accuracy: Spread


class ModelPerformance(Success):
    """What a completed training measured, the verdict first."""

    task_id: str
    status: Literal["completed"] = "completed"
    verdict: Verdict
    training_metrics: TrainingMetrics
    test_metrics: HeldOutMetrics
    baselines: Baselines
    beats_linear: bool  # test accuracy above logistic regression's
    trading: TradingFigures
    model_info: ModelInfo
    collapsed: bool  # one class is predicted for every test row
    leak_suspected: bool | None  # noise twins were foreseen; null without control
    seeds: SeedFigures | None
    test_readings: int  # how often these test results have been read
    next: str  # one suggestion, from training and validation figures only
    details: str  # resource with everything else


class BacktestFigures(Reply):
    """Trading one part of a range. Returns are fractions, after costs."""

    bars: int
    net_total_return: float
    sharpe: float | None  # annualised
    sharpe_error: float | None
    max_drawdown: float
    trades: int
    win_rate: float | None
    profit_factor: float | None
    exposure: float  # share of bars with a position
    turnover_per_year: float  # units of position change
    break_even_cost_bps: float | None
    buy_and_hold_return: float
    buy_and_hold_sharpe: float | None
    buy_and_hold_max_drawdown: float


class ModelBacktest(Success):
    """What a saved model's signals would have earned, by the bars that it has seen or not."""

    model_name: str
    version: int
    symbol: str
    timeframe: str
    first_bar: str
    last_bar: str
    cost_bps: float
    long_only: bool
    out_of_sample: BacktestFigures | None  # the only part that says anything of the future
    in_sample: BacktestFigures | None
    summary: str
    equity: str  # resource with the equity curve of each part
    warnings: list[str] = Field(default_factory=list)  # of the range and the series


class ComparedTask(Reply):
    """One task of a comparison."""

    task_id: str
    rank: int  # by val_gain
    val_gain: float  # validation accuracy above the validation rows' majority class
    val_accuracy: float
    val_loss: float
    test_accuracy: float
    prediction: Literal["no_skill", "inconclusive", "skill"]
    statistic: float  # T of the directional test


class PairedDifference(Reply):
    """Whether the first-ranked task foresees more than another, on the time that both tested."""

    first: str
    second: str
    difference: float  # of T on the common blocks
    p: float  # two-sided
    meaning: str


class Comparison(Success):
    """Completed tasks side by side, best validation first."""

    tasks: list[ComparedTask]
    differences: dict[str, list[Any]]  # settings that differ, in the order of the tasks
    tests: list[PairedDifference]
    summary: str


class Reproduction(Success):
    """Whether a training comes out the same when it is trained again."""

    task_id: str
    reproduction_task_id: str
    status: Status  # of the reproduction
    result: Literal["match", "differs"] | None  # null until it is completed
    differences: list[str]
    message: str
