"""Real Ray clusters of this machine; without Ray, one line says what was skipped."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ktrdr_mcp.daemon import executors
from tests.support import eager_work, programs
from tests.support.fault_table import FAULTS, Fault
from tests.support.trained_bits import trained_in_a_thread

WANTED = "KTRDR_RAY"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only where it is asked for, because a cluster takes many seconds to start."""
    reason = None
    if WANTED not in os.environ:
        reason = "tests on a cluster run with: make test-ray"
    elif importlib.util.find_spec("ray") is None:
        reason = "Ray is not installed; there is none for this Python or system"
    for item in items:
        if reason is not None and item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.skip(reason))


@pytest.fixture
def new_fault(request: pytest.FixtureRequest) -> Callable[..., Fault]:
    """Makes a line of the table, in which the test then counts."""
    faults = request.node.stash[FAULTS] = []

    def make(name: str, tries: int = 0) -> Fault:
        faults.append(Fault(name, tries))
        return faults[-1]

    return make


@pytest.fixture(scope="session")
def longer(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What trained_bits.LONGER comes to in a thread."""
    return trained_in_a_thread(tmp_path_factory.mktemp("longer"))


@pytest.fixture(scope="session", autouse=True)
def eager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers keep a checkpoint after every epoch, and each travels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(programs.ROOT))
        patch.setenv(eager_work.HOLDS, str(tmp_path_factory.mktemp("holds")))
        patch.setattr(executors, "SENT_TRAINING", eager_work.SENT_ENTRY)
        yield
