"""A fake laboratory, and clients of both protocol eras connected to it."""

from __future__ import annotations

import pytest
from mcp.client import Client

from ktrdr_mcp.api.mcp.tools import Server, build_server
from tests.support.fake_service import FakeLab
from tests.support.mcp_clients import MODES, Connect


@pytest.fixture(scope="session")
def lab_and_server() -> tuple[FakeLab, Server]:
    """Built once: the schemas of ten tools take a moment."""
    lab = FakeLab()
    return lab, build_server(lab)


@pytest.fixture
def lab(lab_and_server: tuple[FakeLab, Server]) -> FakeLab:
    """A laboratory that answers everything."""
    lab_and_server[0].reset()
    return lab_and_server[0]


@pytest.fixture(params=sorted(MODES))
def connect(
    request: pytest.FixtureRequest, lab: FakeLab, lab_and_server: tuple[FakeLab, Server]
) -> Connect:
    """Makes a client of one protocol era for the server over the laboratory."""
    return lambda: Client(lab_and_server[1], mode=MODES[request.param])
