"""The walk through the tools that a new user takes first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ktrdr_mcp.ownership.lock import is_owned
from ktrdr_mcp.paths import Workspace
from tests.support.background_servers import wait_until

STEPS = (
    "get_market_data_summary",
    "start_training",
    "get_training_status",
    "get_model_performance",
    "save_trained_model",
    "load_trained_model",
    "test_model_prediction",
    "list_trained_models",
)


def test_the_demo_goes_through_every_step_and_names_the_model_as_it_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(tmp_path), "demo"]
    done = subprocess.run(
        command,
        env={**os.environ, "KTRDR_LAB_IDLE_S": "5"},
        capture_output=True,
        text=True,
        timeout=240,  # 15 s where nothing else runs
        check=False,
    )
    assert done.returncode == 0, done.stderr
    places = [done.stdout.index(step) for step in STEPS]
    assert places == sorted(places)
    assert done.stdout[places[-1] :].count("aapl_momentum_v1") == 1
    wait_until(lambda: not is_owned(Workspace(tmp_path)))  # its server soon ends by itself
