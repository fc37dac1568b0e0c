"""A client's whole day: start, train with a checkpoint after every epoch, save. Then another."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktrdr_mcp import limits
from ktrdr_mcp.daemon import executors
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import KtrdrError, StorageError
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol
from ktrdr_mcp.training import duration
from tests.support import eager_work, nothing_lost, programs
from tests.support.fault_steps import Steps

CONFIG = {"epochs": 4, "hidden_layers": [8], "early_stopping": None}
MODEL = "kept"
EXECUTOR = executors.executor_name("threads")
STORAGE_CODES = {"storage_error", "storage_full", "database_error"}


def prepare_process() -> None:
    """Imports everything once, so that children of this process begin at once."""
    from ktrdr_mcp.evaluation import baselines
    from ktrdr_mcp.jobs.executors.threads import load_torch
    from ktrdr_mcp.service import (
        reconciliation,  # noqa: F401
    )

    load_torch()
    baselines.load()
    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    executors.TRAINING = eager_work.ENTRY  # type: ignore[misc]
    os.environ["PYTHONPATH"] = str(programs.ROOT)  # for workers, if there are any
    duration.measure = duration.Speed
    defaults = JobManager.__init__.__kwdefaults__
    defaults |= {"retry_s": 0.01, "drain_s": 2.0}


@dataclass
class Notes:
    """What a client would remember, kept outside the workspace and outside every fault."""

    path: Path
    _descriptor: int = field(init=False)

    def __post_init__(self) -> None:
        self._descriptor = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._write = os.write

    def close(self) -> None:
        """Nothing more is added by this process."""
        os.close(self._descriptor)

    def add(self, **note: Any) -> None:
        """Remembers something."""
        self._write(self._descriptor, json.dumps(note).encode() + b"\n")

    def read(self) -> list[dict[str, Any]]:
        """Everything remembered."""
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def acknowledged(self) -> set[str]:
        """The ids that were given out."""
        return {note["acknowledged"] for note in self.read() if "acknowledged" in note}

    def finished(self) -> dict[str, str]:
        """The rows that were seen finished."""
        return {note["finished"]: note["row"] for note in self.read() if "finished" in note}

    def reported(self) -> dict[str, int]:
        """The newest epoch of each task that was told."""
        return {note["reported"]: note["epoch"] for note in self.read() if "reported" in note}


async def start(service: ServiceProtocol, notes: Notes, task_id: str, **config: Any) -> None:
    """Starts a training; its id is remembered once it is acknowledged."""
    raw = {"task_id": task_id, "symbol": "AAPL", "timeframe": "1h", "config": CONFIG | config}
    await service.start_training(parse(requests.StartTraining, raw))
    notes.add(acknowledged=task_id)


async def end_of(service: ServiceProtocol, notes: Notes, task_id: str, wait_s: float = 50.0) -> str:
    """Waits for a task's end, and remembers its epochs."""
    raw = {"task_id": task_id, "wait_s": wait_s}

    async def told(status: Any) -> None:
        notes.add(reported=task_id, epoch=status.current_epoch)

    status = await service.get_training_status(parse(requests.GetTrainingStatus, raw), told)
    return str(status.status)


def remember_finished(workspace: Path, notes: Notes) -> None:
    """Remembers every row that has ended, as the database has it."""
    for task_id, row in nothing_lost.tasks_of(workspace).items():
        if row["status"] in nothing_lost.TERMINAL:
            notes.add(finished=task_id, row=nothing_lost.fingerprint(row))


async def save(service: ServiceProtocol, task_id: str) -> None:
    raw = {"task_id": task_id, "model_name": MODEL, "description": "of a fault test"}
    await service.save_trained_model(parse(requests.SaveModel, raw))


async def whole_day(workspace: Path, notes: Notes, task_id: str, wait_s: float = 50.0) -> None:
    """Start, train, save; ends with a named error where the storage refuses."""
    async with open_workspace(Workspace(workspace), EXECUTOR) as opened:
        await start(opened.service, notes, task_id)
        if await end_of(opened.service, notes, task_id, wait_s) == "completed":
            remember_finished(workspace, notes)
            await save(opened.service, task_id)


async def day_after(workspace: Path, notes: Notes, task_id: str) -> None:
    """Comes back, sees everything to its end, and starts a further training."""
    async with open_workspace(Workspace(workspace), EXECUTOR) as opened:
        acknowledged = notes.acknowledged()  # these are there, and are never started again
        if task_id not in acknowledged:  # whether its start arrived, the client does not know
            await start(opened.service, notes, task_id)
        for known in sorted(acknowledged | {task_id}):
            if await end_of(opened.service, notes, known) == "completed":
                await save(opened.service, known)
        await start(opened.service, notes, "later", seed=7)
        assert await end_of(opened.service, notes, "later") == "completed"


async def full_disk(workspace: Path, notes: Notes) -> dict[str, Any]:
    """Fills the disk under a running server, asks it everything, and frees the disk again."""
    steps = Steps(first=sys.maxsize, spoilt=0, mode="full")
    steps.install()
    async with open_workspace(Workspace(workspace), EXECUTOR) as opened:
        service = opened.service
        await start(service, notes, "before")
        assert await end_of(service, notes, "before") == "completed"
        await save(service, "before")
        remember_finished(workspace, notes)
        steps.first, steps.spoilt = steps.count + 1, sys.maxsize
        answers = [await answer_of(call) for call in writing_calls(service, notes)]
        read = [await answer_of(call) for call in reading_calls(service)]
        steps.free()
        await start(service, notes, "after")
        assert await end_of(service, notes, "after") == "completed"
        await save(service, "after")
    return {"refused": answers, "answered": read, "status": "completed"}


async def answer_of(call: Any) -> str:
    """How a call ended."""
    try:
        await call
    except StorageError as error:
        return named(error)
    return "answered"


def named(error: KtrdrError) -> str:
    """The error's code; it must say what to do."""
    assert error.message
    assert error.hint
    return error.code


def writing_calls(service: ServiceProtocol, notes: Notes) -> list[Any]:
    """Calls that need the disk."""
    other = {"task_id": "before", "model_name": "another", "description": ""}
    return [
        start(service, notes, "during", seed=3),
        service.save_trained_model(parse(requests.SaveModel, other)),
    ]


def reading_calls(service: ServiceProtocol) -> list[Any]:
    """Calls that need no disk."""
    task = {"task_id": "before"}
    bar = {"model_name": MODEL, "symbol": "AAPL", "timeframe": "1h"}
    return [
        service.get_training_status(parse(requests.GetTrainingStatus, task)),
        service.list_training_tasks(parse(requests.ListTasks, {})),
        service.list_trained_models(parse(requests.ListModels, {})),
        service.load_trained_model(parse(requests.LoadModel, {"model_name": MODEL})),
        service.test_model_prediction(parse(requests.Predict, bar)),
    ]


def result_of(workspace: Path, task_id: str) -> dict[str, Any] | None:
    """What must be equal of a result, however often its training was interrupted."""
    row = nothing_lost.tasks_of(workspace)[task_id]
    if row["status"] != "completed":
        return None
    bundle = workspace / ".ktrdr" / "tasks" / task_id / "bundle"
    metrics = json.loads(row["result"])
    del metrics["training_metrics"]["training_time_minutes"]
    return {
        "weights": nothing_lost.sha256(bundle / "weights.safetensors"),
        "history": nothing_lost.sha256(bundle / "history.json"),
        "metrics": hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest(),
    }


def run(day: Any, *arguments: Any) -> str:
    """Runs one day to its end and says how it ended: "done" or the code of a storage error."""
    try:
        asyncio.run(day(*arguments))
    except StorageError as error:
        return named(error)
    return "done"
