"""Spoils the Nth step of a client's day, for every N until there is no Nth step any more.

A script: each try is a forked child that does the day and is killed or refused at its step, then
another child that comes back. Prints one JSON object for each try.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nothing_lost
import scenario
from steps import Steps

TASK = "swept"
DIED, FAULTY = -9, 70  # of a child: killed; ended by an exception that is none of ours


def in_child(work: Callable[[], Any]) -> tuple[int, Any]:
    """Does work in a forked child; its exit status and its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code, write, leave = 0, os.write, os._exit
        try:
            answer = json.dumps(work()).encode()
        except BaseException:
            code, answer = FAULTY, json.dumps(traceback.format_exc()).encode()
        write(writing, answer)
        leave(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(answer) if answer else None


def one_try(root: Path, number: int, spoilt: int, mode: str) -> dict[str, Any]:
    """Spoils one step and comes back. Raises AssertionError if anything was lost."""
    workspace, notes = root / "workspace", scenario.Notes(root / "notes")

    def spoilt_day() -> dict[str, Any]:
        steps = Steps(number, spoilt, mode)
        steps.install()
        ended = scenario.run(scenario.whole_day, workspace, notes, TASK)
        return {"reached": steps.reached, "ended": ended, "at": steps.spoilt_names[:1]}

    code, answer = in_child(spoilt_day)
    if code not in (0, DIED):
        raise AssertionError(f"step {number}: {answer}")
    reported = notes.reported() if code == DIED else {}
    code_after, answer_after = in_child(
        lambda: scenario.run(scenario.day_after, workspace, notes, TASK)
    )
    if (code_after, answer_after) != (0, "done"):
        raise AssertionError(f"after step {number}: {answer_after}")
    rows = nothing_lost.tasks_of(workspace)
    nothing_lost.assert_nothing_lost(
        workspace,
        notes.acknowledged() | {TASK},
        finished=notes.finished(),
        reported=reported if rows[TASK]["attempt"] > 1 else {},
    )
    leftovers = [str(path) for path in workspace.rglob(".staging-*")]
    leftovers += map(str, workspace.glob(".ktrdr/tasks/*/checkpoints"))
    assert not leftovers, f"step {number} left {leftovers}"
    return {
        "step": number,
        "reached": code == DIED or answer["reached"],
        "ended": "killed" if code == DIED else answer["ended"],
        "at": None if code == DIED else answer["at"],
        "status": rows[TASK]["status"],
        "resumed": bool(rows[TASK]["attempt"] > 1 and "epoch 0" not in rows[TASK]["resumed_from"]),
        "result": scenario.result_of(workspace, TASK),
    }


def sweep(mode: str, spoilt: int, first: int, every: int) -> None:
    """Tries every Nth step until there is none."""
    scenario.prepare_process()
    number = first
    while True:
        root = Path(tempfile.mkdtemp(prefix="ktrdr-sweep-"))
        began = time.monotonic()
        try:
            outcome = one_try(root, number, spoilt, mode)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        print(json.dumps(outcome | {"seconds": time.monotonic() - began}), flush=True)
        if not outcome["reached"]:
            return
        number += every


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["kill", "full", "failing", "readonly"])
    parser.add_argument("--spoilt", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    chosen = parser.parse_args()
    sweep(chosen.mode, chosen.spoilt, chosen.first, chosen.every)
    sys.exit(0)
