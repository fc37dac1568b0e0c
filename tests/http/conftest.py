"""A fake server behind the HTTP API, and a real one in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio

from ktrdr_mcp.api.http.app import HttpApi, build_api
from ktrdr_mcp.api.http.guard import Rules
from ktrdr_mcp.api.mcp.server import build_server
from tests.support.asgi_requests import TOKEN, ask
from tests.support.fake_service import FakeService
from tests.support.http_process import ServeProcess


@pytest.fixture(scope="session")
def built() -> tuple[FakeService, HttpApi]:
    """Built once: the schemas take a moment."""
    service = FakeService()
    mcp = build_server(service).streamable_http_app()
    return service, build_api(service, Rules(), mcp.routes)


@pytest.fixture
def service(built: tuple[FakeService, HttpApi]) -> FakeService:
    """A server that answers everything."""
    built[0].reset()
    return built[0]


@pytest.fixture
def api(service: FakeService, built: tuple[FakeService, HttpApi]) -> HttpApi:
    """The HTTP API over the server, without a token."""
    return built[1]


@pytest_asyncio.fixture
async def document(api: HttpApi) -> dict[str, Any]:
    """The OpenAPI document as a client gets it."""
    return dict(json.loads((await ask(api.guard, "GET", "/openapi.json")).body))


@pytest.fixture(scope="session")
def guarded() -> HttpApi:
    """The HTTP API with a token and a further host and origin."""
    service = FakeService()
    mcp = build_server(service).streamable_http_app()
    rules = Rules(TOKEN, frozenset({"backend", "lab:9000"}), frozenset({"https://lab.example"}))
    return build_api(service, rules, mcp.routes)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """`ktrdr-mcp serve` on a workspace of its own, for all tests that change no setting of it."""
    with ServeProcess(tmp_path_factory.mktemp("served")) as process:
        yield process
