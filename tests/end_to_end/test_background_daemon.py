"""The server in the background: found, started, shared, ended, and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from ktrdr_mcp import daemon
from ktrdr_mcp.api.client import ServiceClient
from ktrdr_mcp.daemon import connection, process
from ktrdr_mcp.errors import DatabaseError, InvalidRequest, KtrdrError, LabUnavailable
from ktrdr_mcp.ownership import address, trust
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.ownership.lock import is_owned, lock_file
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support.background_servers import IDLE, daemon_pid, wait_until
from tests.support.process_footprint import descriptors, is_alive
from tests.support.stdio_process import RawServer

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals"),
]

FOREVER = {"epochs": 100_000, "early_stopping": None, "walk_forward": None}
START = {"symbol": "AAPL", "timeframe": "1h", "config": FOREVER}
ALL_TASKS = parse(requests.ListTasks, {})


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name, value in IDLE.items():
        monkeypatch.setenv(name, value)
    return Workspace(tmp_path / "workspace")


def command(workspace: Workspace, *line: str) -> subprocess.CompletedProcess[str]:
    """Runs a command line to its end."""
    program = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace.root), *line]
    return subprocess.run(program, capture_output=True, text=True, timeout=90, check=False)


async def test_a_server_that_dies_is_named_and_started_again_at_the_next_call(
    workspace,
) -> None:
    server = await RawServer.start(workspace.root)
    task_id = await server.start_training()
    await server.until_it_trains(task_id)
    dead = daemon_pid(workspace.root)
    waiting = {"task_id": task_id, "wait_s": 50.0}
    number = await server.ask("tools/call", name="get_training_status", arguments=waiting)
    for _ in range(3):  # it is under way once two more calls have been answered
        await server.tool("list_training_tasks")
    os.kill(dead, signal.SIGKILL)
    told = (await server.answer(number))["structuredContent"]["error"]
    assert told["code"] == "lab_unavailable"
    assert "the next call starts it again" in told["hint"]
    await server.until_it_trains(task_id)
    assert daemon_pid(workspace.root) not in {dead, server.process.pid}
    await server.close()


async def test_a_signal_ends_the_server_and_keeps_the_task(workspace) -> None:
    async with daemon.connect(workspace) as service:
        started = await service.start_training(parse(requests.StartTraining, START))
        asked = parse(requests.GetTrainingStatus, {"task_id": started.task_id, "wait_s": 0.2})
        while (await service.get_training_status(asked)).current_epoch == 0:
            pass
        pid = daemon_pid(workspace.root)
        os.kill(pid, signal.SIGTERM)
        await asyncio.to_thread(wait_until, lambda: not is_alive(pid))
        assert not address.file_of(workspace).exists()
        again = await service.get_training_status(asked)
        assert again.status in {"pending", "training"}
        assert daemon_pid(workspace.root) != pid
    stopped = await asyncio.to_thread(command, workspace, "lab", "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert not is_owned(workspace)
    status = await asyncio.to_thread(command, workspace, "lab", "status")
    assert "No server is running." in status.stdout
    logs = await asyncio.to_thread(command, workspace, "lab", "logs", "--lines", "1")
    assert "everything is stored" in logs.stdout


async def test_it_asks_for_its_token_shares_no_descriptor_and_ends_without_its_lock(
    workspace,
) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    async with daemon.connect(workspace) as service:
        assert isinstance(service, ServiceClient)
        place = address.read(workspace)
        assert (place.kind, len(place.token) > 30) == ("detached", True)
        async with httpx2.AsyncClient(base_url=place.url, trust_env=False) as stranger:
            for path in ("/health", "/presence", "/docs", "/training"):
                assert (await stranger.get(path)).status_code == 401
            assert (await stranger.post("/lab/stop")).status_code == 401
        pipe = f"pipe:[{os.fstat(writing).st_ino}]"
        assert pipe in descriptors() or sys.platform != "linux"
        assert pipe not in descriptors(place.pid)
        assert os.getsid(place.pid) == place.pid
        lock_file(workspace).unlink()
        await asyncio.to_thread(wait_until, lambda: not is_alive(place.pid))
    os.close(reading)
    os.close(writing)


async def test_it_ends_when_idle_and_not_while_a_front_is_open(workspace, monkeypatch) -> None:
    monkeypatch.setenv("KTRDR_LAB_IDLE_S", "0")
    async with daemon.connect(workspace) as service:
        pid = daemon_pid(workspace.root)
        await asyncio.sleep(process.MIN_IDLE_S + 1.0)  # longer than it waits for anyone
        assert is_alive(pid)
        assert (await service.list_training_tasks(ALL_TASKS)).tasks == []
        assert daemon_pid(workspace.root) == pid
    await asyncio.to_thread(wait_until, lambda: not is_alive(pid))
    assert not is_owned(workspace)


async def test_a_proxy_that_would_have_worked_in_its_own_process_counts_and_is_not_left_alone(
    workspace, monkeypatch
) -> None:
    monkeypatch.setenv("KTRDR_LAB_IDLE_S", "0")
    async with daemon.connect(workspace) as starter:
        await starter.list_training_tasks(ALL_TASKS)
        proxy = daemon.connect(workspace, in_process=True)
        service = await proxy.__aenter__()
    pid = daemon_pid(workspace.root)
    await asyncio.sleep(process.MIN_IDLE_S + 1.0)  # longer than it waits for anyone
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: not is_alive(pid))
    assert (await service.list_training_tasks(ALL_TASKS)).tasks == []
    assert daemon_pid(workspace.root) not in {pid, os.getpid()}
    await proxy.__aexit__(None, None, None)
    await asyncio.to_thread(wait_until, lambda: not is_owned(workspace))


async def test_why_it_cannot_start_reaches_the_agent(workspace) -> None:
    workspace.internal.mkdir(parents=True, mode=0o700)
    newer = sqlite3.connect(workspace.database)
    newer.execute("PRAGMA user_version = 999")
    newer.close()
    trust.adopt(workspace)
    server = await RawServer.start(workspace.root)
    assert server.initialized["serverInfo"]["name"] == "ktrdr-mcp"
    told = (await server.call("list_training_tasks"))["error"]
    assert told["code"] == "database_error"
    assert told["hint"]
    await server.close()
    with pytest.raises(DatabaseError):
        await connection.find_or_launch(workspace)


async def test_a_workspace_that_cannot_be_written_is_named_at_the_first_call(tmp_path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    server = await RawServer.start(tmp_path / "file")
    assert (await server.call("list_training_tasks"))["error"]["code"] == "storage_error"
    await server.close()


async def test_serve_takes_over_and_commands_work_through_it(workspace) -> None:
    async with daemon.connect(workspace):
        pid = daemon_pid(workspace.root)
    options = ("--workspace", str(workspace.root), "serve", "--port", "0")
    serving = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ktrdr_mcp", *options, stderr=asyncio.subprocess.PIPE
    )
    try:
        await asyncio.to_thread(
            wait_until, lambda: (owner := address.read(workspace)) and owner.kind == "serve"
        )
        assert not is_alive(pid)
        async with daemon.connect(workspace) as service:
            assert (await service.list_training_tasks(ALL_TASKS)).tasks == []
        refused = await asyncio.to_thread(command, workspace, "lab", "stop", "--json")
        assert refused.returncode == 3
        assert f"process {serving.pid}" in refused.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            serving.terminate()
        _, errors = await serving.communicate()
    assert b"Takes over" in errors


async def test_only_a_newer_version_replaces_a_server(workspace, monkeypatch) -> None:
    async with daemon.connect(workspace):
        old = daemon_pid(workspace.root)
    monkeypatch.setattr(connection, "__version__", "0.0.9")  # an older proxy
    async with daemon.connect(workspace):
        assert daemon_pid(workspace.root) == old
    monkeypatch.setattr(connection, "__version__", "999.0")
    async with daemon.connect(workspace) as service:
        assert daemon_pid(workspace.root) != old
        assert (await service.list_training_tasks(ALL_TASKS)).tasks == []
    assert not is_alive(old)


FITNESS = [
    ("detached", "0.1.0", "1.0", "use"),
    ("detached", "0.0.9", "1.0", "replace"),
    ("detached", "0.0.9", "0.9", "replace"),
    ("serve", "0.0.9", "1.0", "use"),
    ("serve", "0.0.9", "0.9", "refuse"),
    ("detached", "0.10.0", "1.7", "use"),
    ("detached", "1.0", "2.0", "refuse"),
    ("detached", "unknown", "1.0", "replace"),
]


@pytest.mark.parametrize(("kind", "version", "contract", "fit"), FITNESS)
async def test_what_is_done_with_a_server_of_another_version(
    monkeypatch, kind, version, contract, fit
) -> None:
    monkeypatch.setattr(connection, "__version__", "0.1.0")
    place = DaemonAddress(
        "http://x", "t", version=version, contract_version=contract, kind=kind, secret="s"
    )
    assert connection.fitness(place) == fit
    # no client can be sure of an owner that proves nothing, but its user may have started it
    unproven = connection.fitness(replace(place, secret=None))
    assert unproven == ("replace" if kind == "detached" else fit)


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
async def test_an_idle_time_that_is_none_is_refused(text) -> None:
    with pytest.raises(InvalidRequest, match="KTRDR_LAB_IDLE_S"):
        process.idle_limit_s({"KTRDR_LAB_IDLE_S": text})


async def test_a_lab_that_cannot_be_launched_is_no_end_of_the_front(workspace, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", str(workspace.root / "no-python"))
    with pytest.raises(LabUnavailable, match="cannot be started"):
        await connection.find_or_launch(workspace)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(KtrdrError, match="exit code 1") as ended:
        await connection.find_or_launch(workspace)
    assert "lab logs" in ended.value.hint
