"""What all tests share: the specification's examples and a way to make bars."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.jobs.executors.threads import load_torch
from tests.support.fault_table import FaultTable

load_torch()  # one torch thread, as in the server; two fight over two busy cores

os.environ["KTRDR_TRIAL_RECORD"] = ".ktrdr/trials.db"  # each workspace counts its own alone
if "PYTEST_XDIST_WORKER" not in os.environ:
    # each run is a user of its own, whose workspaces are no other's; its processes inherit that
    os.environ["KTRDR_DATA_HOME"] = tempfile.mkdtemp(prefix="ktrdr-user-")
    atexit.register(shutil.rmtree, os.environ["KTRDR_DATA_HOME"], ignore_errors=True)

SPECIFICATION = Path(__file__).parent / "specification" / "neural-training-api.md"
SECTIONS = {
    "1. Start Neural Training": "start",
    "2. Get Training Status": "status",
    "3. Get Model Performance": "performance",
    "4. Save Trained Model": "save",
    "5. Load Trained Model": "load",
    "6. Test Model Prediction": "predict",
    "7. List Trained Models": "list",
}

# What `make test-slow` runs and `make test` does not: whole servers that are started, killed and
# replaced, many trainings, simulations. Paths below tests/; a single test may be marked itself.
SLOW = (
    "benchmarks",
    "cli/test_cli_daemon.py",
    "cli/test_cli_doctor_mcp.py",
    "cli/test_cli_doctor_verify.py",
    "cli/test_cli_screens.py",
    "cli/test_cli_training.py",
    "conversation",
    "end_to_end",
    "evaluation/test_honest_verdicts.py",
    "examples",
    "faults",
    "feeds",
    "http/test_generated_requests.py",
    "http/test_one_owner.py",
    "jobs/test_processes.py",
    "ownership",
    "service/test_backtests.py",
    "service/test_explaining.py",
    "service/test_sweeps_end_to_end.py",
    "training/test_search_resumed.py",
    "training/test_surrogates_catch_leaks.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Fault tests say what they tried."""
    config.pluginmanager.register(FaultTable())
    config.addinivalue_line("markers", "slow: what `make test-slow` runs; see tests/conftest.py")


@functools.cache
def is_slow(path: Path) -> bool:
    """Whether a file or folder is one that `make test` leaves out."""
    return any(path.is_relative_to(Path(__file__).parent / each) for each in SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What would only be left out afterwards need not be imported, which takes seconds."""
    return (config.option.markexpr == "not slow" and is_slow(collection_path)) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow tests."""
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One process more than there are cores: many tests wait for processes of their own."""
    if config.option.numprocesses != "auto":
        return None
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return (cores or 1) + 1


@dataclass(frozen=True)
class Example:
    """One section of the specification."""

    request: dict[str, Any] | None
    response: dict[str, Any]


def example(section: str) -> Example:
    """The JSON blocks of a section; comments and the ellipsis are not JSON and are taken out."""
    blocks = re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL)
    texts = [re.sub(r"//[^\n]*", "", block).replace("{...}", "{}") for block in blocks]
    *requests, response = map(json.loads, texts)
    return Example(requests[0] if requests else None, response)


@pytest.fixture(scope="session")
def specification() -> dict[str, Example]:
    """The seven examples, read out of the specification."""
    text = SPECIFICATION.read_text(encoding="utf-8")
    parts = re.split(r"^### ", text, flags=re.MULTILINE)
    titled = {part.split("\n", 1)[0].strip(): part for part in parts}
    return {name: example(titled[title]) for title, name in SECTIONS.items()}


@pytest.fixture(scope="session")
def make_bars() -> Callable[..., Bars]:
    """Makes hourly bars from closes, each bar opening at the last close."""

    def make(close: np.ndarray, symbol: str = "TEST", seed: int = 0) -> Bars:
        generator = np.random.default_rng(seed)
        opens = np.r_[close[0], close[:-1]]
        wicks = 0.002 * generator.random((2, len(close)))
        hour = 3_600 * 10**9
        return Bars(
            symbol,
            "1h",
            np.arange(len(close), dtype=np.int64) * hour + 1_600_000_000 * 10**9,
            opens,
            np.maximum(opens, close) * (1 + wicks[0]),
            np.minimum(opens, close) * (1 - wicks[1]),
            np.asarray(close, dtype=np.float64),
            np.full(len(close), 1_000.0),
        )

    return make


@pytest.fixture(scope="session")
def planted_close() -> Callable[..., np.ndarray]:
    """Makes closes whose drift has a sign that flips now and then; strength 0 is a random walk."""

    def make(bars: int, strength: float, seed: int, flip_probability: float = 1 / 24) -> np.ndarray:
        generator = np.random.default_rng(seed)
        flips = np.cumsum(generator.random(bars) < flip_probability)
        drift = np.where(flips % 2 == 0, strength, -strength)
        returns = 0.005 * (drift + generator.standard_normal(bars))
        return 100 * np.exp(np.cumsum(returns))

    return make
