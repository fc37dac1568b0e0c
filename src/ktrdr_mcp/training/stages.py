"""Trainings of one task that follow one another: each group of a search is one.

Every stage has checkpoints of its own and keeps its end until the task has ended, so that a task
that goes on after a crash reads what is finished and has the same bits from there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp.context import Context, EpochFigures, Part, Progress
from ktrdr_mcp.errors import Diverged
from ktrdr_mcp.nn.settings import TrainedNetwork
from ktrdr_mcp.training.candidates import candidates_count
from ktrdr_mcp.training.checkpointer import FOLDER, Checkpointer
from ktrdr_mcp.training.learners import Learner, fit
from ktrdr_mcp.training.spec import TrainingSpec

LOST: Final = TrainedNetwork({}, 0, 0, early_stopped=False, history=())

log = logging.getLogger(__name__)


class Stages:
    """Trains groups of learners, one after the other.

    Args:
        directory: of the task's bundle; checkpoints lie beside it.
        spec: the task.
        context: the way to the world.
        networks: how many there will be in all, for progress.
    """

    def __init__(
        self, directory: Path, spec: TrainingSpec, context: Context, networks: int
    ) -> None:
        self._folder = directory.with_name(FOLDER)
        self._spec = spec
        self._context = StagedContext(context, spec, networks)
        self._count = 0
        self.training_s = 0.0

    def train(self, learners: Sequence[Learner]) -> list[TrainedNetwork]:
        """Trains learners of any groups. Raises Cancelled.

        Returns:
            one result for each, in their order.
        """
        found: dict[int, TrainedNetwork] = {}
        for group in in_groups(learners):
            trained = self._train_group([learners[place] for place in group])
            found |= dict(zip(group, trained, strict=True))
        return [found[place] for place in range(len(learners))]

    def _train_group(self, learners: Sequence[Learner]) -> list[TrainedNetwork]:
        """Trains, or reads what was trained; where all diverge, each of them has."""
        self._count += 1
        folder = self._folder / f"stage_{self._count}"
        checkpointer = Checkpointer(folder, self._spec, self._context, keep_end=True)
        self._context.begin_stage(learners)
        try:
            trained = fit(learners, checkpointer)
        except Diverged as diverged:
            trained = [replace(LOST, diverged=diverged.message) for _ in learners]
        self.training_s += checkpointer.training_s
        self._context.end_stage()
        return trained


def in_groups(learners: Sequence[Learner]) -> list[list[int]]:
    """The places of learners that train as one batch, group by group in order of appearance.

    Surrogates have bars of their own and share a batch with their candidate's group.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for place, learner in enumerate(learners):
        key = (learner.candidate.group, learner.shape.inputs)
        groups.setdefault(key, []).append(place)
    return list(groups.values())


@dataclass
class Finished:
    """What earlier stages have done."""

    networks: int = 0
    candidates: int = 0


class StagedContext:
    """Several trainings as one to the world; a Context around the real one.

    Args:
        context: the way to the world.
        spec: the task; progress is counted in its epochs.
        networks: how many there will be in all.
    """

    def __init__(self, context: Context, spec: TrainingSpec, networks: int) -> None:
        self._context = context
        self._epochs = spec.config.epochs
        self._networks = max(networks, 1)
        self._candidates = candidates_count(spec)
        self._done = Finished()
        self._now: Sequence[Learner] = ()
        self._origin: tuple[int, str | None] | None = None  # until a step was really made
        self._begun = False

    def begin_stage(self, learners: Sequence[Learner]) -> None:
        """Turns to the next group."""
        self._now = learners

    def end_stage(self) -> None:
        """Counts the group as done."""
        self._done.networks += len(self._now)
        self._done.candidates += sum(learner.role == "main" for learner in self._now)

    def _epoch(self, share: float) -> int:
        """Epochs of the whole, when a share of the present stage is finished."""
        done = self._done.networks + share * len(self._now)
        return min(int(self._epochs * done / self._networks), self._epochs)

    @property
    def draining(self) -> bool:
        """See context.Context."""
        return self._context.draining

    def begin_at(
        self, epoch: int, reason: str | None, figures: Sequence[EpochFigures] = ()
    ) -> None:
        """Keeps where a stage begins; the first that has anything left to do says it."""
        self._origin = (epoch, reason)

    def report(self, progress: Progress) -> None:
        """Publishes a stage's progress as the whole's, once a step was made."""
        if not self._begun:
            return
        epoch = self._epoch(progress.epoch / max(progress.total_epochs, 1))
        words = f"{self._done.candidates} of {self._candidates} candidates"
        self._context.report(replace(progress, epoch=epoch, total_epochs=self._epochs, sweep=words))

    def end_turn(self) -> None:
        """See context.Context."""
        self._context.end_turn()

    def run_parts(self, parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
        """See context.Context."""
        return self._context.run_parts(parts)

    def yield_turn(self) -> None:
        """See context.Context."""
        if not self._begun and self._origin is not None:
            epoch, reason = self._origin
            total = max(each.candidate.config.epochs for each in self._now)
            whole = self._epoch(epoch / total)
            self._context.begin_at(whole, None if whole else reason)
            self._begun = True
        self._context.yield_turn()
