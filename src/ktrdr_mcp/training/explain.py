"""What a trained model learned: the features that its foresight rests on, and how it answers.

The folds' networks lie in `folds.safetensors` beside the task's bundle. Each group of features, an
indicator with its sets and window, is shuffled in blocks over the folds' test rows: what is lost of
the directional score is its importance.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import files
from ktrdr_mcp.data.bars import fingerprint
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.errors import Conflict, DataInvalid, ResultRemoved, StorageError
from ktrdr_mcp.features.registry import check, features_of
from ktrdr_mcp.nn import network as networks
from ktrdr_mcp.nn.network import probabilities
from ktrdr_mcp.nn.settings import TrainedNetwork
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training.candidates import candidates_of
from ktrdr_mcp.training.dataset import View
from ktrdr_mcp.training.learners import CandidateData, Learner, splits_of_task
from ktrdr_mcp.training.prepare import Prepared, prepare
from ktrdr_mcp.training.spec import TrainingSpec

if TYPE_CHECKING:  # the server knows explanations, and imports no torch
    from torch import Tensor

FOLDS: Final = "folds.safetensors"
SETTINGS: Final = "settings"  # of a fold's candidate, as JSON in bytes
MAX_FOLDS_BYTES: Final = 1024**3
MAX_ROWS: Final = 20_000  # of all folds together; more are thinned out
PERMUTATIONS: Final = 10
BLOCK_ROWS: Final = 29  # shuffled together; a prime, so that no hour or weekday keeps its place
ERROR_ROWS: Final = 24  # of a block whose sum is one observation
FLIPS: Final = 5_000
LEVEL: Final = 0.02  # of all groups together
GRID_QUANTILES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
GRID_ROWS: Final = 400
MAX_RULES: Final = 3
RULE_INPUTS: Final = 8  # sets that are joined to pairs
MIN_COVERED: Final = 0.05  # of the rows, by a rule
ON: Final = 0.5

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Importance:
    """What is lost of the directional score where one group is shuffled.

    Args:
        group: the indicator's name.
        importance: mean loss of (p(buy) - p(sell)) times the direction that came, per row.
        error: of its blocks.
        p: that the largest of all groups is as large by luck.
    """

    group: str
    importance: float
    error: float
    p: float


@dataclass(frozen=True)
class Response:
    """The mean of p(buy) - p(sell) where two groups have certain values, over all folds.

    Args:
        groups: their names; one alone where the strategy has one.
        values: of each, quantiles of the folds' test rows, in the units that are fuzzified.
        direction: [value of the first][value of the second].
    """

    groups: list[str]
    values: list[list[float]]
    direction: list[list[float]]


@dataclass(frozen=True)
class Rule:
    """A rule that describes the folds' networks: where its sets are on, which way they lean.

    Args:
        when: "hour is late and rsi_7 is low".
        leans: "buy" or "sell", each network against its own median.
        covers: share of the folds' test rows where its sets are on.
        fidelity: share of those where the network of the row's fold leans so.
    """

    when: str
    leans: str
    covers: float
    fidelity: float


@dataclass(frozen=True)
class Explanation:
    """What a task's networks learned.

    Args:
        groups: the most important first.
        rows: test rows that were used.
        blocks: of which each sum is one observation.
        response: of the folds' networks on average.
        rules: of the same networks; none without fuzzy sets.
        critical: the importance by its error that the largest of all groups reaches by luck in 2 %.
    """

    groups: list[Importance]
    rows: int
    blocks: int
    response: Response | None
    rules: list[Rule] = field(default_factory=list)
    critical: float | None = None


@dataclass(frozen=True)
class FuzzyColumn:
    """Which output a fuzzy set belongs to, and the feature that it is."""

    output: str
    column: int


@dataclass(frozen=True, eq=False)
class FoldNetwork:
    """A fold's network on some of its test rows."""

    learner: Learner
    weights: dict[str, Tensor]
    rows: Rows
    inputs: Floats
    target: Floats  # +1 where buy came, -1 where sell, else 0

    @property
    def view(self) -> View:
        """Its features."""
        return self.learner.view

    @cached_property
    def sets(self) -> dict[str, FuzzyColumn]:
        """The fuzzy sets of its strategy, by what a rule says of them: "hour is late"."""
        place = {name: number for number, name in enumerate(self.view.feature_names)}
        return {
            f"{each.indicator_output} is {one.name}": FuzzyColumn(
                each.indicator_output, place[name]
            )
            for each in self.view.fits[0].strategy.fuzzy_inputs
            if not isinstance(each.sets, str)
            for one, name in zip(each.sets, features_of(each), strict=True)
        }

    @cached_property
    def features(self) -> Floats:
        """(rows, features) of its rows, scaled."""
        return self.view.features_of(self.rows)

    def values(self, group: str) -> Floats:
        """(rows,) of a group's first output, in the units that are fuzzified."""
        output = first_output(self.learner.dataset.strategy, group)
        return self.learner.dataset.series[0].table.features[output][self.rows]

    @cached_property
    def groups(self) -> dict[str, Rows]:
        """The inputs of each indicator that has some, by its name."""
        return groups_of(self.learner.dataset.strategy, self.view)

    def direction(self, inputs: Floats) -> Floats:
        """p(buy) - p(sell) of some inputs."""
        said = probabilities(self.learner.shape, self.weights, inputs)
        return np.asarray(said[:, 0] - said[:, 2])

    def score(self, inputs: Floats) -> Floats:
        """(rows,) the direction, less its mean, times what came."""
        direction = self.direction(inputs)
        return np.asarray((direction - direction.mean()) * self.target)


def keep_folds(folder: Path, chosen: Sequence[tuple[Learner, TrainedNetwork]]) -> None:
    """Keeps the folds' networks; a disk that takes nothing stops no training.

    Args:
        folder: of the task.
        chosen: the networks that are judged; those of folds are kept.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    for learner, network in chosen:
        if learner.role == "fold" and network.diverged is None:
            settings = files.json_bytes(dict(learner.candidate.settings))
            tensors[f"{learner.fold}.{SETTINGS}"] = torch.tensor(list(settings), dtype=torch.uint8)
            tensors |= {f"{learner.fold}.{name}": each for name, each in network.weights.items()}
    if not tensors:
        return
    try:
        files.replace(folder / FOLDS, networks.to_bytes(tensors))
    except StorageError as error:
        log.warning("the folds' networks are not kept: %s", error.message)


def read_folds(folder: Path, task_id: str) -> dict[int, dict[str, Tensor]]:
    """The folds' networks by number. Raises ResultRemoved if they are not there."""
    path = folder / FOLDS
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_FOLDS_BYTES:
        raise ResultRemoved(
            f"The folds' networks of task {task_id} are not kept.",
            hint="Call reproduce_training with this task_id, and explain_model with the"
            " reproduction's. A training without walk_forward has none.",
            field="task_id",
        )
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in networks.from_bytes(path.read_bytes()).items():
        fold, _, weight = name.partition(".")
        found.setdefault(int(fold), {})[weight] = tensor
    return found


def explain(
    raw_spec: dict[str, Any], folder: Path, data_fingerprint: str | None, sources: BarCatalog
) -> Explanation:
    """Explains a completed task.

    Args:
        raw_spec: its specification as JSON.
        folder: of the task.
        data_fingerprint: of the bars that it was trained on.
        sources: where bars come from.
    Raises:
        ResultRemoved: the folds' networks are not kept.
        DataInvalid: the bars are others by now.
    """
    spec = TrainingSpec.from_dict(raw_spec)
    kept = read_folds(folder, spec.task_id)
    prepared = prepare(spec, sources)
    dataset = prepared.dataset
    if data_fingerprint not in (None, fingerprint(dataset.series[0].bars)):
        raise DataInvalid(
            f"The stored bars have changed since task {spec.task_id} was trained.",
            hint="Train again on the bars that there are now, then explain that task.",
            field="task_id",
        )
    folds = list(fold_networks(spec, prepared, kept))
    if not folds:
        raise Conflict(
            f"Task {spec.task_id} has no walk-forward fold to explain.",
            hint="Train with walk_forward, which is on by default.",
            field="task_id",
        )
    importances, critical = importances_of(folds)
    blocks = sum(-(-len(fold.rows) // ERROR_ROWS) for fold in folds)
    return Explanation(
        groups=importances,
        rows=sum(len(fold.rows) for fold in folds),
        blocks=blocks,
        response=response_of(folds, [each.group for each in importances]),
        rules=rules_of(folds),
        critical=critical,
    )


def fold_networks(
    spec: TrainingSpec, prepared: Prepared, kept: dict[int, dict[str, Tensor]]
) -> Iterator[FoldNetwork]:
    """The networks of the folds that have one, in the order of time."""
    folds, data = splits_of_task(prepared, spec).folds, CandidateData(prepared, spec)
    chosen = [(n, split) for n, split in enumerate(folds) if n in kept]
    step = max(1, -(-sum(len(split.test) for _, split in chosen) // MAX_ROWS))
    for number, split in chosen:
        weights = dict(kept[number])
        settings = json.loads(bytes(weights.pop(SETTINGS).tolist()))
        (candidate, *_) = candidates_of(spec, [settings])
        learner = data.learner("fold", candidate, number, split)
        if learner is None:
            continue
        rows = split.test[::step]
        label = learner.dataset.label[rows]
        target = (label == 0).astype(np.float64) - (label == 2)
        yield FoldNetwork(learner, weights, rows, learner.view.inputs(rows), target)


def groups_of(strategy: Strategy, view: View) -> dict[str, Rows]:
    """The inputs of each indicator that has some, by its name."""
    owner = {name: each.spec.name for each in check(strategy) for name in each.outputs}
    by_feature = {
        name: owner[each.indicator_output]
        for each in strategy.fuzzy_inputs
        for name in features_of(each)
    }
    columns = [by_feature[name] for name in view.feature_names]
    inputs = range(len(columns)) if view.windows is None else view.windows.columns.tolist()
    found: dict[str, list[int]] = {}
    for place, column in enumerate(inputs):
        found.setdefault(columns[column], []).append(place)
    return {name: np.array(places) for name, places in found.items()}


def importances_of(folds: Sequence[FoldNetwork]) -> tuple[list[Importance], float]:
    """What the score loses with each group of any fold, the most first, and what luck reaches."""
    groups = list(dict.fromkeys(name for fold in folds for name in fold.groups))
    lost: dict[str, list[Floats]] = {name: [] for name in groups}
    for number, fold in enumerate(folds):
        base = fold.score(fold.inputs)
        starts = np.arange(0, len(base), ERROR_ROWS)
        for name in groups:
            places = fold.groups.get(name)
            generator = np.random.default_rng([number, len(base)])  # the same for every group
            scores = np.zeros(len(base)) if places is not None else PERMUTATIONS * base
            for _ in range(PERMUTATIONS if places is not None else 0):
                shuffled = fold.inputs.copy()
                order = shuffled_blocks(len(base), generator)
                shuffled[:, places] = fold.inputs[order][:, places]
                scores += fold.score(shuffled)
            lost[name].append(np.add.reduceat(base - scores / PERMUTATIONS, starts))
    sums = np.array([np.concatenate(each) for each in lost.values()])
    rows = sum(len(fold.rows) for fold in folds)
    spread = np.sqrt((sums**2).sum(axis=1))
    statistic = np.divide(sums.sum(axis=1), spread, out=np.zeros(len(sums)), where=spread > 0)
    largest = largest_by_luck(sums, spread)
    reached = (largest[:, None] >= statistic[None, :]).sum(axis=0)
    p = (1 + reached) / (FLIPS + 1)
    found = [
        Importance(name, float(total / rows), float(error / rows), float(chance))
        for name, total, error, chance in zip(groups, sums.sum(axis=1), spread, p, strict=True)
    ]
    order = np.argsort(-statistic, kind="stable")
    return [found[place] for place in order.tolist()], float(np.quantile(largest, 1 - LEVEL))


def shuffled_blocks(rows: int, generator: np.random.Generator) -> Rows:
    """An order of rows that keeps blocks together, from a random place on, round the end."""
    turned = np.roll(np.arange(rows), -int(generator.integers(rows)))
    blocks = np.array_split(turned, np.arange(BLOCK_ROWS, rows, BLOCK_ROWS))
    return np.concatenate([blocks[place] for place in generator.permutation(len(blocks))])


def largest_by_luck(sums: Floats, spread: Floats) -> Floats:
    """(flips,) the largest statistic of all groups where the signs of the blocks are random.

    Args:
        sums: (groups, blocks) what was lost.
        spread: (groups,) roots of the sums of squares.
    """
    generator = np.random.default_rng(0)
    signs = generator.choice(np.array([-1.0, 1.0]), (FLIPS, sums.shape[1]))
    scaled = np.divide(sums, spread[:, None], out=np.zeros_like(sums), where=spread[:, None] > 0)
    return np.asarray((signs @ scaled.T).max(axis=1))


def response_of(folds: Sequence[FoldNetwork], strongest: Sequence[str]) -> Response | None:
    """How the networks answer on average to the two strongest groups, with the rest as it was.

    Args:
        folds: their networks, each on its own test rows.
        strongest: the groups, the most important first.
    """
    if not strongest:
        return None
    first = strongest[0]
    having = [fold for fold in folds if first in fold.groups]
    second = next((n for n in strongest[1:] if any(n in fold.groups for fold in having)), None)
    chosen = [first] if second is None else [first, second]
    having = [fold for fold in having if all(name in fold.groups for name in chosen)]
    values = [
        np.quantile(np.concatenate([fold.values(name) for fold in having]), GRID_QUANTILES)
        for name in chosen
    ]
    weights = [len(fold.rows) for fold in having]
    grid = np.average([grid_of(fold, chosen, values) for fold in having], axis=0, weights=weights)
    return Response(
        chosen,
        [[float(f"{value:.4g}") for value in each] for each in values],
        [[round(float(mean), 3) for mean in line] for line in grid],
    )


def grid_of(fold: FoldNetwork, chosen: Sequence[str], values: Sequence[Floats]) -> Floats:
    """(values of the first group, of the second) the mean direction of one fold's network.

    A group's inputs are those of the row whose value is nearest, so that they belong together.
    """
    known = [fold.values(name) for name in chosen]
    rows = [
        [int(np.abs(own - value).argmin()) for value in each]
        for own, each in zip(known, values, strict=True)
    ]
    background = fold.inputs[:: max(1, len(fold.inputs) // GRID_ROWS)]
    grid = np.empty((len(rows[0]), len(rows[1]) if len(rows) > 1 else 1))
    for place in np.ndindex(grid.shape):
        inputs = background.copy()
        for number, name in enumerate(chosen):
            taken = fold.inputs[rows[number][place[number]]]
            inputs[:, fold.groups[name]] = taken[fold.groups[name]]
        grid[place] = fold.direction(inputs).mean()
    return grid


def first_output(strategy: Strategy, indicator: str) -> str:
    """The first output of an indicator that is an input."""
    outputs = next(each.outputs for each in check(strategy) if each.spec.name == indicator)
    named = {each.indicator_output for each in strategy.fuzzy_inputs}
    return next(name for name in outputs if name in named)


def rules_of(folds: Sequence[FoldNetwork]) -> list[Rule]:
    """The few rules over fuzzy sets that describe the networks best, on all their test rows.

    A set is on by the numbers that each fold placed it with; a network leans up where its
    direction is above its own median.
    """
    up = np.concatenate([leans_up(fold) for fold in folds])
    sets = {when: owner for fold in folds for when, owner in fold.sets.items()}
    where_on = {when: np.concatenate([is_on(fold, when) for fold in folds]) for when in sets}

    def make_rule(when: str, on: Marks) -> tuple[float, Rule]:
        share = float(up[on].mean())
        rule = Rule(
            when,
            "buy" if share >= 0.5 else "sell",
            round(float(on.mean()), 3),
            round(max(share, 1 - share), 3),
        )
        return float(on.mean()) * abs(2 * share - 1), rule

    single = sorted(
        (
            (*make_rule(when, on), sets[when].output, on)
            for when, on in where_on.items()
            if on.mean() >= MIN_COVERED
        ),
        key=lambda each: -each[0],
    )
    found = [(strength, rule) for strength, rule, _, _ in single]
    for (_, one, owner, on), (_, other, owner_of_other, also) in combinations(
        single[:RULE_INPUTS], 2
    ):
        both = on & also
        if owner != owner_of_other and both.mean() >= MIN_COVERED:
            found.append(make_rule(f"{one.when} and {other.when}", both))
    best = sorted(found, key=lambda each: (-each[0] * each[1].fidelity, each[1].when))
    return [rule for _, rule in best[:MAX_RULES]]


def leans_up(fold: FoldNetwork) -> Marks:
    """(rows,) where a network's direction is above its median."""
    direction = fold.direction(fold.inputs)
    return np.asarray(direction > np.median(direction))


def is_on(fold: FoldNetwork, when: str) -> Marks:
    """(rows,) where a set is on; nowhere in a fold whose strategy lacks it."""
    if when not in fold.sets:
        return np.zeros(len(fold.rows), dtype=np.bool_)
    column = fold.sets[when].column
    scaler = fold.view.fits[0].scaler
    degrees = fold.features[:, column] * scaler.scale[column] + scaler.shift[column]
    return np.asarray(degrees >= ON)
