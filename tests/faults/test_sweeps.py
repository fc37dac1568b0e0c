"""Every step of a client's day is spoilt once: killed, refused, disk full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SWEEP = Path(__file__).with_name("sweep.py")
NAMES = {
    "kill": "kill -9 at each step",
    "full": "disk full at each step",
    "failing": "write error at each step",
    "readonly": "read-only at each step",
    "limit": "no file beyond N bytes",
    "loop": "kill -9 thrice in one task",
    "persistent": "disk full until freed",
}
# mode, how many steps in a row are spoilt, the first step, every how many steps
SHORT = ["kill:1:75:65", "full:1:160:70", "loop:0:3:1", "persistent:0:0:1"]
LONG = [
    "kill:1:1:1",
    "full:1:1:1",
    "full:5:1:6",
    "failing:1:1:1",
    "readonly:1:1:6",
    "limit:0:1:1",
    "loop:0:3:1",
    "persistent:0:0:1",
]
ENOUGH_STEPS = 150  # a day with fewer was not watched


@pytest.fixture(scope="module")
def tries(long_form: bool) -> list[dict[str, Any]]:
    """Every try of every plan; one process imports the program once for all."""
    command = [sys.executable, str(SWEEP), *(LONG if long_form else SHORT)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-4_000:]
    return [json.loads(line) for line in child.stdout.splitlines()]


def test_no_spoilt_step_loses_anything(tries, fault_table) -> None:
    for mode, name in NAMES.items():
        of_mode = [each for each in tries if each["mode"] == mode]
        if of_mode:
            seconds = sum(each["seconds"] for each in of_mode)
            resumed = sum(each["resumed"] for each in of_mode)
            fault_table.add(name, len(of_mode), seconds, resumed)
    swept = [each for each in tries if each["mode"] == "kill"]
    assert swept[-1]["step"] > ENOUGH_STEPS
    assert not swept[-1]["reached"]


def test_a_killed_and_resumed_training_has_the_result_of_a_whole_one(tries) -> None:
    results = [each["result"] for each in tries if each.get("result")]
    resumed = [each["result"] for each in tries if each["resumed"]]
    assert resumed
    assert all(result == results[0] for result in results)


def test_a_refused_step_has_a_named_error_or_none_at_all(tries) -> None:
    refused = {each["ended"] for each in tries if each["mode"] in {"full", "failing", "readonly"}}
    assert refused <= {"done", "storage_full", "storage_error", "database_error"}
    assert "storage_full" in refused


def test_a_task_that_kills_its_process_three_times_is_given_up(tries) -> None:
    (loop,) = [each for each in tries if each["mode"] == "loop"]
    assert (loop["status"], loop["code"], loop["attempt"]) == ("failed", "crash_loop", 3)


def test_on_a_full_disk_the_laboratory_answers_and_later_trains_again(tries) -> None:
    (full,) = [each for each in tries if each["mode"] == "persistent"]
    assert full["refused"] == ["storage_full", "storage_full"]
    assert set(full["answered"]) == {"answered"}
    assert full["status"] == "completed"
