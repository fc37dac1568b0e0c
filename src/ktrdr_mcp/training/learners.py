"""The networks that a task trains: each a candidate on the rows of one split."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.errors import DataError
from ktrdr_mcp.evaluation.blocks import reach_bars
from ktrdr_mcp.evaluation.metrics import balanced_weights
from ktrdr_mcp.evaluation.walk_forward import (
    Split,
    Timeline,
    WalkForward,
    chronological,
    flip_signs,
    sign_flip_surrogate,
    walk_forward,
)
from ktrdr_mcp.features import build
from ktrdr_mcp.labels import registry as labels
from ktrdr_mcp.nn.network import (
    ROWS_AT_ONCE,
    WINDOWED,
    Estimator,
    Network,
    Weights,
    network_of,
    probabilities,
)
from ktrdr_mcp.nn.settings import (
    NetworkSettings,
    TrainedNetwork,
    TrainerSettings,
    TrainingRows,
)
from ktrdr_mcp.schemas.config import EffectiveConfig
from ktrdr_mcp.training import estimate
from ktrdr_mcp.training.candidates import Candidate, labels_vary, longest_horizon, own_candidates
from ktrdr_mcp.training.dataset import Dataset, Integers, View, label_series, series_of, view_of
from ktrdr_mcp.training.prepare import Prepared
from ktrdr_mcp.training.spec import TrainingSpec

if TYPE_CHECKING:  # the server plans learners, and imports no torch
    from ktrdr_mcp.training.checkpointer import Checkpointer

SURROGATES: Final = 4
# a surrogate predicts the last 60 % of its rows, after training on those before
SURROGATE_SPLIT: Final = WalkForward(folds=1, span=0.6, window="expanding")
MAIN: Final = -1  # the number of the main split; folds are numbered from 0


@dataclass(frozen=True, eq=False)
class Learner:
    """One network: what it learns from and what it is tested on.

    Args:
        role: whether it may be kept, is one of a fold, or of a sign-flip surrogate.
        candidate: whose network it is.
        fold: the number of its fold, from 0; MAIN for the others.
        dataset: of its labels and indicators.
        view: fitted on its own training rows.
        split: its rows.
    """

    role: Literal["main", "fold", "twin"]
    candidate: Candidate
    fold: int
    dataset: Dataset
    view: View
    split: Split

    @property
    def seed(self) -> int:
        """Decides initial weights, order of rows and dropout."""
        return self.candidate.seed

    @cached_property
    def shape(self) -> Network:
        """Of its network."""
        return network_of(len(self.view.input_names), self.candidate.config.model_dump())


@dataclass(frozen=True, eq=False)
class Splits:
    """The rows that all candidates of a task share.

    Args:
        main: the specification's split.
        folds: of the walk-forward, in the order of time.
        timeline: when the rows are, with the longest labels of all.
    """

    main: Split
    folds: list[Split]
    timeline: Timeline

    @property
    def all(self) -> list[Split]:
        """The main split, then the folds."""
        return [self.main, *self.folds]

    def before(self, split: int) -> list[int]:
        """The splits whose validation may choose for one: all of its rows before that one's test.

        Args:
            split: the number of a fold, or MAIN.
        Returns:
            numbers of folds, and last how many there are for the main split.
        """
        if split != MAIN:
            return list(range(split + 1))
        tested = self.timeline.at[self.main.test[0]]
        before = [
            number
            for number, fold in enumerate(self.folds)
            if self.timeline.until[fold.validation].max() < tested
        ]
        return [*before, len(self.folds)]


def splits_of_task(prepared: Prepared, spec: TrainingSpec) -> Splits:
    """The splits of a task: of rows that every strategy and every label of it can use.

    Raises:
        DataError: a strategy cannot be computed on these bars.
    """
    dataset, config = prepared.dataset, spec.config
    usable, timeline = dataset.usable, dataset.timeline
    main = prepared.split
    if spec.alternatives or labels_vary(spec):
        usable, timeline = shared_rows(dataset, spec)
        main = chronological(usable, timeline, config.validation_split, config.test_split)
    how = config.walk_forward
    folds = (
        []
        if how is None
        else cut(usable, timeline, config, WalkForward(how.folds, how.span, how.window))
    )
    return Splits(main, folds, timeline)


def shared_rows(dataset: Dataset, spec: TrainingSpec) -> tuple[Integers, Timeline]:
    """The rows that have features and labels under every candidate of a task, and their timeline.

    Args:
        dataset: of the task's own settings.
        spec: the task.
    """
    usable, timeline = dataset.usable, dataset.timeline
    for other in spec.alternatives.values():
        tables = [build.compute_indicators(one.bars, other.strategy) for one in dataset.series]
        first = [
            max(one.first, table.warm_up_bars)
            for one, table in zip(dataset.series, tables, strict=True)
        ]
        usable = usable[bars_from(dataset, usable, first)]
    if labels_vary(spec):
        usable, timeline = with_longest_labels(dataset, usable, longest_horizon(spec))
    return usable, timeline


def bars_from(dataset: Dataset, rows: Integers, first: Sequence[int]) -> npt.NDArray[np.bool_]:
    """bool[n], which rows are not before the first bar of their series."""
    starts = np.repeat(
        dataset.starts[:-1] + np.array(first), [len(one.bars) for one in dataset.series]
    )
    chosen: npt.NDArray[np.bool_] = rows >= starts[rows]
    return chosen


def with_longest_labels(
    dataset: Dataset, usable: Integers, horizon: int
) -> tuple[Integers, Timeline]:
    """Usable rows, and a timeline, under labels that all look as far ahead as the longest.

    Args:
        dataset: the series.
        usable: int64[n].
        horizon: bars ahead.
    """
    place = [dataset.at(np.arange(*dataset.starts[n : n + 2])) for n in range(len(dataset.series))]
    until = np.concatenate(
        [np.r_[each[horizon:], np.full(min(horizon, len(each)), -1)] for each in place]
    )
    return usable[until[usable] >= 0], Timeline(dataset.timeline.at, until)


class CandidateData:
    """The datasets and views of a task's candidates; each is computed once.

    Args:
        prepared: of the task's own settings.
        spec: the task.
    """

    def __init__(self, prepared: Prepared, spec: TrainingSpec) -> None:
        self.own = prepared.dataset
        self._spec = spec
        self._tables = {spec.strategy.name: [one.table for one in self.own.series]}
        self._datasets = {(spec.strategy.name, label_key(spec.config)): self.own}
        self._views: dict[tuple[str, int], View | None] = {
            (spec.strategy.name, id(prepared.split)): prepared.view
        }
        self._splits = [prepared.split]  # keeps their ids

    def dataset(self, candidate: Candidate) -> Dataset:
        """A candidate's indicators and labels. Raises DataError."""
        strategy, config = candidate.strategy, candidate.config
        key = (strategy.name, label_key(config))
        if key not in self._datasets:
            series = self.own.series
            if strategy.name not in self._tables:
                self._tables[strategy.name] = [
                    build.compute_indicators(one.bars, strategy) for one in series
                ]
            tables = self._tables[strategy.name]
            self._datasets[key] = Dataset(
                strategy,
                tuple(
                    label_series(one.bars, one.first, table, config.labels)
                    for one, table in zip(series, tables, strict=True)
                ),
            )
        return self._datasets[key]

    def learner(
        self, role: Literal["main", "fold"], candidate: Candidate, fold: int, split: Split
    ) -> Learner | None:
        """A candidate's network on a split; None where a part of its data does not vary.

        Raises:
            DataError: of the main split of a task's own settings.
        """
        key = (candidate.strategy.name, id(split))
        with contextlib.suppress(DataError):
            dataset = self.dataset(candidate)
            if key not in self._views:
                self._splits.append(split)
                self._views[key] = view_or_none(dataset, split)
            view = self._views[key]
            rows = np.concatenate([split.train, split.validation, split.test])
            if view is not None and (dataset.label[rows] >= 0).all():
                return Learner(role, candidate, fold, dataset, view, split)
        return None


def view_or_none(dataset: Dataset, split: Split) -> View | None:
    """Features as the split's training rows fit them; None where these do not carry them."""
    with contextlib.suppress(DataError):
        return view_of(dataset, split.train)
    return None


def label_key(config: EffectiveConfig) -> str:
    """The same for equal labels."""
    return repr(sorted(config.labels.items()))


def learners_of(
    candidates: Sequence[Candidate], splits: Splits, data: CandidateData
) -> list[Learner]:
    """The networks of candidates on every split: those that may be kept, then fold by fold."""
    kept = [data.learner("main", each, MAIN, splits.main) for each in candidates]
    folds = [
        data.learner("fold", each, number, split)
        for number, split in enumerate(splits.folds)
        for each in candidates
    ]
    return [each for each in (*kept, *folds) if each is not None]


def make_learners(prepared: Prepared, spec: TrainingSpec) -> list[Learner]:
    """All networks of a task without a search, in one batch; those that may be kept come first.

    Args:
        prepared: the data and the specification's split.
        spec: how many seeds, which folds, whether surrogates.
    """
    candidates = own_candidates(spec)
    splits, data = splits_of_task(prepared, spec), CandidateData(prepared, spec)
    found = learners_of(candidates, splits, data)
    if spec.choice is None:  # seeds vary the kept network alone
        found = [each for each in found if each.role == "main" or each.candidate.number == 1]
    return found + make_surrogates(prepared.dataset, candidates[0])


def make_surrogates(dataset: Dataset, candidate: Candidate) -> list[Learner]:
    """A candidate's networks on sign-flip surrogates of its bars, where it asks for them."""
    numbers = range(SURROGATES if candidate.config.control else 0)
    found = (surrogate_of(dataset, candidate, number) for number in numbers)
    return [each for each in found if each is not None]


def cut(
    usable: Integers, timeline: Timeline, config: EffectiveConfig, how: WalkForward
) -> list[Split]:
    """Folds with the same share of validation rows as the main split's training part has."""
    share = config.validation_split / (1 - config.test_split)
    return walk_forward(usable, timeline, share, how)


def surrogates_fit(prepared: Prepared, config: EffectiveConfig) -> bool:
    """Whether the rows are enough for a surrogate, which has about as many as the bars."""
    own = prepared.dataset
    return bool(cut(own.usable, own.timeline, config, SURROGATE_SPLIT))


def surrogate_of(own: Dataset, candidate: Candidate, number: int) -> Learner | None:
    """A network that is trained on a sign-flip surrogate of the bars, if that can be."""
    config = candidate.config
    with contextlib.suppress(DataError):
        signs = flip_signs(len(own.timestamps), config.seed, number)
        dataset = flip_moves(own, signs, config)
        splits = cut(dataset.usable, dataset.timeline, config, SURROGATE_SPLIT)
        if splits:
            view = view_of(dataset, splits[0].train)
            return Learner("twin", candidate, MAIN, dataset, view, splits[0])
    return None


def horizon_of(learner: Learner, trained: Integers) -> int:
    """How far a candidate's labels look ahead, in bars, for the width of blocks.

    Args:
        learner: one of its networks.
        trained: int64[n], the training rows of the main split.
    """
    timeline = learner.dataset.timeline
    ahead = timeline.until[trained] - timeline.at[trained]
    return reach_bars(labels.horizon_bars(learner.candidate.config.labels), ahead)


def flip_moves(own: Dataset, signs: npt.NDArray[np.float64], config: EffectiveConfig) -> Dataset:
    """A dataset of the same series, whose moves have got a sign for each timestamp.

    Args:
        own: the series.
        signs: float64[timestamps], +1 or -1.
        config: whose labels.
    Raises:
        DataError: a flipped series does not carry the indicators.
    """
    series = []
    for one in own.series:
        at = np.searchsorted(own.timestamps, one.bars.time)
        bars = sign_flip_surrogate(one.bars, signs[at])
        series.append(series_of(bars, one.first, own.strategy, config.labels))
    return Dataset(own.strategy, tuple(series))


def fit(learners: Sequence[Learner], checkpointer: Checkpointer) -> list[TrainedNetwork]:
    """Trains learners of one group, each on its training rows, watched on its validation rows.

    Args:
        learners: the networks; those that may be kept come first.
        checkpointer: trains, and keeps the training's state.
    Returns:
        one result for each learner.
    """
    networks = [
        NetworkSettings(
            seed=learner.seed,
            learning_rate=learner.candidate.config.learning_rate,
            weight_decay=learner.candidate.config.weight_decay,
            dropout_rate=learner.candidate.config.dropout_rate,
        )
        for learner in learners
    ]
    config = learners[0].candidate.config
    reported = sum(learner.role == "main" for learner in learners)
    settings = trainer_settings(config, reported or None)
    return checkpointer.train(learners[0].shape, settings, networks, stack(learners, config))


def stack(learners: Sequence[Learner], config: EffectiveConfig) -> TrainingRows:
    """The learners' data, one below the other; those that share a view share its rows."""
    first_of: dict[int, Learner] = {}
    for learner in learners:
        first_of.setdefault(id(learner.view), learner)
    owners = list(first_of.values())
    computed = ComputedRows([learner.view for learner in owners])
    offset = dict(zip(first_of, computed.starts.tolist(), strict=False))
    rows, columns = computed.shape
    with_ones = None
    if estimate.stored_bytes(rows, columns) <= estimate.MOST_STORED_BYTES:
        with_ones = np.ones((rows, columns + 1), dtype=np.float32)
        start = 0
        for block in computed.blocks():
            with_ones[start : start + len(block), :-1] = block
            start += len(block)
    return TrainingRows(
        features=computed if with_ones is None else with_ones[:, :-1],
        with_ones=with_ones,
        labels=np.concatenate([learner.dataset.label for learner in owners]),
        train_rows=[learner.split.train + offset[id(learner.view)] for learner in learners],
        validation_rows=[
            learner.split.validation + offset[id(learner.view)] for learner in learners
        ],
        row_weights=(
            np.concatenate([class_weights_of_rows(learner) for learner in owners])
            if config.class_weights
            else None
        ),
        windows=owners[0].view.windows,
    )


class ComputedRows:
    """The rows of several views, one below the other, computed from the indicators they share.

    Args:
        views: of as many features.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views
        self.starts = np.cumsum([0, *(int(view.dataset.starts[-1]) for view in views)])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return int(self.starts[-1]), len(self._views[0].feature_names)

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """(n, features) of all rows in order, some at a time."""
        for view in self._views:
            yield from (block.astype(np.float32) for block in view.blocks())

    def write_inputs(self, rows: npt.NDArray[np.int32], out: npt.NDArray[np.float32]) -> None:
        """Writes what a network sees of some rows; see nn.settings.ComputedFeatures."""
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(owner):
            own = owner == number
            within = rows.astype(np.int64) - self.starts[number]
            if own.all():
                self._views[number].write_inputs(within, out)
            else:
                out[own] = self._views[number].inputs(within[own])


def probabilities_of_rows(
    shape: Estimator, weights: Weights, view: View, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(rows, classes) what a network says of some rows, in evaluation mode."""
    at_once = ROWS_AT_ONCE if view.windows is None else WINDOWED
    parts = [
        probabilities(shape, weights, view.inputs(rows[start : start + at_once]))
        for start in range(0, len(rows), at_once)
    ]
    return np.concatenate(parts) if parts else np.empty((0, shape.outputs))


def class_weights_of_rows(learner: Learner) -> npt.NDArray[np.float64]:
    """(rows,) the balanced weight of each row's class, by the learner's own training rows."""
    label = learner.dataset.label
    weights = np.array(balanced_weights(label[learner.split.train]))
    return np.where(label >= 0, weights[label], 0.0)


def trainer_settings(config: EffectiveConfig, reported: int | None) -> TrainerSettings:
    """What all networks of a group share.

    Args:
        config: of one of its candidates.
        reported: progress is the mean of the first so many; of all if None.
    """
    stopping = config.early_stopping
    scheduler = config.lr_scheduler
    return TrainerSettings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimizer=config.optimizer,
        momentum=config.momentum,
        gradient_clip=config.gradient_clip,
        scheduler=scheduler.model_dump(exclude_none=True) if scheduler else None,
        patience=stopping.patience if stopping else None,
        monitor=stopping.monitor if stopping else "val_loss",
        device=config.device,
        reported_networks=reported,
    )
