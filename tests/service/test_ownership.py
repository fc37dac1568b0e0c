"""Who owns a workspace, what a start leaves behind, and what start and stop cost."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

import pytest

from ktrdr_mcp import daemon
from ktrdr_mcp.api.client import ServiceClient
from ktrdr_mcp.daemon import launch, log
from ktrdr_mcp.errors import DatabaseError, LabUnavailable, StorageError, WorkspaceLocked
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.ownership.lock import is_owned, lock_file, ownership
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support.background_servers import wait_until
from tests.support.process_footprint import descriptors

CYCLES = int(os.environ.get("KTRDR_CYCLES", "5"))
ALL_TASKS = parse(requests.ListTasks, {})


def test_one_owns_at_a_time_and_whoever_looks_does_not_disturb(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    assert not is_owned(workspace)
    with ownership(workspace) as held:
        assert is_owned(workspace)
        assert held.lasts()
        with pytest.raises(WorkspaceLocked), ownership(workspace):
            pass
    assert not is_owned(workspace)
    with ownership(workspace):
        pass


def test_a_lock_file_that_was_removed_or_replaced_is_noticed(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    with ownership(workspace) as held:
        kept = lock_file(workspace).rename(tmp_path / "elsewhere")
        assert not held.lasts()
        lock_file(workspace).touch()
        assert not held.lasts()
        kept.replace(lock_file(workspace))
        assert held.lasts()


def test_what_a_newer_version_adds_to_its_address_is_no_obstacle(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    place = DaemonAddress("http://127.0.0.1:1", "token", kind="detached")
    address.write(workspace, place)
    text = address.file_of(workspace).read_text(encoding="utf-8")
    address.file_of(workspace).write_text(text.replace("{", '{"new": 1,', 1), encoding="utf-8")
    assert address.read(workspace) == place


def test_a_refusal_is_told_as_the_same_error_once(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    assert launch.read(workspace) is None
    error = DatabaseError("It is newer.", hint="Upgrade.", field=None)
    launch.write(workspace, error)
    told = launch.reason_of(workspace, 4)
    assert type(told) is DatabaseError
    assert told.to_dict() == error.to_dict()
    assert launch.reason_of(workspace, launch.LOCKED) is None
    launch.remove(workspace)
    told = launch.reason_of(workspace, -11)
    assert isinstance(told, LabUnavailable)
    assert "exit code -11" in told.message
    assert "It says: nothing" in told.hint


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"code": 5}', b"\xff"])
def test_a_refusal_that_cannot_be_read_is_none(tmp_path, content) -> None:
    workspace = Workspace(tmp_path)
    workspace.internal.mkdir()
    launch.file_of(workspace).write_bytes(content)
    assert launch.read(workspace) is None


BOUNDED = """
import sys
from pathlib import Path
from ktrdr_mcp.daemon.log import BoundedLog
from ktrdr_mcp.paths import Workspace
workspace = Workspace(Path(sys.argv[1]))
BoundedLog(workspace).bound()
sys.stderr.write("after\\n")
sys.stdout.write("too\\n")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows does not rename open files")
def test_a_log_that_has_grown_large_is_begun_anew_and_one_is_kept(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    workspace.internal.mkdir()
    path = log.log_file(workspace)
    assert log.log_lines(workspace, 3) == []
    path.write_bytes(b"before\n" * 200_000)
    with path.open("ab") as output:
        line = [sys.executable, "-c", BOUNDED, str(tmp_path)]
        subprocess.run(line, stdout=output, stderr=output, check=True)
    assert sorted(path.read_text(encoding="utf-8").splitlines()) == ["after", "too"]
    assert path.with_name("lab.log.1").stat().st_size == len(b"before\n" * 200_000)
    assert sorted(log.log_lines(workspace, 4)) == ["after", "before", "before", "too"]


def test_as_many_lines_of_the_log_are_shown_as_were_asked_for_and_exist(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    workspace.internal.mkdir()
    path = log.log_file(workspace)
    older = [f"older {number} {'x' * 90}" for number in range(5_000)]  # 0.5 MB
    newer = [f"newer {number} {'x' * 90}" for number in range(5_000)]
    path.write_text("".join(f"{line}\n" for line in newer), encoding="utf-8")
    assert log.log_lines(workspace, 10_000) == newer
    path.with_name("lab.log.1").write_text("\n".join(older), encoding="utf-8")
    for count in (1, 4_999, 5_000, 5_001, 9_999, 10_000):
        assert log.log_lines(workspace, count) == [*older, *newer][-count:]
    assert log.log_lines(workspace, 10_001) == [*older, *newer]
    path.write_bytes(b"no \xff text\n\nunfinished")
    assert log.log_lines(workspace, 3) == ["no \ufffd text", "", "unfinished"]
    assert log.log_lines(workspace, 4)[0] == older[-1]
    path.unlink()
    assert log.log_lines(workspace, 2) == older[-2:]


def new_threads(known: set[threading.Thread]) -> list[str]:
    """The threads since then, but those that the event loop keeps for its next work."""
    return [
        each.name
        for each in threading.enumerate()
        if each not in known and not each.name.startswith(("AnyIO", "asyncio_"))
    ]


@pytest.mark.asyncio
async def test_starting_and_stopping_leaves_no_descriptor_and_no_thread(tmp_path, caplog) -> None:
    caplog.set_level(logging.ERROR)
    workspace = Workspace(tmp_path)
    known, before = set(threading.enumerate()), 0
    for _ in range(CYCLES + 1):
        async with (
            daemon.serve_workspace(workspace) as opened,
            ServiceClient(lambda: address.read(workspace)) as remote,
        ):
            assert await remote.list_training_tasks(ALL_TASKS)
            assert not await opened.has_work()
        # a connection's thread says that it has closed just before it ends
        wait_until(lambda: not new_threads(known))
        before = before or len(descriptors())  # the first start keeps what it imported
        assert len(descriptors()) == before
    assert not is_owned(workspace)
    assert caplog.records == []


def test_a_workspace_that_is_a_file_is_a_storage_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    workspace = Workspace(tmp_path / "file")
    assert not is_owned(workspace)
    with pytest.raises(StorageError) as told:
        launch.launch(workspace)
    assert str(tmp_path) not in told.value.message
