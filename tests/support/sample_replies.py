"""Replies as a server would give them, at the long end of what is sensible."""

from __future__ import annotations

from ktrdr_mcp.schemas import responses
from ktrdr_mcp.schemas.config import TrainingConfig

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
TIMESTAMP = "2026-08-14T20:30:00Z"
LONG_NAME = "aapl_momentum_with_volume_and_trend_v12"

DATA_USED = responses.DataUsed(
    first_bar="1980-12-12T00:00:00Z",
    last_bar=TIMESTAMP,
    bars=1_049_812,
    usable_rows=1_049_755,
    train_rows=682_340,
    validation_rows=209_951,
    test_rows=157_464,
    purged_rows=16,
    class_shares={"buy": 0.331254, "hold": 0.402311, "sell": 0.266435},
    source="built-in sample (mintalib 0.1.13)",
)

STARTED = responses.TrainingStarted(
    task_id=UUID,
    message="Training queued; wait with get_training_status.",
    symbol="AAPL",
    timeframe="1h",
    config=TrainingConfig().model_dump(mode="json"),
    estimated_duration_minutes=0.25,
    strategy="default",
    data=DATA_USED,
    warnings=["The data begin on 2024-08-15; the request asked for 2024-01-01."],
    similar_to=[],
)


def status(
    epoch: int = 12, state: str = "training", queue_position: int | None = None
) -> responses.TrainingStatus:
    """A task's state after the epoch."""
    return responses.TrainingStatus.model_validate(
        {
            "task_id": UUID,
            "status": state,
            "progress": 100 if state == "completed" else epoch,
            "current_epoch": epoch,
            "total_epochs": 100,
            "symbol": "AAPL",
            "timeframe": "15m",
            "started_at": TIMESTAMP,
            "estimated_completion": TIMESTAMP,
            "current_metrics": {
                "train_loss": 1.012345,
                "val_loss": 0.981234,
                "train_accuracy": 0.491234,
                "val_accuracy": 0.412345,
            },
            "error": None,
            "error_code": None,
            "queue_position": queue_position,
        }
    )


PENDING = responses.TrainingStatus(
    task_id=UUID,
    status="pending",
    progress=0,
    current_epoch=0,
    total_epochs=100,
    symbol="AAPL",
    timeframe="1h",
    started_at=None,
    estimated_completion=None,
    current_metrics=None,
    error=None,
    error_code=None,
    queue_position=2,
)

HANDLE = responses.TaskHandle(handle="5f" * 16, task_id=UUID, created_at="2026-11-28T10:00:00Z")
FOLLOWED = responses.FollowedTask(
    **HANDLE.model_dump(), changed_at="2026-11-28T10:00:05Z", now=PENDING
)
SHOWN = responses.ShownTraining(
    task=responses.ShownTask(
        task_id=UUID,
        status="training",
        progress=12,
        current_epoch=12,
        total_epochs=100,
        symbol="AAPL",
        timeframe="15m",
        val_loss=0.9812,
        error=None,
    ),
    sparkline="\u2588\u2585\u2581",
    report=f"/training/{UUID}/report",
)

FAILED = status(epoch=3, state="failed").model_copy(
    update={
        "error": (
            "The loss stopped being a finite number in epoch 4; the last finite loss was 8.3e+12. "
            "Lower learning_rate (it is 1000) or set gradient_clip."
        ),
        "error_code": "diverged",
        "estimated_completion": None,
    }
)

FIGURES = responses.BaselineFigures(accuracy=0.356, macro_f1=0.175)

PERFORMANCE = responses.ModelPerformance(
    task_id=UUID,
    training_metrics=responses.TrainingMetrics(
        final_train_loss=1.0123,
        final_val_loss=1.0457,
        final_train_accuracy=0.4568,
        final_val_accuracy=0.4346,
        epochs_completed=99_999,
        early_stopped=True,
        training_time_minutes=1234.567,
        best_epoch=99_989,
    ),
    test_metrics=responses.HeldOutMetrics(
        test_loss=1.0679,
        test_accuracy=0.4123,
        precision=0.3912,
        recall=0.3877,
        f1_score=0.3823,
    ),
    verdict=responses.Verdict(
        prediction="inconclusive",
        trading="inconclusive",
        reason=(
            "T 2.1 on 287 blocks of 48 bars, adjusted p 0.036 (level 0.0025): luck not"
            " ruled out; edges above 53.1% are excluded (95 %). Trading: net +231.3%, timing p"
            " 0.19: luck not ruled out."
        ),
        needs="About 240,000 bars for 80 % power (115,030 used).",
        as_of_trial=1000,
        luck="luck T 2.6, level T 3.3",
        trials_since=12,
        level=0.0025,
        rows="4 folds, 2021-03-04 to 2026-08-10",
    ),
    edge=responses.EdgeFigures(accuracy=0.512, low=0.493, high=0.531, base_rate=0.501),
    baselines=responses.Baselines(
        majority=FIGURES, prior=FIGURES, persistence=FIGURES, logistic=FIGURES
    ),
    beats_linear=True,
    trading=responses.TradingFigures(
        net_total_return=-0.123,
        sharpe=-1.234,
        sharpe_error=0.123,
        max_drawdown=-0.86,
        trades=12_345,
        break_even_cost_bps=-30.244,
        buy_and_hold_return=1403.745,
        bars=115_030,
        exposure=0.877,
        cost_bps=5.0,
        gross_bps=[12.3, -10.1, 34.5],
        net_bps=[2.3, -20.1, 24.5],
    ),
    model_info=responses.ModelInfo(
        model_size_mb=12.345678, parameters_count=125_430, architecture="mlp_1024_512_256_128_64_32"
    ),
    collapsed=False,
    leak_suspected=False,
    seeds=None,
    test_readings=12,
    next="Try a strategy of another idea: nothing was found on the validation rows.",
    details=f"training://{UUID}",
    report=f"/training/{UUID}/report",
)

TRADED = responses.BacktestFigures(
    bars=1_234,
    net_total_return=-0.123456,
    sharpe=-1.234567,
    sharpe_error=0.123456,
    max_drawdown=-0.456789,
    trades=123,
    win_rate=0.456789,
    profit_factor=0.987654,
    exposure=0.876543,
    turnover_per_year=1234.567891,
    break_even_cost_bps=-12.345678,
    buy_and_hold_return=0.345678,
    buy_and_hold_sharpe=0.567891,
    buy_and_hold_max_drawdown=-0.234567,
)

CANDIDATE = responses.CandidateFigures(
    task_id=UUID,
    candidate=7,
    settings={"learning_rate": 0.0031},
    seed=42,
    state="trained",
    statistic=2.3456,
    p=0.0104,
    adjusted_p=0.4881,
    level=0.0039,
    accuracy=0.5312,
    accuracy_error=0.0134,
    rows=1234,
    adds_trials=64,
    note="One of 64 candidates, chosen after their tests: trainings on these bars now count 64"
    " trials more.",
)

BACKTEST = responses.ModelBacktest(
    model_name="aapl_momentum_v1",
    version=12,
    symbol="AAPL",
    timeframe="1h",
    first_bar=TIMESTAMP,
    last_bar=TIMESTAMP,
    cost_bps=5.0,
    long_only=False,
    bars=responses.SeenBars(in_sample=3456, choosing=2345, out_of_sample=1234),
    out_of_sample=TRADED,
    timing=responses.TimingEvidence(
        verdict="inconclusive", earlier=3, p=0.8765, adjusted_p=0.9876, level=0.0084
    ),
    choosing=TRADED,
    in_sample=TRADED,
    summary=(
        "Fresh bars: net -12.3% on 1234 bars, less than holding (+34.6%); no evidence that"
        " timing earns its costs (p 0.88; 0.99 beside 3 backtests made before on these bars;"
        " level 0.0084)."
    ),
    equity="equity://aapl_momentum_v1/2024-01-01/2024-12-31",
)

COMPARISON = responses.Comparison(
    tasks=[
        responses.ComparedTask(
            task_id=f"{UUID[:-1]}{rank}",
            rank=rank,
            val_gain=0.012345,
            val_accuracy=0.4346,
            val_loss=1.0457,
            test_accuracy=0.4123,
            prediction="inconclusive",
            statistic=1.234567,
        )
        for rank in range(1, 4)
    ],
    differences={"learning_rate": [0.001, 0.01, 0.1]},
    tests=[
        responses.PairedDifference(
            first=f"{UUID[:-1]}1",
            second=f"{UUID[:-1]}{rank}",
            difference=0.123456,
            p=0.456789,
            meaning="Not significant: prefer neither on this evidence.",
        )
        for rank in (2, 3)
    ],
    summary=f"{UUID} is best on validation, but not significantly better than 2 of 2 others.",
)

REPRODUCTION = responses.Reproduction(
    task_id=UUID,
    reproduction_task_id=UUID,
    status="completed",
    result="match",
    differences=[],
    message="Weights, history and figures are identical.",
)

SAVED = responses.ModelSaved(
    model_id="model_20260814_203000_1",
    model_name=LONG_NAME,
    model_path=f"models/{LONG_NAME}/AAPL_1h_v12",
    task_id=UUID,
    saved_at=TIMESTAMP,
    model_size_mb=0.031,
    version=12,
    created=True,
    ktrdr_backtest_compatible=True,
    ktrdr_incompatibilities=[],
)

LOADED = responses.ModelLoaded(
    model_name=LONG_NAME,
    model_info=responses.LoadedModelInfo(
        created_at=TIMESTAMP,
        symbol="AAPL",
        timeframe="1h",
        architecture="mlp_64_32_16",
        training_accuracy=0.456789,
        test_accuracy=0.4123,
        strategy="default",
        version=12,
        trained_on=[TIMESTAMP, TIMESTAMP],
    ),
)

PREDICTION = responses.ModelPrediction(
    model_name=LONG_NAME,
    symbol="AAPL",
    test_date="2025-06-09",
    prediction=responses.Prediction(
        signal="buy",
        most_probable="buy",
        confidence=0.4123,
        signal_strength=0.101234,
        fuzzy_outputs={"bearish": 0.0, "neutral": 0.9, "bullish": 0.1},
        probabilities={"buy": 0.4123, "hold": 0.276544, "sell": 0.311111},
    ),
    input_features={"rsi_14": 64.2, "sma_20": 152.34},
    as_of=TIMESTAMP,
    in_sample=False,
    timeframe="1h",
    version=12,
    warnings=[],
)

MODEL_ROW = responses.ModelRow(
    model_id="model_20260814_203000_1",
    model_name=LONG_NAME,
    symbol="AAPL",
    timeframe="15m",
    created_at=TIMESTAMP,
    training_accuracy=0.456789,
    test_accuracy=0.4123,
    description="Momentum with volume; test accuracy within chance of the majority class.",
    version=12,
)

TASK_SUMMARY = responses.TaskSummary(
    task_id=UUID,
    status="completed",
    progress=100,
    symbol="AAPL",
    timeframe="15m",
    strategy=LONG_NAME,
    created_at=TIMESTAMP,
    val_accuracy=0.4346,
    error_code=None,
    differs="epochs=500, learning_rate=0.0005, labels.horizon=12, early_stopping.patie...",
)

SERIES = responses.SeriesSummary(
    symbol="AAPL",
    timeframe="15m",
    bars=1_049_812,
    first_bar="1980-12-12T00:00:00Z",
    last_bar=TIMESTAMP,
    source="built-in sample (mintalib 0.1.13)",
    notes=["The ticker is inferred; the upstream terms are unverified.", "Also gives 1h, 4h."],
    defects=None,
)

CANCELLED = responses.TaskCancelled(task_id=UUID, status="cancelled", message="The task is over.")

MODELS = responses.ModelList(models=[MODEL_ROW] * 5, returned=5, has_more=True)
TASKS = responses.TaskList(tasks=[TASK_SUMMARY] * 5, returned=5, has_more=True)
ALL_SERIES = responses.DataSummary(series=[SERIES] * 5, returned=5, has_more=True)
