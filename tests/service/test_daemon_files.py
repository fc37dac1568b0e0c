"""What a server and its starters tell each other in files, and what damaged files say."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ktrdr_mcp.api.http.presence import Activity
from ktrdr_mcp.daemon import launch, log, process, server, signals
from ktrdr_mcp.errors import LabUnavailable, StorageError, StorageFull
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.ownership.lock import lock_file, ownership
from ktrdr_mcp.paths import Workspace

PLACE = DaemonAddress("http://127.0.0.1:1", "token", kind="detached", instance="a")

DAMAGES: list[dict[str, Any]] = [
    {"url": "http://127.0.0.1:3q"},
    {"url": "http://127.0.0.1:99999"},
    {"url": "http://127.0.0.1:0"},
    {"url": "http://127.0.0.1:1\n"},
    {"url": "http://127.0.0.1:1/path"},
    {"url": "https://127.0.0.1:1"},
    {"url": "http://localhost:1"},
    {"url": "http://127.0.0.1.example.com:1"},
    {"url": "http://192.0.2.1:1"},
    {"url": "http://0.0.0.0:1"},
    {"url": "http://[2001:db8::1]:1"},
    {"secret": "a b"},
    {"url": 1},
    {"token": "\u20ac" * 10},
    {"token": "a\r\nb"},
    {"token": ""},
    {"token": 1},
    {"instance": "a b"},
    {"pid": 0},
    {"pid": True},
    {"pid": "1"},
    {"pid": 10**30},
    {"version": None},
    {"kind": "\x1b[31m"},
]


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.internal.mkdir(mode=0o700)
    return workspace


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_an_address_of_which_no_request_can_be_made_is_none(workspace, damage) -> None:
    address.write(workspace, PLACE)
    assert address.read(workspace) == PLACE
    document = json.loads(address.file_of(workspace).read_bytes())
    address.file_of(workspace).write_text(json.dumps(document | damage), encoding="utf-8")
    assert address.read(workspace) is None


def test_nesting_without_an_end_is_no_address_and_no_refusal(workspace) -> None:
    for file in (address.file_of(workspace), launch.file_of(workspace)):
        file.write_bytes(b"[" * address.MAX_BYTES)
    assert address.read(workspace) is None
    assert launch.read(workspace) is None


def test_an_address_as_older_versions_write_it_can_be_used(workspace) -> None:
    address.write(workspace, PLACE)
    document = json.loads(address.file_of(workspace).read_bytes())
    del document["instance"]
    address.file_of(workspace).write_text(json.dumps(document), encoding="utf-8")
    assert address.read(workspace).instance is None


@pytest.fixture
def exit_codes(monkeypatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(server, "end_process", codes.append)
    return codes


@pytest.mark.parametrize("kind", ["detached", "serve", "in_process"])
def test_a_running_server_puts_its_address_right(workspace, exit_codes, kind) -> None:
    place = replace(PLACE, kind=kind)
    with ownership(workspace) as held:
        address.write(workspace, DaemonAddress("http://127.0.0.1:2", "token"))
        server.check_ownership(workspace, held, place)
        assert address.read(workspace) == place
        address.file_of(workspace).write_bytes(b"{")
        server.check_ownership(workspace, held, place)
        assert address.read(workspace) == place
    assert exit_codes == []


@pytest.mark.parametrize("kind", ["serve", "in_process"])
def test_a_server_that_its_user_ends_puts_back_an_address_that_is_gone(
    workspace, exit_codes, kind
) -> None:
    place = replace(PLACE, kind=kind)
    with ownership(workspace) as held:
        server.check_ownership(workspace, held, place)
        assert address.read(workspace) == place
        address.remove(workspace)
        lock_file(workspace).unlink()  # another process may own the workspace by now
        server.check_ownership(workspace, held, place)
        assert not address.file_of(workspace).exists()
    assert exit_codes == []


@pytest.mark.parametrize("gone", [lock_file, address.file_of])
def test_a_detached_server_ends_without_its_lock_or_its_address(
    workspace, exit_codes, gone
) -> None:
    with ownership(workspace) as held:
        address.write(workspace, replace(PLACE, kind="detached"))
        server.check_ownership(workspace, held, replace(PLACE, kind="detached"))
        assert exit_codes == []
        gone(workspace).unlink()
        server.check_ownership(workspace, held, replace(PLACE, kind="detached"))
        assert exit_codes == [1]


def test_what_the_log_said_before_a_start_and_hints_are_no_reason(workspace) -> None:
    path = log.log_file(workspace)
    path.write_text("2026-01-01 00:00:00,0 ERROR a: An old error\nold\n", encoding="utf-8")
    logged = log.log_size(workspace)
    said = [
        "2026-01-01 00:00:01,0 INFO a: Begins",
        "2026-01-01 00:00:02,0 ERROR a: The reason",
        "Error: The reason again",
        "A hint.",
    ]
    for lines, complaint in ((said, said[1]), (said[:1], said[0]), ([], "nothing")):
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        told = launch.reason_of(workspace, 1, logged)
        assert isinstance(told, LabUnavailable)
        assert told.hint.endswith(f"It says: {complaint}")
        logged = log.log_size(workspace)
    path.write_text("ValueError: in a log begun anew\n", encoding="utf-8")
    assert "begun anew" in launch.reason_of(workspace, 1, logged).hint


def test_a_full_disk_and_a_read_only_folder_are_the_reason_where_none_was_left(
    workspace, monkeypatch
) -> None:
    assert launch.find_write_error(workspace) is None
    workspace.database.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: path != workspace.database)
    told = launch.reason_of(workspace, 1)
    assert type(told) is StorageError
    assert "ktrdr.db" in told.message
    monkeypatch.setattr(launch.shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    told = launch.reason_of(workspace, 1)
    assert type(told) is StorageFull
    assert "Free disk space" in told.hint


@pytest.mark.asyncio
async def test_a_signal_ends_a_start_at_once_and_not_what_has_begun(monkeypatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(signals, "end_process", codes.append)
    for signalled, has_begun, ends in ((True, False, [0]), (False, False, []), (True, True, [])):
        codes.clear()
        stopped = asyncio.get_running_loop().create_future()
        begun = signals.end_at_once(stopped)
        if has_begun:
            begun()
        if signalled:
            stopped.set_result(None)
        else:
            stopped.cancel()  # as at the end of a start that failed
        await asyncio.wait({stopped})
        assert codes == ends


@pytest.mark.asyncio
async def test_with_no_idle_time_a_server_waits_for_those_who_are_there(
    workspace, monkeypatch
) -> None:
    monkeypatch.setattr(process, "MIN_IDLE_S", 0.0)

    async def has_work() -> bool:
        return False

    activity = Activity(None)
    opened = SimpleNamespace(
        manager=SimpleNamespace(running=0), activity=activity, has_work=has_work
    )
    entered, leave = asyncio.Event(), asyncio.Event()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await leave.wait()

    activity.app = answer
    request = asyncio.create_task(activity({}, None, None))
    await entered.wait()
    waiting = asyncio.create_task(process.wait_until_idle(workspace, opened, 0.0))
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    assert not done
    leave.set()
    await request
    await asyncio.wait_for(waiting, 60)
