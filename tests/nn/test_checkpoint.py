"""A checkpoint brings back every bit, or says why it does not."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ktrdr_mcp import files
from ktrdr_mcp.context import NullContext
from ktrdr_mcp.errors import StorageError, StorageFull
from ktrdr_mcp.nn.loop import NetworkSettings, TrainerSettings, train
from ktrdr_mcp.nn.settings import TrainerState
from ktrdr_mcp.training import checkpoint as checkpoints
from ktrdr_mcp.training.checkpoint import Checkpoint, Checkpoints, Identity
from tests.support.saved_checkpoints import FILES, IDENTITY, epoch_of, folder, saved, state
from tests.support.training_problems import SHAPE, rows, same_bits

SETTINGS = TrainerSettings(epochs=6, batch_size=32, patience=3, device="cpu")
NETWORKS = [NetworkSettings(seed, 0.03, 0.001, 0.2) for seed in range(2)]


def test_a_training_continued_from_disk_has_the_same_bits(tmp_path: Path) -> None:
    progress = NullContext()
    kept = folder(tmp_path)
    continued = []

    def save_and_continue(take_state: Callable[[], TrainerState]) -> None:
        kept.save(Checkpoint(take_state(), progress.reports[-1], 0.0))
        found = folder(tmp_path).load().checkpoint
        assert found is not None
        again = train(SHAPE, SETTINGS, NETWORKS, rows(), NullContext(), resume_from=found.state)
        continued.append(again)

    expected = train(SHAPE, SETTINGS, NETWORKS, rows(), progress, at_epoch_end=save_and_continue)
    assert len(continued) > 2
    for found in continued:
        assert all(map(same_bits, expected, found))


def test_everything_beside_the_tensors_comes_back_too(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    found = folder(tmp_path).load()
    assert found.checkpoint is not None
    assert (found.checkpoint.epoch, found.checkpoint.training_s) == (3, 4.5)
    assert found.checkpoint.progress == state(3).progress
    assert found.reason is None


def test_a_task_without_checkpoints_says_so(tmp_path: Path) -> None:
    found = folder(tmp_path).load()
    assert (found.checkpoint, found.reason) == (None, "no checkpoint had been saved")


def test_two_generations_take_turns_and_the_newest_counts(tmp_path: Path) -> None:
    for epoch in (1, 2, 3, 4, 5):
        # A new process each time: the turn is read from the disk.
        kept = folder(tmp_path)
        kept.load()
        kept.save(state(epoch))
        assert epoch_of(tmp_path) == epoch
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["a", "b"]


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def damages(content: bytes) -> dict[str, bytes]:
    """Byte-level damages of a file."""
    generator = random.Random(0)
    positions = [0, len(content) - 2, *(generator.randrange(len(content)) for _ in range(12))]
    return {
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "longer": content + b"\0",
        "huge header": b"\xff" * 8 + content[8:],
        **{f"bit {position}": flip(content, position) for position in positions},
    }


@pytest.mark.parametrize("name", FILES)
def test_every_damage_is_noticed_and_the_other_generation_used(tmp_path: Path, name: str) -> None:
    newest = saved(tmp_path, 1, 2) / "b" / name
    whole = newest.read_bytes()
    for damage, content in damages(whole).items():
        newest.write_bytes(content)
        found = folder(tmp_path).load()
        assert found.checkpoint is not None, damage
        harmless = name == checkpoints.MANIFEST and found.checkpoint.epoch == 2
        if not harmless:  # a bit of white space in the manifest
            assert found.checkpoint.epoch == 1, damage
            assert "checkpoint" in (found.reason or ""), damage


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "link", "folder"])
def test_a_file_that_is_no_plain_file_is_noticed(tmp_path: Path, name: str, damage: str) -> None:
    newest = saved(tmp_path, 1, 2) / "b" / name
    newest.rename(tmp_path / "elsewhere")
    if damage == "link":
        newest.symlink_to(tmp_path / "elsewhere")
    elif damage == "folder":
        newest.mkdir()
    assert epoch_of(tmp_path) == 1


def test_without_a_whole_generation_training_begins_anew_and_says_why(tmp_path: Path) -> None:
    directory = saved(tmp_path, 1, 2)
    for generation in ("a", "b"):
        (directory / generation / checkpoints.TENSORS).write_bytes(b"")
    found = folder(tmp_path).load()
    assert found.checkpoint is None
    assert found.reason == "the checkpoint is damaged (state.safetensors)"


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (replace(IDENTITY, task_id="task-2"), "another task"),
        (replace(IDENTITY, spec_sha256="other"), "another specification"),
        (replace(IDENTITY, data_sha256="other"), "market data have changed"),
        (replace(IDENTITY, mathematics=8), "mathematics have changed"),
    ],
)
def test_a_checkpoint_of_something_else_is_not_used(
    tmp_path: Path, identity: Identity, reason: str
) -> None:
    directory = saved(tmp_path, 4)
    found = Checkpoints(directory, identity).load()
    assert found.checkpoint is None
    assert reason in (found.reason or "")


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"torch": "3.0", "numpy": "2.4"}, "made with torch 2.10"),
        ({"torch": "3.0", "numpy": "9.9"}, "made with torch 2.10, numpy 2.4"),
        ({**IDENTITY.versions, "new": "1"}, "made with new None"),
        ({"numpy": "2.4"}, None),
    ],
)
def test_a_checkpoint_of_other_libraries_is_used_and_says_which(
    tmp_path: Path, versions: dict[str, str], said: str | None
) -> None:
    found = Checkpoints(saved(tmp_path, 4), replace(IDENTITY, versions=versions)).load()
    assert found.checkpoint is not None
    assert (found.checkpoint.epoch, found.reason) == (4, said)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("python", "torch", "numpy"), "made with other python, torch, numpy"),
        (("torch",), "made with other torch"),
    ],
)
def test_what_is_said_of_versions_is_short(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    long = dict.fromkeys(names, "2.12.0.dev20261128+cu128.of.a.very.long.name")
    Checkpoints(tmp_path, replace(IDENTITY, versions=long)).save(state(4))
    now = Checkpoints(tmp_path, replace(IDENTITY, versions=dict.fromkeys(names, "1")))
    assert now.load().reason == said


def test_a_checkpoint_swapped_with_another_tasks_is_not_used(tmp_path: Path) -> None:
    mine = saved(tmp_path, 1, 2)
    theirs = Checkpoints(tmp_path / "theirs", replace(IDENTITY, task_id="task-2"))
    theirs.save(state(9))
    shutil.rmtree(mine / "b")
    (tmp_path / "theirs" / "a").rename(mine / "b")
    assert epoch_of(tmp_path) == 1


def test_a_checkpoint_of_another_format_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 4)
    monkeypatch.setattr(checkpoints, "FORMAT", "ktrdr-mcp-checkpoint/2")
    found = folder(tmp_path).load()
    assert (found.checkpoint, found.reason) == (None, "the checkpoint has another format")


class Failing:
    """A system call that finds the disk full at one of its calls."""

    def __init__(self, real: Callable[..., object], failing: int) -> None:
        self.real, self.failing, self.calls = real, failing, 0

    def __call__(self, *arguments: object, **options: object) -> object:
        self.calls += 1
        if self.calls == self.failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.real(*arguments, **options)


@pytest.mark.parametrize("call", ["open", "fsync", "rename", "mkdir"])
def test_a_save_that_fails_at_any_step_leaves_the_newer_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    saved(tmp_path, 1, 2)
    failures = []
    for number in itertools.count(1):
        kept = folder(tmp_path)
        kept.load()
        failing = Failing(getattr(os, call), number)
        with monkeypatch.context() as patched:
            patched.setattr(os, call, failing)
            try:
                kept.save(state(3))
            except StorageError as error:
                failures.append(type(error))
        if failing.calls < number:
            break
        assert epoch_of(tmp_path) in {2, 3}
    assert set(failures) == {StorageFull}
    assert epoch_of(tmp_path) == 3
    files.sweep(tmp_path / "checkpoints")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["a", "b"]
