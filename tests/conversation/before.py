"""Makes a workspace with the version before, and asks a version what it finds in it.

`python -m tests.conversation.before --python OLD_PYTHON` makes tests/workspaces/before_11.tar.gz
and, beside it, before_11.json: what every later version must find there.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import io
import json
import os
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from .comparing import written
from .masking import Mask, sha256
from .program import (
    Program,
    address,
    environment,
    is_alive,
    kill_owner,
    owned_for_a_while,
    wait_until,
)
from .talk import make_workspace, read_script

ASSETS = Path(__file__).parents[1] / "workspaces"
ARCHIVE = ASSETS / "before_11.tar.gz"
EXPECTED = ASSETS / "before_11.json"
OWN_FILES = (
    *("lab.json", "lab.lock", "lab.log", "lab.log.1", "lab-refusal.json"),
    "ktrdr.db-shm",
)
SMALL = {"epochs": 4, "hidden_layers": [8], "batch_size": 64}
NO_FOLDS = {"walk_forward": None, "early_stopping": None, "hidden_layers": [8]}

COMPLETED = {
    "family-1": {"config": {**SMALL, "seed": 1}},
    "family-2": {"config": {**SMALL, "seed": 2}, "idempotency_key": "the key of family-2"},
    "family-3": {"strategy": "own"},
    "family-4": {
        "config": {**SMALL, "seeds": 2, "control": True, "optimizer": "sgd", "momentum": 0.9}
    },
}
FAILED = {
    "exploded": {"config": {**NO_FOLDS, "epochs": 3, "optimizer": "sgd", "learning_rate": 1e6}}
}
LONG = {**NO_FOLDS, "epochs": 100_000}
# These two train when the process dies, the third one waits for its turn.
INTERRUPTED = {
    "interrupted-1": {"config": {**NO_FOLDS, "epochs": 3000, "seed": 5, "dropout_rate": 0.3}},
    "interrupted-2": {
        "config": {
            "early_stopping": None,
            "hidden_layers": [6],
            "epochs": 600,
            "seed": 6,
            "batch_size": 64,
        }
    },
}
WAITING = {"waiting": {"config": {**SMALL, "seed": 7}, "idempotency_key": "the key of waiting"}}
SAVED = [
    ("family-1", "kept", "first version"),
    ("family-2", "kept", "second version"),
    ("family-3", "other", ""),
]
PREDICTED = [
    {"model_name": "kept"},
    {"model_name": "kept", "test_date": "2024-01-20"},
    {"model_name": "other", "test_date": "2024-01-28"},
    {"model_name": "other"},
]


@asynccontextmanager
async def open_proxy(program: Program, workspace: Path) -> AsyncIterator[Client]:
    """A client on stdio; the process that owns the workspace goes on after it."""
    line = program.command(workspace)
    server = StdioServerParameters(command=line[0], args=line[1:], env=environment(), cwd=workspace)
    async with Client(server) as client:
        yield client


async def call(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    """A tool's reply."""
    told = await client.call_tool(name, arguments)
    assert isinstance(told.structured_content, dict), told
    return told.structured_content


async def start(client: Client, task_id: str, symbol: str, **more: Any) -> dict[str, Any]:
    """Starts a training that must be accepted."""
    told = await call(
        client, "start_training", symbol=symbol, timeframe="1h", task_id=task_id, **more
    )
    assert told["success"], told
    return told


async def until(client: Client, task_id: str, *states: str, epoch: int = 0) -> dict[str, Any]:
    """A task's status once it is in one of the states."""
    while True:
        told = await call(client, "get_training_status", task_id=task_id, wait_s=0.1)
        if told["status"] in states and told["current_epoch"] >= epoch:
            return told
        assert told["status"] in {"pending", "training"}, told


async def finish(client: Client, task_id: str) -> dict[str, Any]:
    """A task's status at its end."""
    return await until(client, task_id, "completed", "failed", "cancelled")


async def fill(client: Client) -> None:
    """Tasks that end, and models."""
    for task_id, more in COMPLETED.items():
        await start(client, task_id, "WAVE", **more)
        assert (await finish(client, task_id))["status"] == "completed"
        for _ in range(2):
            await call(client, "get_model_performance", task_id=task_id)
    for task_id, more in FAILED.items():
        await start(client, task_id, "WAVE", **more)
        assert (await finish(client, task_id))["status"] == "failed"
    await start(client, "stopped", "WAVE", config=LONG)
    await until(client, "stopped", "training", epoch=1)
    await call(client, "cancel_training", task_id="stopped")
    assert (await finish(client, "stopped"))["status"] == "cancelled"
    for task_id, name, text in SAVED:
        saved = await call(
            client, "save_trained_model", task_id=task_id, model_name=name, description=text
        )
        assert saved["success"], saved


async def begin(client: Client) -> None:
    """Tasks that will not have ended."""
    for task_id, more in (INTERRUPTED | WAITING).items():
        await start(client, task_id, "OTHER", **more)


async def ask_what_lasts(client: Client) -> dict[str, Any]:
    """Everything that must stay the same, apart from how often it is read."""
    tasks = [*COMPLETED, *FAILED, "stopped"]
    told: dict[str, Any] = {"status": {}, "performance": {}, "predictions": {}}
    for task_id in tasks:
        told["status"][task_id] = await call(client, "get_training_status", task_id=task_id)
    for task_id in COMPLETED:
        told["performance"][task_id] = await call(client, "get_model_performance", task_id=task_id)
    told["models"] = await call(client, "list_trained_models")
    for number, asked in enumerate(PREDICTED):
        reply = await call(client, "test_model_prediction", **asked)
        told["predictions"][f"{number}"] = reply
    told["backtest"] = await call(client, "backtest_model", model_name="kept")
    told["comparison"] = await call(client, "compare_trainings", task_ids=[*COMPLETED][:3])
    told["key"] = await call(
        client,
        "start_training",
        symbol="WAVE",
        timeframe="1h",
        **COMPLETED["family-2"],
    )
    told["key of another request"] = await call(
        client,
        "start_training",
        symbol="WAVE",
        timeframe="1h",
        idempotency_key="the key of family-2",
    )
    return masked(told)


async def ask_what_comes(client: Client) -> dict[str, Any]:
    """What the tasks that had not ended come to."""
    told: dict[str, Any] = {}
    for task_id in INTERRUPTED | WAITING:
        await finish(client, task_id)
    for task_id in INTERRUPTED | WAITING:
        told[task_id] = await call(client, "get_model_performance", task_id=task_id)
    return masked(told)


def masked(told: dict[str, Any]) -> dict[str, Any]:
    """Replies without what is free to differ; readings count up and are compared apart."""
    texts = [text for _, _, text in SAVED]
    return Mask(texts, {}).reply(told)


def weights(workspace: Path, *tasks: str) -> dict[str, str]:
    """The hash of the weights with which a task ended."""
    internal = workspace / ".ktrdr" / "tasks"
    return {
        task_id: sha256((internal / task_id / "bundle" / "weights.safetensors").read_bytes())
        for task_id in tasks
    }


def saved_weights(workspace: Path) -> dict[str, str]:
    """The hashes of the weights of saved models."""
    return {
        path.relative_to(workspace).as_posix(): sha256(path.read_bytes())
        for path in sorted((workspace / "models").rglob("weights.safetensors"))
        if not any(parent.is_symlink() for parent in path.parents)
    }


def make_files(workspace: Path) -> None:
    """Bars and strategies."""
    files = read_script()["files"]
    names = ("data/WAVE_1h.csv", "data/OTHER_1h.csv", "strategies/own.yaml")
    make_workspace(workspace, {name: files[name] for name in names})


async def make(program: Program, workspace: Path) -> dict[str, Any]:
    """Makes the workspace and gives what must be found in it; its owner is killed at last."""
    make_files(workspace)
    async with open_proxy(program, workspace) as client:
        await fill(client)
        lasting = await ask_what_lasts(client)
        await begin(client)
        for task_id in INTERRUPTED:
            await until(client, task_id, "training", epoch=20)
        listed = await call(client, "list_training_tasks", status="pending")
        assert [task["task_id"] for task in listed["tasks"]] == [*WAITING], listed
    # asked to end, it stores checkpoints; then it goes on, and dies in the middle
    owner = address(workspace)
    assert program.json(workspace, "lab", "stop")["success"]
    wait_until(lambda: not is_alive(owner["pid"]))
    async with open_proxy(program, workspace) as client:
        for task_id in INTERRUPTED:
            while (await until(client, task_id, "training"))["resumed_from"] is None:
                pass
            seen = (await until(client, task_id, "training"))["current_epoch"]
            await until(client, task_id, "training", epoch=seen + 1)
        kill_owner(workspace)
    return {"lasting": lasting}


async def undisturbed(program: Program, workspace: Path) -> dict[str, Any]:
    """The same tasks in another workspace, where nothing interrupts them."""
    make_files(workspace)
    async with open_proxy(program, workspace) as client:
        await begin(client)
        coming = await ask_what_comes(client)
    return {"coming": coming, "weights": weights(workspace, *INTERRUPTED, *WAITING)}


def packed(workspace: Path) -> bytes:
    """The workspace as an archive, without what a copy must not carry."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted(workspace.rglob("*")):
            if path.name in OWN_FILES and path.parent.name == ".ktrdr":
                continue
            if any(parent.is_symlink() for parent in path.parents):
                continue
            member = archive.gettarinfo(path, path.relative_to(workspace).as_posix())
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            with path.open("rb") if member.isreg() else io.BytesIO() as file:
                archive.addfile(member, file)
    return gzip.compress(stream.getvalue(), 9, mtime=0)


def main() -> None:
    """Makes the archive and what must be found in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="the Python of the version before")
    program = Program(os.path.abspath(parser.parse_args().python))  # noqa: PTH100 (a link stays)
    with tempfile.TemporaryDirectory() as folder:
        workspace, other = Path(folder) / "before", Path(folder) / "undisturbed"
        with owned_for_a_while(workspace), owned_for_a_while(other):
            found = asyncio.run(make(program, workspace))
            found |= asyncio.run(undisturbed(program, other))
        found["weights"] |= weights(workspace, *COMPLETED)
        found["saved weights"] = saved_weights(workspace)
        content = packed(workspace)
    ARCHIVE.parent.mkdir(exist_ok=True)
    ARCHIVE.write_bytes(content)
    EXPECTED.write_text(written(found) + "\n", encoding="utf-8")
    print(f"{len(content):,} bytes; {json.dumps(found['weights'])}")


if __name__ == "__main__":
    main()
