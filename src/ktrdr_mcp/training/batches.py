"""How the networks of a search are cut into batches, and the training of one batch.

The cut depends on the work alone, never on workers or on this machine's speed, so that a search
has the same bits wherever its batches train.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ktrdr_mcp.context import CHECKPOINTS, Context, Part
from ktrdr_mcp.data.bars import fingerprint
from ktrdr_mcp.data.catalog import BarReader
from ktrdr_mcp.errors import Diverged, TrainingFailed
from ktrdr_mcp.nn.settings import TrainedNetwork
from ktrdr_mcp.training import estimate
from ktrdr_mcp.training.candidates import candidate_of
from ktrdr_mcp.training.checkpointer import Checkpointer
from ktrdr_mcp.training.duration import Workload
from ktrdr_mcp.training.handover import take_prepared
from ktrdr_mcp.training.learners import MAIN, CandidateData, Learner, fit, splits_of_task
from ktrdr_mcp.training.spec import TrainingSpec

BATCH_S: Final = 4.0  # of typical work in one batch, beside which handing it over costs little
# Of all batches of a call: with less, another worker would hardly have begun when one is done.
SPREAD_S: Final = 2 * BATCH_S
LEAST_NETWORKS: Final = 16  # of a batch; fewer pay the fixed part of each step too often


@dataclass(frozen=True, eq=False)
class Batch:
    """Networks that train together.

    Args:
        places: of its learners among those that were cut.
        learners: of one shape, batch size, labels and strategy.
        seconds: that they take typically.
    """

    places: Sequence[int]
    learners: Sequence[Learner]
    seconds: float


def in_groups(learners: Sequence[Learner]) -> list[list[int]]:
    """The places of learners that can train as one batch, group by group in order of appearance.

    Surrogates have bars of their own and share a batch with their candidate's group.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for place, learner in enumerate(learners):
        key = (learner.candidate.group, learner.shape.inputs)
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def in_batches(learners: Sequence[Learner], *, cut: bool) -> list[Batch]:
    """Learners by group, in order of appearance.

    Args:
        learners: of any groups.
        cut: whether groups of much work are cut into several batches of about BATCH_S.
    """
    found = []
    for places in in_groups(learners):
        seconds = typical_seconds([learners[place] for place in places])
        each = max(LEAST_NETWORKS, int(BATCH_S * len(places) / seconds)) if cut else len(places)
        for chosen in np.array_split(places, -(-len(places) // each)):
            share = seconds * len(chosen) / len(places)
            found.append(Batch(chosen.tolist(), [learners[place] for place in chosen], share))
    return found


def are_worth_spreading(batches: Collection[Batch]) -> bool:
    """Whether batches take so long that other workers should train some; surrogates never do."""
    return (
        len(batches) > 1
        and sum(batch.seconds for batch in batches) >= SPREAD_S
        and not any(each.role == "twin" for batch in batches for each in batch.learners)
    )


def typical_seconds(learners: Sequence[Learner]) -> float:
    """What learners of one group take on the machine that the constants were measured on."""
    config = learners[0].candidate.config
    work = Workload(
        learners[0].shape,
        config.batch_size,
        config.epochs,
        [len(each.split.train) for each in learners],
        len(learners[0].dataset.label),
        views=len({id(each.view) for each in learners}),
        dropout=any(each.candidate.config.dropout_rate > 0 for each in learners),
    )
    return work.seconds()


def memory_bytes(learners: Sequence[Learner], strategy: str) -> int:
    """An upper estimate of what a batch needs.

    Args:
        learners: of the batch.
        strategy: the name of the task's own, whose indicators are held beside those of any other.
    """
    first = learners[0]
    tables = {id(each.dataset.series[0].table) for each in learners}
    own = any(each.candidate.strategy.name == strategy and each.role != "twin" for each in learners)
    return estimate.Needs(
        first.shape,
        first.candidate.config.batch_size,
        len(first.dataset.label),
        networks=len(learners),
        columns=len(first.view.feature_names) if first.view.windows else None,
        views=len({id(each.view) for each in learners}),
        tables=len(tables) + (not own),
    ).bytes


def part_of(batch: Batch, name: str, networks: int, strategy: str) -> Part:
    """A batch as a part of its task.

    Args:
        batch: without surrogates, whose bars are not stored.
        name: the part's.
        networks: of the whole search.
        strategy: the name of the task's own.
    """
    settings = {each.candidate.number: dict(each.candidate.settings) for each in batch.learners}
    return Part(
        name,
        {
            "candidates": [[number, each] for number, each in settings.items()],
            "networks": [[each.candidate.number, each.fold] for each in batch.learners],
            "bars": fingerprint(batch.learners[0].dataset.series[0].bars),
            "memory_bytes": memory_bytes(batch.learners, strategy),
        },
        len(batch.learners) / networks,
    )


def train_part(
    raw_spec: Mapping[str, Any], directory: Path, context: Context, sources: BarReader
) -> dict[str, Any]:
    """Trains one batch of a search; its networks are the state at its end.

    Args:
        raw_spec: the task's specification, and in it as "part" what `part_of` made.
        directory: that the part was given; its checkpoints lie beside it.
        context: the way to the world.
        sources: where bars come from.
    Returns:
        how all of its networks diverged, if they did, and after how many seconds.
    Raises:
        KtrdrError: the bars do not carry them any more.
        Cancelled: the part was asked to stop.
    """
    spec, part = TrainingSpec.from_dict(raw_spec), raw_spec["part"]
    learners = learners_of_part(spec, part, directory, sources)
    trained = train_batch(learners, directory.with_name(CHECKPOINTS), spec, context)
    return {"diverged": trained.diverged, "seconds": trained.seconds}


def learners_of_part(
    spec: TrainingSpec, part: Mapping[str, Any], directory: Path, sources: BarReader
) -> list[Learner]:
    """The networks that a part trains; arguments as of `train_part`. Raises KtrdrError."""
    prepared = take_prepared(directory, spec, sources)
    splits, data = splits_of_task(prepared, spec), CandidateData(prepared, spec)
    candidates = {number: candidate_of(spec, number, each) for number, each in part["candidates"]}
    found = [
        data.learner("main", candidates[number], MAIN, splits.main)
        if split == MAIN
        else data.learner("fold", candidates[number], split, splits.folds[split])
        for number, split in part["networks"]
    ]
    if None in found:
        raise TrainingFailed(
            "The bars of this training have changed since it began.",
            hint="Start it again under another task_id.",
        )
    return [each for each in found if each is not None]


@dataclass(frozen=True)
class TrainedBatch:
    """What came of a batch.

    Args:
        networks: one for each learner; empty where all of them diverged.
        diverged: a sentence, where all of them did.
        seconds: of training, over all attempts.
    """

    networks: Sequence[TrainedNetwork]
    diverged: str | None
    seconds: float


def train_batch(
    learners: Sequence[Learner], folder: Path, spec: TrainingSpec, context: Context
) -> TrainedBatch:
    """Trains a batch, or reads what was trained. Raises Cancelled.

    Args:
        learners: of one group.
        folder: of its checkpoints.
        spec: the task.
        context: the way to the world.
    """
    checkpointer = Checkpointer(folder, spec, context, keep_end=True)
    try:
        networks = fit(learners, checkpointer)
    except Diverged as diverged:
        return TrainedBatch([], diverged.message, checkpointer.training_s)
    return TrainedBatch(networks, None, checkpointer.training_s)
