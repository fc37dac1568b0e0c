"""`serve --log-json`: one JSON object a line, with the task and the request that it is about."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.http_process import ServeProcess

TOKEN = "0123456789abcdef-the-first"
READER = "0123456789abcdef-the-second"
START = {"symbol": "AAPL", "timeframe": "1h", "task_id": "logged", "config": {"epochs": 1}}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a server wrote from its start to its end, with some requests between."""
    folder = tmp_path_factory.mktemp("logged")
    options = ["--executor", "threads", "--log-json"]
    for option, token in (("--token-file", TOKEN), ("--read-token-file", READER)):
        path = Path(folder / option.strip("-"))
        path.write_text(token, encoding="ascii")
        options += [option, str(path)]
    with ServeProcess(folder, *options) as server:
        head = {"Authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(base_url=server.url, headers=head, trust_env=False) as http:
            named = {"X-Request-ID": "from-a-proxy.1"}
            reply = http.post("/api/v1/training/start", json=START, headers=named)
            assert reply.headers["x-request-id"] == "from-a-proxy.1"
            forged = http.get("/nowhere%0A%1B%5B2J", headers={"X-Request-ID": "a b"})
            assert forged.headers["x-request-id"] not in ("", "a b")
            http.get("/models", headers={"Authorization": f"Bearer {READER}"})
            http.get(f"/models?token={TOKEN}")
            http.get(f"/{'x' * 980}{TOKEN}")  # where a long line is cut
            http.get("/models", headers={"Authorization": "Bearer wrong-and-secret"})
            http.get("/health")
            http.get("/training/logged?wait_s=50", timeout=90)
        server.end(signal.SIGTERM)
        text = server.log()
    for secret in (TOKEN, READER, "wrong-and-secret"):
        assert secret[:12] not in text
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_has_time_level_and_event(lines: list[dict[str, Any]]) -> None:
    assert lines
    for line in lines:
        assert {"time", "level", "logger", "event"} <= set(line)
        assert line["event"].isprintable()
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def test_a_request_has_its_id_and_how_it_ended(lines: list[dict[str, Any]]) -> None:
    asked = [line for line in lines if line["logger"] == "ktrdr_mcp.requests"]
    found = {line["event"]: line for line in asked}
    started = found["POST /api/v1/training/start"]
    assert (started["status"], started["request_id"]) == (200, "from-a-proxy.1")
    assert started["ms"] > 0
    assert found[r"GET /nowhere\n\x1b[2J"]["status"] == 404
    assert [line["status"] for line in asked if line["event"] == "GET /models"] == [200, 422, 401]
    assert "GET /health" not in found
    assert len({line["request_id"] for line in asked}) == len(asked)


def test_a_tasks_way_is_logged_with_its_id(lines: list[dict[str, Any]]) -> None:
    about = [line for line in lines if line.get("task_id") == "logged"]
    assert about[0]["request_id"] == "from-a-proxy.1"
    events = [line["event"] for line in about]
    assert events[0].startswith("task logged waits")
    assert events[1].startswith("task logged begins")
    assert events[-1] == "task logged is completed"
