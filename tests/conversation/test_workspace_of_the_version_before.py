"""A workspace in which the version before died in mid-training, opened by this version."""

from __future__ import annotations

import asyncio
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client

from tests.support.mcp_clients import THIRD_DIGIT, rounded_like

from .before import (
    ARCHIVE,
    COMPLETED,
    EXPECTED,
    FAILED,
    INTERRUPTED,
    WAITING,
    ask_what_comes,
    ask_what_lasts,
    call,
    open_proxy,
    saved_weights,
    weights,
)
from .comparing import differences, told
from .program import Program, owned_for_a_while

READINGS = "test_readings"
# Judged by the rules of today from what was stored; what was measured stays as it was.
OTHER_RULES = ("verdict", "next", "beats_linear")


def adopt(program: Program, workspace: Path) -> None:
    """Makes a copy of a workspace one that this user and machine may train in."""
    adopted = program.run(workspace, "doctor", "--adopt", "--json")
    checks = {check["name"]: check["state"] for check in json.loads(adopted.stdout)["checks"]}
    assert checks["marker"] == "ok", adopted.stdout


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "before"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="fully_trusted")
    adopt(Program(), folder)
    with owned_for_a_while(folder):
        yield folder


@pytest.fixture
def expected() -> dict[str, Any]:
    return json.loads(EXPECTED.read_text(encoding="utf-8"))


def without_readings(value: Any) -> Any:
    """A reply without what counts up each time that it is read."""
    if isinstance(value, dict):
        return {key: without_readings(each) for key, each in value.items() if key != READINGS}
    return [without_readings(each) for each in value] if isinstance(value, list) else value


def in_form_of_today(before: Any, now: Any) -> Any:
    """What the version before answered, where today's replies have another form.

    Over MCP a start's `config` holds only what differs from the defaults, predictions have four
    digits and `most_probable`, and metrics that are not known yet are null together.
    """
    if isinstance(before, list) and isinstance(now, list):
        return [in_form_of_today(*pair) for pair in zip(before, now, strict=False)]
    if not isinstance(before, dict) or not isinstance(now, dict):
        return before
    found = {name: in_form_of_today(each, now.get(name)) for name, each in before.items()}
    if "estimated_duration_minutes" in before and "config" in now:
        found["config"] = {n: v for n, v in before["config"].items() if n in now["config"]}
    if now.get("current_metrics", {}) is None and not any(before["current_metrics"].values()):
        found["current_metrics"] = None
    found = now | found  # replies may gain fields
    found |= {name: now[name] for name in OTHER_RULES if name in now}
    if "timing" in now:  # a backtest: bars that were seen in choosing are a part of their own
        found |= {name: now[name] for name in ("out_of_sample", "in_sample", "summary")}
    if isinstance(now.get("prediction"), str):  # a verdict's, in a comparison
        found["prediction"] = now["prediction"]
    if "most_probable" in now or "verdict" in now:
        found = rounded_like(found, now, THIRD_DIGIT)
    return found


def readings(replies: dict[str, Any]) -> dict[str, int]:
    """How often each result has been read."""
    return {task_id: reply[READINGS] for task_id, reply in replies["performance"].items()}


async def resumed(client: Client) -> dict[str, str]:
    """Where each interrupted task went on from."""
    found: dict[str, str] = {}
    while len(found) < len(INTERRUPTED):
        for task_id in INTERRUPTED:
            status = await call(client, "get_training_status", task_id=task_id, wait_s=0.05)
            assert status["status"] in {"pending", "training", "completed"}, status
            if status["resumed_from"] is not None:
                found[task_id] = status["resumed_from"]
    return found


async def computes_the_same(client: Client) -> bool:
    """Whether this machine makes the weights that the other one made, bit for bit."""
    again = await call(client, "reproduce_training", task_id="family-1")
    assert again["success"], again
    while again["status"] in {"pending", "training"}:
        again = await call(client, "reproduce_training", task_id="family-1")
    return again["result"] == "match"


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is answered otherwise than by the version before."""
    kept, shown = without_readings(before), without_readings(now)
    return list(differences(in_form_of_today(kept, shown), shown))


@pytest.mark.timeout(300)
def test_everything_is_found_and_what_was_interrupted_ends_with_the_same_weights(
    workspace: Path, expected: dict[str, Any]
) -> None:
    async def look() -> tuple[dict[str, Any], dict[str, Any], dict[str, str], bool]:
        async with open_proxy(Program(), workspace) as client:
            started = await resumed(client)
            lasting = await ask_what_lasts(client)
            coming = await ask_what_comes(client)
            listed = await call(client, "list_training_tasks", offset=0)
            seen = [task["task_id"] for task in listed["tasks"]]
            while listed["has_more"]:
                listed = await call(client, "list_training_tasks", offset=len(seen))
                seen += [task["task_id"] for task in listed["tasks"]]
            assert set(seen) == {*COMPLETED, *FAILED, "stopped", *INTERRUPTED, *WAITING}
            return lasting, coming, started, await computes_the_same(client)

    lasting, coming, started, same_machine = asyncio.run(look())
    found = changes(expected["lasting"], lasting)
    assert not found, told(found)
    before, now = readings(expected["lasting"]), readings(lasting)
    assert all(now[task_id] > before[task_id] for task_id in before)
    assert all(re.match("epoch [1-9]", epoch) for epoch in started.values()), started
    assert saved_weights(workspace) == expected["saved weights"]
    if same_machine:
        assert weights(workspace, *expected["weights"]) == expected["weights"]
        found = changes(expected["coming"], coming)
        assert not found, told(found)
