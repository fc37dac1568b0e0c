"""What a submission prepared, and its run takes over instead of preparing it again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.bars import Bars, LoadedBars
from ktrdr_mcp.training import handover, pipeline
from ktrdr_mcp.training.prepare import Prepared, prepare
from ktrdr_mcp.training.spec import TrainingSpec

STRATEGIES = ["default", "mean_reversion", "trend_following", "volatility_breakout"]


@dataclass
class CountingSource:
    """One series that counts how often it is read."""

    bars: Bars
    state: str | None = "as it was"
    loads: list[str] = field(default_factory=list)

    def load(self, symbol: str, timeframe: str, *_: object) -> LoadedBars:
        self.loads.append(symbol)
        return LoadedBars(self.bars, "made by a test", ["a note"])

    def state_of(self, symbol: str, timeframe: str) -> str | None:
        return self.state


@pytest.fixture
def kept(trial, noise) -> Callable[..., tuple[TrainingSpec, Prepared, CountingSource]]:
    """Prepares a submission and leaves it to the run."""

    def keep(bars: Bars = noise, **more: Any) -> tuple[TrainingSpec, Prepared, CountingSource]:
        spec, source = trial.spec(**more), CountingSource(bars)
        state = handover.data_state(spec, source)
        prepared = prepare(spec, source)
        handover.keep(trial.root, spec, state, prepared)
        source.loads.clear()
        return spec, prepared, source

    return keep


def parts_of(prepared: Prepared) -> dict[str, Any]:
    """Everything in it, arrays as their bytes."""
    (one,), (fit,) = prepared.dataset.series, prepared.view.fits
    arrays = {f"bars {n}": column for n, column in enumerate((one.bars.time, *one.bars.columns()))}
    arrays |= {"label": one.label, "end": one.end, "usable": one.usable}
    arrays |= {"offset": np.zeros(0) if one.bars.offset is None else one.bars.offset}
    arrays |= {f"feature {name}": value for name, value in one.table.features.items()}
    split = prepared.split
    arrays |= {"train": split.train, "validation": split.validation, "test": split.test}
    arrays |= {"view": prepared.view.features, "newest": prepared.dataset.newest_label}
    return {name: (str(array.dtype), array.tobytes()) for name, array in arrays.items()} | {
        "fit": (fit.strategy.to_dict(), fit.scaler.to_dict(), fit.constant),
        "strategy": prepared.dataset.strategy,
        "rest": (split.purged_rows, prepared.view.feature_names, prepared.used, prepared.warnings),
        "table": (one.first, one.table.warm_up_bars, one.bars.symbol, one.bars.timeframe),
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_run_takes_every_bit_that_was_prepared(kept, trial, strategy) -> None:
    spec, prepared, source = kept(strategy=strategy)
    stored = TrainingSpec.from_dict(spec.to_dict())
    taken = handover.take_or_prepare(trial.root, stored, source)
    assert parts_of(taken) == parts_of(prepared)
    assert source.loads == []
    assert handover.take_or_prepare(trial.root, stored, source) is not taken
    assert source.loads == ["TEST"], "a further run prepares the data again"


def test_a_file_that_cannot_be_removed_is_taken_all_the_same(kept, trial, monkeypatch) -> None:
    spec, prepared, source = kept()

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as full:
        full.setattr(os, "unlink", refused)
        taken = handover.take_or_prepare(trial.root, spec, source)
    assert parts_of(taken) == parts_of(prepared)
    assert source.loads == []


def test_offsets_of_the_file_are_taken_too(kept, trial, noise) -> None:
    offset = np.full(len(noise), -5 * 3_600 * 10**9)
    spec, prepared, source = kept(replace(noise, offset=offset))
    assert parts_of(handover.take_or_prepare(trial.root, spec, source)) == parts_of(prepared)
    assert source.loads == []


def other_task(spec: TrainingSpec, source: CountingSource) -> TrainingSpec:
    return replace(spec, task_id="another")


def other_seed(spec: TrainingSpec, source: CountingSource) -> TrainingSpec:
    return replace(spec, config=spec.config.model_copy(update={"seed": 7}))


def other_bars(spec: TrainingSpec, source: CountingSource) -> TrainingSpec:
    source.state = "written anew"
    return spec


def bars_of_an_unknown_state(spec: TrainingSpec, source: CountingSource) -> TrainingSpec:
    source.state = None
    return spec


@pytest.mark.parametrize(
    ("change", "loads"),
    [(other_task, 0), (other_seed, 1), (other_bars, 1), (bars_of_an_unknown_state, 1)],
)
def test_only_the_same_training_on_the_same_bars_takes_it(kept, trial, change, loads) -> None:
    spec, _, source = kept()
    handover.take_or_prepare(trial.root, change(spec, source), source)
    assert len(source.loads) == loads
    assert not (trial.root / handover.NAME).exists()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    return data[:5_000] + bytes([data[5_000] ^ 1]) + data[5_001:]


@pytest.mark.parametrize("damage", [cut, flip, lambda _: b"", lambda _: b"{}"])
def test_a_damaged_file_is_prepared_again(kept, trial, damage) -> None:
    spec, prepared, source = kept()
    path = trial.root / handover.NAME
    path.write_bytes(damage(path.read_bytes()))
    assert parts_of(handover.take_or_prepare(trial.root, spec, source)) == parts_of(prepared)
    assert source.loads == ["TEST"]


def test_a_link_is_not_followed(kept, trial) -> None:
    spec, _, source = kept()
    path = trial.root / handover.NAME
    elsewhere = path.rename(trial.root / "elsewhere.npz")
    path.symlink_to(elsewhere)
    handover.take_or_prepare(trial.root, spec, source)
    assert source.loads == ["TEST"]
    assert elsewhere.exists()


def test_a_disk_without_room_is_no_error(kept, trial, monkeypatch) -> None:
    monkeypatch.setattr(handover, "FREE_SHARE", 0.0)
    kept()
    assert list(trial.root.iterdir()) == []
    monkeypatch.undo()
    real, refused = os.open, []

    def refuse(path: Any, *more: Any, **named: Any) -> int:
        if handover.NAME in str(path):
            refused.append(path)
            raise OSError(28, "No space left on device")
        return real(path, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    kept()
    assert refused
    assert list(trial.root.iterdir()) == []


def test_a_training_on_what_was_taken_has_the_same_bits(kept, trial, noise) -> None:
    config = {"epochs": 2, "hidden_layers": [4]}
    trial.run(noise, config, folder="prepared-there")
    spec = trial.spec(config)
    source = CountingSource(noise)
    folder = trial.root / "run" / "bundle"
    handover.keep(folder.with_name("checkpoints"), spec, ["as it was"], prepare(spec, source))
    source.loads.clear()
    pipeline.run(spec.to_dict(), folder, NullContext(), source)
    assert source.loads == []
    for name in ("weights.safetensors", "history.json"):
        assert (folder / name).read_bytes() == (trial.root / "prepared-there" / name).read_bytes()
