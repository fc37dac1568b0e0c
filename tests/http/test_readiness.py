"""`/ready` says whether work would be taken, and why not."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from ktrdr_mcp import daemon, limits
from ktrdr_mcp.daemon.reading import read_workspace
from ktrdr_mcp.errors import Draining, NotReady, StorageError
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.requests import Empty

pytestmark = pytest.mark.asyncio


def client(place) -> httpx2.AsyncClient:
    head = {"Authorization": f"Bearer {place.token}"}
    return httpx2.AsyncClient(base_url=place.url, headers=head, trust_env=False)


async def test_a_server_is_ready_until_it_drains(tmp_path, monkeypatch) -> None:
    async with daemon.serve_workspace(Workspace(tmp_path)) as opened:
        async with client(opened.place) as http:
            reply = (await http.get("/api/v1/ready")).json()
            assert reply == {"success": True, "status": "ready", "running": 0, "waiting": 0}
            held, entered = asyncio.Event(), asyncio.Event()
            drain = opened.manager._drain

            async def drain_later() -> None:
                entered.set()
                await held.wait()
                await drain()

            monkeypatch.setattr(opened.manager, "_drain", drain_later)
            draining = asyncio.create_task(opened.drain())
            await entered.wait()
            try:
                answer = await http.get("/ready")
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
                assert (await http.get("/health")).status_code == 200
            finally:
                held.set()
                await draining
        with pytest.raises(Draining):
            await opened.service.ready(Empty())


async def test_a_database_that_cannot_be_read_is_the_reason(tmp_path, monkeypatch) -> None:
    async with daemon.serve_workspace(Workspace(tmp_path)) as opened:

        async def fail() -> int:
            raise StorageError("The database cannot be read.", hint="Look at the disk.")

        monkeypatch.setattr(opened.tasks, "pending", fail)
        async with client(opened.place) as http:
            answer = await http.get("/ready")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "not_ready")
    assert error["message"] == "The database cannot be read."
    assert answer.headers["retry-after"]


async def test_a_full_queue_is_not_ready(tmp_path, monkeypatch) -> None:
    async with daemon.serve_workspace(Workspace(tmp_path)) as opened:

        async def many() -> int:
            return limits.MAX_PENDING_TASKS

        monkeypatch.setattr(opened.tasks, "pending", many)
        with pytest.raises(NotReady, match=f"{limits.MAX_PENDING_TASKS:,}"):
            await opened.service.ready(Empty())


async def test_a_workspace_that_is_only_read_is_never_ready(tmp_path) -> None:
    async with daemon.serve_workspace(Workspace(tmp_path)):
        pass
    reason = StorageError("It cannot be written.", hint="Make it writable.")
    async with read_workspace(Workspace(tmp_path), reason) as service:
        with pytest.raises(NotReady, match="cannot be written"):
            await service.ready(Empty())
