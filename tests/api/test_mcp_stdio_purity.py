"""Standard output carries the protocol and nothing else."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.support import programs

CLIENT = {"name": "test", "version": "1"}
HANDSHAKE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def message(method: str, params: dict[str, Any], identifier: int | None = None) -> str:
    """One line of JSON-RPC."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if identifier is not None:
        body["id"] = identifier
    return json.dumps(body) + "\n"


def conversation(*messages: str) -> tuple[dict[int, Any], str]:
    """The answers by id, after a check of every line, and standard error."""
    with subprocess.Popen(
        programs.command("noisy_stdio_server"),
        cwd=programs.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stderr is not None
        answers: dict[int, Any] = {}
        for line in messages:
            server.stdin.write(line)
            server.stdin.flush()
            if (identifier := json.loads(line).get("id")) is not None:
                answer = json.loads(server.stdout.readline())
                assert answer["jsonrpc"] == "2.0"
                assert answer["id"] == identifier
                answers[identifier] = answer["result"]
        server.stdin.close()
        assert server.stdout.read() == ""
        log = server.stderr.read()
        assert server.wait(timeout=60) == 0
    return answers, log


def calls(envelope: dict[str, Any]) -> list[str]:
    """Calls of a noisy, a crashing and a misused tool."""
    names = ["list_training_tasks", "list_trained_models", "get_training_status"]
    return [
        message("tools/call", {"name": name, "arguments": {}, **envelope}, identifier)
        for identifier, name in enumerate(names, start=2)
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [
            message("initialize", HANDSHAKE, 1),
            message("notifications/initialized", {}),
            *calls({}),
        ],
        [message("server/discover", {"_meta": ENVELOPE}, 1), *calls({"_meta": ENVELOPE})],
    ],
    ids=["2025-11-25", "2026-07-28"],
)
def test_noise_and_crashes_go_to_standard_error(messages: list[str]) -> None:
    answers, log = conversation(*messages)
    assert "start_training" in answers[1]["instructions"]
    assert answers[2]["isError"] is False
    assert answers[3]["structuredContent"]["error"]["code"] == "internal_error"
    assert answers[4]["structuredContent"]["error"]["field"] == "task_id"
    assert "WARNING some.library: noise in the log" in log
    assert "RuntimeError: a defect below" in log
