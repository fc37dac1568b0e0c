"""Ends the servers that a test started in the background, however the test ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.lock import is_owned, lock_file
from ktrdr_mcp.paths import Workspace

USER_FOLDER = "KTRDR_DATA_HOME"
os.environ.setdefault("KTRDR_TRIAL_RECORD", ".ktrdr/trials.db")  # in each workspace
# should all else fail; and the user of the tests, where a client passes on no environment
if USER_FOLDER not in os.environ:  # outside pytest, whose conftest sets it
    os.environ[USER_FOLDER] = tempfile.mkdtemp(prefix="ktrdr-user-")
    atexit.register(shutil.rmtree, os.environ[USER_FOLDER], ignore_errors=True)
IDLE = {"KTRDR_LAB_IDLE_S": "90", USER_FOLDER: os.environ[USER_FOLDER]}
ENDS_S = 60


def wait_until(reached, limit_s: float = ENDS_S) -> None:
    """Returns once it is so."""
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def end_labs(folder: Path) -> None:
    """Kills every detached server of the workspaces below a folder."""
    for lock in list(folder.rglob("lab.lock")):
        workspace = Workspace(lock.parent.parent)
        owner = address.read(workspace)
        if owner is not None and owner.pid == os.getpid():
            continue
        if owner is not None and owner.kind == "detached" and is_owned(workspace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(owner.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        lock_file(workspace).unlink(missing_ok=True)  # one that starts ends when it sees this


def daemon_pid(folder: Path) -> int:
    """The process of a workspace's server, once it says so."""
    workspace = Workspace(folder)
    wait_until(lambda: address.read(workspace) is not None)
    return address.read(workspace).pid
