"""Writes KTRDR's copy of a model and the strategy file that goes with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import StorageError, StorageFull
from ktrdr_mcp.features.inputs import Scaler, windows_of
from ktrdr_mcp.interop.ktrdr import documents
from ktrdr_mcp.interop.ktrdr.documents import incompatibilities
from ktrdr_mcp.nn.perceptron import Mlp
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.strategy.catalog import built_in, is_ours, stamp
from ktrdr_mcp.training.bundle import Bundle
from ktrdr_mcp.training.formats import Copy, Identity
from ktrdr_mcp.training.predictor import Model, model_of


def place_strategy_file(workspace: Workspace, model_name: str, content: bytes | None) -> str | None:
    """Puts a model's strategy file in place, unless the name is the user's or a built-in one.

    Args:
        workspace: where strategies lie.
        model_name: the model, whose name the file has.
        content: what `stamped` made; None removes the file of an earlier version.
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


TOLERANCE: Final = 1e-5  # between our probabilities and KTRDR's


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
