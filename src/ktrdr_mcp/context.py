"""The only line between a running training and the world around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

CHECKPOINTS: Final = "checkpoints"  # beside the bundle of a task, and beside the files of a part
PARTS: Final = "parts"  # in there, with a folder for each part


class Cancelled(Exception):
    """The training must stop; it ends without a result."""


class EpochFigures(NamedTuple):
    """What an epoch came to. Losses in nats, accuracies in [0, 1]."""

    epoch: int
    train_loss: float
    val_loss: float
    train_accuracy: float
    val_accuracy: float


@dataclass(frozen=True)
class Part:
    """A part of a training that runs by itself, on whatever worker is free."""

    name: str  # of letters, digits, - and _; the same name is the same part in every attempt
    spec: dict[str, Any]  # what it does, as JSON; it gets the training's specification too
    share: float  # of the whole training's work, 0 to 1


def folder_of(directory: Path, name: str) -> Path:
    """Where a part's files lie.

    Args:
        directory: of its task's bundle.
        name: the part's.
    """
    return directory.with_name(CHECKPOINTS) / PARTS / name


def checkpoints_of_task(directory: Path) -> Path | None:
    """The folder of its task's checkpoints, of a part that runs beside them; else None.

    Args:
        directory: that the part was given.
    """
    above = directory.parent.parent
    return above.parent if (above.name, above.parent.name) == (PARTS, CHECKPOINTS) else None


class Divided(Exception):
    """The training is begun again once its parts have run.

    Args:
        parts: all that it asked for, those that have run too.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(f"{len(parts)} parts")
        self.parts = list(parts)


@dataclass(frozen=True)
class Progress:
    """A training at an epoch's end. Losses in nats, accuracies in [0, 1]."""

    epoch: int  # epochs finished
    total_epochs: int
    train_loss: float
    val_loss: float
    train_accuracy: float
    val_accuracy: float
    alarm: str | None = None  # what the epochs so far warn of, with what to try
    sweep: str | None = None  # how far a search has come, in words

    @property
    def figures(self) -> EpochFigures:
        """The newest epoch's."""
        losses, shares = (self.train_loss, self.val_loss), (self.train_accuracy, self.val_accuracy)
        return EpochFigures(self.epoch, *losses, *shares)


class Context(Protocol):
    """What a running training may ask of the world."""

    @property
    def draining(self) -> bool:
        """Whether it must stop because the server ends, so that its state is worth keeping."""

    @property
    def divides(self) -> bool:
        """Whether parts of this training can run; see `run_parts`."""

    def begin_at(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        total_epochs: int = 0,
    ) -> None:
        """Says where this run begins.

        Args:
            epoch: epochs that an earlier run had finished.
            reason: why it does not begin further on, or with what the checkpoint was made.
            figures: of some of those epochs, evenly spaced.
            total_epochs: of this run; 0 where only its reports will say it.
        """

    def report(self, progress: Progress) -> None:
        """Publishes progress; cheap, and never blocks."""

    def yield_turn(self) -> None:
        """Lets others run when this turn is over. Raises Cancelled if the training must stop.

        Called between steps; the steps between two calls must stay well under 50 ms.
        """

    def end_turn(self) -> None:
        """Lets others run until the next `yield_turn`; for work that is not steps."""

    def run_parts(self, parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
        """Runs parts of this training on all workers that are free.

        Where some have not run yet, this run ends here. It is begun again once they have, in any
        process, and must come to this call again with the same parts. It may ask for more later.

        Args:
            parts: what to run; a part may not have parts of its own.
        Returns:
            what each part returned, by its name.
        Raises:
            Divided: some have not run yet; not to be caught.
        """


@dataclass
class NullContext:
    """A context without a world: remembers progress, never stops anything."""

    reports: list[Progress] = field(default_factory=list)
    draining: bool = False
    divides: bool = False

    def begin_at(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        total_epochs: int = 0,
    ) -> None:
        """Does nothing."""

    def report(self, progress: Progress) -> None:
        """Keeps the progress."""
        self.reports.append(progress)

    def yield_turn(self) -> None:
        """Does nothing."""

    def end_turn(self) -> None:
        """Does nothing."""

    def run_parts(self, parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
        """Raises Divided: there is no other worker."""
        raise Divided(parts)
