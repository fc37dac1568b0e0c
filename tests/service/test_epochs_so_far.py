"""A task's history while it trains, and of one that came to no result."""

from __future__ import annotations

import pytest

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.limits import MAX_SHOWN_EPOCHS
from ktrdr_mcp.paths import Workspace
from tests.support.service_calls import SHORT, Bench, history_of

pytestmark = pytest.mark.asyncio

FOREVER = {**SHORT, "epochs": 100_000, "early_stopping": None, "walk_forward": None}


async def started(bench: Bench, epochs: int) -> str:
    """A task that trains and has come so far."""
    task_id = (await bench.start(config=FOREVER)).task_id
    while (await bench.status(task_id)).current_epoch < epochs:
        await bench.status(task_id, wait_s=0.2)
    return task_id


async def cancelled(bench: Bench, task_id: str) -> None:
    await bench.cancel(task_id)
    assert (await bench.status(task_id, wait_s=50)).status == "cancelled"


async def test_the_epochs_so_far_are_shown_and_kept_when_the_task_is_cancelled(bench) -> None:
    task_id = await started(bench, 5)
    live = (await history_of(bench.service, task_id))["epochs"]
    assert [each["epoch"] for each in live[:5]] == [1, 2, 3, 4, 5]
    await cancelled(bench, task_id)
    kept = (await history_of(bench.service, task_id))["epochs"]
    assert len(live) <= len(kept) <= MAX_SHOWN_EPOCHS or kept[1]["epoch"] > 2
    common = {each["epoch"]: each for each in kept}
    assert all(common[each["epoch"]] == each for each in live if each["epoch"] in common)
    assert kept[-1]["epoch"] == (await bench.status(task_id)).current_epoch


async def test_a_resumed_training_shows_the_epochs_of_its_earlier_runs(tmp_path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    async with open_workspace(workspace) as opened:
        task_id = await started(Bench(opened.service, workspace), 3)
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        status = await bench.status(task_id)
        while status.attempt < 2 or status.resumed_from is None:
            status = await bench.status(task_id, wait_s=0.2)
        assert status.resumed_from.startswith("epoch ")
        earlier = status.current_epoch
        while status.current_epoch == earlier:
            status = await bench.status(task_id, wait_s=0.2)
        shown = [each["epoch"] for each in (await history_of(bench.service, task_id))["epochs"]]
        assert shown[:3] == [1, 2, 3]
        assert shown == sorted(set(shown))
        await cancelled(bench, task_id)


async def test_what_is_no_list_of_epochs_is_shown_as_none(bench) -> None:
    task_id = await started(bench, 1)
    await cancelled(bench, task_id)
    path = bench.workspace.task_directory(task_id) / "epochs.json"
    for text in ("", "[]", '{"epochs": [{"epoch": "x"}]}', '{"epochs": 7}'):
        path.write_text(text, encoding="utf-8")
        assert (await history_of(bench.service, task_id))["epochs"] == []
