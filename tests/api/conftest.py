"""A fake server, and clients of both protocol eras connected to it."""

from __future__ import annotations

import pytest
from mcp.client import Client

from ktrdr_mcp.api.mcp.server import Server, build_server
from tests.support.fake_service import FakeService
from tests.support.mcp_clients import MODES, Connect


@pytest.fixture(scope="session")
def service_and_server() -> tuple[FakeService, Server]:
    """Built once: the schemas of ten tools take a moment."""
    service = FakeService()
    return service, build_server(service)


@pytest.fixture
def service(service_and_server: tuple[FakeService, Server]) -> FakeService:
    """A server that answers everything."""
    service_and_server[0].reset()
    return service_and_server[0]


@pytest.fixture(params=sorted(MODES))
def connect(
    request: pytest.FixtureRequest,
    service: FakeService,
    service_and_server: tuple[FakeService, Server],
) -> Connect:
    """Makes a client of one protocol era for the server over the server."""
    return lambda: Client(service_and_server[1], mode=MODES[request.param])
