"""The table of the fault tests says what was tried and lost, whichever process tried it."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.fault_table import FAULTS, PROPERTY, Fault, FaultTable


def report(*faults: Fault, failed: bool = False, when: str = "call", outcome: str = "") -> Any:
    """A test's report as it comes from another process."""
    return SimpleNamespace(
        when=when,
        outcome=outcome,
        failed=failed,
        skipped=False,
        duration=2.0,
        user_properties=[(PROPERTY, asdict(fault)) for fault in faults],
    )


def reported(table: FaultTable, item: Any, made: Any) -> Any:
    """What the table makes of a report that pytest has made."""
    making = table.pytest_runtest_makereport(item)
    next(making)
    with pytest.raises(StopIteration) as stop:
        making.send(made)
    return stop.value.value


def test_lines_of_one_name_are_added_up() -> None:
    table = FaultTable()
    table.pytest_runtest_logreport(report(Fault("kill", 3, 0, 2, 1.0)))
    table.pytest_runtest_logreport(report(Fault("kill", 4, 1, 0, 0.5), Fault("full", 1)))
    table.pytest_runtest_logreport(report(Fault("kill", 9), when="teardown"))
    table.pytest_runtest_logreport(report(Fault("kill", 9), outcome="rerun"))
    header, *lines = [line.split() for line in table.lines()]
    assert header == ["fault", "tries", "lost", "resumed", "seconds"]
    assert lines == [["full", "1", "0", "0", "0.0"], ["kill", "7", "1", "2", "1.5"]]


@pytest.mark.parametrize(("failed", "counted", "lost"), [(False, 0, 0), (True, 0, 1), (True, 2, 2)])
def test_a_test_that_fails_has_lost_something(failed: bool, counted: int, lost: int) -> None:
    item = SimpleNamespace(stash={FAULTS: [Fault("kill", 5, counted)]})
    made = reported(FaultTable(), item, report(failed=failed))
    assert made.user_properties == [(PROPERTY, asdict(Fault("kill", 5, lost, 0, 2.0)))]


def test_without_a_fault_there_is_no_table() -> None:
    assert FaultTable().lines() == []
