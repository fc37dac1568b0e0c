"""Cleaning removes what nobody saved, whole or not at all, and what it leaves stays of use."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from ktrdr_mcp import files as durable
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import DatabaseError, ModelCorrupted, ResultRemoved, StorageError
from ktrdr_mcp.ownership import trust
from ktrdr_mcp.ownership.lock import ownership
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service import cleaning, reconciliation
from ktrdr_mcp.service.reports import EXPLANATION
from ktrdr_mcp.service.training import REQUEST
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.explain import FOLDS
from tests.support.service_calls import SHORT, Bench, history_of

QUICK = {**SHORT, "walk_forward": None}
VERSION_1 = Path(__file__).parents[1] / "store" / "databases" / "version_1.sql"
ENDED_ELSEWHERE = 9  # what a killed run of KILLED exits with


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a saved task, an unsaved one and a cancelled one."""
    workspace = Workspace(tmp_path_factory.mktemp("stocked") / "workspace")

    async def fill() -> None:
        async with open_workspace(workspace) as opened:
            bench = Bench(opened.service, workspace)
            await bench.trained(task_id="saved", config={**QUICK, "seed": 1})
            await bench.save("saved", "kept")
            settings = {"seed": 2, "lr_scheduler": {"type": "exponential"}, "gradient_clip": 1.0}
            await bench.trained(
                task_id="unsaved",
                config={**QUICK, **settings, "labels": {"method": "forward_return"}},
                strategy="mean_reversion",
                start_date="2024-10-01",
            )
            forever = {**QUICK, "epochs": 100_000, "early_stopping": None}
            await bench.start(task_id="cancelled", config=forever)
            await bench.cancel("cancelled")
            await bench.finish("cancelled")

    anyio.run(fill)
    return workspace.root


@pytest.fixture
def workspace(stocked: Path, tmp_path: Path) -> Workspace:
    """A copy of it for one test."""
    return Workspace(shutil.copytree(stocked, tmp_path / "workspace", symlinks=True))


def change(workspace: Workspace, sql: str, *values: object) -> None:
    """Changes a finished task behind the program's back, which it refuses itself."""
    with closing(sqlite3.connect(workspace.database)) as connection, connection:
        connection.execute("DROP TRIGGER IF EXISTS terminal_is_final")
        connection.execute(sql, values)


def age(workspace: Workspace, task_id: str, ago: str) -> None:
    """Says that a task ended so long ago; SQLite counts the days."""
    change(
        workspace,
        "UPDATE training_tasks SET completed_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now', ?)"
        " WHERE task_id = ?",
        ago,
        task_id,
    )


def rows(workspace: Workspace) -> dict[str, list[Any]]:
    """Everything that the database holds, but for its count of commits."""
    with closing(sqlite3.connect(workspace.database)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'workspace'"
        )
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def cleaned(workspace: Workspace, days: int = 0) -> list[str]:
    """The ids of the tasks whose results are removed."""
    with ownership(workspace):
        return [one.task.task_id for one in cleaning.clean(workspace, days)]


@pytest.mark.parametrize(
    ("ago", "removed"), [("-31 days", ["unsaved"]), ("-30 days", ["unsaved"]), ("-29 days", [])]
)
def test_an_unsaved_result_is_kept_for_as_long_as_was_asked(
    workspace: Workspace, ago: str, removed: list[str]
) -> None:
    age(workspace, "unsaved", ago)
    assert cleaned(workspace, 30) == removed
    assert workspace.bundle_directory("unsaved").exists() is not bool(removed)


def test_rows_scores_saved_models_and_their_results_stay(workspace: Workspace) -> None:
    before = rows(workspace), files(workspace.models), files(workspace.bundle_directory("saved"))
    assert cleaned(workspace) == ["unsaved"]
    after = rows(workspace), files(workspace.models), files(workspace.bundle_directory("saved"))
    assert after == before
    left = [path.name for path in (workspace.internal / "tasks").iterdir()]
    assert left == ["saved"]
    assert {each.state for each in reconciliation.verify(workspace)} == {"note", "ok"}


def test_the_bytes_freed_are_those_that_the_disk_has_more(workspace: Workspace) -> None:
    def bytes_of_results() -> int:
        found = files(workspace.internal / "tasks").items()
        return sum(len(data) for name, data in found if not name.endswith(REQUEST))

    before = bytes_of_results()
    with ownership(workspace):
        removed = cleaning.clean(workspace, 0)
    assert sum(one.size_bytes for one in removed) == before - bytes_of_results() > 0


def test_networks_of_folds_and_the_explanation_go_with_the_result_and_stay_with_a_saved_one(
    workspace: Workspace,
) -> None:
    for task_id in ("saved", "unsaved"):
        for name in (FOLDS, EXPLANATION):
            (workspace.task_directory(task_id) / name).write_bytes(b"x" * 1_000)
    size = cleaning.bytes_in(workspace.bundle_directory("unsaved")) + 2_000
    assert [one.size_bytes for one in cleaning.removable(workspace, 0)] == [size]
    assert cleaned(workspace) == ["unsaved"]
    assert not workspace.task_directory("unsaved").exists()
    saved = {path.name for path in workspace.task_directory("saved").iterdir()}
    assert saved >= {FOLDS, EXPLANATION}


def test_looking_changes_nothing_and_tells_what_cleaning_does(workspace: Workspace) -> None:
    before = files(workspace.internal / "tasks"), rows(workspace)
    found = cleaning.removable(workspace, 0)
    assert (files(workspace.internal / "tasks"), rows(workspace)) == before
    with ownership(workspace):
        assert cleaning.clean(workspace, 0) == found
        assert cleaning.clean(workspace, 0) == []


def test_what_a_cancelled_task_left_is_removed_and_a_running_ones_is_not(
    workspace: Workspace,
) -> None:
    result = workspace.bundle_directory("unsaved")
    shutil.copytree(result, workspace.bundle_directory("cancelled"))
    change(
        workspace,
        "UPDATE training_tasks SET status = 'training', completed_at = NULL"
        " WHERE task_id = 'unsaved'",
    )
    assert cleaned(workspace) == ["cancelled"]
    assert bundle.read(result)


def test_a_result_that_a_waiting_reproduction_is_compared_with_stays(workspace: Workspace) -> None:
    change(
        workspace,
        "UPDATE training_tasks SET status = 'pending', completed_at = NULL, group_id = 'unsaved'"
        " WHERE task_id = 'cancelled'",
    )
    assert cleaned(workspace) == []


def test_what_is_no_result_of_a_task_is_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    stranger = workspace.internal / "tasks" / "stranger" / "bundle"
    shutil.copytree(workspace.bundle_directory("unsaved"), stranger)
    elsewhere = workspace.bundle_directory("unsaved").rename(tmp_path / "elsewhere")
    workspace.bundle_directory("unsaved").symlink_to(elsewhere, target_is_directory=True)
    assert cleaned(workspace) == []
    assert bundle.read(stranger)
    assert bundle.read(elsewhere)


@pytest.mark.parametrize("task_id", ["unsaved", "cancelled"])
def test_what_was_set_aside_from_a_results_place_is_counted_and_removed_with_it(
    workspace: Workspace, task_id: str
) -> None:
    sizes = {one.task.task_id: one.size_bytes for one in cleaning.removable(workspace, 0)}
    for number in (1, 2):
        aside = workspace.task_directory(task_id) / f"bundle.earlier-{number}"
        shutil.copytree(workspace.bundle_directory("saved"), aside)
        sizes[task_id] = sizes.get(task_id, 0) + cleaning.bytes_in(aside)
    kept = shutil.copytree(aside, workspace.task_directory("saved") / "bundle.earlier-1")
    found = cleaning.removable(workspace, 0)
    assert {one.task.task_id: one.size_bytes for one in found} == sizes
    with ownership(workspace):
        assert cleaning.clean(workspace, 0) == found
    assert not workspace.task_directory(task_id).exists()
    assert bundle.read(kept)


KILLED = f"""
import os, sys
from pathlib import Path
from ktrdr_mcp.service import cleaning
from ktrdr_mcp.ownership.lock import ownership
from ktrdr_mcp.paths import Workspace
last, steps = int(sys.argv[2]), 0
def count(event, arguments):
    global steps
    began = steps or (event == "os.rename" and str(arguments[0]).endswith("bundle"))
    steps += bool(began and event in ("os.rename", "os.remove", "os.rmdir"))
    if steps == last:
        os._exit({ENDED_ELSEWHERE})
sys.addaudithook(count)
workspace = Workspace(Path(sys.argv[1]))
with ownership(workspace):
    cleaning.clean(workspace, 0)
os._exit(0)  # before the lock's file is looked at again
"""


def kills(stocked: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace for every step at which a process that cleans can die, after its death."""
    for step in count(1):
        root = shutil.copytree(stocked, tmp_path / str(step), symlinks=True)
        command = [sys.executable, "-c", KILLED, str(root), str(step)]
        code = subprocess.run(command, timeout=60, check=False).returncode
        if code == 0:
            return
        assert code == ENDED_ELSEWHERE
        yield Workspace(root)


def test_whenever_it_dies_a_result_is_whole_or_gone(stocked: Path, tmp_path: Path) -> None:
    whole = []
    for workspace in kills(stocked, tmp_path):
        directory = workspace.bundle_directory("unsaved")
        whole.append(directory.exists())
        if directory.exists():
            assert bundle.read(directory)
        else:
            for folder in reconciliation.staging_folders(workspace):
                durable.sweep(folder)
            assert files(directory.parent).keys() <= {REQUEST}, "what the next cleaning removes"
        assert cleaned(workspace) == ["unsaved"] * whole[-1]
    assert whole[0]
    assert not any(whole[1:])
    assert len(whole) >= 5  # a name and three files, at least


def test_a_result_that_cannot_be_removed_is_told_and_stays_whole(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(workspace.bundle_directory("unsaved"), workspace.bundle_directory("cancelled"))
    real_rename = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if "unsaved" in path.parts:
            raise PermissionError(13, "Permission denied")
        return real_rename(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StorageError, match=r"^1 of 2 results .*denied"):
        cleaned(workspace)
    assert bundle.read(workspace.bundle_directory("unsaved"))
    assert not workspace.bundle_directory("cancelled").exists()


def test_nothing_is_removed_on_the_word_of_a_database_that_was_lost(workspace: Workspace) -> None:
    workspace.database.unlink()
    with pytest.raises(DatabaseError, match="missing"):
        cleaned(workspace)
    with pytest.raises(DatabaseError, match="missing"):
        cleaning.removable(workspace, 0)
    assert bundle.read(workspace.bundle_directory("unsaved"))


def test_an_older_database_is_brought_up_to_date_or_left_as_it_is(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    durable.make_folder(workspace.internal)
    with closing(sqlite3.connect(workspace.database)) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    trust.adopt(workspace)
    before = rows(workspace)
    with pytest.raises(DatabaseError, match="version 1"):
        cleaning.removable(workspace, 0)
    assert rows(workspace) == before
    assert cleaned(workspace) == []
    assert cleaning.removable(workspace, 0) == []


async def told(bench: Bench) -> dict[str, Any]:
    """What replies say of the task without its files."""
    both = parse(requests.CompareTrainings, {"task_ids": ["saved", "unsaved"]})
    listed = await bench.service.list_training_tasks(parse(requests.ListTasks, {}))
    performance = await bench.performance("unsaved")
    return {
        "status": await bench.status("unsaved"),
        "list": listed,
        "performance": performance.model_dump(exclude={"test_readings"}),
        "compare": await bench.service.compare_trainings(both),
    }


@pytest.mark.asyncio
async def test_a_task_without_its_result_tells_all_that_its_row_knows(workspace: Workspace) -> None:
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        before, story = await told(bench), await history_of(bench.service, "unsaved")
    assert cleaned(workspace) == ["unsaved"]
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        assert await told(bench) == before
        shorter = await history_of(bench.service, "unsaved")
    assert (len(story.pop("epochs")), shorter.pop("epochs")) == (3, [])
    story.pop("test_readings")
    shorter.pop("test_readings")
    assert shorter == story


@pytest.mark.asyncio
async def test_what_needs_a_removed_result_says_how_to_have_it_again(workspace: Workspace) -> None:
    weights = files(workspace.bundle_directory("unsaved"))["weights.safetensors"]
    cleaned(workspace)
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        tasks = rows(workspace)["training_tasks"]
        with pytest.raises(ResultRemoved, match="removed"):
            await bench.service.reproduce_training(
                parse(requests.ReproduceTraining, {"task_id": "unsaved"})
            )
        with pytest.raises(ResultRemoved) as refused:
            await bench.save("unsaved", "kept")  # even under a name of another strategy
        assert rows(workspace)["training_tasks"] == tasks

        hint = refused.value.hint
        request, _ = json.JSONDecoder().raw_decode(hint, hint.index("{"))
        started = await bench.service.start_training(parse(requests.StartTraining, request))
        await bench.finish(started.task_id)
        again = files(workspace.bundle_directory(started.task_id))
        assert again["weights.safetensors"] == weights
        assert (await bench.save(started.task_id, "again")).created


@pytest.mark.asyncio
async def test_a_result_that_is_there_and_damaged_is_not_said_to_be_removed(
    workspace: Workspace,
) -> None:
    for path in workspace.bundle_directory("unsaved").iterdir():
        path.unlink()
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        with pytest.raises(ModelCorrupted, match=r"bundle\.json"):
            await bench.save("unsaved", "model")
        with pytest.raises(ModelCorrupted, match=r"bundle\.json"):
            await history_of(bench.service, "unsaved")


@pytest.mark.asyncio
async def test_a_saved_model_outlives_the_result_that_it_was_made_of(workspace: Workspace) -> None:
    shutil.rmtree(workspace.bundle_directory("saved"))
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        assert (await bench.predict("kept")).version == 1
        assert not (await bench.save("saved", "kept")).created


@pytest.mark.asyncio
async def test_a_removed_reproduction_is_trained_again(workspace: Workspace) -> None:
    asked = parse(requests.ReproduceTraining, {"task_id": "saved"})
    async with open_workspace(workspace) as opened:
        first = await opened.service.reproduce_training(asked)
    assert first.reproduction_task_id in cleaned(workspace)
    async with open_workspace(workspace) as opened:
        second = await opened.service.reproduce_training(asked)
    assert second.reproduction_task_id != first.reproduction_task_id
    assert (first.result, second.result) == ("match", "match")
