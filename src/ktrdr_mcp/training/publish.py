"""Publishes a task's bundle under a model's name."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.results import RunResult
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.formats import Copy, Identity, model_format, model_formats
from ktrdr_mcp.training.spec import TrainingSpec

CARD: Final = "model.json"


@dataclass(frozen=True)
class Published:
    """Where a model lies and what it is."""

    directory: Path
    version: int
    sha256: str  # of bundle.json
    manifest: bundle.BundleManifest
    copies: dict[str, Copy]  # for other programs, by the name of their format


def model_id(task_id: str, model_name: str) -> str:
    """The id of a task's model under a name, the same each time.

    Args:
        task_id: the task that trained it.
        model_name: the name it is saved under.
    """
    digest = hashlib.sha256(f"{task_id}\0{model_name}".encode()).hexdigest()
    return f"model_{digest[:16]}"


def publish(
    source: Path,
    directory_of: Callable[[int], Path],
    first_version: int,
    card: Mapping[str, Any],
) -> Published:
    """Copies a verified bundle to the first free version, with other programs' files beside it.

    Args:
        source: the task's bundle.
        directory_of: the folder of each version.
        first_version: the lowest version that may be free.
        card: the model's name, id, series, description and date, kept beside the bundle.
    Raises:
        ModelCorrupted: the task's bundle is not what was written.
        StorageError: nothing was published.
    """
    verified = bundle.read(source)
    version = first_version
    while directory_of(version).exists():
        if holds(directory_of(version), card["model_id"]):
            # published before a crash, and not yet registered
            return read_version(directory_of(version), version, source, verified, card)
        version += 1
    made = read_version(directory_of(version), version, source, verified, card)
    with files.staging(made.directory) as staged:
        for name in verified.manifest.files:
            files.write_new(staged / name, (source / name).read_bytes())
        hashes: dict[str, str] = {}
        for copy in made.copies.values():
            for name, content in copy.files.items():
                files.write_new(staged / name, content)
            hashes |= copy.hashes()
        written = {**card, "version": version, "sha256": hashes}
        files.write_new(staged / CARD, files.json_bytes(written))
        bundle.read(staged)
        files.publish(staged, made.directory)
    return made


def holds(directory: Path, identifier: str) -> bool:
    """Whether a folder holds this model, whole."""
    try:
        card = json.loads((directory / CARD).read_bytes())
        bundle.read(directory)
    except (OSError, ValueError, ModelCorrupted):
        return False
    return isinstance(card, dict) and card.get("model_id") == identifier


def read_version(
    directory: Path, version: int, source: Path, verified: bundle.Bundle, card: Mapping[str, Any]
) -> Published:
    """The account of a folder that holds, or is about to hold, a version.

    Args:
        directory: of the version.
        version: its number.
        source: the task's bundle.
        verified: what it holds.
        card: of the model.
    """
    identity = Identity(
        card["model_name"], version, card["symbol"], card["timeframe"], card["created_at"]
    )
    return Published(
        directory,
        version,
        files.sha256_of_file(source / bundle.DOCUMENT),
        verified.manifest,
        render_copies(verified, bundle.read_history(source, verified.manifest), identity),
    )


def render_copies(
    verified: bundle.Bundle, history: Sequence[Mapping[str, float]], identity: Identity
) -> dict[str, Copy]:
    """A version in the format of every other program, by the format's name."""
    return {
        name: each.render(verified, history, identity) for name, each in model_formats().items()
    }


def link_copies(
    workspace: Workspace, directory: Path, identity: Identity, copies: Mapping[str, Copy]
) -> dict[str, list[str]]:
    """Lets other programs find a published version.

    Args:
        workspace: where models and strategies lie.
        directory: the version, published.
        identity: of it.
        copies: what was rendered for it.
    Returns:
        why each program's backtester cannot use it, by the format's name; empty lists if it can.
    Raises:
        StorageError: the disk failed.
    """
    return {
        name: model_format(name).link(workspace, directory, identity.model_name, copy)
        for name, copy in copies.items()
    }


def earlier_result(directory: Path, spec: TrainingSpec) -> RunResult | None:
    """The result that a folder holds, if it is whole and of this specification."""
    with contextlib.suppress(ModelCorrupted):
        manifest = bundle.read_verified(directory)
        if files.json_bytes(manifest.spec) == files.json_bytes(spec.to_dict()):
            return manifest.result()
    return None
