"""What the disk does not give, or gives in another form, costs one generation and no training."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.training import checkpoint as checkpoints
from tests.support.saved_checkpoints import FILES, epoch_of, folder, saved, state


def rewrite(generation: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a generation's values and gives them their right hash."""
    values, manifest = generation / checkpoints.VALUES, generation / checkpoints.MANIFEST
    document = json.loads(values.read_bytes())
    change(document)
    values.write_text(json.dumps(document), encoding="utf-8")
    hashes = json.loads(manifest.read_bytes())
    hashes["sha256"][checkpoints.VALUES] = hashlib.sha256(values.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(hashes), encoding="utf-8")


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no identity": lambda values: values.pop("identity"),
    "identity is a list": lambda values: values.update(identity=[]),
    "no versions": lambda values: values["identity"].pop("versions"),
    "versions are a text": lambda values: values["identity"].update(versions="all"),
    "no trainer": lambda values: values.pop("trainer"),
    "no epoch": lambda values: values["trainer"].pop("epoch"),
    "an epoch of nothing": lambda values: values["trainer"].update(epoch=None),
    "another progress": lambda values: values.update(progress={"step": 1}),
    "no time": lambda values: values.update(training_s="long"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_values_of_another_form_are_noticed_and_the_other_generation_used(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    directory = saved(tmp_path, 1, 2)
    rewrite(directory / "b", change)
    assert epoch_of(tmp_path) == 1
    rewrite(directory / "a", change)
    found = folder(tmp_path).load()
    assert found.checkpoint is None
    assert found.reason == "the checkpoint is damaged (state.json)"


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_disk_does_not_give_is_as_good_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bad = saved(tmp_path, 1, 2) / "b" / name
    real = io.open

    def fail(path: Any, *arguments: Any, **options: Any) -> Any:
        if path == bad:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *arguments, **options)

    monkeypatch.setattr(io, "open", fail)
    found = folder(tmp_path).load()
    assert found.checkpoint is not None
    assert found.checkpoint.epoch == 1
    assert found.reason == "the checkpoint cannot be read (Input/output error)"


def test_the_generation_that_could_not_be_read_is_the_next_to_be_replaced(tmp_path: Path) -> None:
    newest = saved(tmp_path, 1, 2) / "b"
    (newest / checkpoints.MANIFEST).write_bytes(b"")
    kept = folder(tmp_path)
    kept.load()
    kept.save(state(3))
    (tmp_path / "checkpoints" / "a" / checkpoints.MANIFEST).unlink()
    assert epoch_of(tmp_path) == 3
