"""The state of a running training on disk: two generations in turn, the newest whole one counts.

a/ or b/
  state.safetensors   every tensor of the trainer
  state.json          whose state it is, its values, the newest progress, seconds of training
  manifest.json       the format and the SHA-256 of the two others; written last
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import safetensors.torch
from safetensors import SafetensorError

from ktrdr_mcp import files
from ktrdr_mcp.context import Progress
from ktrdr_mcp.nn.settings import TrainerState

FORMAT: Final = "ktrdr-mcp-checkpoint/1"
GENERATIONS: Final = ("a", "b")
TENSORS: Final = "state.safetensors"
VALUES: Final = "state.json"
MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 64 * 1024
MAX_MADE_WITH_CHARACTERS: Final = 45  # so that a status stays within its bytes

log = logging.getLogger(__name__)


class Unusable(Exception):
    """A checkpoint that this training cannot go on from; the text says why."""


@dataclass(frozen=True)
class Identity:
    """Whose state it is. All but the versions must be the same in the training that goes on."""

    task_id: str
    spec_sha256: str
    data_sha256: str
    mathematics: int  # the trainer's own version: see train.MATHEMATICS
    versions: Mapping[str, str]  # of the libraries whose arithmetic decides the last bits


@dataclass(frozen=True)
class Checkpoint:
    """A training at an epoch's end."""

    state: TrainerState
    progress: Progress | None  # the newest report
    training_s: float  # of all attempts so far
    made_with: str | None = None  # the versions that are other ones now, in words

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return int(self.state.values["epoch"])


@dataclass(frozen=True)
class Found:
    """What a folder of checkpoints holds for a training."""

    checkpoint: Checkpoint | None
    reason: str | None  # why there is none, or none newer, or none of the same versions


class Checkpoints:
    """The checkpoints of one task.

    Args:
        directory: the folder of both generations; made when it is needed.
        identity: of the training.
    """

    def __init__(self, directory: Path, identity: Identity) -> None:
        self._directory = directory
        self._identity = identity
        self._next = GENERATIONS[0]

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the older generation.

        Args:
            checkpoint: the state to keep.
        Raises:
            StorageError: it could not be written; the newer generation is unharmed.
        """
        destination = self._directory / self._next
        with files.staging(destination) as staged:
            files.write_new(staged / TENSORS, safetensors.torch.save(checkpoint.state.tensors))
            files.write_new(staged / VALUES, files.json_bytes(self._values(checkpoint)))
            hashes = {name: files.sha256_of_file(staged / name) for name in (TENSORS, VALUES)}
            manifest = {"format": FORMAT, "sha256": hashes}
            files.write_new(staged / MANIFEST, files.json_bytes(manifest))
            if destination.exists():
                files.discard(destination)
            files.publish(staged, destination)
        self._next = other(self._next)

    def _values(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What is kept beside the tensors, as JSON."""
        return {
            "identity": asdict(self._identity),
            "progress": checkpoint.progress and asdict(checkpoint.progress),
            "training_s": checkpoint.training_s,
            "trainer": checkpoint.state.values,
        }

    def load(self) -> Found:
        """The newest checkpoint that is whole and of this training."""
        whole: dict[str, Checkpoint] = {}
        reasons = []
        for generation in GENERATIONS:
            try:
                checkpoint = read(self._directory / generation, self._identity)
            except Unusable as unusable:
                log.warning("generation %s cannot be used: %s", generation, unusable)
                reasons.append(str(unusable))
            else:
                if checkpoint is not None:
                    whole[generation] = checkpoint
        if not whole:
            return Found(None, reasons[0] if reasons else "no checkpoint had been saved")
        newest = max(whole, key=lambda each: whole[each].epoch)
        self._next = other(newest)
        return Found(whole[newest], whole[newest].made_with or (reasons[0] if reasons else None))


def other(generation: str) -> str:
    """The generation that is written next."""
    return GENERATIONS[1 - GENERATIONS.index(generation)]


def read(directory: Path, identity: Identity) -> Checkpoint | None:
    """Reads one generation and verifies every file of it.

    Args:
        directory: the generation's folder.
        identity: of the training that wants to go on from it.
    Returns:
        what it holds; None if nothing was ever saved there.
    Raises:
        Unusable: it is damaged or unreadable, or belongs to something else.
    """
    try:
        if not directory.exists():
            return None
        verify(directory)
        return decode(directory, identity)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise Unusable(f"the checkpoint cannot be read ({reason})") from error
    except (KeyError, TypeError, ValueError, AttributeError):  # whole, but of another form
        raise Unusable(f"the checkpoint is damaged ({VALUES})") from None


def verify(directory: Path) -> None:
    """Compares every file of a generation with its hash. Raises Unusable."""
    manifest = json_of(content(directory, MANIFEST, MAX_MANIFEST_BYTES), MANIFEST)
    if manifest.get("format") != FORMAT:
        raise Unusable("the checkpoint has another format")
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict) or set(hashes) != {TENSORS, VALUES}:
        raise Unusable(f"the checkpoint is damaged ({MANIFEST})")
    for name, expected in hashes.items():
        if files.sha256_of_file(plain_file(directory, name)) != expected:
            raise Unusable(f"the checkpoint is damaged ({name})")


def decode(directory: Path, identity: Identity) -> Checkpoint:
    """What the files of a verified generation hold. Raises Unusable, or as JSON of another form."""
    values = json_of(content(directory, VALUES), VALUES)
    found, progress = values["identity"], values["progress"]
    check_identity(found, identity)
    try:
        tensors = safetensors.torch.load(content(directory, TENSORS))
    except (SafetensorError, ValueError, KeyError, RuntimeError):
        raise Unusable(f"the checkpoint is damaged ({TENSORS})") from None
    trainer = values["trainer"]
    return Checkpoint(
        TrainerState(tensors, {**trainer, "epoch": int(trainer["epoch"])}),
        progress and Progress(**progress),
        float(values["training_s"]),
        other_versions(found["versions"], identity.versions),
    )


def check_identity(found: Mapping[str, Any], expected: Identity) -> None:
    """Compares whose state it is. Raises Unusable."""
    if found["task_id"] != expected.task_id:
        raise Unusable("the checkpoint belongs to another task")
    if found["spec_sha256"] != expected.spec_sha256:
        raise Unusable("the checkpoint has another specification")
    if found["data_sha256"] != expected.data_sha256:
        raise Unusable("the market data have changed")
    if found.get("mathematics") != expected.mathematics:
        raise Unusable("the trainer's mathematics have changed")


def other_versions(found: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Which libraries had another version, in words; with them, the last bits may differ."""
    others = {name: str(found.get(name)) for name in now if found.get(name) != now[name]}
    if not others:
        return None
    words = f"made with {', '.join(f'{name} {version}' for name, version in others.items())}"
    short = len(words) <= MAX_MADE_WITH_CHARACTERS
    return words if short else f"made with other {', '.join(others)}"


def plain_file(directory: Path, name: str) -> Path:
    """The path of a file that is no link. Raises Unusable."""
    path = directory / name
    if directory.is_symlink() or path.is_symlink() or not path.is_file():
        raise Unusable(f"the checkpoint is damaged ({name})")
    return path


def content(directory: Path, name: str, largest_bytes: int | None = None) -> bytes:
    """A file's bytes. Raises Unusable."""
    path = plain_file(directory, name)
    if largest_bytes is not None and path.stat().st_size > largest_bytes:
        raise Unusable(f"the checkpoint is damaged ({name})")
    return path.read_bytes()


def json_of(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object of a file. Raises Unusable."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Unusable(f"the checkpoint is damaged ({name})") from None
    if not isinstance(value, dict):
        raise Unusable(f"the checkpoint is damaged ({name})")
    return value
