"""The OpenAPI document, with the specification's examples."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from ktrdr_mcp import __version__, paths
from ktrdr_mcp.api.http.routes import Route
from ktrdr_mcp.api.schema import Schema, inlined, without_null
from ktrdr_mcp.schemas import CONTRACT_VERSION
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.schemas.documents import ErrorReply

TASK_ID: Final = "training_20250610_123456"
MODEL_NAME: Final = "aapl_momentum_v1"
SAVED_AT: Final = "2025-06-10T13:46:07Z"
MODEL_DESCRIPTION: Final = "AAPL momentum strategy trained on 2024 data"
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
        "description": MODEL_DESCRIPTION,
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
                "description": MODEL_DESCRIPTION,
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


DESCRIPTION: Final = (
    "Train, judge, save and use neural networks on market data. Every route exists with and "
    "without the prefix /api/v1, with and without a trailing slash. MCP Streamable HTTP is at "
    "/mcp."
)
REFUSALS: Final = {
    404: "Nothing has this name; the hint says what there is.",
    409: "It contradicts what is stored, or the task is not completed.",
    410: "The task's result was removed to free space; the hint says how to have it again.",
    422: "A body, parameter or value that is not valid, or too little data.",
    429: "Too many tasks are waiting.",
    503: "The laboratory is shutting down.",
    507: "No space is left.",
}
ANY_REFUSAL: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorReply, "description": "401, 403, 405, 413, 415, 421: not let in."},
    "5XX": {"model": ErrorReply, "description": "The laboratory or its storage failed."},
}
EVENTS_REPLIES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "`progress` events with a status as data, and one `end`.",
        "content": {"text/event-stream": {}},
    },
    204: {"description": "Last-Event-ID says that the end was seen."},
    404: {"model": ErrorReply, "description": REFUSALS[404]},
    422: {"model": ErrorReply, "description": REFUSALS[422]},
    **ANY_REFUSAL,
}
# The contract checks names by itself and says more than a pattern can; programs read the pattern.
FORMS: Final[dict[str, Schema]] = {
    "task_id": {"pattern": paths.TASK_ID_PATTERN},
    "model_name": {"pattern": paths.NAME_PATTERN},
    "strategy": {"pattern": paths.NAME_PATTERN},
    "name": {"pattern": paths.NAME_PATTERN},
    "symbol": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9.=^-]{0,31}$"},
    "timeframe": {"enum": list(paths.TIMEFRAME_MINUTES)},
}


def replies(route: Route) -> dict[int | str, dict[str, Any]]:
    """What a route may answer."""
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorReply, "description": REFUSALS[status]}
        for status in sorted({422, *route.refusals})
    }
    return {200: {"description": route.reply.__doc__}, **refusals, **ANY_REFUSAL}


def arguments(route: Route) -> dict[str, Any]:
    """What a route takes: parameters, and for a POST the rest as a body."""
    described: dict[str, Any] = {"parameters": parameters(route.request, route.path, route.method)}
    if route.method == "POST" and (schema := body_schema(route.request, route.path)):
        content = {"application/json": {"schema": schema}}
        described["requestBody"] = {"required": bool(schema["required"]), "content": content}
    return described


def add_examples(document: dict[str, Any]) -> dict[str, Any]:
    """Puts the examples in their places; FastAPI would leave out what is null in them.

    Args:
        document: the OpenAPI document; changed.
    """
    for path in document["paths"].values():
        for operation in path.values():
            name = operation["operationId"]
            if name in REPLIES:
                reply = operation["responses"]["200"]["content"]["application/json"]
                reply["example"] = REPLIES[name]
            if name in REQUESTS:
                operation["requestBody"]["content"]["application/json"]["example"] = REQUESTS[name]
    return document


def parameters(model: type[BaseModel], path: str, method: str = "GET") -> list[dict[str, Any]]:
    """A request's arguments in the path, and those of a GET in the query.

    Args:
        model: the request's model.
        path: the route's path.
        method: the route's method.
    """
    schema = described_form(model)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "path" if in_path(name, path) else "query",
            "required": name in required,
            "schema": parameter_schema(child),
        }
        for name, child in schema["properties"].items()
        if in_path(name, path) or method == "GET"
    ]


def parameter_schema(child: Schema) -> Schema:
    """A parameter's schema; a parameter cannot be null, it can only be left out."""
    schema = without_null(child)
    return {key: value for key, value in schema.items() if (key, value) != ("default", None)}


def body_schema(model: type[BaseModel], path: str) -> Schema | None:
    """The schema of a request's body; None if everything stands in the path."""
    schema = described_form(model)
    kept = {name: child for name, child in schema["properties"].items() if not in_path(name, path)}
    required = [name for name in schema.get("required", []) if name in kept]
    return {**schema, "properties": kept, "required": required} if kept else None


def in_path(name: str, path: str) -> bool:
    """Whether a route takes the argument from its path."""
    return f"{{{name}}}" in path


def described_form(model: type[BaseModel]) -> Schema:
    """A request's schema with the form of every name at its top level."""
    schema = inlined(model)
    properties = {
        name: with_form(child, FORMS.get(name, {})) for name, child in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def with_form(schema: Schema, form: Schema) -> Schema:
    """The form in the schema of a text, or in the text of a choice."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [with_form(option, form) for option in schema["anyOf"]]}
    return {**schema, **form} if schema.get("type") == "string" else schema
