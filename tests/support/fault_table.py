"""What was tried, lost and resumed, gathered from every process of a test run.

Short by default, half a minute; KTRDR_FAULTS=long tries everything.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any

import pytest

LONG = os.environ.get("KTRDR_FAULTS") == "long"
HEADER = ("fault", "tries", "lost", "resumed", "seconds")
PROPERTY = "fault"


@dataclass
class Fault:
    """One kind of fault: how often it was tried and what came of it.

    Attributes:
        lost: tries after which a promise did not hold; one at least if the test failed.
        seconds: 0.0 for the time that the test took.
    """

    name: str
    tries: int = 0
    lost: int = 0
    resumed: int = 0
    seconds: float = 0.0


FAULTS = pytest.StashKey[list[Fault]]()


class FaultTable:
    """A pytest plugin that prints a line for each kind of fault at the end.

    The lines travel with the tests' reports, so that they arrive from other processes too.
    """

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Adds to a test's report what it tried."""
        report = yield
        if report.when == "call" and not report.skipped:
            for fault in item.stash.get(FAULTS, []):
                fault.seconds = fault.seconds or report.duration
                fault.lost = fault.lost or int(report.failed)
                report.user_properties.append((PROPERTY, asdict(fault)))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Adds up what the tests tried."""
        if report.when == "call" and report.outcome != "rerun":
            for name, value in report.user_properties:
                if name == PROPERTY:
                    self.add(Fault(**value))

    def add(self, fault: Fault) -> None:
        """Adds to the line of the same name."""
        line = self.faults.setdefault(fault.name, Fault(fault.name))
        line.tries += fault.tries
        line.lost += fault.lost
        line.resumed += fault.resumed
        line.seconds += fault.seconds

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Prints the table."""
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """The table as text."""
        if not self.faults:
            return []
        width = max(map(len, self.faults))
        lines = [f"{HEADER[0]:<{width}}" + "".join(f"{name:>9}" for name in HEADER[1:])]
        lines += [
            f"{each.name:<{width}}{each.tries:>9}{each.lost:>9}{each.resumed:>9}{each.seconds:>9.1f}"
            for _, each in sorted(self.faults.items())
        ]
        return lines
