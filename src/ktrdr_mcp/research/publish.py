"""Publishing a task's bundle under a model's name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ktrdr_mcp import durable
from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.learn import bundle

CARD = "model.json"


@dataclass(frozen=True)
class Published:
    """Where a model lies and what it weighs."""

    directory: Path
    version: int
    size_mb: float  # of 10^6 bytes
    sha256: str  # of bundle.json
    document: dict[str, Any]


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
    """Copies a verified bundle to the first free version.

    Args:
        source: the task's bundle.
        directory_of: the folder of each version.
        first_version: the lowest version that may be free.
        card: the model's name, id and description, kept beside the bundle.
    Raises:
        ModelCorrupted: the task's bundle is not what was written.
        StorageError: nothing was published.
    """
    verified = bundle.read(source)
    version = first_version
    while directory_of(version).exists():
        if holds(directory_of(version), card["model_id"]):
            # published before a crash, and not yet registered
            return published(directory_of(version), version, verified.document)
        version += 1
    with durable.staging(directory_of(version)) as staged:
        for name in (bundle.WEIGHTS, bundle.HISTORY, bundle.DOCUMENT):
            durable.write_new(staged / name, (source / name).read_bytes())
        durable.write_new(staged / CARD, durable.json_bytes({**card, "version": version}))
        bundle.read(staged)
        durable.publish(staged, directory_of(version))
    return published(directory_of(version), version, verified.document)


def holds(directory: Path, identifier: str) -> bool:
    """Whether a folder holds this model, whole."""
    try:
        card = (directory / CARD).read_text(encoding="utf-8")
        bundle.read(directory)
    except (OSError, ModelCorrupted):
        return False
    return f'"model_id": "{identifier}"' in card


def published(directory: Path, version: int, document: dict[str, Any]) -> Published:
    """The account of a published folder."""
    return Published(
        directory,
        version,
        bundle.size_megabytes(directory),
        durable.sha256_of_file(directory / bundle.DOCUMENT),
        document,
    )
