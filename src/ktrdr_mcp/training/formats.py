"""Models in the formats of other programs: what such a format must do, and which there are.

A format lists, reads and describes what another program wrote under `models/`, and writes that
program's files beside a bundle. To add one, implement `ModelFormat` in a module of `interop` and
name it in MODEL_FORMATS; it is imported when a model is first looked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from ktrdr_mcp.errors import InvalidName, ModelCorrupted
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.paths import Workspace, model_name
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.bundle import Bundle
from ktrdr_mcp.training.predictor import Model, model_of

MODEL_FORMATS: Final[Mapping[str, str]] = {  # name in rows and replies: module with MODEL_FORMAT
    "ktrdr": "ktrdr_mcp.interop.ktrdr.model_format",
}
OWN: Final = "ktrdr-mcp"
ORIGIN: Final = "origin"  # in a row's details: the format of a model that another program wrote


@dataclass(frozen=True)
class Identity:
    """Which version of which model the files are for."""

    model_name: str
    version: int
    symbol: str
    timeframe: str
    created_at: str  # ISO 8601 UTC with Z


@dataclass(frozen=True)
class Copy:
    """What another program gets of a model."""

    files: dict[str, bytes]  # by name, for the version's folder
    strategy: bytes | None  # None where the program's backtester could not run it
    incompatibilities: list[str]  # why not

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}


class ModelFormat(Protocol):
    """The files of another program under `models/`, read and written."""

    @property
    def file_names(self) -> tuple[str, ...]:
        """The files that `render` makes."""
        ...

    def rows(self, workspace: Workspace, of_symbol: str | None = None) -> list[ModelRow]:
        """Every version that the program wrote, newest first.

        Args:
            workspace: where models lie.
            of_symbol: only models trained on this symbol.
        """
        ...

    def unusable(self, workspace: Workspace) -> Iterator[tuple[str, ModelCorrupted]]:
        """Versions that the program wrote and that cannot be listed: each folder, and why."""
        ...

    def newest(self, workspace: Workspace, name: str) -> ModelRow | None:
        """The newest version that the program wrote under a name. Raises ModelCorrupted."""
        ...

    def names(self, workspace: Workspace, prefix: str = "") -> list[str]:
        """Names that begin with the prefix and under which the program wrote a version, sorted."""
        ...

    def load(self, workspace: Workspace, row: ModelRow) -> Model:
        """Reads a version. Raises ModelCorrupted and ModelNotReproducible."""
        ...

    def card(self, workspace: Workspace, row: ModelRow) -> dict[str, Any]:
        """What a version says of itself. Raises ModelCorrupted."""
        ...

    def refuse_shared_folder(self, workspace: Workspace, name: str) -> None:
        """Refuses to save among the program's own versions. Raises ModelNameTaken."""
        ...

    def render(
        self, verified: Bundle, history: Sequence[Mapping[str, float]], identity: Identity
    ) -> Copy:
        """Makes the program's files of a bundle.

        Args:
            verified: the bundle.
            history: every epoch's figures.
            identity: the version that they are for.
        """
        ...

    def link(self, workspace: Workspace, directory: Path, name: str, copy: Copy) -> list[str]:
        """Lets the program find a published version.

        Args:
            workspace: where models and strategies lie.
            directory: the version, published.
            name: of the model.
            copy: what was rendered for it.
        Returns:
            why the program's backtester cannot use the version; empty if it can.
        Raises:
            StorageError: the disk failed.
        """
        ...


@cache
def model_format(name: str) -> ModelFormat:
    """One of MODEL_FORMATS."""
    found: ModelFormat = import_module(MODEL_FORMATS[name]).MODEL_FORMAT
    return found


def model_formats() -> dict[str, ModelFormat]:
    """All formats by name."""
    return {name: model_format(name) for name in MODEL_FORMATS}


def origin(row: ModelRow) -> str:
    """Who wrote a version: a name of MODEL_FORMATS, or this program's."""
    return str(row.details.get(ORIGIN, OWN))


def foreign_format(row: ModelRow) -> ModelFormat | None:
    """The format of a version that another program wrote; None for this program's own."""
    name = origin(row)
    return model_format(name) if name in MODEL_FORMATS else None


def foreign_rows(workspace: Workspace, of_symbol: str | None = None) -> list[ModelRow]:
    """Every version that other programs wrote, newest first."""
    rows = [row for each in model_formats().values() for row in each.rows(workspace, of_symbol)]
    return sorted(rows, key=lambda row: (row.created_at, row.path), reverse=True)


def newest_foreign(workspace: Workspace, name: str) -> ModelRow | None:
    """The newest version that another program wrote under a name. Raises ModelCorrupted."""
    rows = [each.newest(workspace, name) for each in model_formats().values()]
    found = [row for row in rows if row is not None]
    return max(found, key=lambda row: (row.created_at, row.path), default=None)


def foreign_names(workspace: Workspace, prefix: str = "") -> list[str]:
    """Names under which other programs wrote a version, sorted."""
    return sorted(
        {name for each in model_formats().values() for name in each.names(workspace, prefix)}
    )


def load(workspace: Workspace, row: ModelRow) -> Model:
    """Reads a version from its files, whoever wrote it.

    Args:
        workspace: where models lie.
        row: the version.
    Raises:
        ModelCorrupted: a file is not what was written.
        ModelNotReproducible: another program wrote it, and it cannot be computed here.
    """
    foreign = foreign_format(row)
    if foreign is not None:
        return foreign.load(workspace, row)
    return model_of(bundle.read(workspace.inside(row.path), row.bundle_sha256))


def model_folders(parent: Path) -> Iterator[Path]:
    """The folders inside a folder that this program can call by name; links are not followed."""
    with storage_errors("listing models"):
        is_folder = parent.is_dir() and not parent.is_symlink()
        entries = sorted(parent.iterdir()) if is_folder else []
    for path in entries:
        with suppress(InvalidName):
            model_name(path.name)
            if path.is_dir() and not path.is_symlink():
                yield path
