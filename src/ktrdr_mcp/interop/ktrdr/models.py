"""Models that KTRDR wrote into the workspace: found by looking, never copied into the registry.

A version is KTRDR's if its folder has KTRDR's files and none of this program's. Folders are looked
at anew each time, so what KTRDR writes or deletes meanwhile is what callers see.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp.errors import InvalidName, ModelCorrupted, ModelNameTaken, shown
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.interop.ktrdr import documents, read
from ktrdr_mcp.paths import Workspace, model_name, symbol, timeframe
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.predictor import Model, model_of_ktrdr
from ktrdr_mcp.training.publish import CARD

ORIGIN: Final = "origin"
KTRDR: Final = "ktrdr"
VERSION: Final = re.compile(r"(.+)_([^_]+)_v([0-9]{1,9})")


def is_ktrdrs(row: ModelRow) -> bool:
    """Whether a row is of a model that KTRDR wrote."""
    return row.details.get(ORIGIN) == KTRDR


def rows(workspace: Workspace, of_symbol: str | None = None) -> list[ModelRow]:
    """Every version that KTRDR wrote and could load itself, newest first.

    Args:
        workspace: where models lie.
        of_symbol: only models trained on this symbol.
    """
    found = []
    for folder in folders(workspace.models):
        for directory in versions(folder):
            with suppress(ModelCorrupted):
                found.append(row_of(workspace, directory))
    chosen = [row for row in found if of_symbol in {None, row.symbol}]
    return sorted(chosen, key=lambda row: (row.created_at, row.path), reverse=True)


def newest(workspace: Workspace, name: str) -> ModelRow | None:
    """The newest version that KTRDR wrote under a name, if there is one.

    Raises:
        ModelCorrupted: there are versions, and none of them is whole.
    """
    directories = versions(workspace.models / model_name(name))
    found, damage = [], None
    for directory in directories:
        try:
            found.append(row_of(workspace, directory))
        except ModelCorrupted as error:
            damage = error
    if damage is not None and not found:
        raise damage
    return max(found, key=lambda row: (row.created_at, row.path), default=None)


def names(workspace: Workspace, prefix: str = "") -> list[str]:
    """Names that begin with the prefix and under which KTRDR wrote a version, sorted."""
    return sorted(
        folder.name
        for folder in folders(workspace.models)
        if folder.name.startswith(prefix) and versions(folder)
    )


def folders(parent: Path) -> Iterator[Path]:
    """The folders inside a folder that this program can call by name; links are not followed."""
    with storage_errors("listing models"):
        entries = sorted(parent.iterdir()) if parent.is_dir() else []
    for path in entries:
        with suppress(InvalidName):
            model_name(path.name)
            if path.is_dir() and not path.is_symlink():
                yield path


def versions(folder: Path) -> list[Path]:
    """The versions in a model's folder that KTRDR wrote."""
    with storage_errors(f"listing models/{folder.name}"):
        entries = sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    return [path for path in entries if series_of(path) is not None and is_written_by_ktrdr(path)]


def is_written_by_ktrdr(path: Path) -> bool:
    """Whether a folder has KTRDR's files and none of this program's."""
    if path.is_symlink() or not (path / documents.METADATA).is_file():
        return False
    return not any((path / name).exists() for name in (bundle.DOCUMENT, CARD))


def series_of(path: Path) -> tuple[str, str, int] | None:
    """Symbol, timeframe and version of a folder's name, if it is a version's."""
    match = VERSION.fullmatch(path.name)
    if match is None:
        return None
    with suppress(InvalidName):
        if symbol(match[1]) == match[1]:
            return match[1], timeframe(match[2]), int(match[3])
    return None


def row_of(workspace: Workspace, directory: Path) -> ModelRow:
    """A version as the registry would describe it. Raises ModelCorrupted."""
    series = series_of(directory)
    if series is None:
        raise ValueError(f"{directory.name} is not the name of a version")
    about, path = read.summary(directory), workspace.relative(directory)
    identity = hashlib.sha256(f"{path}\0{about.created_at}".encode()).hexdigest()
    return ModelRow(
        model_id=f"ktrdr_{identity[:16]}",
        model_name=directory.parent.name,
        version=series[2],
        task_id="",
        symbol=series[0],
        timeframe=series[1],
        strategy=directory.parent.name,
        created_at=about.created_at,
        description=about.description,
        path=path,
        training_accuracy=about.training_accuracy,
        test_accuracy=about.test_accuracy,
        model_size_mb=round(about.size_mb, 6),
        architecture=about.architecture,
        bundle_sha256="",
        details={ORIGIN: KTRDR},
    )


def load(workspace: Workspace, row: ModelRow) -> Model:
    """Reads a model that KTRDR wrote. Raises ModelCorrupted and ModelNotReproducible."""
    return model_of_ktrdr(read.read(workspace.inside(row.path), row.model_name))


def card(workspace: Workspace, row: ModelRow) -> dict[str, Any]:
    """What a model that KTRDR wrote says of itself. Raises ModelCorrupted."""
    directory = workspace.inside(row.path)
    shown_fields = ("model_id", "model_name", "version", "description", "created_at", "symbol")
    return {
        **{name: getattr(row, name) for name in (*shown_fields, "timeframe")},
        "model_path": row.path,
        "origin": KTRDR,
        "config": finite(read.document(directory, documents.CONFIG)),
        "metrics": finite(read.document(directory, documents.METRICS)),
        "features": finite(read.document(directory, documents.FEATURES)),
        "files": [name for name in documents.FILES if (directory / name).is_file()],
    }


def finite(value: Any) -> Any:
    """A JSON value without NaN and infinities, which KTRDR writes and JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and value - value != 0 else value


def refuse_shared_folder(workspace: Workspace, name: str) -> None:
    """Refuses to save among KTRDR's own versions, whose strategy file is not ours to change.

    Raises:
        ModelNameTaken: KTRDR wrote a version under this name.
    """
    if versions(workspace.models / model_name(name)):
        raise ModelNameTaken(
            f"The model name {shown(name)} belongs to a model that KTRDR wrote.",
            hint="Save this task under another model_name.",
            field="model_name",
        )
