"""The folders of published versions: their cards, and those that were renamed or are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import limits, paths
from ktrdr_mcp.errors import InvalidName, KtrdrError, ModelCorrupted
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.formats import model_folders, model_formats
from ktrdr_mcp.training.publish import CARD, model_id

SAVE_AGAIN: Final = "Put it back from a copy, or save the model again from task {task}."


def find_published(workspace: Workspace) -> Iterator[Path]:
    """The folders of all versions that this program published."""
    for folder in model_folders(workspace.models):
        for directory in sorted(folder.iterdir()):
            if not directory.is_symlink() and (directory / CARD).is_file():
                yield directory


@dataclass(frozen=True)
class WrittenCard:
    """What the card beside a published bundle says of it.

    Args:
        model_name: of the model.
        version: its number.
        model_id: as `publish.model_id` makes it.
        folder: the name of the version's folder, as it was written.
        content: all of it.
    """

    model_name: str
    version: int
    model_id: str
    folder: str
    content: dict[str, Any]


def parse_card(directory: Path) -> WrittenCard:
    """The card beside a published bundle, wherever its folder lies now. Raises ModelCorrupted."""
    path = bundle.regular_file(directory, CARD, limits.MAX_BUNDLE_JSON_BYTES)
    try:
        card: dict[str, Any] = json.loads(path.read_bytes())
        named = model_id(card["task_id"], card["model_name"])
        texts = isinstance(card["description"], str) and isinstance(card["created_at"], str)
        name, version = paths.model_name(card["model_name"]), card["version"]
        symbol, timeframe = paths.symbol(card["symbol"]), paths.timeframe(card["timeframe"])
        folder = Workspace(Path()).model_directory(name, symbol, timeframe, version).name
        known = card.get("sha256", {}).keys() <= {
            file for each in model_formats().values() for file in each.file_names
        }
        whole = isinstance(version, int) and card["model_id"] == named
        if texts and known and whole:
            return WrittenCard(name, version, named, folder, card)
    except (InvalidName, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ModelCorrupted(
        f"The model's file {CARD} is not what was written.",
        hint="Save the model again from its task; this copy is not registered.",
    )


def read_card(directory: Path) -> dict[str, Any]:
    """The card beside a published bundle that lies where it was written. Raises ModelCorrupted."""
    card = parse_card(directory)
    if (directory.parent.name, directory.name) != (card.model_name, card.folder):
        written = f"models/{card.model_name}/{card.folder}"
        raise ModelCorrupted(
            f"It is version {card.version} of model {card.model_name}, renamed: it was written as"
            f" {written}.",
            hint="Rename it back, or remove it if it is a copy. A model gets another name when its"
            " task is saved under that one.",
        )
    return card.content


def has_folder(workspace: Workspace, row: ModelRow) -> bool:
    """Whether a registered version's folder is there; a path that leads out is another matter."""
    try:
        return workspace.inside(row.path).is_dir()
    except KtrdrError:
        return True


def find_moved(workspace: Workspace) -> Iterator[tuple[Path, str, WrittenCard]]:
    """The published versions that lie in a folder of another name than they were written to.

    Yields:
        the folder, the one that it was written to, relative to the workspace, and its card.
    """
    for directory in find_published(workspace):
        try:
            card = parse_card(directory)
        except KtrdrError:
            continue  # damaged, which others say
        written = workspace.models / card.model_name / card.folder
        if directory != written:
            yield directory, workspace.relative(written), card


def missing_folder(workspace: Workspace, row: ModelRow) -> ModelCorrupted | None:
    """The error for a registered version whose folder is gone; None if it is there.

    Args:
        workspace: where models lie.
        row: of the version.
    """
    if has_folder(workspace, row):
        return None
    message = f"The folder {row.path} of model {row.model_name} is gone"
    for directory, written, card in find_moved(workspace):
        if card.model_id == row.model_id and written == row.path:
            now = workspace.relative(directory)
            return ModelCorrupted(
                f"{message}: it was renamed to {now}.",
                hint=f"{rename_back(now, written)} A model gets another name when its task is saved"
                " under that one.",
                field="model_name",
            )
    return ModelCorrupted(
        f"{message}.", hint=SAVE_AGAIN.format(task=row.task_id), field="model_name"
    )


def rename_back(now: str, written: str) -> str:
    """What to do with a renamed folder, in a sentence."""
    if now.rpartition("/")[2] == written.rpartition("/")[2]:
        now, written = now.rpartition("/")[0], written.rpartition("/")[0]
    return f"Rename {now} back to {written}."


def require_folder(workspace: Workspace, row: ModelRow) -> None:
    """Refuses a registered version whose folder is gone. Raises ModelCorrupted."""
    if (missing := missing_folder(workspace, row)) is not None:
        raise missing


def mark_missing(workspace: Workspace, rows: Sequence[ModelRow]) -> list[ModelRow]:
    """Rows for a list: the description of a version whose folder is gone says so."""
    found = []
    for row in rows:
        missing = missing_folder(workspace, row)
        if missing is not None:
            text = f"Cannot be used: {missing.message} {missing.hint}"
            row = replace(row, description=text)
        found.append(row)
    return found


def explain_renamed(workspace: Workspace, name: str) -> str:
    """What lies under a name that no model has, as a sentence; empty if no model does."""
    for directory, written, card in find_moved(workspace):
        if directory.parent.name == name:
            now = workspace.relative(directory)
            lies = f"{now} is version {card.version} of model {card.model_name}"
            return f"{lies}, renamed. {rename_back(now, written)}"
    return ""
