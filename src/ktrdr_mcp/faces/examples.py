"""The specification's examples for the OpenAPI document, with what we add."""

from __future__ import annotations

from typing import Any, Final

from ktrdr_mcp import __version__
from ktrdr_mcp.contract import CONTRACT_VERSION, TrainingConfig

TASK_ID: Final = "training_20250610_123456"
MODEL_NAME: Final = "aapl_momentum_v1"
SAVED_AT: Final = "2025-06-10T13:46:07Z"
DESCRIPTION: Final = "AAPL momentum strategy trained on 2024 data"
SERIES: Final = {"symbol": "AAPL", "timeframe": "1h"}

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "start_training": {
        **SERIES,
        "config": {
            "model_type": "mlp",
            "hidden_layers": [64, 32, 16],
            "epochs": 100,
            "learning_rate": 0.001,
            "batch_size": 32,
            "validation_split": 0.2,
            "early_stopping": {"patience": 10, "monitor": "val_accuracy"},
            "optimizer": "adam",
            "dropout_rate": 0.2,
        },
        "start_date": "2024-01-01",
        "end_date": "2024-12-31",
        "task_id": "optional-task-id",
    },
    "save_trained_model": {
        "task_id": TASK_ID,
        "model_name": MODEL_NAME,
        "description": DESCRIPTION,
    },
    "test_model_prediction": {"model_name": MODEL_NAME, **SERIES, "test_date": "2025-06-09"},
    "compare_trainings": {"task_ids": [TASK_ID, "training_20250611_091500"]},
}
DATA_USED: Final = {
    "first_bar": "2024-08-06T13:30:00Z",
    "last_bar": "2024-12-31T20:30:00Z",
    "bars": 713,
    "usable_rows": 656,
    "train_rows": 418,
    "validation_rows": 123,
    "test_rows": 99,
    "purged_rows": 16,
    "class_shares": {"buy": 0.35, "hold": 0.35, "sell": 0.3},
    "source": "built-in sample",
}
REPLIES: Final[dict[str, dict[str, Any]]] = {
    "start_training": {
        "success": True,
        "task_id": TASK_ID,
        "status": "training_started",
        "message": "Neural network training started",
        **SERIES,
        "config": TrainingConfig().model_dump(mode="json"),
        "estimated_duration_minutes": 30,
        "strategy": "default",
        "data": DATA_USED,
        "warnings": [],
        "similar_to": [],
    },
    "get_training_status": {
        "success": True,
        "task_id": TASK_ID,
        "status": "training",
        "progress": 65,
        "current_epoch": 65,
        "total_epochs": 100,
        **SERIES,
        "started_at": "2025-06-10T12:34:56Z",
        "estimated_completion": "2025-06-10T13:04:56Z",
        "current_metrics": {
            "train_loss": 0.045,
            "val_loss": 0.052,
            "train_accuracy": 0.89,
            "val_accuracy": 0.87,
        },
        "error": None,
        "error_code": None,
        "queue_position": None,
        "alarm": None,
        "attempt": 1,
        "resumed_from": None,
    },
    "get_model_performance": {
        "success": True,
        "task_id": TASK_ID,
        "status": "completed",
        "training_metrics": {
            "final_train_loss": 0.032,
            "final_val_loss": 0.038,
            "final_train_accuracy": 0.92,
            "final_val_accuracy": 0.89,
            "epochs_completed": 87,
            "early_stopped": True,
            "training_time_minutes": 25.5,
            "best_epoch": 77,
        },
        "test_metrics": {
            "test_loss": 0.041,
            "test_accuracy": 0.88,
            "precision": 0.87,
            "recall": 0.89,
            "f1_score": 0.88,
        },
        "model_info": {
            "model_size_mb": 12.5,
            "parameters_count": 125430,
            "architecture": "mlp_64_32_16",
        },
        "verdict": {
            "prediction": "inconclusive",
            "trading": "inconclusive",
            "reason": "Too few independent test bars to tell skill from luck.",
            "needs": "About four times as many test bars.",
            "as_of_trial": 1,
            "luck": "This is the first training on these test bars.",
        },
        "baselines": {
            "majority": {"accuracy": 0.36, "macro_f1": 0.18},
            "prior": {"accuracy": 0.33, "macro_f1": 0.33},
            "persistence": {"accuracy": 0.4, "macro_f1": 0.38},
            "logistic": {"accuracy": 0.41, "macro_f1": 0.39},
        },
        "beats_linear": True,
        "trading": {
            "net_total_return": 0.021,
            "sharpe": 0.6,
            "sharpe_error": 0.9,
            "max_drawdown": -0.08,
            "trades": 41,
            "break_even_cost_bps": 4.5,
            "buy_and_hold_return": 0.034,
        },
        "collapsed": False,
        "leak_suspected": None,
        "seeds": None,
        "test_readings": 1,
        "next": "Train on a longer range.",
        "details": f"training://{TASK_ID}",
    },
    "save_trained_model": {
        "success": True,
        "model_id": "model_20250610_134567",
        "model_name": MODEL_NAME,
        "model_path": f"models/{MODEL_NAME}/AAPL_1h_v1",
        "task_id": TASK_ID,
        "saved_at": SAVED_AT,
        "model_size_mb": 12.5,
        "version": 1,
        "created": True,
        "ktrdr_backtest_compatible": True,
        "ktrdr_incompatibilities": [],
    },
    "load_trained_model": {
        "success": True,
        "model_name": MODEL_NAME,
        "model_loaded": True,
        "model_info": {
            "created_at": SAVED_AT,
            **SERIES,
            "architecture": "mlp_64_32_16",
            "training_accuracy": 0.89,
            "test_accuracy": 0.88,
            "strategy": "default",
            "version": 1,
            "trained_on": ["2024-08-06T13:30:00Z", "2024-12-31T20:30:00Z"],
        },
    },
    "test_model_prediction": {
        "success": True,
        "model_name": MODEL_NAME,
        "symbol": "AAPL",
        "test_date": "2025-06-09",
        "prediction": {
            "signal": "buy",
            "confidence": 0.78,
            "signal_strength": 0.65,
            "fuzzy_outputs": {"bullish": 0.78, "bearish": 0.22, "neutral": 0.31},
            "probabilities": {"buy": 0.78, "hold": 0.09, "sell": 0.13},
        },
        "input_features": {"sma_20": 152.34, "rsi_14": 64.2, "macd_signal": 0.45},
        "as_of": "2025-06-09T19:30:00Z",
        "in_sample": False,
        "timeframe": "1h",
        "version": 1,
        "warnings": [],
    },
    "list_trained_models": {
        "success": True,
        "models": [
            {
                "model_id": "model_20250610_134567",
                "model_name": MODEL_NAME,
                **SERIES,
                "created_at": SAVED_AT,
                "training_accuracy": 0.89,
                "test_accuracy": 0.88,
                "description": DESCRIPTION,
                "version": 1,
            }
        ],
        "returned": 1,
        "has_more": False,
    },
    "cancel_training": {
        "success": True,
        "task_id": TASK_ID,
        "status": "cancelled",
        "message": "The task is cancelled.",
    },
    "health": {
        "success": True,
        "status": "ok",
        "version": __version__,
        "contract_version": CONTRACT_VERSION,
    },
}
