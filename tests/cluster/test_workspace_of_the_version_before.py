"""A workspace in which the version before died in mid-training goes on on a cluster."""

from __future__ import annotations

import asyncio
import tarfile
from pathlib import Path

import pytest

from ktrdr_mcp.daemon import executors
from ktrdr_mcp.daemon.executors import SENT_TRAINING, Cluster, Place
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.paths import Workspace
from tests.conversation.before import ARCHIVE, INTERRUPTED, weights
from tests.conversation.program import Program
from tests.conversation.test_workspace_of_the_version_before import adopt
from tests.support.nothing_lost import tasks_of
from tests.support.trained_bits import end

pytestmark = pytest.mark.timeout(1_800)


def gone_on(folder: Path, place: Place) -> dict[str, str]:
    """The weights that its interrupted trainings end with."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="fully_trusted")
    adopt(Program(), folder)

    async def run() -> None:
        async with open_workspace(Workspace(folder), place) as opened:
            for task_id in INTERRUPTED:
                assert await end(opened, task_id) == "completed"

    asyncio.run(run())
    rows = tasks_of(folder)
    assert not any(rows[task_id]["resumed_from"].startswith("epoch 0") for task_id in INTERRUPTED)
    return weights(folder, *INTERRUPTED)


def test_it_ends_with_the_bits_that_it_has_in_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "SENT_TRAINING", SENT_TRAINING)
    on_a_cluster = gone_on(tmp_path / "cluster", Cluster("local"))
    assert on_a_cluster == gone_on(tmp_path / "processes", "processes")
