"""The scripts in `examples/`, run as a reader runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.background_servers import IDLE, USER_FOLDER, end_labs
from tests.support.http_process import ServeProcess

EXAMPLES = Path(__file__).parents[2] / "examples"
EPOCHS = "2"
LIMIT_S = 120


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """An empty workspace; no process of it outlives the test."""
    yield tmp_path
    end_labs(tmp_path)


def run(name: str, *arguments: str) -> list[str]:
    """The first word of each line that an example prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        # the client of an example passes on the home folder and no variable of ours
        env={**os.environ, **IDLE, "HOME": IDLE[USER_FOLDER]},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return [line.split()[0] for line in done.stdout.splitlines() if line]


def test_the_mcp_client_trains_judges_saves_and_predicts(workspace: Path) -> None:
    assert run("mcp_client.py", str(workspace), EPOCHS) == ["started", "verdict", "signal"]
    assert (workspace / "models" / "example" / "AAPL_1h_v1" / "bundle.json").exists()


def test_a_client_follows_a_task_from_the_call_to_the_verdict(workspace: Path) -> None:
    words = run("follow_task.py", str(workspace), EPOCHS)
    assert (words[0], words[-2:]) == ("tools/call", ["tasks/get", "verdict"])


def test_the_http_client_trains_judges_saves_and_predicts(workspace: Path) -> None:
    with ServeProcess(workspace) as server:
        words = run("http_client.py", server.url, EPOCHS)
    assert [word for word in words if word != "epoch"] == ["started", "verdict", "signal"]
    assert (workspace / "models" / "example" / "AAPL_1h_v1" / "bundle.json").exists()


def test_a_strategy_and_bars_of_ones_own_are_checked_trained_and_backtested(
    workspace: Path,
) -> None:
    words = run("own_strategy.py", str(workspace), EPOCHS)
    assert words == ["checked", "verdict", "backtest:"]
    assert (workspace / "models" / "short_swings" / "WAVE_1h_v1" / "bundle.json").exists()


def test_a_planted_effect_is_found_with_the_tools_alone_in_ten_calls(workspace: Path) -> None:
    words = run("own_hypothesis.py", "hours", str(workspace))
    calls = [word for word in words if word.startswith("**")]
    assert len(calls[:-1]) <= 10  # the last one is another client's
    assert calls[-1] == "**1.**"
    assert (workspace / "strategies" / "hours.yaml").exists()


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "mcp_client.py",
        "follow_task.py",
        "http_client.py",
        "own_strategy.py",
        "own_hypothesis.py",
    }
