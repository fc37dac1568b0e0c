"""The start after a crash is killed too, at each of its steps; the one after that goes well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SWEEP = Path(__file__).with_name("sweep.py")
SHORT = ("again:1:12:120",)
LONG = ("again:1:1:1",)


def test_a_kill_at_any_step_of_the_start_after_a_crash_loses_nothing(
    long_form: bool, fault_table
) -> None:
    command = [sys.executable, str(SWEEP), *(LONG if long_form else SHORT)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-4_000:]
    tries = [json.loads(line) for line in child.stdout.splitlines()]
    assert {each["status"] for each in tries} == {"completed"}
    assert all(each["resumed"] for each in tries)
    assert all(each["result"] == tries[0]["result"] for each in tries)
    seconds = sum(each["seconds"] for each in tries)
    fault_table.add("kill -9 at each step after a crash", len(tries), seconds, len(tries))
