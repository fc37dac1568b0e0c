"""Spoils the Nth step of a client's day, for every N until there is no Nth step any more.

A script: each try is a forked child that does the day and is killed or refused at its step, then
another child that comes back. Prints one JSON object for each try; "lost" says what went wrong.

Its arguments are plans, "mode:spoilt:first:every". Modes: kill; again for a kill of the start
after a day that was killed while it trained; full, failing and readonly for
steps that are refused; limit for a largest file size; loop for a task that always kills its
process; persistent for a disk that stays full.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ktrdr_mcp.jobs.worker import WorkerContext
from tests.support import fault_scenario as scenario
from tests.support import nothing_lost
from tests.support.fault_steps import Steps

TASK = "swept"
LIMIT_BYTES = 8 * 1024  # by which the largest file size grows from try to try
WHILE_TRAINING = 100  # the step of a day that is killed before the next one is
PATIENCE_S = 3.0  # with a task whose end cannot be stored
ENOUGH_LOSSES = 3
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
    with closing(scenario.Notes(root / "notes")) as notes:
        return spoilt_and_seen(root / "workspace", notes, number, spoilt, mode)


def spoilt_and_seen(
    workspace: Path, notes: scenario.Notes, number: int, spoilt: int, mode: str
) -> dict[str, Any]:
    """A spoilt day, the day after it, and what came of both."""
    reported = {}
    if mode == "again":
        code, _ = in_child(lambda: spoilt_day(workspace, notes, WHILE_TRAINING, 1, "kill"))
        assert code == DIED
        reported = notes.reported()
    code, answer = in_child(lambda: spoilt_day(workspace, notes, number, spoilt, mode))
    if code not in (0, DIED):
        raise AssertionError(f"step {number}: {answer}")
    if mode == "kill" and code == DIED:
        reported = notes.reported()
    come_back(workspace, notes, number)
    row = nothing_lost.tasks_of(workspace)[TASK]
    nothing_lost.assert_nothing_lost(
        workspace,
        notes.acknowledged() | {TASK},
        finished=notes.finished(),
        reported=reported if row["attempt"] > 1 else {},
    )
    if row["status"] == "failed":
        assert row["error_code"] in scenario.STORAGE_CODES, row["error_code"]
    return {
        "step": number,
        "reached": code == DIED or answer["reached"],
        "ended": "killed" if code == DIED else answer["ended"],
        "at": None if code == DIED else answer["at"],
        "status": row["status"],
        "resumed": row["attempt"] > 1
        and not (row["resumed_from"] or "epoch 0").startswith("epoch 0"),
        "result": scenario.result_of(workspace, TASK),
    }


def spoilt_day(
    workspace: Path, notes: scenario.Notes, number: int, spoilt: int, mode: str
) -> dict[str, Any]:
    """A day on which something goes wrong, and whether it came so far."""
    if mode == "limit":
        return limited_day(workspace, notes, number)
    steps = Steps(number, spoilt, "kill" if mode == "again" else mode)
    steps.install()
    day = scenario.day_after if mode == "again" else scenario.whole_day
    ended = scenario.run(day, workspace, notes, TASK)
    return {"reached": steps.reached, "ended": ended, "at": steps.spoilt_names[:1]}


def limited_day(workspace: Path, notes: scenario.Notes, number: int) -> dict[str, Any]:
    """A day on which no file can grow beyond some size, SQLite's own files included."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number * LIMIT_BYTES, resource.RLIM_INFINITY))
    ended = scenario.run(scenario.whole_day, workspace, notes, TASK, PATIENCE_S)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    whole = ended == "done" and nothing_lost.tasks_of(workspace)[TASK]["status"] == "completed"
    return {"reached": not whole, "ended": ended, "at": [f"{number * LIMIT_BYTES} bytes"]}


def come_back(workspace: Path, notes: scenario.Notes, number: int) -> None:
    """The next day, without faults. Raises AssertionError if it does not go as it should."""
    code, answer = in_child(lambda: scenario.run(scenario.day_after, workspace, notes, TASK))
    if (code, answer) != (0, "done"):
        raise AssertionError(f"after step {number}: {answer}")
    leftovers = [str(path) for path in workspace.rglob(".staging-*")]
    leftovers += map(str, workspace.glob(".ktrdr/tasks/*/checkpoints"))
    assert not leftovers, f"step {number} left {leftovers}"


def crash_loop(root: Path, times: int) -> dict[str, Any]:
    """Kills the process again and again in the same task."""
    workspace = root / "workspace"

    def poisoned_day() -> str:
        def die(*_: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        WorkerContext.report = die  # type: ignore[method-assign]
        return scenario.run(scenario.whole_day, workspace, notes, TASK)

    with closing(scenario.Notes(root / "notes")) as notes:
        for _ in range(times):
            code, _ = in_child(poisoned_day)
            assert code == DIED
        come_back(workspace, notes, times)
    row = nothing_lost.tasks_of(workspace)[TASK]
    nothing_lost.assert_nothing_lost(workspace, {TASK, "later"})
    return {"reached": False, "status": row["status"], "code": row["error_code"],
            "attempt": row["attempt"], "resumed": False}  # fmt: skip


def full_disk_day(root: Path) -> dict[str, Any]:
    """A server whose disk is full from some moment on, until space is freed."""
    workspace = root / "workspace"
    with closing(scenario.Notes(root / "notes")) as notes:
        code, answer = in_child(lambda: asyncio.run(scenario.full_disk(workspace, notes)))
        assert code == 0, answer
        nothing_lost.assert_nothing_lost(workspace, notes.acknowledged(), finished=notes.finished())
    return {"reached": False, "resumed": False, **answer}


def attempt(mode: str, number: int, spoilt: int) -> dict[str, Any]:
    """One try in a folder of its own."""
    root = Path(tempfile.mkdtemp(prefix="ktrdr-sweep-"))
    try:
        if mode == "loop":
            return crash_loop(root, number)
        if mode == "persistent":
            return full_disk_day(root)
        return one_try(root, number, spoilt, mode)
    except AssertionError:
        return {"step": number, "reached": True, "resumed": False, "lost": traceback.format_exc()}
    finally:
        shutil.rmtree(root, ignore_errors=True)


def sweep(mode: str, spoilt: int, first: int, every: int) -> None:
    """Tries every Nth step until there is none, or until enough was lost to look into it."""
    number, reached, losses = first, True, 0
    while reached and losses < ENOUGH_LOSSES:
        began = time.monotonic()
        outcome = attempt(mode, number, spoilt)
        seconds = time.monotonic() - began
        sys.stdout.write(json.dumps({"mode": mode, "seconds": seconds, **outcome}) + "\n")
        sys.stdout.flush()
        number, reached = number + every, outcome["reached"]
        losses += "lost" in outcome


if __name__ == "__main__":
    scenario.prepare_process()
    for plan in sys.argv[1:]:
        chosen, *numbers = plan.split(":")
        sweep(chosen, *map(int, numbers))
