"""A workspace that somebody else prepared runs nothing and writes nowhere else."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp import daemon, files
from ktrdr_mcp.daemon import connection, log
from ktrdr_mcp.daemon.launch import launch
from ktrdr_mcp.errors import StorageError, WorkspaceNotTrusted
from ktrdr_mcp.ownership import address, trust
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.ownership.lock import is_owned, ownership
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support.background_servers import IDLE
from tests.support.stdio_process import RawServer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such links for everybody")

FOREVER = {"epochs": 100_000, "early_stopping": None, "walk_forward": None}
START = {"symbol": "AAPL", "timeframe": "1h", "config": FOREVER}
ALL_TASKS = parse(requests.ListTasks, {})
SHELL = "# the start file of a shell\n"
PRIVATE = ["lab.log", "lab.log.1", "lab.lock", "lab.json", "lab-refusal.json", "owner.json"]
DATABASE = ["ktrdr.db", "ktrdr.db-wal", "ktrdr.db-shm", "workspace.json", "ktrdr.db.bak-start"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "workspace" / ".ktrdr").mkdir(parents=True, mode=0o700)
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """A file that a link in a workspace might lead to."""
    path = tmp_path / ".bashrc"
    path.write_text(SHELL, encoding="utf-8")
    return path


def command(workspace: Workspace, *line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command line to its end."""
    program = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace.root), *line]
    environment = {**os.environ, **IDLE, **variables}
    return subprocess.run(
        program, capture_output=True, text=True, timeout=90, check=False, env=environment
    )


def link(path: Path, target: Path, kind: str) -> None:
    """Makes a name lead to a file."""
    if kind == "symbolic":
        path.symlink_to(target)
    else:
        path.hardlink_to(target)


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
@pytest.mark.parametrize("name", [*PRIVATE, *DATABASE])
def test_nothing_in_the_programs_own_folder_leads_elsewhere(workspace, shell, name, kind) -> None:
    link(workspace.internal / name, shell, kind)
    with pytest.raises(StorageError) as told, ownership(workspace):
        pass
    assert name in told.value.message
    with pytest.raises(StorageError):
        launch(workspace)
    ended = command(workspace, "train", "AAPL", "1h", "--epochs", "1", "--json")
    assert ended.returncode == 4, ended
    assert json.loads(ended.stdout)["error"]["code"] == "storage_error"
    assert shell.read_text(encoding="utf-8") == SHELL
    assert log.log_lines(workspace, 10) == []


def test_a_folder_of_the_program_that_is_a_link_is_not_entered(workspace, tmp_path) -> None:
    elsewhere = tmp_path / "elsewhere"
    workspace.internal.rename(elsewhere)
    workspace.internal.symlink_to(elsewhere)
    for owning in (ownership(workspace), ownership(workspace)):
        with pytest.raises(StorageError, match="is a link"), owning:
            pass
    with pytest.raises(StorageError, match="is a link"):
        launch(workspace)
    assert list(elsewhere.iterdir()) == []


def test_a_pipe_in_place_of_a_file_holds_nobody_up(workspace) -> None:
    os.mkfifo(workspace.internal / "lab.json")
    os.mkfifo(log.log_file(workspace))
    assert address.read(workspace) is None
    assert log.log_lines(workspace, 1) == []
    with pytest.raises(StorageError, match="no regular file"):
        launch(workspace)


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give files away")
def test_files_of_another_user_are_not_used_unless_the_workspace_is_vouched_for(
    workspace, monkeypatch
) -> None:
    path = address.file_of(workspace)
    place = DaemonAddress("http://127.0.0.1:1", "token")
    address.write(workspace, place)
    os.chown(path, 12345, 12345)
    assert address.read(workspace) is None
    with pytest.raises(StorageError, match="another user"), ownership(workspace):
        pass
    monkeypatch.setenv(files.TRUST_VARIABLE, "1")
    assert address.read(workspace) == place


def test_a_folder_that_others_can_change_is_not_used_until_it_is_adopted(workspace) -> None:
    workspace.internal.chmod(0o770)
    with pytest.raises(StorageError, match="other users"), ownership(workspace):
        pass
    trust.adopt(workspace)
    assert workspace.internal.stat().st_mode & 0o777 == 0o700
    with ownership(workspace):
        pass


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a waiting task and an address, as another user would commit it."""
    folder = tmp_path_factory.mktemp("theirs") / "workspace"
    mine, home = os.environ["KTRDR_DATA_HOME"], tmp_path_factory.mktemp("their-user")

    async def queue() -> None:
        async with daemon.open_workspace(Workspace(folder)) as opened:
            for number in range(3):
                start = {**START, "task_id": f"theirs-{number}"}
                await opened.service.start_training(parse(requests.StartTraining, start))

    os.environ["KTRDR_DATA_HOME"] = str(home)
    try:
        asyncio.run(queue())
    finally:
        os.environ["KTRDR_DATA_HOME"] = mine
    return folder


@pytest.fixture
def cloned(theirs: Path, tmp_path: Path) -> Workspace:
    """A copy of it, with the modes that a version control system gives."""
    folder = Path(shutil.copytree(theirs, tmp_path / "cloned"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Workspace(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")
            if path.is_file()}  # fmt: skip


@pytest.mark.parametrize("in_process", [True, False])
def test_a_cloned_workspace_is_listed_and_read_and_starts_nothing(cloned, in_process) -> None:
    async def look() -> Any:
        async with daemon.connect(cloned, in_process=in_process) as service:
            listed = await service.list_training_tasks(ALL_TASKS)
            assert (await service.list_trained_models(parse(requests.ListModels, {}))).models == []
            calls = (
                service.start_training(parse(requests.StartTraining, START)),
                service.cancel_training(parse(requests.TaskOnly, {"task_id": "theirs-0"})),
                service.save_trained_model(
                    parse(requests.SaveModel, {"task_id": "theirs-0", "model_name": "m"})
                ),
                service.reproduce_training(
                    parse(requests.ReproduceTraining, {"task_id": "theirs-0"})
                ),
            )
            for call in calls:
                with pytest.raises(WorkspaceNotTrusted, match="only read") as told:
                    await call
                assert "doctor --adopt" in told.value.hint
                assert "--trust-workspace" in told.value.hint
            return listed

    before = contents(cloned.root)
    listed = asyncio.run(look())
    assert {task.task_id for task in listed.tasks} == {f"theirs-{number}" for number in range(3)}
    assert contents(cloned.root) == before
    assert not is_owned(cloned)
    with pytest.raises(WorkspaceNotTrusted), ownership(cloned):
        pass
    with pytest.raises(WorkspaceNotTrusted):
        asyncio.run(connection.find_or_launch(cloned))


@pytest.mark.asyncio
async def test_an_agent_hears_why_a_cloned_workspace_is_only_read_and_why_it_cannot_be(
    cloned,
) -> None:
    for code in ("workspace_not_trusted", "database_error"):
        server = await RawServer.start(cloned.root)
        told = await server.call("start_training", **START)
        assert told["error"]["code"] == code, told
        listed = await server.call("list_training_tasks")
        assert ("error" in listed) == (code == "database_error")
        await server.close()
        cloned.database.write_bytes(b"no database at all" * 100)


def test_a_cloned_workspace_trains_once_it_is_adopted(cloned) -> None:
    refused = command(cloned, "train", "AAPL", "1h", "--epochs", "1", "--json")
    assert refused.returncode == 4, refused
    assert json.loads(refused.stdout)["error"]["code"] == "workspace_not_trusted"
    doctor = command(cloned, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
    assert checks["marker"]["state"] == "wrong"
    assert "--adopt" in checks["marker"]["remedy"]
    adopted = command(cloned, "doctor", "--adopt", "--json")
    checks = {check["name"]: check for check in json.loads(adopted.stdout)["checks"]}
    assert checks["marker"]["state"] == "ok"
    assert trust.is_trusted(cloned)
    with ownership(cloned):
        pass


@pytest.mark.parametrize("vouched", [("--trust-workspace",), ()])
def test_whoever_vouches_for_a_workspace_works_in_it(cloned, vouched) -> None:
    variables = {} if vouched else {files.TRUST_VARIABLE: "1"}
    ended = command(cloned, *vouched, "--in-process", "cancel", "theirs-0", "--json", **variables)
    assert json.loads(ended.stdout)["success"], ended
    assert not trust.is_trusted(cloned)


def test_a_link_deep_in_a_cloned_workspace_keeps_it_from_being_adopted(cloned, shell) -> None:
    folder = cloned.task_directory("theirs-0") / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "last").symlink_to(shell)
    with pytest.raises(StorageError, match="is a link"):
        trust.adopt(cloned)
    assert not trust.is_trusted(cloned)


def test_the_address_in_a_cloned_workspace_is_not_used_even_if_its_lock_is_held(cloned) -> None:
    import fcntl

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        place = DaemonAddress(f"http://127.0.0.1:{listener.getsockname()[1]}", "t", kind="serve")
        address.write(cloned, place)
        with (cloned.internal / "lab.lock").open("rb") as lock:
            # as any other user of the machine can, of a file that everybody may read
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(WorkspaceNotTrusted):
                asyncio.run(connection.find_usable(cloned))
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_copy_of_ones_own_workspace_is_trusted_and_a_new_one_is_marked(
    workspace, tmp_path, monkeypatch
) -> None:
    assert not trust.is_trusted(workspace)
    with ownership(workspace):
        assert trust.is_trusted(workspace)
    copy = Workspace(Path(shutil.copytree(workspace.root, tmp_path / "copy")))
    copy.internal.chmod(0o700)
    copy.database.touch()
    assert trust.is_trusted(copy)
    monkeypatch.setenv("KTRDR_DATA_HOME", str(tmp_path / "another-user"))
    assert not trust.is_trusted(workspace)
    assert trust.is_foreign(copy)


def test_the_workspace_in_the_users_own_folder_needs_no_adoption(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KTRDR_DATA_HOME", str(tmp_path))
    workspace = Workspace(tmp_path)
    workspace.internal.mkdir(mode=0o700)
    workspace.database.touch()
    assert not trust.is_foreign(workspace)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"key": 5}', b'{"key": "../../x"}', b"\xff"])
def test_a_marker_that_says_nothing_is_none(workspace, content) -> None:
    trust.marker_file(workspace).write_bytes(content)
    assert not trust.is_trusted(workspace)
