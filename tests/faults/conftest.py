"""Short by default; KTRDR_FAULTS=long tries every step."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ktrdr_mcp.daemon import launch
from tests.support.background_servers import IDLE
from tests.support.fault_table import FAULTS, LONG, Fault
from tests.support.launches import Launches
from tests.support.made_workspace import make_workspace


@pytest.fixture
def new_fault(request: pytest.FixtureRequest) -> Callable[..., Fault]:
    """Makes a line of the table, in which the test then counts."""
    faults = request.node.stash[FAULTS] = []  # a second try of the test begins anew

    def make(name: str, tries: int = 0) -> Fault:
        faults.append(Fault(name, tries))
        return faults[-1]

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long form takes its time."""
    here = Path(__file__).parent
    for item in items:
        if LONG and item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(3_600))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a completed task and a saved model, and one as a crash would leave it."""
    folder = tmp_path_factory.mktemp("template")
    make_workspace(folder / "clean", folder / "crashed")
    return folder


@pytest.fixture
def clean(template: Path, tmp_path: Path) -> Path:
    """A workspace whose process ended as it should."""
    return copied(template / "clean", tmp_path / "clean")


@pytest.fixture
def crashed(template: Path, tmp_path: Path) -> Path:
    """A workspace whose process was killed: its database has a log."""
    return copied(template / "crashed", tmp_path / "crashed")


@pytest.fixture
def copy_of(template: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes as many copies of a workspace as a test needs, one at a time."""
    return lambda name: copied(template / name, tmp_path / "copy")


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launches]:
    """What the fronts of this process start in the background; none is left."""
    for name, value in IDLE.items():
        monkeypatch.setenv(name, value)
    started = Launches()
    monkeypatch.setattr(launch, "subprocess", started)
    yield started
    started.kill()


def copied(source: Path, destination: Path) -> Path:
    """A copy of a workspace; an earlier one is replaced."""
    shutil.rmtree(destination, ignore_errors=True)
    shutil.copytree(source, destination, symlinks=True)
    return destination
