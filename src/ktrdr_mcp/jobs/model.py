"""The states of a task and every way from one to another.

      submit            claim               the run returned
( ) ---a---> pending ---b---> training ---d---> completed
               |  ^              | | |
               |  +------g-------+ | +----e---> failed
               |                   |      the run raised
               +---c---> cancelled <---f---+
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a task stands."""

    PENDING = "pending"  # stored, waits for a worker
    TRAINING = "training"  # a worker runs it
    COMPLETED = "completed"  # has its result
    FAILED = "failed"  # has its error
    CANCELLED = "cancelled"  # was stopped because the client asked


@dataclass(frozen=True)
class Transition:
    """One edge of the diagram above and who causes it."""

    letter: str
    source: Status | None
    target: Status
    cause: str


TRANSITIONS: Final = (
    Transition("a", None, Status.PENDING, "the client submits"),
    Transition("b", Status.PENDING, Status.TRAINING, "the manager claims"),
    Transition("c", Status.PENDING, Status.CANCELLED, "the client cancels"),
    Transition("d", Status.TRAINING, Status.COMPLETED, "the run returns its result"),
    Transition("e", Status.TRAINING, Status.FAILED, "the run raises"),
    Transition("f", Status.TRAINING, Status.CANCELLED, "the run obeys the client's cancel"),
    Transition("g", Status.TRAINING, Status.PENDING, "the manager drains, or finds a dead run"),
)
TERMINAL: Final = frozenset(Status) - {edge.source for edge in TRANSITIONS}


def sources_of(target: Status) -> frozenset[Status]:
    """The statuses from which a task may get this one."""
    return frozenset(
        edge.source for edge in TRANSITIONS if edge.target is target and edge.source is not None
    )
