"""From stored rows and live progress to what a caller is told."""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ktrdr_mcp import limits
from ktrdr_mcp.context import Progress
from ktrdr_mcp.errors import TaskNotCompleted
from ktrdr_mcp.interop.ktrdr.documents import ZIGZAGS
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.labels import registry as labels
from ktrdr_mcp.report.drawing import sparkline
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.config import EffectiveConfig
from ktrdr_mcp.service import models
from ktrdr_mcp.store.db import utc_now_text
from ktrdr_mcp.store.handles import StoredHandle
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.training.bundle import BundleManifest, History
from ktrdr_mcp.training.formats import origin

DIFFERS_CHARACTERS: Final = 80


def starting(
    row: TaskRow, similar_to: list[str], share_of_machine: int
) -> responses.TrainingStarted:
    """The acknowledgement of a stored task.

    Args:
        row: the task.
        similar_to: earlier tasks that differ in seed alone.
        share_of_machine: how many trainings take turns, this one included.
    """
    accepted = row.spec["accepted"]
    minutes = accepted["duration_s"] * share_of_machine / 60
    return responses.TrainingStarted(
        task_id=row.task_id,
        message=f"{subject_of(row)} {state_in_words(row)}",
        symbol=row.symbol,
        timeframe=row.timeframe,
        config=echo_config(row.config),
        estimated_duration_minutes=significant(minutes),
        strategy=row.strategy,
        data=responses.DataUsed(**accepted["data"]),
        warnings=accepted["warnings"],
        similar_to=similar_to,
    )


def describe_waited(
    reply: responses.TrainingStarted,
    row: TaskRow,
    now: responses.TrainingStatus,
    performance: responses.ModelPerformance | None,
) -> responses.TrainingStarted:
    """The acknowledgement of a task whose end was waited for, with what came of it."""
    state = "is completed; performance says what it is worth."
    return reply.model_copy(
        update={
            "message": f"{subject_of(row)} {state if performance else state_in_words(row)}",
            "status": now.status,
            "progress": now.progress,
            "error": now.error,
            "error_code": now.error_code,
            "performance": performance,
        }
    )


def subject_of(row: TaskRow) -> str:
    """What a start's message speaks of."""
    return f"Training of '{row.strategy}' on {row.symbol} {row.timeframe}"


def state_in_words(row: TaskRow) -> str:
    """What a start, which may be a repeated one, has come to, and what to do next."""
    if row.status in {"pending", "training"}:
        # One word for both: whether a new task has begun is a race that no reply should depend on.
        return "is under way. Call get_training_status with wait_s=50 until it is completed."
    if row.status == "completed":
        return "is already completed. Call get_model_performance; do not wait."
    names = "task_id" if row.idempotency_key is None else "task_id and idempotency_key"
    again = f"To train it again, start it under another {names}."
    if row.status == "cancelled":
        return f"was cancelled and does not run. {again}"
    return f"has failed ({row.error_code}) and does not run; get_training_status says why. {again}"


def echo_config(config: dict[str, Any]) -> dict[str, Any]:
    """The effective configuration as it is shown: without settings of other schedulers."""
    scheduler = config["lr_scheduler"]
    if scheduler is None:
        return config
    kept = {name: value for name, value in scheduler.items() if value is not None}
    return {**config, "lr_scheduler": kept}


def significant(value: float, digits: int = 2) -> float:
    """An estimate with no more digits than it deserves."""
    return float(f"{value:.{digits}g}")


def status(row: TaskRow, live: Live | None, queue_position: int | None) -> responses.TrainingStatus:
    """Where a task stands.

    Args:
        row: the task as stored.
        live: its progress, while it runs.
        queue_position: tasks ahead of it, while it waits.
    """
    running = live if row.status == "training" else None
    begun = running if running and running.has_begun else None
    progress = begun.progress if begun else None
    resumed_epoch = begun.resumed_epoch if begun else row.current_epoch
    return responses.TrainingStatus(
        task_id=row.task_id,
        status=row.status,
        progress=begun.percent if begun else row.progress,
        current_epoch=progress.epoch if progress else resumed_epoch,
        total_epochs=row.total_epochs,
        symbol=row.symbol,
        timeframe=row.timeframe,
        started_at=row.started_at,
        estimated_completion=completion(row, running),
        current_metrics=current_metrics(row, progress),
        error=error_sentence(row),
        error_code=row.error_code,
        queue_position=queue_position,
        alarm=progress.alarm if progress else None,
        sweep=progress.sweep if progress else None,
        attempt=row.attempt,
        resumed_from=find_resumed_from(row, running),
    )


def task_times(row: TaskRow, now: responses.TrainingStatus) -> responses.TaskTimes:
    """How long a training has run since its first attempt, and how far it is.

    Args:
        row: the task as stored.
        now: where it stands.
    """
    duration_s = None
    if row.started_at is not None:
        until = datetime.fromisoformat(row.completed_at or utc_now_text())
        ran = until - datetime.fromisoformat(row.started_at)
        duration_s = max(0.0, ran.total_seconds())
    return responses.TaskTimes(
        task_id=row.task_id,
        duration_s=duration_s,
        current_epoch=now.current_epoch,
        total_epochs=now.total_epochs,
    )


def describe_followed(
    handle: StoredHandle,
    row: TaskRow,
    now: responses.TrainingStatus,
    outcome: responses.TrainingStarted | None,
) -> responses.FollowedTask:
    """Where the task of a handle stands.

    Args:
        handle: as it was given out.
        row: the task as stored.
        now: its status.
        outcome: what it came to, if it has ended and that was asked for.
    """
    changed = row.completed_at or (utc_now_text() if row.status == "training" else row.created_at)
    return responses.FollowedTask(
        handle=handle.handle,
        task_id=row.task_id,
        created_at=handle.created_at,
        changed_at=max(changed, handle.created_at),  # a repeated start may be of an older task
        now=now,
        outcome=outcome,
    )


def summarise_training(
    status: responses.TrainingStatus, epochs: History, drawing: str | None
) -> responses.ShownTraining:
    """A status in short, with the validation loss of its epochs as a line of characters."""
    losses = [each["val_loss"] for each in epochs]
    shared = responses.ShownTask.model_fields.keys() & responses.TrainingStatus.model_fields
    same = {name: getattr(status, name) for name in shared}
    return responses.ShownTraining(
        task=responses.ShownTask(**same, val_loss=round_figure(losses[-1]) if losses else None),
        sparkline=sparkline(losses),
        report=f"/training/{status.task_id}/report",
        drawing=drawing,
    )


def find_resumed_from(row: TaskRow, live: Live | None) -> str | None:
    """Where the newest attempt began; not for a first one, nor where an error needs the space."""
    if row.attempt < 2 or row.status == "failed":
        return None
    if live is not None:
        return live.resumed_from
    # One that was claimed a moment ago still has in its row where the attempt before it began.
    return None if row.status == "training" else row.resumed_from


def completion(row: TaskRow, live: Live | None) -> str | None:
    """When a running task should end, or when a finished one did."""
    if row.completed_at is not None:
        return row.completed_at
    if live is None or live.remaining_s is None:
        return None
    timestamp = datetime.now(UTC) + timedelta(seconds=live.remaining_s)
    return timestamp.strftime("%Y-%m-%dT%H:%M:%SZ")


def current_metrics(row: TaskRow, progress: Progress | None) -> responses.CurrentMetrics | None:
    """The newest epoch's figures, or those of the restored epoch once completed."""
    if progress is not None:
        return responses.CurrentMetrics(
            train_loss=round_figure(progress.train_loss),
            val_loss=round_figure(progress.val_loss),
            train_accuracy=round_figure(progress.train_accuracy),
            val_accuracy=round_figure(progress.val_accuracy),
        )
    if row.result is None:
        return None
    metrics = row.result.training_metrics
    return responses.CurrentMetrics(
        train_loss=round_figure(metrics.final_train_loss),
        val_loss=round_figure(metrics.final_val_loss),
        train_accuracy=round_figure(metrics.final_train_accuracy),
        val_accuracy=round_figure(metrics.final_val_accuracy),
    )


def round_figure(value: float) -> float:
    """A figure for a status, which is read often."""
    return round(value, 6)


def error_sentence(row: TaskRow) -> str | None:
    """What went wrong and what to do, as one text of bounded length."""
    if row.error_message is None:
        return None
    text = f"{row.error_message} {row.error_hint or ''}".strip()
    cut = limits.MAX_ERROR_CHARACTERS
    return text if len(text) <= cut else f"{text[: cut - 3]}..."


def not_completed(row: TaskRow) -> TaskNotCompleted:
    """The error for a task without a result."""
    waiting = row.status in {"pending", "training"}
    hint = (
        f"Call {waiting_for(row)} until the status is completed."
        if waiting
        else "It has no model; start a new training."
    )
    reason = f": {row.error_message}" if row.error_message else "."
    return TaskNotCompleted(
        f"Task {row.task_id} is {row.status}, not completed{reason}", hint=hint, field="task_id"
    )


def waiting_for(row: TaskRow) -> str:
    """The call that waits for a task's end."""
    return f"get_training_status with task_id {row.task_id} and wait_s=50"


def cancel_message(row: TaskRow, kills: bool) -> str:
    """What cancelling did to a task.

    Args:
        row: the task after the request.
        kills: whether a training that does not stop by itself is ended.
    """
    if row.status == "training" and not kills:
        return (
            f"The training stops after its running step, which may take seconds with large layers"
            f" and batches; {waiting_for(row)} shows it."
        )
    if row.status == "training":
        return f"The training stops within moments; {waiting_for(row)} shows it."
    if row.status == "cancelled":
        return "The task is cancelled."
    return f"The task was already {row.status}; nothing changed."


def task_summary(row: TaskRow, live: Live | None) -> responses.TaskSummary:
    """One task in a list."""
    training = row.result.training_metrics if row.result else None
    return responses.TaskSummary(
        task_id=row.task_id,
        status=row.status,
        progress=live.percent if live and row.status == "training" else row.progress,
        symbol=row.symbol,
        timeframe=row.timeframe,
        strategy=row.strategy,
        created_at=row.created_at,
        val_accuracy=round_figure(training.final_val_accuracy) if training else None,
        error_code=row.error_code,
        differs=list_differing(row),
        note=shorten(note_of(row)),
    )


def task_page(
    trainings: list[responses.TaskSummary],
    fetches: list[responses.TaskSummary],
    has_more: bool,
    request: requests.ListTasks,
) -> responses.TaskList:
    """A page of trainings and fetches in one order, newest first.

    Args:
        trainings: from as many before the page's offset as there are fetches, or from the first.
        fetches: all of them.
        has_more: whether there are trainings behind these.
        request: which page.
    """
    before = max(0, request.offset - len(fetches))  # trainings that are not among these
    among = fetches
    if before:
        newest = trainings[0].created_at if trainings else ""
        among = [one for one in fetches if one.created_at <= newest]
        before += len(fetches) - len(among)
    together = list(heapq.merge(trainings, among, key=lambda one: one.created_at, reverse=True))
    first = request.offset - before
    rows = together[first : first + request.limit]
    return responses.TaskList(
        tasks=rows, returned=len(rows), has_more=has_more or len(together) > first + request.limit
    )


def note_of(row: TaskRow) -> str | None:
    """Why a task was started, if its caller said so."""
    return row.spec.get("note")


def shorten(text: str | None) -> str | None:
    """A text for a list."""
    if text is None or len(text) <= DIFFERS_CHARACTERS:
        return text
    return f"{text[: DIFFERS_CHARACTERS - 3]}..."


def list_differing(row: TaskRow) -> str:
    """The settings that neither the strategy nor the defaults have, in few characters.

    Args:
        row: a task, whose effective configuration and strategy are compared.
    """
    own = dict(row.spec["strategy"].get("training", {}))
    own["labels"] = labels.complete(own.get("labels", {}))
    expected = flatten(EffectiveConfig().model_dump(mode="json")) | flatten(own)
    searched = row.config.get("sweep")
    config = {name: value for name, value in row.config.items() if name != "sweep"}
    found = [
        f"{name}={value}" for name, value in flatten(config).items() if expected.get(name) != value
    ]
    if searched:
        found.insert(0, f"sweep={searched['trials']} over {', '.join(searched['vary'])}")
    text = ", ".join(found)
    return text if len(text) <= DIFFERS_CHARACTERS else f"{text[: DIFFERS_CHARACTERS - 3]}..."


def flatten(settings: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested settings under dotted names, their values as compact JSON."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = json.dumps(value, separators=(",", ":")).strip('"')
    return found


def model_list(rows: list[ModelRow], has_more: bool) -> responses.ModelList:
    """A page of the registry."""
    models = [model_row(row) for row in rows]
    return responses.ModelList(models=models, returned=len(models), has_more=has_more)


def model_row(row: ModelRow) -> responses.ModelRow:
    """One version of a model in a list."""
    return responses.ModelRow(
        model_id=row.model_id,
        model_name=row.model_name,
        symbol=row.symbol,
        timeframe=row.timeframe,
        created_at=row.created_at,
        training_accuracy=accuracy(row.training_accuracy),
        test_accuracy=accuracy(row.test_accuracy),
        description=row.description,
        version=row.version,
        origin=origin(row),
    )


def accuracy(value: float | None) -> float:
    """A stored accuracy; only a model that KTRDR wrote may lack one."""
    return round_figure(value or 0.0)


TRAINER_NEEDS: Final = (
    "To train strategies/{name}.yaml in KTRDR, put zigzag_threshold and label_lookahead of your own"
    " into training.labels: its trainer knows no {method} labels. Its backtester needs neither."
)


def saving(row: ModelRow, task: TaskRow, created: bool) -> responses.ModelSaved:
    """Where a task's model was published."""
    reasons = models.ktrdr_incompatibilities(row)
    return responses.ModelSaved(
        model_id=row.model_id,
        model_name=row.model_name,
        model_path=row.path,
        task_id=row.task_id,
        saved_at=row.created_at,
        model_size_mb=row.model_size_mb,
        version=row.version,
        created=created,
        ktrdr_backtest_compatible=not reasons,
        ktrdr_incompatibilities=reasons,
        warnings=[] if reasons else trainer_needs(row, task),  # without a file for KTRDR, none
    )


def trainer_needs(row: ModelRow, task: TaskRow) -> list[str]:
    """What KTRDR would miss to train the strategy file of a saved model."""
    method = task.config["labels"]["method"]
    needs = TRAINER_NEEDS.format(name=row.model_name, method=method)
    return [] if method in ZIGZAGS else [needs]


def loading(row: ModelRow, manifest: BundleManifest | None) -> responses.ModelLoaded:
    """The card of a loaded model; KTRDR does not keep which bars fitted the weights."""
    return responses.ModelLoaded(
        model_name=row.model_name,
        model_info=responses.LoadedModelInfo(
            created_at=row.created_at,
            symbol=row.symbol,
            timeframe=row.timeframe,
            architecture=row.architecture,
            training_accuracy=accuracy(row.training_accuracy),
            test_accuracy=accuracy(row.test_accuracy),
            strategy=row.strategy,
            version=row.version,
            trained_on=manifest.periods.train if manifest else [],
        ),
    )
