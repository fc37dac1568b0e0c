"""Complete results of trainings that never ran, of which a test changes what it needs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from ktrdr_mcp.schemas.results import Blocks, RunResult, TaskResult, TrialScores

DAY_NS = 24 * 3_600 * 10**9
PERIOD = ["2025-01-02T00:00:00Z", "2025-06-30T00:00:00Z"]
RESULT: dict[str, Any] = {
    "training_metrics": {
        "final_train_loss": 1.05,
        "final_val_loss": 1.08,
        "final_train_accuracy": 0.5,
        "final_val_accuracy": 0.48,
        "epochs_completed": 7,
        "early_stopped": True,
        "training_time_minutes": 0.02,
        "best_epoch": 5,
    },
    "test_metrics": {
        "test_loss": 1.0,
        "test_accuracy": 0.5,
        "precision": 0.4,
        "recall": 0.4,
        "f1_score": 0.4,
    },
    "baselines": {
        name: {"accuracy": 0.35, "macro_f1": 0.3}
        for name in ("majority", "prior", "persistence", "logistic")
    },
    "beats_linear": True,
    "trading": {
        "bars": 300,
        "net_total_return": 0.1,
        "sharpe": 0.5,
        "sharpe_error": 0.4,
        "max_drawdown": -0.1,
        "trades": 40,
        "win_rate": 0.5,
        "profit_factor": 1.1,
        "exposure": 0.6,
        "turnover_per_year": 300.0,
        "break_even_cost_bps": 8.0,
        "buy_and_hold_return": 0.2,
        "buy_and_hold_sharpe": 0.9,
        "buy_and_hold_max_drawdown": -0.2,
    },
    "trading_rule": {
        "horizon": 8,
        "cost_bps": 5.0,
        "long_only": False,
        "max_holding_bars": None,
        "confidence_threshold": 0.0,
        "min_separation_hours": 0.0,
    },
    "model_info": {"model_size_mb": 0.01, "parameters_count": 3_299, "architecture": "mlp_64_32"},
    "collapsed": False,
    "seeds": None,
    "data": {
        "first_bar": PERIOD[0],
        "last_bar": PERIOD[1],
        "bars": 2_000,
        "usable_rows": 1_950,
        "train_rows": 1_200,
        "validation_rows": 380,
        "test_rows": 290,
        "purged_rows": 16,
        "class_shares": {"buy": 0.3, "hold": 0.4, "sell": 0.3},
        "source": "workspace file",
    },
    "test_period": PERIOD,
    "predicted_shares": {"buy": 0.3, "hold": 0.4, "sell": 0.3},
    "validation_collapsed": False,
    "validation_majority": 0.4,
    "walk_forward": {"tested": PERIOD, "planned": 1, "used": 1, "folds": []},
    "equity": [{"time": PERIOD[0], "equity": 1.0}],
    "details": "training://sample",
}
FOLD: dict[str, Any] = {"train": PERIOD, "test": PERIOD, "train_rows": 500, "test_rows": 100}
FIGURES = ("loss", "accuracy", "precision", "recall", "f1_score")


def fold(lost: str | None = None) -> dict[str, Any]:
    """A fold of `walk_forward`, failed for a cause or judged."""
    return {**FOLD, **({} if lost else dict.fromkeys(FIGURES, 0.4)), "lost": lost}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested objects as one; the second wins."""
    result = copy.deepcopy(dict(below))
    for name, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if nested else value
    return result


def task_result(**changes: Any) -> TaskResult:
    """What a training measured, with some of it changed, deeply."""
    return TaskResult.from_json(merged(RESULT, changes))


def blocks(sums: np.ndarray) -> dict[str, Any]:
    """Sums over days that follow one another."""
    start = np.arange(len(sums), dtype=np.int64) * DAY_NS
    return Blocks(
        start=start.tolist(), stop=(start + DAY_NS - 1).tolist(), sums=sums.tolist()
    ).to_json()


def trial_scores(**changes: Any) -> TrialScores:
    """What the trial log keeps of a trial, with some of it changed, deeply."""
    sums = blocks(np.array([0.5, -0.4, 0.3]))
    scores = {
        "direction": {
            "statistic": 0.5,
            "p": 0.3,
            "width_bars": 24,
            "rows": 72,
            "constant": False,
            "accuracy": 0.55,
            "accuracy_error": 0.02,
            "blocks": sums,
        },
        "trading": {
            "timing_p": 0.5,
            "timing_blocks": sums,
            "net_sums": [0.1, 0.0, -0.1],
            "mean_net_high": 0.001,
            "net_total_return": 0.2,
        },
        "twins": [],
    }
    return TrialScores.from_json(merged(scores, changes))


def run_result(**changes: Any) -> RunResult:
    """What a run hands back."""
    return RunResult(
        metrics=task_result(**changes),
        scores=trial_scores(),
        data_fingerprint="f" * 64,
        tested_window=("2025-01-02T00:00:00Z", "2025-07-01T00:00:00Z"),
    )
