"""A search that is cut into batches: the same bits wherever, and in whatever order, they train."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.context import (
    Cancelled,
    Divided,
    EpochFigures,
    NullContext,
    Part,
    Progress,
    folder_of,
)
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.files import json_bytes
from ktrdr_mcp.training import batches, estimate, pipeline
from ktrdr_mcp.training.batches import in_batches, in_groups
from ktrdr_mcp.training.learners import CandidateData, learners_of, splits_of_task
from ktrdr_mcp.training.proposals import Proposals
from ktrdr_mcp.training.search import Searched, Sweeping, own_values, search
from ktrdr_mcp.training.spec import TrainingSpec
from tests.training.conftest import OneSeries

CONFIG = {"epochs": 3, "hidden_layers": [8], "batch_size": 64, "walk_forward": {"folds": 2}}
SPACE = {"learning_rate": {"low": 1e-4, "high": 0.05, "log": True}, "hidden_layers": [[8], [5]]}
COUNTED = {"learning_rate": [0.001, 0.003, 0.01, 0.03], "hidden_layers": [[8], [5]]}


class Stateful(OneSeries):
    """A source that says which bars it has."""

    def state_of(self, symbol: str, timeframe: str) -> str:
        return "as it was"


@dataclass
class Recording(NullContext):
    """Counts turns, and hears where a run begins; may be told to drain after some turns."""

    drain_after: float = float("inf")
    turns: int = 0
    begun: list[int] = field(default_factory=list)

    def begin_at(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        total_epochs: int = 0,
    ) -> None:
        self.begun.append(epoch)

    def report(self, progress: Progress) -> None:
        super().report(progress)
        self.draining = progress.epoch >= self.drain_after

    def yield_turn(self) -> None:
        self.turns += 1
        if self.draining:
            raise Cancelled


@dataclass
class Spreading(Recording):
    """The context of a task whose parts run when the test runs them."""

    divides: bool = True
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run_parts(self, parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
        if any(part.name not in self.results for part in parts):
            raise Divided(parts)
        return self.results


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_S", 0.0)
    monkeypatch.setattr(batches, "SPREAD_S", 0.0)
    monkeypatch.setattr(batches, "LEAST_NETWORKS", 4)


@dataclass
class Task:
    """A search in a folder of its own."""

    spec: TrainingSpec
    directory: Path
    source: Stateful

    def search(self, context: NullContext) -> Searched:
        """One run of the task itself."""
        checkpoints = self.directory.with_name("checkpoints")
        prepared = pipeline.take_or_prepare(checkpoints, self.spec, self.source)
        return search(self.spec, prepared, self.directory, context)

    def run_part(self, part: Part, context: NullContext | None = None) -> dict[str, Any]:
        """One run of a part, whose specification has travelled as JSON."""
        raw = json.loads(json.dumps({**self.spec.to_dict(), "part": part.spec}))
        workdir = folder_of(self.directory, part.name) / "files"
        return pipeline.run_any(raw, workdir, context or NullContext(), self.source)

    def spread(self) -> tuple[Searched, list[list[Part]], Spreading]:
        """The search with all parts run, the last of each call first."""
        results: dict[str, dict[str, Any]] = {}
        asked = []
        while True:
            context = Spreading(results=results)
            try:
                return self.search(context), asked, context
            except Divided as divided:
                asked.append(divided.parts)
                for part in reversed(divided.parts):
                    results.setdefault(part.name, self.run_part(part))


@pytest.fixture
def make(trial: Any, noise: Bars) -> Callable[..., Task]:
    def task(
        folder: str,
        *,
        spread: bool = True,
        sampler: str = "qmc",
        vary: dict[str, Any] = SPACE,
        **config: Any,
    ) -> Task:
        sweep = {"trials": 6, "vary": vary, "sampler": sampler}
        spec = trial.spec({**CONFIG, "sweep": sweep, **config})
        spec = replace(spec, choice="nested", spread=spread, trials=6 if spread else None)
        return Task(spec, trial.root / folder / "bundle", Stateful(noise))

    return task


def same_bits(one: Searched, other: Searched) -> bool:
    """Whether two searches have the same candidates, networks and choices."""
    assert [each.settings for each in one.candidates] == [
        each.settings for each in other.candidates
    ]
    assert one.pairs.keys() == other.pairs.keys()
    for place, (_, network) in one.pairs.items():
        twin = other.pairs[place][1]
        assert (network.history, network.diverged) == (twin.history, twin.diverged)
        assert all((network.weights[n] == twin.weights[n]).all() for n in network.weights)
    return one.choices == other.choices


def learners(task: Task) -> list[Any]:
    """All networks of a task's first proposals."""
    prepared = pipeline.take_or_prepare(task.directory, task.spec, task.source)
    splits = splits_of_task(prepared, task.spec)
    sweeping = Sweeping(task.spec, prepared, task.directory, NullContext())
    proposals = Proposals(task.spec, own_values(task.spec)).first()
    candidates = sweeping._add(proposals)
    return learners_of(candidates, splits, CandidateData(prepared, task.spec))


def test_batches_are_of_one_group_each_and_together_all(make: Callable[..., Task]) -> None:
    found = learners(make("task"))
    groups = [set(group) for group in in_groups(found)]
    cut = in_batches(found, cut=True)
    assert len(cut) > len(groups) == 2
    assert sorted(place for batch in cut for place in batch.places) == list(range(len(found)))
    assert all(any(set(batch.places) <= group for group in groups) for batch in cut)
    assert all([found[place] for place in batch.places] == batch.learners for batch in cut)
    assert {len(batch.places) for batch in cut} <= {3, 4}
    assert sum(batch.seconds for batch in cut) == pytest.approx(
        sum(batch.seconds for batch in in_batches(found, cut=False))
    )


def test_little_work_is_neither_cut_nor_spread(
    make: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_S", 4.0)
    monkeypatch.setattr(batches, "SPREAD_S", 8.0)
    task, context = make("task"), Spreading()
    assert len(in_batches(learners(task), cut=True)) == 2
    assert same_bits(task.search(context), make("inline").search(NullContext()))


@pytest.mark.parametrize(
    ("sampler", "vary"), [("qmc", SPACE), ("tpe", SPACE), ("qmc", COUNTED), ("tpe", COUNTED)]
)
def test_parts_in_another_order_have_the_bits_of_one_run(
    make: Callable[..., Task], sampler: str, vary: dict[str, Any]
) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="the extra [search] is not installed")
    inline = make("inline", sampler=sampler, vary=vary).search(NullContext())
    assert len(inline.candidates) == 6
    searched, asked, last = make("spread", sampler=sampler, vary=vary).spread()
    assert same_bits(searched, inline)
    assert all(len(parts) > 1 for parts in asked)
    parts = [part for each in asked for part in each]
    networks = [tuple(each) for part in parts for each in part.spec["networks"]]
    assert len(set(networks)) == len(networks)
    left = inline.pairs.keys() - set(networks)  # too few at once: the first proposal of all
    assert len(left) == (1 if sampler == "tpe" else 0)
    assert sum(part.share for part in parts) == pytest.approx(1 - len(left) / len(inline.pairs))
    assert last.turns == 0  # the last run reads what its parts have trained


def test_a_part_says_what_memory_it_needs_and_holds_no_bars(make: Callable[..., Task]) -> None:
    task = make("task")
    with pytest.raises(Divided) as divided:
        task.search(Spreading())
    batch = in_batches(learners(task), cut=False)[0]
    whole = batches.memory_bytes(batch.learners, task.spec.strategy.name)
    for part in divided.value.parts:
        assert 0 < part.spec["memory_bytes"] < whole
        assert len(json_bytes(part.spec)) < 1_500


def test_parts_take_what_their_task_prepared(
    make: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make("task")
    with pytest.raises(Divided) as divided:
        task.search(Spreading())

    def refuse(*_: object) -> None:
        raise AssertionError("the bars were read again")

    monkeypatch.setattr(task.source, "load", refuse)
    for part in divided.value.parts:
        assert task.run_part(part)["diverged"] is None
    with pytest.raises(Divided):
        task.search(Spreading())


def test_a_part_goes_on_from_its_own_checkpoint(make: Callable[..., Task]) -> None:
    whole, _, _ = make("whole").spread()
    task = make("stopped")
    with pytest.raises(Divided) as divided:
        task.search(Spreading())
    part, *others = divided.value.parts
    with pytest.raises(Cancelled):
        task.run_part(part, Recording(drain_after=2))
    again = Recording()
    results = {part.name: task.run_part(part, again)}
    assert again.begun == [2]
    assert [progress.epoch for progress in again.reports] == [2, 3]
    results |= {each.name: task.run_part(each) for each in others}
    assert same_bits(task.search(Spreading(results=results)), whole)


def test_a_part_whose_state_is_damaged_is_trained_by_its_task(make: Callable[..., Task]) -> None:
    task = make("task")
    whole, asked, context = task.spread()
    lost = folder_of(task.directory, asked[0][0].name)
    shutil.rmtree(lost / "checkpoints")
    again = Spreading(results=context.results)
    assert same_bits(task.search(again), whole)
    assert again.turns > 0


def test_where_all_networks_of_a_part_diverge_each_of_them_has(make: Callable[..., Task]) -> None:
    config = {"learning_rate": 1e6, "optimizer": "sgd", "sweep": None}
    config["sweep"] = {"trials": 6, "vary": {"learning_rate": [1e5, 2e5, 3e5, 4e5, 5e5, 0.01]}}
    inline = make("inline", **config).search(NullContext())
    searched, _, last = make("spread", **config).spread()
    assert any(result["diverged"] for result in last.results.values())
    assert same_bits(searched, inline)
    assert last.turns == 0


def test_a_search_from_before_parts_goes_on_in_its_own_folders_uncut(
    make: Callable[..., Task],
) -> None:
    whole = make("whole", spread=False).search(NullContext())
    task = make("stopped", spread=False)
    with pytest.raises(Cancelled):
        task.search(Recording(drain_after=2))
    checkpoints = task.directory.with_name("checkpoints")
    assert [path.name for path in checkpoints.iterdir()] == ["stage_1"]
    context = Spreading()  # it never asks for parts
    assert same_bits(task.search(context), whole)
    assert [path.name for path in checkpoints.glob("*_2")] == ["stage_2"]
    assert "spread" not in task.spec.to_dict()


def test_a_batch_of_another_strategy_holds_the_indicators_of_the_task_s_own_too(
    make: Callable[..., Task],
) -> None:
    task = make("task")
    batch = in_batches(learners(task), cut=False)[0]
    own = batches.memory_bytes(batch.learners, task.spec.strategy.name)
    other = batches.memory_bytes(batch.learners, "of the task")
    rows = len(batch.learners[0].dataset.label)
    stored = len(batch.learners[0].view.input_names)
    table = rows * (estimate.INDICATOR_BYTES * stored + estimate.ROW_BYTES)
    assert other - own == table
