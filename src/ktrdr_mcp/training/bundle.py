"""A trained model on disk: weights as safetensors, everything else as JSON, each file hashed.

weights.safetensors   layers.{i}.weight (out, in) and layers.{i}.bias (out,), float32
history.json          every epoch's figures
seen.safetensors      the grams of all bars that made the model; older bundles have none
bundle.json           what rebuilds the model, and the SHA-256 of the other files and of its own
                      content; written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field
from safetensors import SafetensorError

from ktrdr_mcp import files, limits
from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.nn import network as networks
from ktrdr_mcp.schemas.parsing import is_none
from ktrdr_mcp.schemas.results import (
    CandidateResult,
    Json,
    Period,
    RunResult,
    Stored,
    TaskResult,
    TrialScores,
)
from ktrdr_mcp.training.seen import SeenGrams

if TYPE_CHECKING:  # the server reads documents, and imports no torch
    import torch

FORMAT: Final = "ktrdr-mcp-bundle/1"
WEIGHTS: Final = "weights.safetensors"
HISTORY: Final = "history.json"
SEEN: Final = "seen.safetensors"
DOCUMENT: Final = "bundle.json"
SEAL: Final = "content_sha256"  # in the document, of all else in it
MAX_WEIGHTS_BYTES: Final = 8 * 1024**3

Weights: TypeAlias = "Mapping[str, torch.Tensor]"
History = list[dict[str, float]]  # one object for each epoch


def check_form(values: Json) -> Json:
    """The stored form of a network. Raises ValueError if it is none."""
    networks.from_dict(values)
    return values


class Periods(Stored):
    """When each part of the main split begins and ends."""

    train: Period
    validation: Period
    test: Period


class Parity(Stored):
    """The proof that a model predicts after loading what it predicted in training.

    Args:
        times: of some bars of the test part.
        probabilities: of each class, as trained.
        largest_difference_after_loading: from what the written weights give.
    """

    times: list[str]
    probabilities: list[list[float]]
    largest_difference_after_loading: float


class RequestReference(Stored):
    """What bundles from before the task's folder kept it say of their request."""

    hash: str | None = None
    key: str | None = None


class BundleManifest(Stored):
    """Everything that bundle.json says: what rebuilds the model, and what it measured."""

    task_id: str
    spec: Json  # a `TrainingSpec`
    strategy: Json  # a `Strategy`, every fuzzy set explicit
    feature_names: list[str]
    scaler: Json  # a `Scaler`
    network: Annotated[Json, AfterValidator(check_form)]
    classes: list[str]
    seeds: list[int]
    best_epoch: int
    data_fingerprint: str
    periods: Periods
    versions: dict[str, str]  # of Python and the libraries that trained it
    metrics: TaskResult
    scores: TrialScores | None = None
    tested_window: tuple[str, str] | None = None
    parity: Parity | None = None
    # of a search: what was tried, and the model's configuration where it is not the task's
    candidates: list[CandidateResult] | None = Field(None, exclude_if=is_none)
    own_config: Json | None = Field(None, exclude_if=is_none)
    # of each scaled feature, the 1st and 99th percentile of the training rows
    feature_ranges: list[tuple[float, float]] | None = None
    format: str = FORMAT
    sha256: dict[str, str] = Field(default_factory=dict)  # of the other files, by name
    request: RequestReference | None = Field(default=None, exclude=True)

    @property
    def config(self) -> Json:
        """The configuration that the model was trained with."""
        config: Json = self.spec["config"] if self.own_config is None else self.own_config
        return config

    @property
    def files(self) -> list[str]:
        """The bundle's files; older ones have fewer."""
        return [name for name in (WEIGHTS, HISTORY, SEEN) if name in self.sha256] + [DOCUMENT]

    def result(self) -> RunResult:
        """What its task's row keeps. Raises ModelCorrupted if it does not say."""
        if self.scores is None:
            raise corrupted_file(DOCUMENT, "does not say what a bundle's does")
        return RunResult(
            metrics=self.metrics,
            scores=self.scores,
            data_fingerprint=self.data_fingerprint,
            tested_window=self.tested_window,
            candidates=self.candidates or [],
        )


@dataclass(frozen=True)
class Bundle:
    """A verified model: its weights, what is said of it, and the bars that made it."""

    weights: dict[str, torch.Tensor]
    manifest: BundleManifest
    seen: SeenGrams | None = None  # of bundles from before it was kept


def write(
    destination: Path,
    weights: Weights,
    history: History,
    seen: SeenGrams,
    manifest_of: Callable[[dict[str, torch.Tensor]], BundleManifest],
) -> BundleManifest:
    """Writes a whole bundle, or nothing.

    Args:
        destination: the bundle's folder; it must not exist.
        weights: the network's tensors.
        history: one object for each epoch.
        seen: the grams of the bars that made the model.
        manifest_of: makes the manifest from the weights as they were read back from the file, so
            that what it measures is what was written.
    Returns:
        the manifest as it was written.
    Raises:
        StorageError: nothing was published.
    """
    with files.staging(destination) as staged:
        files.write_new(staged / WEIGHTS, networks.to_bytes(weights))
        files.write_new(staged / HISTORY, files.json_bytes(history))
        files.write_new(staged / SEEN, seen.to_bytes())
        hashes = {name: files.sha256_of_file(staged / name) for name in (WEIGHTS, HISTORY, SEEN)}
        manifest = manifest_of(read_weights(staged)).model_copy(update={"sha256": hashes})
        files.write_new(staged / DOCUMENT, files.json_bytes(seal(manifest.to_json())))
        files.publish(staged, destination)
    return manifest


def read(directory: Path, expected_sha256: str | None = None) -> Bundle:
    """Reads a bundle and verifies every file of it.

    Args:
        directory: the bundle's folder.
        expected_sha256: of bundle.json, where the registry knows it.
    Raises:
        ModelCorrupted: names the file that is missing, altered, extra or unreadable.
    """
    manifest = read_verified(directory, expected_sha256)
    return Bundle(read_weights(directory), manifest, read_seen(directory, manifest))


def read_verified(directory: Path, expected_sha256: str | None = None) -> BundleManifest:
    """What a bundle says of which every file is what was written; see `read`.

    Raises:
        ModelCorrupted: names the file that is missing, altered or extra.
    """
    manifest = read_manifest(directory, expected_sha256)
    for name, expected in manifest.sha256.items():
        verify(directory, name, expected)
    return manifest


def read_manifest(directory: Path, expected_sha256: str | None = None) -> BundleManifest:
    """Reads bundle.json alone. Raises ModelCorrupted."""
    path = regular_file(directory, DOCUMENT, limits.MAX_BUNDLE_JSON_BYTES)
    if expected_sha256 is not None:
        verify(directory, DOCUMENT, expected_sha256)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise corrupted_file(DOCUMENT, "is not valid JSON") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise corrupted_file(DOCUMENT, f"does not have the format {FORMAT}")
    if SEAL in document and not is_as_sealed(document):  # older bundles have none
        raise corrupted_file(DOCUMENT, "does not have the content that was written")
    hashes = document.get("sha256")
    if not isinstance(hashes, dict) or set(hashes) | {SEEN} != {WEIGHTS, HISTORY, SEEN}:
        raise corrupted_file(DOCUMENT, "does not list the bundle's files")
    try:
        return BundleManifest.from_json(document)
    except ValueError:
        raise corrupted_file(DOCUMENT, "does not say what a bundle's does") from None


def seal(document: Mapping[str, object]) -> Json:
    """A document with the SHA-256 of its content, so that damage shows without any registry."""
    content = {name: value for name, value in document.items() if name != SEAL}
    # as it is read back: pairs become lists, and every name a text
    content = json.loads(files.json_bytes(content))
    return {**content, SEAL: hashlib.sha256(files.json_bytes(content)).hexdigest()}


def is_as_sealed(document: Json) -> bool:
    """Whether a document that was read has the content of which its seal tells."""
    try:
        return document == seal(document)
    except ValueError:  # half a character, or no number: what was never written
        return False


@contextmanager
def understood() -> Iterator[None]:
    """Turns the errors of code that looks into a document without a seal into ModelCorrupted."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise corrupted_file(DOCUMENT, "does not say what a bundle's does") from None


def read_history(directory: Path, manifest: BundleManifest) -> History:
    """Reads every epoch's figures. Raises ModelCorrupted."""
    verify(directory, HISTORY, manifest.sha256[HISTORY])
    history: History = json.loads((directory / HISTORY).read_bytes())
    return history


def read_seen(directory: Path, manifest: BundleManifest) -> SeenGrams | None:
    """The grams of the bars that made a model, if its bundle has them. Raises ModelCorrupted."""
    if SEEN not in manifest.sha256:
        return None
    path = regular_file(directory, SEEN, MAX_WEIGHTS_BYTES)
    try:
        return SeenGrams.from_bytes(path.read_bytes())
    except (SafetensorError, ValueError, KeyError):
        raise corrupted_file(SEEN, "is not what was written") from None


def read_weights(directory: Path) -> dict[str, torch.Tensor]:
    """Reads the tensors. Raises ModelCorrupted."""
    path = regular_file(directory, WEIGHTS, MAX_WEIGHTS_BYTES)
    try:
        return networks.from_bytes(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, RuntimeError):
        raise corrupted_file(WEIGHTS, "is not a valid safetensors file") from None


def verify(directory: Path, name: str, expected_sha256: str) -> None:
    """Compares a file with its hash. Raises ModelCorrupted."""
    path = regular_file(directory, name, MAX_WEIGHTS_BYTES)
    actual = files.sha256_of_file(path)
    if actual != expected_sha256:
        raise corrupted_file(name, f"has SHA-256 {actual[:12]}, expected {expected_sha256[:12]}")


def regular_file(directory: Path, name: str, largest_bytes: int) -> Path:
    """The path of a plain file of bearable size. Raises ModelCorrupted."""
    path = directory / name
    if path.is_symlink() or not path.is_file():
        raise corrupted_file(name, "is missing or not a plain file")
    if path.stat().st_size > largest_bytes:
        raise corrupted_file(name, "is larger than any file of its kind")
    return path


def corrupted_file(name: str, what: str) -> ModelCorrupted:
    """The error for one damaged file."""
    return ModelCorrupted(
        f"The model's file {name} {what}.",
        hint="Save the model again from its task, or train it again; this copy is never used.",
    )
