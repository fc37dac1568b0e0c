"""When a training keeps its state, and what a resumed one has in common with a whole one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp import limits
from ktrdr_mcp.context import Cancelled, EpochFigures, NullContext, Progress
from ktrdr_mcp.errors import StorageFull
from ktrdr_mcp.nn import loop
from ktrdr_mcp.training import checkpointer
from ktrdr_mcp.training.checkpoint import Checkpoints, Found

SHORT = {"epochs": 8, "hidden_layers": [16, 8], "early_stopping": {"patience": 5}}
TIME = "training_time_minutes"


@dataclass
class Interrupted(NullContext):
    """A context whose server ends, or whose client cancels, after some epochs."""

    epochs: int = 3
    drains: bool = True
    began: list[tuple[int, str | None]] = field(default_factory=list)
    at_once: bool = False

    def begin_at(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        total_epochs: int = 0,
    ) -> None:
        self.began.append((epoch, reason))

    def report(self, progress: Progress) -> None:
        super().report(progress)
        if progress.epoch == self.epochs:
            self.draining = self.drains
            self.at_once = True

    def yield_turn(self) -> None:
        if self.at_once:
            raise Cancelled


@dataclass
class Watched(NullContext):
    """A context that remembers where the run began."""

    began: list[tuple[int, str | None]] = field(default_factory=list)
    of: list[int] = field(default_factory=list)  # epochs in all, as far as it was said

    def begin_at(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        total_epochs: int = 0,
    ) -> None:
        self.began.append((epoch, reason))
        self.of.append(total_epochs)


def bundle(folder: Path) -> tuple[bytes, bytes, dict[str, Any]]:
    """Everything of a bundle that must be equal."""
    document = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    del document["metrics"]["training_metrics"][TIME], document["content_sha256"]
    files = [(folder / name).read_bytes() for name in ("weights.safetensors", "history.json")]
    return files[0], files[1], document


def interrupt(trial, bars, context: NullContext, folder: str = "bundle") -> None:
    with pytest.raises(Cancelled):
        trial.run(bars, SHORT, context=context, folder=folder)


@pytest.mark.parametrize("epoch", [1, 4, 7])
def test_a_resumed_training_leaves_the_bundle_of_a_whole_one(trial, noise, epoch: int) -> None:
    trial.run(noise, SHORT, folder="whole/bundle")
    first, second = Interrupted(epochs=epoch), Watched()
    interrupt(trial, noise, first, "again/bundle")
    result = trial.run(noise, SHORT, context=second, folder="again/bundle")
    assert first.began == [(0, "no checkpoint had been saved")]
    assert (second.began, second.of) == ([(epoch, None)], [8])
    assert [report.epoch for report in second.reports][:2] == [epoch, epoch + 1]
    assert bundle(trial.root / "again/bundle") == bundle(trial.root / "whole/bundle")
    assert result.metrics.training_metrics.training_time_minutes > 0


def test_a_cancelled_training_keeps_no_state(trial, noise) -> None:
    interrupt(trial, noise, Interrupted(drains=False))
    assert list(trial.root.iterdir()) == []


def test_states_are_saved_by_time(trial, noise, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(Checkpoints, "save", lambda _, kept: saved.append(kept.epoch))
    clock = Clock(7.0, monkeypatch)
    monkeypatch.setattr(limits, "CHECKPOINT_INTERVAL_S", 10.0)
    trial.run(noise, {**SHORT, "early_stopping": None}, context=clock.at_each_report())
    assert saved == [2, 4, 6, 8]


class Clock:
    """The checkpointer's clock, which moves at every report."""

    def __init__(self, step_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.step_s = 0.0, step_s
        # The pipeline makes the checkpointer; time.monotonic itself is everybody's.
        monkeypatch.setattr(checkpointer.Checkpointer.__init__, "__defaults__", (self,))

    def __call__(self) -> float:
        return self.now_s

    def at_each_report(self) -> NullContext:
        clock = self

        class Moving(NullContext):
            def report(self, progress: Progress) -> None:
                clock.now_s += clock.step_s

        return Moving()


def test_a_drain_inside_a_long_epoch_saves_the_last_one_at_once(
    trial, noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(20.0, monkeypatch)

    class InTheMiddle(NullContext):
        turns = 0

        def report(self, progress: Progress) -> None:
            super().report(progress)
            clock.now_s += clock.step_s

        def yield_turn(self) -> None:
            if len(self.reports) == 3:
                self.draining = True
                raise Cancelled

    monkeypatch.setattr(limits, "CHECKPOINT_INTERVAL_S", 1_000.0)
    interrupt(trial, noise, InTheMiddle())
    second = Watched()
    monkeypatch.undo()
    trial.run(noise, SHORT, context=second)
    assert second.began == [(3, None)]


def test_a_drain_waits_for_a_short_epoch_but_not_for_ever(
    trial, noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AtOnce(NullContext):
        turns = 0

        def yield_turn(self) -> None:
            self.draining = True
            self.turns += 1
            raise Cancelled

    patient = AtOnce()
    interrupt(trial, noise, patient)
    assert [report.epoch for report in patient.reports] == [1]
    monkeypatch.setattr(limits, "DRAIN_EPOCH_S", 0.0)
    impatient = AtOnce()
    interrupt(trial, noise, impatient)
    assert impatient.turns == 1
    assert [report.epoch for report in impatient.reports] == [1]  # what the first one had kept


def test_a_state_that_cannot_be_saved_costs_no_training(
    trial, noise, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise StorageFull("No space left while writing a.", hint="Free disk space.")

    trial.run(noise, SHORT, folder="whole/bundle")
    monkeypatch.setattr(limits, "CHECKPOINT_INTERVAL_S", 0.0)
    monkeypatch.setattr(Checkpoints, "save", full)
    trial.run(noise, SHORT, folder="again/bundle")
    assert bundle(trial.root / "again/bundle") == bundle(trial.root / "whole/bundle")
    assert "No space left" in caplog.text


def test_bars_that_changed_meanwhile_are_trained_on_from_the_start(
    trial, noise, make_bars, planted_close
) -> None:
    interrupt(trial, noise, Interrupted())
    second = Watched()
    trial.run(make_bars(planted_close(900, 0.0, seed=6)), SHORT, context=second)
    assert second.began == [(0, "the market data have changed")]


def test_a_newer_program_goes_on_from_the_checkpoint_and_names_other_libraries(
    trial, noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpointer.version
    old = {"ktrdr-mcp": "0.0.9", "torch": "2.9.1"}
    with monkeypatch.context() as patched:
        patched.setattr(checkpointer, "version", lambda name: old.get(name) or real(name))
        interrupt(trial, noise, Interrupted())
    second = Watched()
    trial.run(noise, SHORT, context=second)
    assert second.began == [(3, "made with torch 2.9.1")]


def test_a_checkpoint_of_other_mathematics_is_trained_on_from_the_start(
    trial, noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(trial, noise, Interrupted())
    monkeypatch.setattr(loop, "MATHEMATICS", loop.MATHEMATICS + 1)
    second = Watched()
    trial.run(noise, SHORT, context=second)
    assert second.began == [(0, "the trainer's mathematics have changed")]


@pytest.mark.parametrize("missing", ["active", "networks", "training", "format"])
def test_a_state_of_another_form_is_trained_on_from_the_start(
    trial, noise, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    interrupt(trial, noise, Interrupted())
    real = Checkpoints.load

    def without(kept: Checkpoints) -> Found:
        found = real(kept)
        assert found.checkpoint is not None
        del found.checkpoint.state.values[missing]  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(Checkpoints, "load", without)
    second = Watched()
    trial.run(noise, SHORT, context=second)
    assert second.began == [(3, None), (0, "the checkpoint belongs to other settings")]


def test_the_time_of_all_attempts_is_added_up(trial, noise, monkeypatch) -> None:
    clock = Clock(60.0, monkeypatch)

    class Slow(Interrupted):
        def report(self, progress: Progress) -> None:
            clock.now_s += clock.step_s
            super().report(progress)

    interrupt(trial, noise, Slow(epochs=2))
    last = Slow(epochs=100)
    result = trial.run(noise, {**SHORT}, context=last)
    figures = result.metrics.training_metrics
    assert figures.training_time_minutes == last.reports[-1].epoch
