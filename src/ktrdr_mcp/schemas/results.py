"""What a training came to: measured once, stored as JSON, and shown as it was stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ktrdr_mcp.schemas.parsing import is_none
from ktrdr_mcp.schemas.responses import (
    BacktestFigures,
    Baselines,
    DataUsed,
    HeldOutMetrics,
    ModelInfo,
    SeedFigures,
    SweepFigures,
    TrainingMetrics,
)

Json = dict[str, Any]  # an object as `json.loads` gives it
Period = list[str]  # the opening of the first and of the last bar, ISO 8601 UTC


def sort_object(value: Mapping[str, object]) -> Json:
    """A JSON object whose keys, and those of all objects in it, are in alphabetical order."""
    return {name: sort_value(value[name]) for name in sorted(value)}


def sort_value(value: object) -> object:
    """The same for any JSON value."""
    if isinstance(value, Mapping):
        return sort_object(value)
    return [sort_value(each) for each in value] if isinstance(value, list) else value


class Stored(BaseModel):
    """A value that is kept as JSON; fields that only a newer version knows are kept with it."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """The value that `to_json` made. Raises ValueError if it is not what was written."""
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{cls.__name__}.{place}: {first['msg']}") from None

    def to_json(self) -> Json:
        """In JSON's types, its keys in order; what was read comes out with the same keys."""
        return sort_object(self.model_dump(mode="json"))


class TradingRule(Stored):
    """How signals are traded.

    Args:
        horizon: how far labels look ahead, in bars; blocks are two of it.
        cost_bps: per unit of position change, basis points.
        long_only: whether sell means no position.
        max_holding_bars: the most bars that a position outlives its signal; the horizon if None.
        confidence_threshold: the least probability of a buy or sell; less of it is a hold.
        min_separation_hours: from one signal that changes the position to the next.
    """

    horizon: int
    cost_bps: float = 5.0
    long_only: bool = False
    max_holding_bars: int | None = None
    confidence_threshold: float = 0.0
    min_separation_hours: float = 0.0

    @property
    def holding_bars(self) -> int:
        """The most bars that a position outlives its signal."""
        return self.horizon if self.max_holding_bars is None else self.max_holding_bars


class FoldRows(Stored):
    """When a walk-forward fold trained and was tested, and on how many rows."""

    train: Period
    test: Period
    train_rows: int
    test_rows: int


class JudgedFold(FoldRows):
    """A fold whose predictions are part of the verdict; figures of its test rows."""

    loss: float
    accuracy: float
    precision: float
    recall: float
    f1_score: float
    lost: None = None


class FailedFold(FoldRows):
    """A fold without predictions."""

    lost: Literal["diverged", "no usable data"]


class WalkForwardResult(Stored):
    """What the verdict rests on: the time, how many folds of those planned, and each of them."""

    tested: Period
    planned: int
    used: int
    folds: list[FailedFold | JudgedFold]


class EquityPoint(Stored):
    """The growth of one unit after costs, at one time."""

    time: str
    equity: float


class CalibrationBin(Stored):
    """Predictions about as sure as each other, and how often they came true.

    Args:
        predicted: their mean probability of the class that they name.
        observed: the share that came true.
        error: standard error of that share, over blocks of time.
        rows: how many.
    """

    predicted: float
    observed: float
    error: float
    rows: int


class MonthReturn(Stored):
    """What trading came to in one month, after costs, as a fraction."""

    month: str  # "2025-06", UTC
    net_return: float


class TaskResult(Stored):
    """Everything that a training measured, but for the verdict, which others' trials change."""

    training_metrics: TrainingMetrics
    test_metrics: HeldOutMetrics
    baselines: Baselines
    beats_linear: bool  # accuracy above logistic regression's on the verdict's rows
    trading: BacktestFigures
    trading_rule: TradingRule
    model_info: ModelInfo
    collapsed: bool  # one class is predicted for every test row
    seeds: SeedFigures | None
    sweep: SweepFigures | None = Field(None, exclude_if=is_none)
    data: DataUsed
    test_period: Period
    predicted_shares: dict[str, float] = Field(default_factory=dict)  # by class, of the test rows
    validation_collapsed: bool
    validation_majority: float  # share of the validation rows' most frequent class
    walk_forward: WalkForwardResult
    equity: list[EquityPoint]
    # Of the test rows, by class: rows are what came, columns what was predicted.
    confusion: list[list[int]] | None = None
    calibration: list[CalibrationBin] = Field(default_factory=list)  # walk-forward rows
    months: list[MonthReturn] = Field(default_factory=list)  # of the same trading as `equity`
    details: str  # the resource with everything else


class Blocks(Stored):
    """Sums over blocks of time, oldest first.

    Args:
        start: opening of each block's first bar, UTC nanoseconds since 1970.
        stop: opening of each block's last bar.
        sums: one for each block, in the unit of the summed quantity.
    """

    start: list[int]
    stop: list[int]
    sums: list[float]


class EdgeScores(Stored):
    """How often the side of the score was right, where something came.

    Args:
        accuracy: from `low` to `high` at 95 %.
        base_rate: what a score would reach that takes its sides as often, but not when.
        break_even: the accuracy at which trading earns its costs; never below 52 %.
    """

    accuracy: float
    low: float
    high: float
    base_rate: float
    break_even: float


class Alarm(Stored):
    """What makes a result too good to be true.

    Args:
        name: of the check.
        text: what it saw.
        of_data: whether the bars are in doubt, which withholds `survives_costs`.
    """

    name: str
    text: str
    of_data: bool


class DirectionScores(Stored):
    """The directional test; see `evaluation.direction.DirectionalTest`."""

    statistic: float
    p: float
    width_bars: int
    rows: int
    constant: bool
    accuracy: float | None
    accuracy_error: float | None
    blocks: Blocks
    tested_blocks: int | None = None  # the newest of them; all of a trial that does not say
    edge: EdgeScores | None = None

    def count_tested(self) -> int:
        """How many blocks have tested rows."""
        return len(self.blocks.sums) if self.tested_blocks is None else self.tested_blocks


class TradingScores(Stored):
    """Trading after costs; see `evaluation.backtest.Backtest`."""

    timing_p: float
    timing_blocks: Blocks
    net_sums: list[float]  # of the same blocks
    mean_net_high: float
    net_total_return: float
    cost_bps: float | None = None


class FreshBacktest(Stored):
    """What a saved model came to on bars that it has not seen, before it is judged beside others.

    Args:
        bars: how many fresh bars the range has.
        after: whether they come after bars that the model has seen.
        what: names the model's version, the fresh bars and the rule.
        symbol: whose bars.
        first_bar: opening of the first fresh bar, ISO 8601 UTC; None without any.
        last_bar: of the last one.
        seen_until: where fresh bars of the model's own series begin.
        scores: None where there are too few to trade.
        sketch: of the fresh bars as stored, as text; None where they cannot be told from others.
        alarms: what makes the fresh bars, or what was earned on them, too good to be true.
    """

    bars: int
    after: bool
    what: str
    symbol: str
    first_bar: str | None
    last_bar: str | None
    seen_until: str
    scores: TradingScores | None
    sketch: str | None = None
    alarms: list[Alarm] = []


class FailedFolds(Stored):
    """Networks of one role that were planned and say nothing in the end.

    Args:
        planned: how many there should have been.
        diverged: how many lost their numbers in training.
        unusable: how many have rows that carry no training, such as a constant indicator.
    """

    planned: int = 0
    diverged: int = 0
    unusable: int = 0

    @property
    def lost(self) -> int:
        """How many say nothing."""
        return self.diverged + self.unusable


class FailedNetworks(Stored):
    """What is missing, by role; trials from before it was kept have none."""

    folds: FailedFolds = FailedFolds()
    twins: FailedFolds = FailedFolds()


class TrialScores(Stored):
    """What the trial log keeps: enough to judge this trial in any family, later."""

    direction: DirectionScores
    trading: TradingScores
    twins: list[float]  # p of the directional test on each sign-flip surrogate
    model_constant: bool = False  # the kept model's score is the same on all rows it is tested on
    lost: FailedNetworks = FailedNetworks()
    alarms: list[Alarm] = Field(default_factory=list)
    wandering: list[str] = Field(default_factory=list)  # features with a unit root in training


class CandidateTest(Stored):
    """A candidate's own walk-forward; shown when it is asked for, which adds trials.

    Args:
        statistic: T of its directional test.
        p: one-sided, of this candidate alone.
        accuracy: of the rows that were buy or sell, the share on whose side the score was.
        accuracy_error: its standard error.
        rows: how many were tested.
    """

    statistic: float
    p: float
    accuracy: float | None
    accuracy_error: float | None
    rows: int


class CandidateResult(Stored):
    """One candidate of a search.

    Args:
        number: from 1; the first has the task's own settings and seed.
        settings: what differs from the task's own, by dotted name.
        seed: of its networks.
        state: what became of them.
        validation: T on the validation rows of each fold, and last of the main split; None where
            it has no predictions.
        score: the mean by which the kept network was chosen.
        test: of its own folds together; None where a fold is missing.
    """

    number: int
    settings: Json
    seed: int
    state: Literal["trained", "diverged", "collapsed", "unusable"]
    validation: list[float | None]
    score: float | None
    test: CandidateTest | None


class RunResult(Stored):
    """What a run hands back: the task's row keeps each part.

    Args:
        metrics: what was measured.
        scores: what the trial log keeps.
        data_fingerprint: of the bars that were used.
        tested_window: from the opening of the first tested bar to the close of the last that a
            label depends on, ISO 8601 UTC, of the bars as they were when it trained; None in
            bundles from before it was kept.
        candidates: of a search, all that were tried.
    """

    metrics: TaskResult
    scores: TrialScores
    data_fingerprint: str
    tested_window: tuple[str, str] | None = None
    candidates: list[CandidateResult] = Field(default_factory=list)


class SubmittedRequest(Stored):
    """What a task's folder keeps for a database that must be made anew.

    Args:
        task_id: of the task.
        request_hash: of its request.
        idempotency_key: likewise.
        created_at: when it was started, ISO 8601 UTC; folders of earlier versions do not say.
        tested_sketch: of the bars that its verdict rests on, as text, if they can be told from
            others; likewise.
        trained_sketch: of its training range, likewise.
    """

    task_id: str
    request_hash: str
    idempotency_key: str | None
    created_at: str | None = None
    tested_sketch: str | None = None
    trained_sketch: str | None = None
