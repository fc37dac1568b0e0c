"""KTRDR's format of models: found by looking, never copied into the registry.

A version is KTRDR's if its folder has KTRDR's files and none of this program's. Folders are looked
at anew each time, so what KTRDR writes or deletes meanwhile is what callers see. Folders of KTRDR's
later layout, `{timeframe}_v{version}` without a symbol, are listed and cannot be used.

This program's copies of its own models, and the strategy file of each, are written here too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import (
    InvalidName,
    ModelCorrupted,
    ModelNameTaken,
    StorageError,
    StorageFull,
    printable,
    quote,
)
from ktrdr_mcp.features.inputs import Scaler, windows_of
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.interop.ktrdr import documents, read
from ktrdr_mcp.interop.ktrdr.documents import incompatibilities
from ktrdr_mcp.nn.perceptron import Mlp
from ktrdr_mcp.paths import (
    Workspace,
    model_name,
    symbol,
    symbol_in_file_name,
    symbol_of_file_name,
    timeframe,
)
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.strategy.catalog import built_in, is_ours, stamp
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.bundle import Bundle
from ktrdr_mcp.training.formats import ORIGIN, Copy, Identity, ModelFormat, model_folders
from ktrdr_mcp.training.predictor import Model, model_of
from ktrdr_mcp.training.publish import CARD

KTRDR: Final = "ktrdr"
PROGRAM: Final = "KTRDR"
VERSION: Final = re.compile(r"(.+)_([^_]+)_v([0-9]{1,9})")
LATER_VERSION: Final = re.compile(r"([^_]+)_v([0-9]{1,9})")
LATER_METADATA: Final = "metadata_v3.json"
TOLERANCE: Final = 1e-5  # between our probabilities and KTRDR's
MAX_ARCHITECTURE_CHARACTERS: Final = 100
MOST_SHOWN_CHARACTERS: Final = 65_536
LATER: Final = "later"  # in a row's details: it has the later layout
NOT_USABLE: Final = (
    "it has the layout of KTRDR's later releases (metadata_v3.json), which is not read here."
)


class KtrdrFormat:
    """Implements ModelFormat."""

    file_names = documents.FILES

    def rows(self, workspace: Workspace, of_symbol: str | None = None) -> list[ModelRow]:
        """Every version that KTRDR wrote and could load itself, newest first.

        Args:
            workspace: where models lie.
            of_symbol: only models trained on this symbol.
        """
        found = []
        for folder in model_folders(workspace.models):
            for directory in versions(folder):
                with suppress(ModelCorrupted):  # doctor names it
                    found.append(row_of(workspace, directory))
        chosen = [row for row in found if of_symbol in {None, row.symbol}]
        return sorted(chosen, key=lambda row: (row.created_at, row.path), reverse=True)

    def unusable(self, workspace: Workspace) -> Iterator[tuple[str, ModelCorrupted]]:
        """Versions that KTRDR wrote and that cannot be listed: each folder, and why."""
        for folder in model_folders(workspace.models):
            for directory in versions(folder):
                try:
                    row_of(workspace, directory)
                except ModelCorrupted as error:
                    yield workspace.relative(directory), error

    def newest(self, workspace: Workspace, name: str) -> ModelRow | None:
        """The newest version that KTRDR wrote under a name, if there is one.

        Raises:
            ModelCorrupted: there are versions, and none of them is whole.
        """
        found, damage = [], None
        for directory in versions(workspace.models / model_name(name)):
            try:
                found.append(row_of(workspace, directory))
            except ModelCorrupted as error:
                damage = error
        if damage is not None and not found:
            raise damage
        return max(found, key=lambda row: (row.created_at, row.path), default=None)

    def names(self, workspace: Workspace, prefix: str = "") -> list[str]:
        """Names that begin with the prefix and under which KTRDR wrote a version, sorted."""
        return sorted(
            folder.name
            for folder in model_folders(workspace.models)
            if folder.name.startswith(prefix) and versions(folder)
        )

    def load(self, workspace: Workspace, row: ModelRow) -> Model:
        """Reads a model that KTRDR wrote. Raises ModelCorrupted and ModelNotReproducible."""
        if row.details.get(LATER):
            raise read.refusal(NOT_USABLE)
        found = read.read(workspace.inside(row.path), row.model_name)
        return Model(
            strategy=found.strategy,
            scaler=found.scaler,
            shape=found.shape,
            weights=dict(found.weights),
            manifest=None,
            seen_from=None,  # KTRDR does not keep the range
            seen_before=row.created_at,
            program=PROGRAM,
        )

    def card(self, workspace: Workspace, row: ModelRow) -> dict[str, Any]:
        """What a model that KTRDR wrote says of itself. Raises ModelCorrupted."""
        directory = workspace.inside(row.path)
        shown_fields = ("model_id", "model_name", "version", "description", "created_at", "symbol")
        about = {
            **{name: getattr(row, name) for name in (*shown_fields, "timeframe")},
            "model_path": row.path,
            "origin": KTRDR,
        }
        if row.details.get(LATER):
            return {**about, "metadata": show_document(directory, LATER_METADATA)}
        return {
            **about,
            "config": show_document(directory, documents.CONFIG),
            "metrics": show_document(directory, documents.METRICS),
            "features": show_document(directory, documents.FEATURES),
            "files": [name for name in documents.FILES if (directory / name).is_file()],
        }

    def refuse_shared_folder(self, workspace: Workspace, name: str) -> None:
        """Refuses to save among KTRDR's own versions, whose strategy file is not ours to change.

        Raises:
            ModelNameTaken: KTRDR wrote a version under this name.
        """
        if versions(workspace.models / model_name(name)):
            raise ModelNameTaken(
                f"The model name {quote(name)} belongs to a model that KTRDR wrote.",
                hint="Save this task under another model_name.",
                field="model_name",
            )

    def render(
        self, verified: Bundle, history: Sequence[Mapping[str, float]], identity: Identity
    ) -> Copy:
        """Makes KTRDR's files of a bundle; `ModelFormat.render` describes the arguments."""
        return render(verified, history, identity)

    def link(self, workspace: Workspace, directory: Path, name: str, copy: Copy) -> list[str]:
        """Lets KTRDR find a published version; `ModelFormat.link` describes the arguments."""
        return link_copy(workspace, directory, name, copy)


MODEL_FORMAT: Final[ModelFormat] = KtrdrFormat()


def versions(folder: Path) -> list[Path]:
    """The versions in a model's folder that KTRDR wrote."""
    with storage_errors(f"listing models/{folder.name}"):
        entries = sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    return [path for path in entries if is_written_by_ktrdr(path)]


def is_written_by_ktrdr(path: Path) -> bool:
    """Whether a folder has KTRDR's name and metadata, and none of this program's files.

    Metadata that is no plain file counts, so that whoever reads it says what is wrong with it.
    """
    if path.is_symlink() or any((path / name).exists() for name in (bundle.DOCUMENT, CARD)):
        return False
    if series_of(path) is not None:
        return os.path.lexists(path / documents.METADATA)
    return later_series_of(path) is not None and os.path.lexists(path / LATER_METADATA)


def series_of(path: Path) -> tuple[str, str, int] | None:
    """Symbol, timeframe and version of a folder's name, if it is a version's."""
    match = VERSION.fullmatch(path.name)
    if match is None:
        return None
    with suppress(InvalidName):
        found = symbol_of_file_name(match[1])
        if symbol_in_file_name(found) == match[1]:
            return found, timeframe(match[2]), int(match[3])
    return None


def later_series_of(path: Path) -> tuple[str, int] | None:
    """Timeframe and version of a folder's name in the later layout, if it is a version's."""
    match = LATER_VERSION.fullmatch(path.name)
    with suppress(InvalidName):
        return (timeframe(match[1]), int(match[2])) if match else None
    return None


def row_of(workspace: Workspace, directory: Path) -> ModelRow:
    """A version as the registry would describe it. Raises ModelCorrupted for whatever is wrong."""
    try:
        return read_version(workspace, directory)
    except (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise ModelCorrupted(
            f"The files of {quote(workspace.relative(directory))} hold what no model of KTRDR has"
            f" ({type(error).__name__}).",
            hint="Save the model again in KTRDR, or move its folder out of models/.",
        ) from error


def read_version(workspace: Workspace, directory: Path) -> ModelRow:
    """A version by its name and files. Raises ModelCorrupted."""
    series, later = series_of(directory), later_series_of(directory)
    if series is None and later is not None:
        about, of_symbol = later_summary(directory)
        series = (of_symbol, *later)
        details: dict[str, Any] = {ORIGIN: KTRDR, LATER: True}
    elif series is not None:
        about, details = read.summary(directory), {ORIGIN: KTRDR}
    else:
        raise ValueError(f"{directory.name} is not the name of a version")
    path = workspace.relative(directory)
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
        description=printable(about.description),
        path=path,
        training_accuracy=about.training_accuracy,
        test_accuracy=about.test_accuracy,
        model_size_mb=round(about.size_mb, 6),
        architecture=about.architecture[:MAX_ARCHITECTURE_CHARACTERS],
        bundle_sha256="",
        details=details,
    )


def later_summary(directory: Path) -> tuple[read.Summary, str]:
    """What a list says of a version in the later layout, and its symbol if it names one.

    Raises:
        ModelCorrupted: its metadata cannot be read.
    """
    metadata = read.document(directory, LATER_METADATA)
    try:
        created_at = read.timestamp(metadata.get("created_at"))
    except ModelCorrupted:
        changed = datetime.fromtimestamp((directory / LATER_METADATA).stat().st_mtime, UTC)
        created_at = changed.strftime("%Y-%m-%dT%H:%M:%SZ")
    symbols = metadata.get("training_symbols")
    first = symbols[0] if isinstance(symbols, list) and symbols else None
    of_symbol = ""
    with suppress(InvalidName):
        of_symbol = symbol(first)
    description = f"Cannot be used: {NOT_USABLE}"
    return read.Summary(created_at, description, "", 0.0, None, None), of_symbol


def show_document(directory: Path, name: str) -> Any:
    """A document of a version as an agent may read it, or why it is not shown."""
    content = finite(read.document(directory, name))
    characters = len(json.dumps(content))
    if characters > MOST_SHOWN_CHARACTERS:
        return f"{name} has {characters:,} characters, too many to be shown: read the file."
    return content


def finite(value: Any) -> Any:
    """A JSON value as an agent may read it.

    It has no NaN and no infinities, which KTRDR writes and JSON does not have, and no control
    characters and direction marks.
    """
    if isinstance(value, str):
        return printable(value, keep="\n\t")
    if isinstance(value, dict):
        return {printable(str(key)): finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and value - value != 0 else value


def place_strategy_file(workspace: Workspace, model_name: str, content: bytes | None) -> str | None:
    """Puts a model's strategy file in place, unless the name is the user's or a built-in one.

    Args:
        workspace: where strategies lie.
        model_name: the model, whose name the file has.
        content: what `stamp` made; None removes the file of an earlier version.
    Returns:
        why it could not be written, or None.
    Raises:
        StorageError: the disk failed.
    """
    path = workspace.strategy_file(model_name)
    shown = f"strategies/{path.name}"
    with files.storage_errors(f"reading {path.name}"):
        taken = path.is_symlink() or path.exists()
        ours = taken and is_ours(path)
        if content is None:
            if ours:
                path.unlink()
            return None
    if taken and not ours:
        return (
            f"{shown} was not written by this program, or was edited since, so it was left as it"
            " is; save under another model_name for a strategy file that KTRDR can use."
        )
    if built_in(model_name) is not None:
        return (
            f"{shown} would hide the built-in strategy of that name, so it was not written; save"
            " under another model_name for a strategy file that KTRDR can use."
        )
    files.replace(path, content)
    return None


def render(verified: Bundle, history: Sequence[Mapping[str, float]], identity: Identity) -> Copy:
    """Makes KTRDR's files of a bundle.

    Args:
        verified: the bundle.
        history: every epoch's figures.
        identity: the version that they are for.
    """
    model, manifest = model_of(verified), verified.manifest
    if not isinstance(model.shape, Mlp):
        return Copy({}, None, [f"KTRDR loads no {model.shape.architecture}, only an mlp."])
    strategy, training = model.strategy, manifest.config
    reasons = incompatibilities(strategy)
    names = documents.feature_names(strategy, manifest.feature_names, alike=not reasons)
    figures = documents.metrics(manifest.metrics.to_json(), history)
    inputs = model.shape.inputs
    values = {
        documents.CONFIG: documents.config(identity, strategy, training, inputs, not reasons),
        documents.METRICS: figures,
        documents.FEATURES: documents.features(names),
        documents.METADATA: documents.metadata(
            identity, inputs, manifest.versions["torch"], figures
        ),
    }
    encoded = {name: documents.encode(document) for name, document in values.items()}
    from ktrdr_mcp.interop.ktrdr import state_dict

    encoded[documents.MODEL] = state_dict.encode(model.shape, model.weights, input_scaler(model))
    reasons = reasons or loses_precision(model.shape, model)
    return Copy(encoded, None if reasons else strategy_bytes(model, training, identity), reasons)


def input_scaler(model: Model) -> Scaler:
    """The scaler of a network's inputs: where they are windows, that of the feature of each."""
    windows = windows_of(model.strategy)
    return model.scaler if windows is None else model.scaler.of_columns(windows.columns)


def loses_precision(shape: Mlp, model: Model) -> list[str]:
    """Whether the folded scaler costs too much precision, which features hardly varying do."""
    from ktrdr_mcp.interop.ktrdr import state_dict

    difference = state_dict.largest_difference(shape, model.weights, input_scaler(model))
    if difference <= TOLERANCE:
        return []
    sentence = (
        f"Without the scaler, rounding moves probabilities by up to {difference:.1g}, because a"
        " feature hardly varies."
    )
    return [sentence]


def strategy_bytes(model: Model, training: Mapping[str, Any], identity: Identity) -> bytes:
    """The strategy file that KTRDR's backtester reads beside the model."""
    name = identity.model_name
    document = documents.strategy_document(name, model.strategy, training, alike=True)
    return stamp(documents.strategy_text(document), name, identity.version)


def link_copy(workspace: Workspace, directory: Path, model_name: str, copy: Copy) -> list[str]:
    """Lets KTRDR find a published version: the link to the newest one, and the strategy file.

    Args:
        workspace: where strategies lie.
        directory: the version, published.
        model_name: the model.
        copy: what was rendered for it.
    Returns:
        why KTRDR's backtester cannot use the version; empty if it can.
    Raises:
        StorageError: the disk failed.
    """
    series, version = directory.name.rsplit("_v", 1)
    newest = newest_version(directory.parent, series)
    reasons = list(copy.incompatibilities)
    reasons += link_latest(directory.parent / f"{series}_latest", f"{series}_v{newest}")
    if int(version) != newest:
        return [*reasons, f"Version {newest} is newer, and KTRDR uses the newest."]
    refusal = place_strategy_file(workspace, model_name, copy.strategy)
    return reasons if refusal is None else [*reasons, refusal]


def newest_version(folder: Path, series: str) -> int:
    """The highest version of a series that is published."""
    pattern = re.compile(rf"{re.escape(series)}_v([0-9]{{1,9}})")
    matches = (pattern.fullmatch(path.name) for path in folder.iterdir() if path.is_dir())
    return max(int(match[1]) for match in matches if match)


def link_latest(path: Path, target: str) -> list[str]:
    """Points KTRDR's link at a version; without any link, KTRDR takes the highest version."""
    try:
        files.link(path, target)
    except StorageFull:
        raise
    except StorageError as error:
        if path.is_symlink() or path.exists():
            return [f"{path.name} does not lead to the newest version: {error.message}"]
    return []
