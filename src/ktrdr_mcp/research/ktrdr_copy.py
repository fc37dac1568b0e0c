"""KTRDR's copy of a model: rendered before it is published, made reachable afterwards.

Where KTRDR cannot compute the features, its files are written all the same: its loader can load the
network, and a script of the user's can feed it. Only the strategy file is left out, without which
its backtester does not start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import durable
from ktrdr_mcp.errors import StorageError, StorageFull
from ktrdr_mcp.learn.bundle import Bundle
from ktrdr_mcp.learn.ktrdr import conventions, documents, state_dict
from ktrdr_mcp.learn.ktrdr.compatibility import incompatibilities
from ktrdr_mcp.learn.ktrdr.documents import Identity
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.research import strategy_file
from ktrdr_mcp.research.predictor import Model, model_of

TOLERANCE: Final = 1e-5  # between our probabilities and KTRDR's


@dataclass(frozen=True)
class Copy:
    """What KTRDR gets of a model."""

    files: dict[str, bytes]  # by name, for the version's folder
    strategy: bytes | None  # None where KTRDR's backtester could not run it
    incompatibilities: list[str]  # why not

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}


def render(verified: Bundle, history: Sequence[Mapping[str, float]], identity: Identity) -> Copy:
    """Makes KTRDR's files of a bundle.

    Args:
        verified: the bundle.
        history: every epoch's figures.
        identity: the version that they are for.
    """
    model, document = model_of(verified), verified.document
    strategy, training = model.strategy, document["spec"]["config"]
    reasons = incompatibilities(strategy)
    names = documents.feature_names(strategy, document["feature_names"], alike=not reasons)
    figures = documents.metrics(document["metrics"], history)
    inputs = model.shape.inputs
    files = {
        conventions.CONFIG: documents.config(identity, strategy, training, inputs, not reasons),
        conventions.METRICS: figures,
        conventions.FEATURES: documents.features(names),
        conventions.METADATA: documents.metadata(
            identity, inputs, document["versions"]["torch"], figures
        ),
    }
    encoded = {name: documents.encoded(values) for name, values in files.items()}
    encoded[conventions.MODEL] = state_dict.encoded(model.shape, model.weights, model.scaler)
    reasons = reasons or rounding(model)
    return Copy(encoded, None if reasons else strategy_bytes(model, training, identity), reasons)


def rounding(model: Model) -> list[str]:
    """Whether the folded scaler costs too much precision, which features hardly varying do."""
    difference = state_dict.largest_difference(model.shape, model.weights, model.scaler)
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
    return strategy_file.stamped(documents.strategy_text(document), name, identity.version)


def place(workspace: Workspace, directory: Path, model_name: str, copy: Copy) -> list[str]:
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
    refusal = strategy_file.place(workspace, model_name, copy.strategy)
    return reasons if refusal is None else [*reasons, refusal]


def newest_version(folder: Path, series: str) -> int:
    """The highest version of a series that is published."""
    pattern = re.compile(rf"{re.escape(series)}_v([0-9]{{1,9}})")
    matches = (pattern.fullmatch(path.name) for path in folder.iterdir() if path.is_dir())
    return max(int(match[1]) for match in matches if match)


def link_latest(path: Path, target: str) -> list[str]:
    """Points KTRDR's link at a version; without any link, KTRDR takes the highest version."""
    try:
        durable.link(path, target)
    except StorageFull:
        raise
    except StorageError as error:
        if path.is_symlink() or path.exists():
            return [f"{path.name} does not lead to the newest version: {error.message}"]
    return []
