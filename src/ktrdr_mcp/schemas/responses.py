"""Replies: the specification's fields, typed as its examples, and our additions."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from ktrdr_mcp.schemas.parsing import is_none
from ktrdr_mcp.schemas.requests import Status


class Reply(BaseModel):
    """A response model; replies may gain fields, so readers must tolerate more.

    Its validator is built at first use, as a request's: clients start without most of them.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)


Answer = TypeVar("Answer", bound=Reply)


def fit_page(reply: Answer, field: str, most_bytes: int) -> Answer:
    """A page without the last rows that would take it beyond its size; one row always stays.

    Args:
        reply: a page.
        field: which of its fields has the rows.
        most_bytes: of its compact JSON.
    """
    rows = getattr(reply, field)
    while len(rows) > 1 and len(reply.model_dump_json().encode()) > most_bytes:
        rows = rows[:-1]
        reply = reply.model_copy(update={field: rows, "returned": len(rows), "has_more": True})
    return reply


class Success(Reply):
    """Every reply that is not an error."""

    success: Literal[True] = True


def is_absent(value: object) -> bool:
    """Whether a field is left out of a reply."""
    return value is None


class DataUsed(Reply):
    """Which bars a training uses. Times are ISO 8601 UTC."""

    first_bar: str
    last_bar: str
    bars: int  # in the requested range
    usable_rows: int  # after warm-up and horizon
    train_rows: int
    validation_rows: int
    test_rows: int
    purged_rows: int  # dropped because their label reaches over a boundary
    class_shares: dict[str, float]  # of the training rows
    source: str
    # The stored timeframe and version of the bars, "1h v3", where they have versions.
    dataset: str | None = Field(None, exclude_if=is_absent)


class TrainingStarted(Success):
    """The acknowledgement of a training: its id survives from here on."""

    task_id: str
    status: Literal["training_started"] | Status = "training_started"
    message: str
    symbol: str
    timeframe: str
    config: dict[str, Any] = Field(description="the effective configuration, complete")
    estimated_duration_minutes: float
    strategy: str
    data: DataUsed | None = Field(exclude_if=is_absent)
    warnings: list[str]
    similar_to: list[str]
    # only with wait_s
    progress: int | None = Field(None, exclude_if=is_absent)
    error: str | None = Field(None, exclude_if=is_absent)
    error_code: str | None = Field(None, exclude_if=is_absent)
    performance: ModelPerformance | None = Field(None, exclude_if=is_absent)


class TaskHandle(Success):
    """A handle: who holds it may follow the task, and nobody guesses it."""

    handle: str
    task_id: str
    created_at: str


class CurrentMetrics(Reply):
    """The newest epoch's figures. Losses in nats, accuracies in [0, 1]."""

    train_loss: float | None = None
    val_loss: float | None = None
    train_accuracy: float | None = None
    val_accuracy: float | None = None


class TrainingStatus(Success):
    """Where a task stands."""

    task_id: str
    status: Status
    progress: int  # percent; 100 when completed
    current_epoch: int
    total_epochs: int
    symbol: str
    timeframe: str
    started_at: str | None
    estimated_completion: str | None
    current_metrics: CurrentMetrics | None  # null until there are figures
    error: str | None
    error_code: str | None
    queue_position: int | None = None  # tasks ahead, while pending
    alarm: str | None = None  # what the epochs so far warn of, while training
    attempt: int = 0  # how often it began to run
    sweep: str | None = Field(None, exclude_if=is_none)  # how far a search has come, while training
    resumed_from: str | None = None  # "epoch 40" of an earlier attempt; ": ..." says why or how

    @property
    def newest(self) -> CurrentMetrics:
        """The current metrics, each of them null while there are none."""
        return self.current_metrics or CurrentMetrics()


class FollowedTask(TaskHandle):
    """Where the task of a handle stands."""

    changed_at: str  # when it ended or was submitted; now, while it trains
    now: TrainingStatus
    outcome: TrainingStarted | None = None  # the reply of a start that waited for the end


class TrainingMetrics(Reply):
    """Figures of the restored best epoch, without dropout."""

    final_train_loss: float
    final_val_loss: float
    final_train_accuracy: float
    final_val_accuracy: float
    epochs_completed: int
    early_stopped: bool
    training_time_minutes: float
    best_epoch: int


class HeldOutMetrics(Reply):
    """Figures on the test rows. precision, recall and f1_score are macro averages."""

    test_loss: float
    test_accuracy: float
    precision: float
    recall: float
    f1_score: float
    rows: str | None = Field(
        None, exclude_if=is_none, description="what these, baselines and collapsed speak of"
    )


class ModelInfo(Reply):
    """The network's size. Megabytes of 10^6 bytes."""

    model_size_mb: float  # the weights
    parameters_count: int
    architecture: str


class TaskSummary(Reply):
    """One task in a list; without test results, so that nobody chooses by them uncounted."""

    task_id: str
    status: Status
    progress: int
    symbol: str
    timeframe: str
    strategy: str
    created_at: str
    val_accuracy: float | None
    error_code: str | None
    differs: str  # settings that are not the defaults, shortened
    note: str | None = None  # why it was tried, shortened


class TaskList(Success):
    """A page of tasks, newest first."""

    tasks: list[TaskSummary]
    returned: int
    has_more: bool


class ResearchEntry(Reply):
    """One training of the research log; showing its verdict counts as a reading."""

    task_id: str
    trial: int | None  # on its test window; null until it is completed
    symbol: str
    timeframe: str
    created_at: str
    strategy: str
    differs: str  # settings that are not the defaults, shortened
    verdict: str  # of prediction and trading; the status of one that has none
    note: str | None


class ResearchNoteRow(Reply):
    """A note on a series or a task."""

    note: str
    symbol: str
    timeframe: str
    task_id: str | None
    created_at: str


class ResearchPage(Success):
    """What was tried, newest first, and the newest notes."""

    trials: list[ResearchEntry]
    notes: list[ResearchNoteRow]
    returned: int
    has_more: bool


class NoteKept(Success):
    """The note is stored."""

    note: ResearchNoteRow


class TaskCancelled(Success):
    """What cancelling did."""

    task_id: str
    status: Status
    message: str


class SeriesSummary(Reply):
    """One series of bars."""

    symbol: str
    timeframe: str
    bars: int
    first_bar: str | None
    last_bar: str | None
    source: str
    notes: list[str]
    defects: str | None


MeanAndError = list[float]  # a mean and its standard error


class SeriesDescription(Reply):
    """What a series looks like before every default test window: looking spends no test rows.

    Moves are log returns from close to close, hours and days by the file's clock.
    """

    first_bar: str
    last_bar: str
    bars: int  # looked at
    of_bars: int  # of the series
    bars_per_day: float
    gaps_within_days: int
    volatility_bps: dict[str, float]  # by horizon in bars
    up_share: float
    autocorrelation: dict[str, float]  # of moves, by lag in bars
    autocorrelation_of_size: dict[str, float]  # of absolute moves
    autocorrelation_error: float
    # mean move and its error by the hour of opening, of bars within a day
    hour_bps: dict[str, MeanAndError] | None = Field(None, exclude_if=is_absent)
    weekday_bps: dict[str, MeanAndError] | None = Field(None, exclude_if=is_absent)  # up to a day
    half_spread_bps: float | None  # Roll's estimate
    default_cost_bps: float
    detectable_accuracy: float  # directional, with 80 % power in the default folds


class DataSummary(Success):
    """Which bars there are."""

    series: list[SeriesSummary]
    returned: int
    has_more: bool
    # Files that are meant to be series, and what to do with them.
    not_read: list[str] = Field(default_factory=list)
    note: str | None = None  # which symbols there are, where there is none of that name
    # of one series, where symbol and timeframe are given
    description: SeriesDescription | None = Field(None, exclude_if=is_absent)


class BarRows(Success):
    """The bars of a series, oldest first."""

    symbol: str
    timeframe: str
    dates: list[str]  # of opening
    ohlcv: list[tuple[float, float, float, float, float]]
    source: str
    notes: list[str]


class ImportedSeries(Reply):
    """One series of imported bars, as it was understood."""

    symbol: str
    timeframe: str
    files: list[str]
    dialect: str
    title: str
    written: str
    columns: dict[str, str]
    timezone: str
    bars: int
    first_bar: str
    last_bar: str
    left_out: list[str]
    notes: list[str]
    stored: str | None
    dataset: str | None = None  # the version that they are now
    is_new: bool | None = None  # whether that version is new


class BarsImported(Success):
    """What was understood of imported files, and where their bars are now."""

    dry_run: bool
    series: list[ImportedSeries]


class FetchStatus(Reply):
    """Where a fetch of bars stands."""

    task_id: str
    status: str  # pending, fetching, completed, failed, cancelled
    source: str
    symbol: str
    timeframe: str
    progress: int  # percent of the range
    pages: int
    bars: int
    new: int | None
    revised: int | None
    first_bar: str | None
    last_bar: str | None
    adjustment: str | None  # of the prices: raw, split or all
    dataset: str | None  # the version that the series is now
    what: str | None  # happened, for people
    notes: list[str]
    error: str | None
    error_code: str | None


class FetchReply(Success):
    """A fetch of bars, as a task."""

    # What is in it stands in OpenAPI alone: the list of tools has no bytes for it.
    fetch: Annotated[FetchStatus, WithJsonSchema({"type": "object"})]


class DatasetVersion(Reply):
    """One version of a stored series."""

    version: str
    created_at: str
    why: str
    bars: int
    first_bar: str
    last_bar: str
    fingerprint: str


class DatasetVersions(Success):
    """What is known of a stored series, and its versions, newest first."""

    symbol: str
    timeframe: str
    source: str
    since: str | None  # of a fetched series: the beginning that was asked for
    client: str
    fetched_at: str
    adjustment: str
    timezone: str
    last_final: str
    versions: list[DatasetVersion]


class StoredManifests(Success):
    """Every series that was imported or fetched."""

    series: list[DatasetVersions]


class SeriesRemoved(Success):
    """What removing a series took away."""

    symbol: str
    timeframe: str
    versions: int


class ModelSaved(Success):
    """Where the model was published."""

    model_id: str
    model_name: str
    model_path: str  # relative to the workspace
    task_id: str
    saved_at: str
    model_size_mb: float  # the weights
    version: int
    created: bool  # false: this task was saved under this name before
    ktrdr_backtest_compatible: bool  # as of the save
    ktrdr_incompatibilities: list[str]  # why not; empty if it is
    warnings: list[str] = Field(default_factory=list)


class LoadedModelInfo(Reply):
    """The card of a loaded model."""

    created_at: str
    symbol: str
    timeframe: str
    architecture: str
    training_accuracy: float
    test_accuracy: float
    strategy: str
    version: int
    trained_on: list[str]  # first and last bar that fitted the weights; empty if KTRDR wrote it


class ModelLoaded(Success):
    """The model is in memory and its files are what was written."""

    model_name: str
    model_loaded: Literal[True] = True
    model_info: LoadedModelInfo


class Prediction(Reply):
    """One bar's prediction."""

    signal: Literal["buy", "hold", "sell"]  # what the strategy's rule trades
    most_probable: Literal["buy", "hold", "sell"]
    confidence: float  # probability of the most probable class
    signal_strength: float  # |p(buy) - p(sell)|
    fuzzy_outputs: dict[str, float]  # memberships of p(buy) - p(sell)
    probabilities: dict[str, float]


class Novelty(Reply):
    """How much of a bar lies outside what the model was trained on."""

    share: float  # of the features, outside the training rows' 1 to 99 % range
    features: list[str]  # the first of them


class ModelPrediction(Success):
    """A prediction, the bar it is for and what the network saw."""

    model_name: str
    symbol: str
    test_date: str
    prediction: Prediction
    input_features: dict[str, float]  # that bar's indicator values in their own units
    as_of: str  # opening time of the bar used
    in_sample: bool  # the bar lies in the rows that fitted or selected the weights
    timeframe: str
    version: int
    warnings: list[str]
    novelty: Novelty | None = None  # null for models that do not say their range


class ModelRow(Reply):
    """One version in the registry."""

    model_id: str
    model_name: str
    symbol: str
    timeframe: str
    created_at: str
    training_accuracy: float
    test_accuracy: float
    description: str
    version: int
    origin: Literal["ktrdr-mcp", "ktrdr"] = "ktrdr-mcp"  # which program wrote it


class ModelList(Success):
    """A page of the registry, newest first."""

    models: list[ModelRow]
    returned: int
    has_more: bool


def is_empty(value: object) -> bool:
    """Whether a field has nothing to say."""
    return not value


class Verdict(Reply):
    """What the model is worth, by what had been tried on its bars when it completed."""

    prediction: Literal["no_skill", "inconclusive", "skill"]
    trading: Literal["loses", "no_timing", "inconclusive", "survives_costs"]
    reason: str  # the sentences that decided
    needs: str | None  # what would settle it; null where nothing is open
    as_of_trial: int  # the place of this trial in its family, from 1
    luck: str  # what luck reaches in as many trials
    level: float | None = None  # what the adjusted p must not exceed, here and for trading
    # The rest is left out where it has nothing to say, or would make a reply too long.
    rows: str | None = Field(
        None, exclude_if=is_none, description="what verdict, edge and trading speak of"
    )
    trials_since: int = Field(
        0, exclude_if=is_empty, description="of this workspace, started later; change nothing"
    )
    holds_across: bool | None = Field(
        None, exclude_if=is_none, description="beside all other bars that were tried"
    )
    suspect: list[str] = Field(
        default_factory=list, exclude_if=is_empty, description="alarms; details explain each"
    )


class EdgeFigures(Reply):
    """How often the side of the score was right, where a buy or sell came."""

    accuracy: float
    low: float  # of the 95 % interval
    high: float
    base_rate: float  # of the same sides at other times


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
    # A reply that would be too long leaves the rest to its resource.
    bars: int | None = Field(None, exclude_if=is_none)
    exposure: float | None = Field(
        None, exclude_if=is_none, description="share of bars with a position"
    )
    cost_bps: float | None = Field(
        None, exclude_if=is_none, description="per unit of position change"
    )
    gross_bps: list[float] | None = Field(
        None, exclude_if=is_none, description="per trade: mean and the ends of its 95 % interval"
    )
    net_bps: list[float] | None = Field(
        None, exclude_if=is_none, description="the same after costs"
    )


class Spread(Reply):
    """A figure over seeds."""

    mean: float
    deviation: float


class SeedFigures(Reply):
    """Candidates that differ in seed alone; which of them is meant by a figure is not said."""

    count: int
    # A reply that would be too long leaves these two to its resource.
    val_accuracy: Spread | None = Field(None, exclude_if=is_none)
    test_accuracy: Spread | None = Field(None, exclude_if=is_none)
    # of the directional tests of each seed's own walk-forward
    t_median: float | None = Field(None, exclude_if=is_none)
    t_min: float | None = Field(None, exclude_if=is_none)
    t_max: float | None = Field(None, exclude_if=is_none)
    # those T lie on both sides of what skill needs of this trial, the "level T" of `luck`
    depends_on_seed: bool | None = Field(None, exclude_if=is_none)
    # choices, of folds and kept network, that validation did not decide: the first seed was taken
    by_default: int | None = Field(None, exclude_if=is_empty)


class BestSettings(Reply):
    """One of the sets of settings that validation prefers."""

    candidate: int  # its number; of its first seed
    # what differs from the task's own; a reply that would be too long leaves it to `all`
    settings: dict[str, Any] | None = Field(None, exclude_if=is_none)
    score: float  # mean T on validation rows
    noise: float | None  # its deviation over seeds; null with one seed


class SweepFigures(Reply):
    """What a search tried and chose; figures of validation rows alone."""

    trials: int  # sets of settings
    diverged: int
    collapsed: int
    groups: int  # batches of networks
    sampler: str
    chosen_by_fold: list[int | None]  # numbers of candidates, in the order of the folds
    kept: int  # the candidate whose network is the model
    # choices, of folds and kept network, that validation did not decide: the first was taken
    by_default: int
    best: list[BestSettings]  # at most five, by validation
    not_distinguishable_from_best: int
    matters: dict[str, float]  # settings by their share of the scores' variance
    counts_as: int = 1  # trials on these bars; more once a candidate was read or started again
    cut: str | None = Field(None, exclude_if=is_none, description="what is left to `all`")
    all: str  # the resource with every candidate


class ModelPerformance(Success):
    """What a completed training measured, the verdict first."""

    task_id: str
    status: Literal["completed"] = "completed"
    verdict: Verdict
    training_metrics: TrainingMetrics
    test_metrics: HeldOutMetrics
    baselines: Baselines
    # On the verdict's rows accuracy above logistic regression's; never of a collapsed model.
    beats_linear: bool
    edge: EdgeFigures | None = None
    trading: TradingFigures
    model_info: ModelInfo
    collapsed: bool  # the kept network predicts one class for every row of the last part
    leak_suspected: bool | None  # noise twins were foreseen; null without control
    seeds: SeedFigures | None
    sweep: SweepFigures | None = Field(None, exclude_if=is_none)
    test_readings: int  # how often these test results have been read
    next: str  # one suggestion, from training and validation figures only
    details: str  # resource with everything else
    report: str  # path of the drawn report, for people


class Report(Success):
    """A drawn report: one HTML file that needs no script and no other file."""

    html: str
    policy: str | None = None  # of its security where it is not that of a page without script


class Drawing(Success):
    """A drawing as SVG, without script."""

    svg: str


class ShownTask(Reply):
    """Where a task stands, in short."""

    task_id: str
    status: Status
    progress: int  # percent; 100 when completed
    current_epoch: int
    total_epochs: int
    symbol: str
    timeframe: str
    val_loss: float | None  # of the newest epoch; null until there is one
    error: str | None


class ShownTraining(Success):
    """A task for a person to look at, as text and for a view."""

    task: ShownTask
    sparkline: str  # of the validation loss, oldest first
    report: str  # path of the drawn report, for people
    drawing: str | None = Field(None, exclude_if=is_none)  # HTML, where the view asked for it


class BrowserCode(Success):
    """A code that a browser exchanges for a token, once and within half a minute."""

    code: str


class BrowserToken(Success):
    """What a browser sends as its bearer token."""

    token: str


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
    cost_bps: float | None = None  # per unit of position change
    gross_bps: list[float] | None = None  # per trade: mean, and the ends of its 95 % interval
    net_bps: list[float] | None = None  # the same after costs
    first_bar: str | None = None  # at whose opening the first position is possible
    last_bar: str | None = None


class SeenBars(Reply):
    """How many bars of a range a model has seen, and how."""

    in_sample: int  # in training
    choosing: int  # validation and walk-forward, by which it was chosen
    out_of_sample: int  # fresh


class TimingEvidence(Reply):
    """Whether the timing on fresh bars earned its costs, beside what was tried on them before."""

    verdict: Literal["loses", "no_timing", "inconclusive", "survives_costs"]
    suspect: list[str] | None = None  # alarms, which the summary explains
    earlier: int  # backtests on the same bars
    p: float  # of this one alone
    adjusted_p: float
    level: float  # what the adjusted p must not exceed


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
    bars: SeenBars
    out_of_sample: BacktestFigures | None  # fresh: the only part that says anything of the future
    timing: TimingEvidence | None  # of the fresh part
    # In a conversation null: the resource has them.
    choosing: BacktestFigures | None
    in_sample: BacktestFigures | None
    summary: str
    equity: str  # resource with the equity curve of each part
    warnings: list[str] = Field(default_factory=list)  # of the range and the series


class GroupImportance(Reply):
    """What shuffling an indicator's features loses of the directional score of the test rows."""

    group: str
    importance: float  # per row
    error: float  # by blocks
    p: float  # that the largest of all groups is as large by luck


class ResponseGrid(Reply):
    """The mean p(buy) - p(sell) of the folds' networks over values of the strongest groups."""

    groups: list[str]
    values: list[list[float]]
    direction: list[list[float]]


class DescribingRule(Reply):
    """Where its sets are on, the folds' networks lean so, in this share of the test rows."""

    when: str
    leans: Literal["buy", "sell"]
    covers: float  # share of all the folds' test rows
    fidelity: float  # share of those in which the network of the row's fold leans so


class Explanation(Success):
    """What a task's networks learned; it reads test rows."""

    task_id: str
    summary: str
    groups: list[GroupImportance]  # the most important first
    response: ResponseGrid | None
    rules: list[DescribingRule]
    rows: int  # test rows of the folds that were used
    blocks: int
    test_readings: int
    left_out: int = 0  # groups, so that the reply stays short
    critical: float | None = None  # importance by error that the largest reaches by luck in 2 %
    details: str  # resource with every group


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


class Health(Success):
    """The service answers."""

    status: Literal["ok"] = "ok"
    version: str
    contract_version: str


class Ready(Success):
    """The service takes work."""

    status: Literal["ready"] = "ready"
    running: int  # tasks
    waiting: int


class ShownWorker(Reply):
    """A process that computes for the daemon."""

    pid: int
    task: str | None = Field(description="the task that it trains; null while it is idle")
    memory_bytes: int
    since: str
    node: str | None = Field(None, description="the machine of a cluster that it is on")


class Workers(Success):
    """All processes that compute for the daemon."""

    workers: list[ShownWorker]


class Stopping(Success):
    """The daemon stores what is under way, and ends."""

    status: Literal["stopping"] = "stopping"


class TrainingHistory(Success):
    """A task's whole story."""

    task_id: str
    history: dict[str, Any] = Field(description="specification, every epoch, metrics")


class TrainingEpochs(Success):
    """The epochs of a task so far, evenly spaced where there are many."""

    task_id: str
    total_epochs: int
    epochs: list[dict[str, Any]]


class TaskTimes(Success):
    """How long a training has run and how far it is."""

    task_id: str
    duration_s: float | None  # of all attempts, until now or its end; null if none began
    current_epoch: int
    total_epochs: int


class SweepCandidates(Success):
    """Every candidate of a search, by validation figures alone."""

    task_id: str
    sweep: dict[str, Any] = Field(description="the search, and its candidates by number")


class CandidateFigures(Success):
    """One candidate of a search on test rows; to ask for it makes a trial of every candidate."""

    task_id: str
    candidate: int
    settings: dict[str, Any]  # what differs from the task's own
    seed: int
    state: str
    statistic: float | None  # T of its own walk-forward; null where a fold is missing
    p: float | None
    adjusted_p: float | None  # among the other candidates and the trials before its search
    level: float  # what the adjusted p must not exceed
    accuracy: float | None
    accuracy_error: float | None
    rows: int | None
    adds_trials: int  # to what was tried on these bars; 0 once they are added
    note: str

    @property
    def document(self) -> dict[str, Any]:
        """Itself, as a resource."""
        return self.model_dump(mode="json", exclude={"success"})


class ModelCard(Success):
    """What a model's newest version is, was trained on and measured."""

    model_name: str
    card: dict[str, Any]


class Trade(Reply):
    """One trade of a backtest: a stretch of bars with the same position."""

    side: Literal["long", "short"]
    entry_time: str  # opening of the bar at whose opening it was entered
    entry_price: float
    exit_time: str
    exit_price: float
    bars: int
    net_return: float  # compounded, after the cost of entry and exit


class EquityCurve(Success):
    """The growth of one unit under a model's signals."""

    model_name: str
    equity: dict[str, Any] = Field(description="points of in_sample, choosing and out_of_sample")
    trades: dict[str, list[Trade]]  # of the same parts
    figures: dict[str, BacktestFigures]  # likewise

    @property
    def document(self) -> dict[str, Any]:
        """The points and figures of each part, as one resource."""
        figures = {name: each.model_dump(mode="json") for name, each in self.figures.items()}
        return {**self.equity, "figures": figures}


class ListedStrategy(Reply):
    """A strategy file, in short."""

    name: str
    description: str
    indicators: list[str] = Field(description="names")
    defects: str | None = Field(description="why it cannot be trained, and what helps")
    warnings: list[str] = Field(default_factory=list, description="what a training of it says")


class StrategyList(Success):
    """The strategies that there are, and files that are none for a reason."""

    strategies: list[ListedStrategy]
    returned: int = 0
    has_more: bool = False
    text: str | None = None  # YAML of the one that was asked for


class IndicatorRow(Reply):
    """An indicator that a strategy can use."""

    type: str
    group: str
    about: str
    inputs: list[str]  # columns of bars; source is the price that a strategy may choose
    parameters: dict[str, str]  # default (bounds)
    outputs: list[str]  # of several; each is NAME_output in a strategy
    units: str
    price_like: bool  # divided by the close unless raw
    cyclic: bool  # whether its fuzzy_sets may be cyclic
    warm_up_bars: int  # with the defaults


class IndicatorList(Success):
    """A page of the indicators, this program's own first, and how many each group has."""

    indicators: list[IndicatorRow]
    groups: dict[str, int]
    returned: int
    has_more: bool


class InputLook(Reply):
    """One input of a strategy on the rows looked at, in the units that are fuzzified."""

    input: str
    low: float
    median: float
    high: float
    on: dict[str, float]  # share of rows with a membership of at least a half, by set


class StrategyOnSeries(Reply):
    """What a strategy's features and labels look like before any test window of the series."""

    symbol: str
    timeframe: str
    first_bar: str
    last_bar: str
    rows: int
    warm_up_bars: int
    class_shares: dict[str, float]
    inputs: list[InputLook]
    constant: list[str]  # features that never vary
    alike: list[str]  # pairs of features that say the same
    left_out: int = 0  # inputs, so that the reply stays short


class StrategySaved(Success):
    """What became of a strategy that was sent."""

    name: str
    saved: bool  # false for a dry run, and where the newest version says the same
    version: int | None  # null for a dry run
    path: str | None  # relative to the workspace
    features: int
    warm_up_bars: int
    warnings: list[str]
    on_series: StrategyOnSeries | None = None


class StrategyText(Success):
    """A strategy file as it stands."""

    name: str
    text: str = Field(description="YAML")


class ResourceStates(Success):
    """In which state resources are; what has another one has changed."""

    states: dict[str, str] = Field(description="by address")
    lists: str = Field(description="of all that can be read")
    mark: str = Field(description="of all of these")


class Names(Success):
    """The known names that begin with the text."""

    kind: str
    names: list[str]


class ErrorDetail(Reply):
    """What went wrong, for programs and for people."""

    code: str
    message: str
    hint: str = Field(description="what to do next")
    field: str | None = Field(description="dotted path of the request field at fault")


class ErrorReply(Reply):
    """The one error shape of every route."""

    success: Literal[False] = False
    detail: str
    error: ErrorDetail
