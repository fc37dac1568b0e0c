"""What is wrong with the machine or the workspace, and how to mend it; nothing is changed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.files import series_name
from ktrdr_mcp.errors import KtrdrError, ModelCorrupted, StorageError, quote
from ktrdr_mcp.files import check_private_entries, storage_errors
from ktrdr_mcp.ownership import address, trust
from ktrdr_mcp.ownership.lock import is_owned
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service import published
from ktrdr_mcp.store import repair, sqlite_errors
from ktrdr_mcp.strategy.catalog import StrategyCatalog, is_strategy
from ktrdr_mcp.training.formats import model_formats
from ktrdr_mcp.training.strategies import read_strategy, warnings

State = Literal["ok", "note", "wrong"]
FREE_BYTES_WANTED: Final = 500 * 10**6
GIGABYTE_BYTES: Final = 10**9
PROBE_LIMIT_S: Final = 120
FILES_NAMED: Final = 5
# In a process of its own, because a broken installation can crash or hang it; and it takes seconds.
TORCH_PROBE: Final = """
import json, torch
cuda = torch.cuda.is_available()
device = torch.cuda.get_device_name(0) if cuda else "cpu"
assert float(torch.ones(2, device="cuda" if cuda else "cpu").sum()) == 2.0
print(json.dumps({"version": torch.__version__, "device": device}))
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        name: what.
        state: "note" is worth knowing, "wrong" must be mended.
        text: what was found.
        remedy: how to mend it.
    """

    name: str
    state: State
    text: str
    remedy: str = ""


def diagnose(workspace: Workspace) -> Iterator[Finding]:
    """Everything that can be looked at, one finding after the other.

    Args:
        workspace: the folder; it need not exist and is not owned.
    """
    checks: tuple[tuple[str, Callable[[Workspace], Iterator[Finding]]], ...] = (
        ("python", python),
        ("torch", torch),
        ("sqlite", sqlite),
        ("workspace", folder),
        ("marker", marker),
        ("links", links),
        ("owner", owner),
        ("database", database),
        ("disk", disk),
        ("data", data),
        ("strategies", strategies),
        ("models", models),
    )
    for name, check in checks:
        try:
            with storage_errors(f"checking {name}"):
                yield from check(workspace)
        except KtrdrError as error:
            yield Finding(name, "wrong", error.message, error.hint)


def python(workspace: Workspace) -> Iterator[Finding]:
    """The interpreter and the machine."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Finding("python", "ok", f"{platform.python_version()} on {machine}")


def torch(workspace: Workspace) -> Iterator[Finding]:
    """Whether torch can be imported and compute, and on what."""
    remedy = "Install it again: pip install --force-reinstall torch."
    command = [sys.executable, "-P", "-c", TORCH_PROBE]
    try:
        child = subprocess.run(  # noqa: S603 - nothing in it comes from a caller
            command, capture_output=True, text=True, timeout=PROBE_LIMIT_S, check=False
        )
        found = json.loads(child.stdout)
    except subprocess.TimeoutExpired:
        yield Finding("torch", "wrong", f"It did not answer within {PROBE_LIMIT_S} s.", remedy)
    except ValueError:
        last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        yield Finding("torch", "wrong", f"It does not work: {quote(last, 200)}.", remedy)
    else:
        yield Finding("torch", "ok", f"{found['version']}, trains on {found['device']}")


def sqlite(workspace: Workspace) -> Iterator[Finding]:
    """The version of SQLite, and what is known of it."""
    version = sqlite_errors.sqlite_version()
    if sqlite_errors.has_wal_reset_bug():
        yield Finding(
            "sqlite",
            "note",
            f"{version} has the WAL-reset bug, mended in 3.51.3. This program writes through one"
            " connection, which never meets it.",
            "Do not write to .ktrdr/ktrdr.db with other programs.",
        )
    else:
        yield Finding("sqlite", "ok", version)


def folder(workspace: Workspace) -> Iterator[Finding]:
    """Whether the workspace can be used at all."""
    root = workspace.root
    remedy = "Choose another folder with --workspace or KTRDR_WORKSPACE."
    kept = workspace.internal if workspace.internal.is_dir() else root
    if root.exists() and not root.is_dir():
        yield Finding("workspace", "wrong", f"{root} is not a folder.", remedy)
    elif root.exists() and not can_write(kept):
        text = f"{root} cannot be written, so it is only read: nothing is trained or saved there."
        remedy = f"Lists, predictions and backtests work. To train: {remedy[0].lower()}{remedy[1:]}"
        yield Finding("workspace", "note", text, remedy)
    elif not can_write(nearest_folder(root)):
        yield Finding("workspace", "wrong", f"{root} cannot be written.", remedy)
    elif not root.exists():
        yield Finding("workspace", "note", f"{root} does not exist yet; the first use makes it.")
    else:
        yield Finding("workspace", "ok", str(root))


def can_write(folder: Path) -> bool:
    """Whether this user can make files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def nearest_folder(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def marker(workspace: Workspace) -> Iterator[Finding]:
    """Whether the workspace is this user's, so that what it has queued may run."""
    if workspace.internal.exists():
        check_private_entries(workspace.internal)
    if trust.is_foreign(workspace):
        refusal = trust.not_trusted()
        yield Finding("marker", "wrong", refusal.message, refusal.hint)
    else:
        yield Finding("marker", "ok", "this user's on this machine")


def links(workspace: Workspace) -> Iterator[Finding]:
    """Folders in whose place there is a link, through which nothing is saved or loaded."""
    folders = [workspace.models, workspace.strategies]
    if workspace.models.is_dir():
        folders += sorted(workspace.models.iterdir())
    for path in folders:
        try:
            workspace.refuse_links(path)
        except StorageError as error:
            yield Finding("links", "wrong", error.message, error.hint)


def owner(workspace: Workspace) -> Iterator[Finding]:
    """Whether a process owns the workspace now."""
    if not is_owned(workspace):
        yield Finding("owner", "ok", "no process")
        return
    found = address.read(workspace)
    if found is None:
        yield Finding(
            "owner",
            "note",
            "another process, which has not said how to work through it",
            "If commands are refused for long, end that process.",
        )
        return
    yield Finding(
        "owner",
        "ok",
        f"process {found.pid} (ktrdr-mcp {found.version}, since {found.started_at}) at {found.url}",
    )


def database(workspace: Workspace) -> Iterator[Finding]:
    """Whether a start would take the database."""
    if workspace.internal.exists():
        check_private_entries(workspace.internal)
    repair.check(workspace.database)
    yield Finding("database", "ok", "whole" if workspace.database.exists() else "none yet")


def disk(workspace: Workspace) -> Iterator[Finding]:
    """Free space where the workspace lies."""
    free = shutil.disk_usage(nearest_folder(workspace.root)).free
    text = f"{free / GIGABYTE_BYTES:,.1f} GB free"
    if free < FREE_BYTES_WANTED:
        remedy = "Free some space: trainings need it for checkpoints and models."
        yield Finding("disk", "wrong", text, remedy)
    else:
        yield Finding("disk", "ok", text)


def data(workspace: Workspace) -> Iterator[Finding]:
    """Every series, defects included, and files that are not read."""
    sources, sound = BarCatalog(workspace), 0
    for series in sources.available():
        if series.defects is None:
            sound += 1
            continue
        yield Finding(
            "data",
            "wrong",
            f"{series.symbol} {series.timeframe} cannot be used: {series.defects}",
            "Correct the file, or move it out of data/.",
        )
    yield Finding("data", "ok", f"{sound} series can be used")
    for one in sources.not_read():
        yield Finding("data", "note", f"{quote(one.name)} is not read: {one.why}.", one.remedy)
    if workspace.data.is_dir():
        names = [each.name for each in workspace.data.iterdir() if each.is_file()]
        said = {one.name for one in sources.not_read()}
        strangers = [name for name in names if series_name(name) is None and name not in said]
        yield from not_read("data", strangers, "Bars are read from SYMBOL_TIMEFRAME.csv, .parquet.")


def strategies(workspace: Workspace) -> Iterator[Finding]:
    """Every strategy, checked as a training would, and files that are none."""
    library, sound = StrategyCatalog(workspace), 0
    for name in library.names():
        try:
            said = warnings(read_strategy(library, name))
        except KtrdrError as error:
            yield Finding("strategies", "wrong", error.message, error.hint)
        else:
            sound += 1
            if said:
                remedy = "It can be trained as it is; these are its differences from what it says."
                yield Finding("strategies", "note", f"{name}: {' '.join(said)}", remedy)
    yield Finding("strategies", "ok", f"{sound} strategies can be used")
    if workspace.strategies.is_dir():
        files = [each for each in workspace.strategies.iterdir() if each.is_file()]
        misnamed = library.find_misnamed()
        for name, remedy in misnamed:
            yield Finding("strategies", "note", f"{quote(name)} is not read", remedy)
        known = {name for name, _ in misnamed}
        strangers = [each.name for each in files if not is_strategy(each)]
        strangers = [name for name in strangers if name not in known]
        remedy = "Strategies are read from names that end in .yaml."
        yield from not_read("strategies", strangers, remedy)


def models(workspace: Workspace) -> Iterator[Finding]:
    """Folders of models that are renamed, gone or damaged, and those of others not listed."""
    saved = repair.read_models(workspace.database) if workspace.database.exists() else []
    for row in saved:
        if (missing := published.missing_folder(workspace, row)) is not None:
            yield Finding("models", "wrong", missing.message, missing.hint)
            continue
        try:
            published.read_card(workspace.inside(row.path))
        except ModelCorrupted as damage:
            yield Finding("models", "wrong", f"{row.path}: {damage.message}", damage.hint)
        except StorageError:
            continue  # a link, which is named above
    registered = {row.path for row in saved}
    known = {row.model_id for row in saved if not published.has_folder(workspace, row)}
    for directory, _, card in published.find_moved(workspace):
        path = workspace.relative(directory)
        if card.model_id not in known and path not in registered:
            text = f"{path} is a copy of model {card.model_name}."
            yield Finding("models", "note", text, "Nothing uses it; it can be removed.")
    for each in model_formats().values():
        for folder, error in each.unusable(workspace):
            yield Finding("models", "wrong", f"{quote(folder)}: {error.message}", error.hint)


def not_read(name: str, files: list[str], remedy: str) -> Iterator[Finding]:
    """A note about files that lie in a folder and are not read; README files belong there."""
    strangers = sorted(each for each in files if not each.startswith((".", "README")))
    if strangers:
        listed = ", ".join(quote(each) for each in strangers[:FILES_NAMED])
        others = len(strangers) - FILES_NAMED
        text = f"not read: {listed}{f' and {others} more' if others > 0 else ''}"
        yield Finding(name, "note", text, remedy)
