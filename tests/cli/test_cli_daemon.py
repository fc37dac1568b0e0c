"""Commands with the server in the background: a training outlives its command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.ownership.lock import is_owned
from ktrdr_mcp.paths import Workspace
from tests.support.background_servers import IDLE, end_labs

FOREVER = ("--epochs", "100000", "--set", "early_stopping=null", "--set", "walk_forward=null")


@pytest.fixture(autouse=True)
def _no_lab_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    end_labs(tmp_path)


def program(folder: Path, *line: str) -> dict[str, Any]:
    """A command line as a process."""
    return {
        "args": [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(folder), *line],
        "env": {**os.environ, **IDLE},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def reply(folder: Path, *line: str, code: int = 0) -> Any:
    """What a command prints as JSON."""
    done = subprocess.run(**program(folder, *line, "--json"), timeout=90, check=False)
    assert done.returncode == code, done
    return json.loads(done.stdout)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_ctrl_c_ends_the_waiting_and_not_the_training(tmp_path) -> None:
    with subprocess.Popen(**program(tmp_path, "train", "AAPL", "1h", *FOREVER)) as process:
        try:
            assert process.stdout.readline().startswith("Training AAPL 1h")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "goes on in the background" in errors
    assert "Traceback" not in errors
    status = reply(tmp_path, "lab", "status")
    assert (status["running"], status["kind"]) == (True, "detached")
    assert status["tasks"]["training"] + status["tasks"]["pending"] == 1
    assert "token" not in status
    [task] = reply(tmp_path, "tasks")["tasks"]
    assert task["task_id"] in errors
    assert reply(tmp_path, "lab", "stop")["stopped"] == status["pid"]
    assert reply(tmp_path, "lab", "stop")["stopped"] is None
    assert reply(tmp_path, "lab", "status")["running"] is False
    logs = subprocess.run(**program(tmp_path, "lab", "logs"), timeout=60, check=False)
    assert "The service runs" in logs.stdout


def test_a_log_that_there_is_not_is_said_to_be_missing(run) -> None:
    told = run("lab", "logs")
    assert (told.exit_code, "There is no log" in told.stdout) == (0, True)


def test_the_daemon_gives_way_to_cleaning_unless_it_has_work(tmp_path) -> None:
    quick = ("--epochs", "1", "--set", "walk_forward=null")
    old = reply(tmp_path, "train", "AAPL", "1h", *quick)["task_id"]
    result = Workspace(tmp_path).bundle_directory(old)
    clean = ("clean", "--older-than-days", "0")
    with subprocess.Popen(**program(tmp_path, "train", "AAPL", "1h", *FOREVER)) as process:
        try:
            assert process.stdout.readline().startswith("Training AAPL 1h")
            working = process.stdout.readline().split()[1]
        finally:
            process.kill()
    refused = subprocess.run(**program(tmp_path, *clean), timeout=60, check=False)
    assert refused.returncode == 3, refused
    assert "1 running" in refused.stderr or "1 waiting" in refused.stderr
    assert "ktrdr-mcp lab stop" in refused.stderr
    assert result.is_dir()
    assert reply(tmp_path, "clean")["removed"] == 0  # with nothing to remove, work is no hindrance

    reply(tmp_path, "cancel", working)
    ended = reply(tmp_path, "status", working, "--wait", "30", code=5)
    assert ended["status"] == "cancelled"
    assert reply(tmp_path, *clean)["tasks"] == [old]
    assert not result.exists()
    assert not is_owned(Workspace(tmp_path))
