"""A client's whole day: start, train with a checkpoint after every epoch, save. Then another."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nothing_lost

from ktrdr_mcp import limits
from ktrdr_mcp.app import open_lab
from ktrdr_mcp.contract import Lab, parse, requests
from ktrdr_mcp.errors import KtrdrError, StorageError
from ktrdr_mcp.jobs.manager import JobManager
from ktrdr_mcp.learn import speed
from ktrdr_mcp.paths import Workspace

CONFIG = {"epochs": 4, "hidden_layers": [8], "early_stopping": None}
MODEL = "kept"
STORAGE_CODES = {"storage_error", "storage_full", "database_error"}


def prepare_process() -> None:
    """Imports everything once, so that children of this process begin at once."""
    from ktrdr_mcp.jobs.executor import load_torch
    from ktrdr_mcp.lab import local, recovery  # noqa: F401
    from ktrdr_mcp.learn.judge import baselines

    load_torch()
    baselines.load()
    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    speed.measure = lambda: speed.Speed(*[1e-4] * len(speed.Speed.__dataclass_fields__))
    defaults = JobManager.__init__.__kwdefaults__
    defaults["retry_s"] = 0.01


@dataclass
class Notes:
    """What a client would remember, kept outside the workspace and outside every fault."""

    path: Path
    _descriptor: int = field(init=False)

    def __post_init__(self) -> None:
        self._descriptor = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._write = os.write

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


async def start(lab: Lab, notes: Notes, task_id: str, **config: Any) -> None:
    """Starts a training; its id is remembered once it is acknowledged."""
    raw = {"task_id": task_id, "symbol": "AAPL", "timeframe": "1h", "config": CONFIG | config}
    await lab.start_training(parse(requests.StartTraining, raw))
    notes.add(acknowledged=task_id)


async def end_of(lab: Lab, notes: Notes, task_id: str) -> str:
    """Waits for a task's end, remembers its epochs and then its row."""
    raw = {"task_id": task_id, "wait_s": 50.0}

    async def told(status: Any) -> None:
        notes.add(reported=task_id, epoch=status.current_epoch)

    status = await lab.get_training_status(parse(requests.GetTrainingStatus, raw), told)
    return str(status.status)


def remember_finished(workspace: Path, notes: Notes) -> None:
    """Remembers every row that has ended, as the database has it."""
    for task_id, row in nothing_lost.tasks_of(workspace).items():
        if row["status"] in nothing_lost.TERMINAL:
            notes.add(finished=task_id, row=nothing_lost.fingerprint(row))


async def save(lab: Lab, task_id: str) -> None:
    raw = {"task_id": task_id, "model_name": MODEL, "description": "of a fault test"}
    await lab.save_trained_model(parse(requests.SaveModel, raw))


async def whole_day(workspace: Path, notes: Notes, task_id: str) -> None:
    """Start, train, save; ends with a named error where the storage refuses."""
    async with open_lab(Workspace(workspace)) as opened:
        await start(opened.lab, notes, task_id)
        if await end_of(opened.lab, notes, task_id) == "completed":
            remember_finished(workspace, notes)
            await save(opened.lab, task_id)


async def day_after(workspace: Path, notes: Notes, task_id: str) -> None:
    """Comes back, sees everything to its end, and starts a further training."""
    async with open_lab(Workspace(workspace)) as opened:
        for known in sorted(notes.acknowledged() | {task_id}):
            if known == task_id:  # the client may not know whether its start arrived
                await start(opened.lab, notes, known)
            if await end_of(opened.lab, notes, known) == "completed":
                await save(opened.lab, known)
        await start(opened.lab, notes, "later", seed=7)
        assert await end_of(opened.lab, notes, "later") == "completed"


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
        assert error.hint
        return error.code
    except KtrdrError as error:
        if error.code in {"task_not_found", "draining"}:
            raise
        return error.code
    return "done"
