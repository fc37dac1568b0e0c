"""Every step of a client's day is spoilt once: killed, refused, disk full."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from ktrdr_mcp.daemon import executors
from tests.support import programs
from tests.support.fault_table import LONG, Fault

NAMES = {
    "kill": "kill -9 at each step",
    "again": "kill -9 at each step after a crash",
    "full": "disk full at each step",
    "failing": "write error at each step",
    "readonly": "read-only at each step",
    "limit": "no file beyond N bytes",
    "loop": "kill -9 thrice in one task",
    "persistent": "disk full until freed",
}
REFUSALS = {"full", "failing", "readonly"}
KILLS = {"kill", "again"}
# mode, how many steps in a row are spoilt, the first step, every how many steps; those of a line
# share a process, and lines run side by side
SHORT = ["kill:1:75:65 full:1:140:25 again:1:12:120"]
EVERY_STEP = [
    *(f"kill:1:{first}:4" for first in range(1, 5)),
    *(f"again:1:{first}:6" for first in range(1, 7)),
    *(f"full:1:{first}:4" for first in range(1, 5)),
    *(f"failing:1:{first}:4" for first in range(1, 5)),
    *(f"readonly:1:{first}:4" for first in range(1, 5)),
    *(f"full:5:{first}:6" for first in (1, 4)),
    "limit:0:1:1",
]
PLANS = EVERY_STEP if LONG else SHORT
ENOUGH_STEPS = 150  # a day with fewer was not watched

Swept = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def swept(new_fault: Callable[..., Fault]) -> Swept:
    """Sweeps by some plans, with a line of the table for each mode; gives every try."""

    def sweep(plans: str, where: str = "") -> list[dict[str, Any]]:
        faults = {
            plan.partition(":")[0]: new_fault(name_of(plan) + where) for plan in plans.split()
        }
        command = [*programs.command("fault_sweep"), *plans.split()]
        child = subprocess.run(
            command, cwd=programs.ROOT, capture_output=True, text=True, check=False
        )
        tries = [json.loads(line) for line in child.stdout.splitlines()]
        for each in tries:
            fault = faults[each["mode"]]
            fault.tries += 1
            fault.lost += "lost" in each
            fault.resumed += each["resumed"]
            fault.seconds += each["seconds"]
        assert child.returncode == 0, child.stderr[-4_000:]
        assert [each["lost"] for each in tries if "lost" in each] == []
        return tries

    return sweep


def modes_of(plans: str) -> list[str]:
    return [plan.partition(":")[0] for plan in plans.split()]


def name_of(plan: str) -> str:
    """What the table calls the faults of a plan."""
    mode, spoilt, *_ = plan.split(":")
    several = f", {spoilt} in a row" if int(spoilt) > 1 else ""
    return NAMES[mode] + several


@pytest.mark.parametrize("plans", PLANS)
def test_no_spoilt_step_loses_anything_or_changes_a_result(swept: Swept, plans: str) -> None:
    tries = swept(plans)
    for mode in modes_of(plans):
        of_mode = [each for each in tries if each["mode"] == mode]
        assert not of_mode[-1]["reached"]  # so that the last one is a whole day
        assert of_mode[-1]["step"] > ENOUGH_STEPS or mode == "limit"
        results_agree(of_mode)
        ended_as_they_may(of_mode, mode)


def results_agree(tries: list[dict[str, Any]]) -> None:
    """However often it was interrupted, a completed training has one result."""
    results = [each["result"] for each in tries if each["result"]]
    assert results
    assert all(result == tries[-1]["result"] for result in results)


def ended_as_they_may(tries: list[dict[str, Any]], mode: str) -> None:
    """A refused step has a named error or none at all; a killed training has resumed."""
    if mode in REFUSALS:
        code = "storage_full" if mode == "full" else "storage_error"
        ended = {each["ended"] for each in tries}
        assert ended <= {"done", code, "database_error"}
        assert code in ended
        publishing = {each["status"] for each in tries if ".staging-bundle-" in str(each["at"])}
        assert publishing <= {"completed"}  # what cannot be written now is published later
    elif mode in KILLS:
        assert {each["status"] for each in tries} == {"completed"}
        resumed = [each["resumed"] for each in tries]
        assert all(resumed) if mode == "again" else any(resumed)


@pytest.mark.skipif(not LONG, reason="a worker for each try: make test-faults")
@pytest.mark.parametrize("first", range(1, 5))
def test_a_server_killed_at_any_step_while_workers_train_loses_nothing(
    swept: Swept, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(executors.VARIABLE, "processes")
    tries = swept(f"kill:1:{first}:4", ", processes")
    assert not tries[-1]["reached"]
    assert {each["status"] for each in tries} == {"completed"}
    results_agree(tries)


def test_a_task_that_kills_its_process_three_times_is_given_up(swept: Swept) -> None:
    (loop,) = swept("loop:0:3:1")
    assert (loop["status"], loop["code"], loop["attempt"]) == ("failed", "crash_loop", 3)


def test_on_a_full_disk_the_server_answers_and_later_trains_again(swept: Swept) -> None:
    (full,) = swept("persistent:0:0:1")
    assert full["refused"] == ["storage_full", "storage_full"]
    assert set(full["answered"]) == {"answered"}
    assert full["status"] == "completed"
