"""Trainings of one task that follow one another, or are spread over the workers.

Every batch has checkpoints of its own and keeps its end until the task has ended, so that a task
that goes on after a crash, or once its parts have run, reads what is finished and has the same bits
from there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp.context import CHECKPOINTS, Context, EpochFigures, Part, Progress, folder_of
from ktrdr_mcp.nn.settings import TrainedNetwork
from ktrdr_mcp.training.batches import (
    Batch,
    TrainedBatch,
    are_worth_spreading,
    in_batches,
    part_of,
    train_batch,
)
from ktrdr_mcp.training.candidates import candidates_count
from ktrdr_mcp.training.learners import Learner
from ktrdr_mcp.training.spec import TrainingSpec

LOST: Final = TrainedNetwork({}, 0, 0, early_stopped=False, history=())


class Stages:
    """Trains batches of learners.

    Args:
        directory: of the task's bundle; checkpoints lie beside it.
        spec: the task.
        context: the way to the world.
        networks: how many there will be in all, for progress.
    """

    def __init__(
        self, directory: Path, spec: TrainingSpec, context: Context, networks: int
    ) -> None:
        self._directory = directory
        self._spec = spec
        self._networks = networks
        self._context = StagedContext(context, spec, networks)
        self._count = 0
        self.training_s = 0.0

    def train(self, learners: Sequence[Learner]) -> list[TrainedNetwork]:
        """Trains learners of any groups, on all workers where they are worth it.

        Returns:
            one result for each, in their order.
        Raises:
            Cancelled: the training was asked to stop.
            Divided: see context.Context.run_parts.
        """
        named = {}
        for batch in in_batches(learners, cut=self._spec.spread):
            self._count += 1
            named[f"batch-{self._count}"] = batch
        results = self._run_parts(named) if self._is_spread(named.values()) else {}
        found: dict[int, TrainedNetwork] = {}
        for name, batch in named.items():
            trained = self._train_batch(name, batch, results.get(name))
            found |= dict(zip(batch.places, trained, strict=True))
        return [found[place] for place in range(len(learners))]

    def _is_spread(self, batches: Collection[Batch]) -> bool:
        """Whether batches are trained by all workers."""
        return self._spec.spread and self._context.divides and are_worth_spreading(batches)

    def _run_parts(self, named: Mapping[str, Batch]) -> dict[str, dict[str, Any]]:
        """Has batches trained as parts, those first that take longest. Raises Divided."""
        longest_first = sorted(named, key=lambda name: -named[name].seconds)
        strategy = self._spec.strategy.name
        return self._context.run_parts(
            [part_of(named[name], name, self._networks, strategy) for name in longest_first]
        )

    def _train_batch(
        self, name: str, batch: Batch, result: dict[str, Any] | None
    ) -> list[TrainedNetwork]:
        """Trains, or reads what was trained; where all diverge, each of them has.

        Args:
            name: of the batch.
            batch: what to train.
            result: of the part that trained it, if one did.
        """
        folder = folder_of(self._directory, name) / CHECKPOINTS
        if not self._spec.spread:  # where searches from before parts have them
            number = name.rpartition("-")[2]
            folder = self._directory.with_name(CHECKPOINTS) / f"stage_{number}"
        self._context.begin_stage(batch.learners)
        if result is None or result["diverged"] is None:
            trained = train_batch(batch.learners, folder, self._spec, self._context)
        else:
            trained = TrainedBatch([], result["diverged"], result["seconds"])
        self.training_s += trained.seconds
        self._context.end_stage()
        lost = replace(LOST, diverged=trained.diverged)
        return list(trained.networks) or [lost] * len(batch.learners)


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

    @property
    def divides(self) -> bool:
        """See context.Context."""
        return self._context.divides

    def begin_at(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        total_epochs: int = 0,
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
