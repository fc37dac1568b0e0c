"""Commands with the laboratory in the background: a training outlives its command."""

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

from background_labs import IDLE, end_labs

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


def reply(folder: Path, *line: str) -> Any:
    """What a command prints as JSON."""
    done = subprocess.run(**program(folder, *line, "--json"), timeout=90, check=False)
    assert done.returncode == 0, done
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
    assert "The laboratory runs" in logs.stdout
