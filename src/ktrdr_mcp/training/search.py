"""All candidates of a task, trained on every split, and the choice among them for each.

The candidates of all folds are one set, so whatever proposes them may know only rows before every
test window: TPE is told validation scores of the first fold, the other samplers are told nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from ktrdr_mcp.context import CHECKPOINTS, Context
from ktrdr_mcp.errors import Diverged
from ktrdr_mcp.evaluation.blocks import block_width
from ktrdr_mcp.nn.settings import TrainedNetwork
from ktrdr_mcp.schemas.space import STRATEGY
from ktrdr_mcp.training.candidates import (
    Candidate,
    Settings,
    candidates_count,
    candidates_of,
    longest_horizon,
    own_candidates,
    value_in,
)
from ktrdr_mcp.training.checkpointer import Checkpointer
from ktrdr_mcp.training.choice import (
    HORIZONS_PER_BLOCK,
    Choice,
    Scores,
    ValidationScore,
    choose,
    validation_score,
)
from ktrdr_mcp.training.learners import (
    MAIN,
    CandidateData,
    Learner,
    Splits,
    fit,
    horizon_of,
    learners_of,
    make_learners,
    make_surrogates,
    probabilities_of_rows,
    splits_of_task,
)
from ktrdr_mcp.training.prepare import Prepared
from ktrdr_mcp.training.proposals import Proposal, Proposals, dimensions_of
from ktrdr_mcp.training.spec import TrainingSpec
from ktrdr_mcp.training.stages import Stages

Pair = tuple[Learner, TrainedNetwork]


@dataclass(frozen=True, eq=False)
class Searched:
    """Every candidate of a task with its networks.

    Args:
        spec: the task.
        splits: the rows that all share.
        candidates: in the order of their numbers.
        pairs: every network of theirs, by number of the candidate and of the split.
        surrogates: on bars without anything to foresee.
        seconds: of training.
    """

    spec: TrainingSpec
    splits: Splits
    candidates: Sequence[Candidate]
    pairs: Mapping[tuple[int, int], Pair]
    surrogates: Sequence[Pair]
    seconds: float

    def pair(self, candidate: Candidate, split: int) -> Pair | None:
        """A candidate's network on a split; None where it has none that predicts."""
        found = self.pairs.get((candidate.number, split))
        return None if found is None or found[1].diverged is not None else found

    @cached_property
    def horizon(self) -> int:
        """The longest look ahead of any candidate, in bars; blocks are cut by it."""
        trained = self.splits.main.train
        mains = [pair[0] for (_, split), pair in self.pairs.items() if split == MAIN]
        return max([longest_horizon(self.spec), *(horizon_of(each, trained) for each in mains)])

    @cached_property
    def scores(self) -> Scores:
        """Each candidate's validation scores: of every fold, and last of the main split."""
        splits = [*range(len(self.splits.folds)), MAIN]
        return [
            [self._score(self.pair(candidate, split)) for split in splits]
            for candidate in self.candidates
        ]

    def _score(self, pair: Pair | None) -> ValidationScore | None:
        """Of one network."""
        return None if pair is None else score_of(*pair, self.horizon)

    @cached_property
    def choices(self) -> list[Choice | None]:
        """The choice for every fold, and last the kept network's."""
        splits = [*range(len(self.splits.folds)), MAIN]
        if self.spec.choice == "nested":
            return [choose(self.scores, self.splits.before(split)) for split in splits]
        only = self.candidates[0]
        folds = [Choice(0, by_default=False) if self.pair(only, n) else None for n in splits[:-1]]
        return [*folds, self._best_seed()]

    def _best_seed(self) -> Choice | None:
        """The seed that is best at its best epoch; of tasks whose seeds vary the kept one alone."""
        stopping = self.spec.config.early_stopping
        by_loss = stopping is None or stopping.monitor == "val_loss"

        def rank(number: int) -> tuple[float, float]:
            _, network = self.pairs[self.candidates[number].number, MAIN]
            best = network.history[network.best_epoch - 1]
            return (0.0 if by_loss else -best.val_accuracy, best.val_loss)

        finite = [n for n, each in enumerate(self.candidates) if self.pair(each, MAIN)]
        return Choice(min(finite, key=rank), by_default=False) if finite else None

    @property
    def kept(self) -> Pair:
        """The network that is kept. Raises Diverged if there is none."""
        choice = self.choices[-1]
        pair = None if choice is None else self.pair(self.candidates[choice.candidate], MAIN)
        if pair is None:
            sentences = [
                network.diverged
                for (_, split), (_, network) in self.pairs.items()
                if split == MAIN and network.diverged
            ]
            raise Diverged(
                next(iter(sentences), "The loss stopped being a finite number."),
                hint="Start again with a lower learning_rate, or set gradient_clip (1.0).",
                field="config.learning_rate",
            )
        return pair

    def select_judged(self) -> list[Pair]:
        """The networks that are judged: the kept one, each fold's, and the surrogates'.

        A fold of which every network diverged has one of these.
        """
        found = [self.kept]
        for fold, choice in enumerate(self.choices[:-1]):
            pair = self.pair(self.candidates[choice.candidate], fold) if choice else None
            lost = (self.pairs.get((each.number, fold)) for each in self.candidates)
            pair = pair or next((each for each in lost if each is not None), None)
            if pair is not None:
                found.append(pair)
        return [*found, *self.surrogates]


def score_of(learner: Learner, network: TrainedNetwork, horizon: int) -> ValidationScore:
    """A network's score on its validation rows.

    Args:
        learner: which rows.
        network: its weights.
        horizon: the longest look ahead of any candidate, in bars.
    """
    dataset, rows = learner.dataset, learner.split.validation
    return validation_score(
        probabilities_of_rows(learner.shape, network.weights, learner.view, rows),
        dataset.label[rows],
        dataset.at(rows),
        dataset.timestamps,
        block_width(len(rows), HORIZONS_PER_BLOCK * horizon),
    )


def search(spec: TrainingSpec, prepared: Prepared, directory: Path, context: Context) -> Searched:
    """Trains every candidate of a task.

    Args:
        spec: the task.
        prepared: its data.
        directory: of its bundle; checkpoints lie beside it.
        context: the way to the world.
    Raises:
        KtrdrError: no candidate has a network.
        Cancelled: the training was asked to stop.
    """
    if spec.config.sweep is None:
        return train_own(spec, prepared, directory, context)
    return Sweeping(spec, prepared, directory, context).run()


def train_own(
    spec: TrainingSpec, prepared: Prepared, directory: Path, context: Context
) -> Searched:
    """A task whose candidates differ in seed alone: one batch; arguments as in `search`."""
    learners = make_learners(prepared, spec)
    checkpointer = Checkpointer(directory.with_name(CHECKPOINTS), spec, context)
    pairs = list(zip(learners, fit(learners, checkpointer), strict=True))
    return Searched(
        spec,
        splits_of_task(prepared, spec),
        own_candidates(spec),
        by_place(pairs),
        [pair for pair in pairs if pair[0].role == "twin"],
        checkpointer.training_s,
    )


def by_place(pairs: Sequence[Pair]) -> dict[tuple[int, int], Pair]:
    """Networks by candidate and split, without the surrogates."""
    return {
        (pair[0].candidate.number, pair[0].fold): pair for pair in pairs if pair[0].role != "twin"
    }


class Sweeping:
    """A search over settings, as it goes on; arguments as in `search`."""

    def __init__(
        self, spec: TrainingSpec, prepared: Prepared, directory: Path, context: Context
    ) -> None:
        assert spec.config.sweep is not None  # noqa: S101
        self._spec = spec
        self._splits = splits_of_task(prepared, spec)
        self._data = CandidateData(prepared, spec)
        own = own_values(spec)
        self._proposals = Proposals(spec, own)
        networks = candidates_count(spec) * len(self._splits.all)
        self._stages = Stages(directory, spec, context, networks)
        self._candidates: list[Candidate] = []
        self._pairs: list[Pair] = []

    def run(self) -> Searched:
        """Tries all proposals, batch by batch where the sampler learns, then the other splits."""
        tried = self._proposals.first()
        learns = self._spec.config.sweep is not None and self._spec.config.sweep.sampler == "tpe"
        if learns:
            while tried:
                self._proposals.tell(tried, self._try_on_first(tried))
                tried = self._proposals.following()
        else:
            self._add(tried)
        self._train(self._find_untrained())
        searched = self._collect([])
        if self._spec.config.control:
            learner, _ = searched.kept
            twins = make_surrogates(learner.dataset, learner.candidate)
            trained = self._stages.train(twins) if twins else []
            searched = self._collect(list(zip(twins, trained, strict=True)))
        return searched

    def _collect(self, surrogates: Sequence[Pair]) -> Searched:
        """What there is now."""
        return Searched(
            self._spec,
            self._splits,
            self._candidates,
            by_place(self._pairs),
            surrogates,
            self._stages.training_s,
        )

    def _add(self, tried: Sequence[Proposal]) -> list[Candidate]:
        """Makes candidates of proposals."""
        settings = [each.settings for each in tried]
        added = candidates_of(self._spec, settings, len(self._candidates))
        self._candidates += added
        return added

    def _train(self, learners: Sequence[Learner]) -> list[Pair]:
        """Trains networks and keeps them."""
        pairs = list(zip(learners, self._stages.train(learners), strict=True))
        self._pairs += pairs
        return pairs

    @property
    def _first(self) -> int:
        """The split whose validation rows lie before every test: the first fold's."""
        return 0 if self._splits.folds else MAIN

    def _find_untrained(self) -> list[Learner]:
        """What is not trained yet; candidates that diverged or collapsed go no further.

        Where all have collapsed, they go on: the choice is among what there is, with any sampler.
        """
        known = by_place(self._pairs)
        ended = {number for (number, _), pair in known.items() if self._score(pair) is None}
        if len(ended) == len(self._candidates):
            ended = {number for (number, _), (_, network) in known.items() if network.diverged}
        going = [each for each in self._candidates if each.number not in ended]
        return [
            each
            for each in learners_of(going, self._splits, self._data)
            if (each.candidate.number, each.fold) not in known
        ]

    def _try_on_first(self, tried: Sequence[Proposal]) -> list[float | None]:
        """Trains proposals on the first split alone: the mean score of each over its seeds."""
        candidates = self._add(tried)
        only = Splits(self._splits.main, self._splits.folds[:1], self._splits.timeline)
        learners = [
            each for each in learners_of(candidates, only, self._data) if each.fold == self._first
        ]
        scores = {pair[0].candidate.number: self._score(pair) for pair in self._train(learners)}
        seeds = self._spec.config.seeds
        found: list[float | None] = []
        for start in range(0, len(candidates), seeds):
            own = [scores.get(each.number) for each in candidates[start : start + seeds]]
            known = [each for each in own if each is not None]
            found.append(fmean(known) if known else None)
        return found

    def _score(self, pair: Pair) -> float | None:
        """A network's validation score; None if it diverged or collapsed."""
        learner, network = pair
        if network.diverged is not None:
            return None
        horizon = max(longest_horizon(self._spec), horizon_of(learner, self._splits.main.train))
        score = score_of(learner, network, horizon)
        return None if score.collapsed else score.statistic


def own_values(spec: TrainingSpec) -> Settings:
    """A task's own values of the settings that vary, by dotted name."""
    sweep, config = spec.config.sweep, spec.config.model_dump()
    if sweep is None:
        return {}
    return {
        each.name: spec.strategy.name if each.name == STRATEGY else value_in(config, each.name)
        for each in dimensions_of(sweep)
    }


def count_groups(candidates: Sequence[Candidate]) -> int:
    """How many groups candidates train in."""
    return len({each.group for each in candidates})
