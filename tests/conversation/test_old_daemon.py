"""The version before trains in the background while a client of this version opens its workspace.

KTRDR_OLD_PYTHON names a Python that has the version before.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from .before import NO_FOLDS, call, finish, make_files, open_proxy, start, until, weights
from .program import Program, address, is_alive, owned_for_a_while

OLD_PYTHON = os.environ.get("KTRDR_OLD_PYTHON", "")
TRAINING = {"config": {**NO_FOLDS, "epochs": 1500, "seed": 3}}
SHORT = {"config": {**NO_FOLDS, "epochs": 3}}

pytestmark = [
    pytest.mark.skipif(not OLD_PYTHON, reason="KTRDR_OLD_PYTHON names no Python"),
    pytest.mark.timeout(300),
]


class Owners:
    """Sees who says that it owns a workspace, and that it is one process at a time."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.seen: list[int] = []

    async def watch(self) -> None:
        """Looks until it is cancelled."""
        while True:
            owner = address(self.workspace)
            if owner is not None and owner["pid"] not in self.seen[-1:]:
                assert owner["pid"] not in self.seen, "an owner that had ended came back"
                assert not any(map(is_alive, self.seen)), "two processes own the workspace"
                self.seen.append(owner["pid"])
            await asyncio.sleep(0.005)


def test_a_training_of_the_old_process_is_not_lost_when_a_new_client_comes(tmp_path: Path) -> None:
    old, new = Program(OLD_PYTHON), Program()
    shared, alone = tmp_path / "shared", tmp_path / "alone"

    async def undisturbed() -> None:
        async with open_proxy(old, alone) as client:
            await start(client, "long", "WAVE", **TRAINING)
            assert (await finish(client, "long"))["status"] == "completed"

    async def meet() -> tuple[dict[str, Any], list[int]]:
        owners = Owners(shared)
        async with open_proxy(old, shared) as client:
            await start(client, "done", "WAVE", **SHORT)
            await finish(client, "done")
            await start(client, "long", "WAVE", **TRAINING)
            await until(client, "long", "training", epoch=1)
            watching = asyncio.create_task(owners.watch())
            async with open_proxy(new, shared) as other:
                assert (await call(other, "get_training_status", task_id="done"))["progress"] == 100
                await start(other, "from-new", "WAVE", **SHORT)
                status = await finish(other, "long")
                assert (await finish(other, "from-new"))["status"] == "completed"
                listed = await call(other, "list_training_tasks")
                assert {each["task_id"] for each in listed["tasks"]} == {"done", "long", "from-new"}
                # the old client goes on to be answered, by whoever owns the workspace now
                again = await call(client, "get_training_status", task_id="long")
                assert again["status"] == "completed", again
        assert not watching.done(), watching.exception()
        watching.cancel()
        return status, owners.seen

    for workspace in (shared, alone):
        make_files(workspace)
    with owned_for_a_while(shared), owned_for_a_while(alone):
        asyncio.run(undisturbed())
        status, seen = asyncio.run(meet())
    assert status["status"] == "completed"
    assert 1 <= len(seen) <= 2, "the old process goes on, or the new one takes over from it once"
    assert weights(shared, "long") == weights(alone, "long")
