"""Over HTTP, a header must name the task of a tasks method: proxies route by it."""

from __future__ import annotations

import httpx2
import pytest
from mcp.types import HEADER_MISMATCH, INVALID_PARAMS

from tests.support.mcp_tasks import EXTENSION

HANDLE = "5f" * 16


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_a_tasks_method_is_refused_unless_the_header_names_its_task(served, method) -> None:
    envelope = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}},
    }
    parameters = {"taskId": HANDLE, "inputResponses": {}, "_meta": envelope}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    head = {
        "Accept": "application/json, text/event-stream",
        "Mcp-Method": method,
        "Mcp-Protocol-Version": "2026-07-28",
    }

    def code(**name: str) -> int:
        answer = httpx2.post(
            f"{served.url}/mcp", json=body, headers=head | name, trust_env=False, timeout=60
        )
        return int(answer.json()["error"]["code"])

    names = ({}, {"Mcp-Name": "0" * 32}, {"Mcp-Name": "training_of_somebody"})
    assert [code(**name) for name in names] == [HEADER_MISMATCH] * 3
    assert code(**{"Mcp-Name": HANDLE}) == INVALID_PARAMS  # as nobody was given this one
