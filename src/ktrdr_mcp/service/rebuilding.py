"""Making the database anew from what lies in the folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import anyio.to_thread

from ktrdr_mcp.errors import DatabaseError, KtrdrError, ModelCorrupted, shown
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.outcome import Columns, outcome_of
from ktrdr_mcp.jobs.threads import Ended
from ktrdr_mcp.paths import Workspace, task_id
from ktrdr_mcp.service.diagnosis import Finding
from ktrdr_mcp.service.models import published, row_of
from ktrdr_mcp.service.recovery import checkpoint_folders
from ktrdr_mcp.service.training import similarity_hash
from ktrdr_mcp.store import repair
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.store.repair import drop_unreadable_tasks
from ktrdr_mcp.store.stores import Stores
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.store.tasks import REBUILT_HASH
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.pipeline import result
from ktrdr_mcp.training.spec import SPEC_VERSION, TrainingSpec

ONLY_LOG: Final = "only the database's log knew of them"
ONLY_DATABASE: Final = "only the lost database knew of them"


@dataclass(frozen=True)
class Rebuilt:
    """What the database holds now that it did not, and what could not be taken in."""

    models: int  # registered
    tasks: int  # completed tasks that the database had lost
    set_aside: list[str]  # files of a damaged database, under their new names
    left_out: list[Finding]


async def rebuild(workspace: Workspace) -> Rebuilt:
    """Rebuilds the registry from the published bundles, and lost tasks from theirs.

    A damaged database is set aside, not deleted, and its newest whole backup takes its place: only
    that knows the tasks without a bundle and how often test results were read. Tasks that the
    database still holds are kept.

    Args:
        workspace: the folder; the caller owns it (see app.ownership).
    Raises:
        DatabaseError: it was written by a newer version, or belongs to another program.
        StorageError: it cannot be written.
    """
    opened, aside, unknown = await open_anyway(workspace)
    left_out: list[Finding] = []
    async with opened as database:
        stores = Stores.of(database)
        rows = await anyio.to_thread.run_sync(lambda: sorted_rows(workspace, left_out))
        await stores.registry.replace_all(rows)
        dropped = await drop_unreadable_tasks(database)
        known = set(await stores.tasks.ids_with_prefix("", -1))
        lost = await anyio.to_thread.run_sync(lambda: list(lost_tasks(workspace, known, left_out)))
        for new, columns in lost:
            await stores.tasks.insert_completed(new, columns)
    restored = {new.task_id for new, _ in lost}
    left_out += [unreadable(task_id) for task_id in dropped if task_id not in restored]
    left_out += [unfinished(name) for name in checkpointed(workspace) - known - restored]
    if lost or unknown:
        left_out.append(incomplete(unknown or ONLY_DATABASE))
    return Rebuilt(len(rows), len(lost), aside, left_out)


async def open_anyway(workspace: Workspace) -> tuple[Database, list[str], str | None]:
    """The database, or one without its log, or its newest whole backup, or a new one.

    Returns:
        the database, the names of what was damaged and is set aside, and what is not known any
        more.
    """
    path, aside, unknown = workspace.database, list[str](), None
    for remedy in (repair.log_of, repair.database_of):
        try:
            return await Database.open(path), aside, unknown
        except DatabaseError as error:
            if "damaged" not in error.message:
                raise
        aside += await anyio.to_thread.run_sync(remedy, path)
        unknown = ONLY_LOG
    backup = await anyio.to_thread.run_sync(repair.newest_backup, path)
    unknown = f"they came after {backup}" if backup else ONLY_DATABASE
    return await Database.open(path), aside, unknown


def incomplete(unknown: str) -> Finding:
    """What bundles cannot say, so that the ledger may count too little."""
    return Finding(
        "ledger",
        "note",
        f"Trainings without a result and readings of test results are missing if {unknown}.",
        "Verdicts count fewer trials than there were; take a narrow 'skill' with a grain of salt.",
    )


def unreadable(identifier: str) -> Finding:
    """A task of which neither row nor bundle can be read."""
    text = f"The row of task {identifier} was unreadable and is gone."
    return Finding("tasks", "wrong", text, "Start the same training again.")


def checkpointed(workspace: Workspace) -> set[str]:
    """The ids of all tasks that have checkpoints."""
    return {folder.parent.name for folder in checkpoint_folders(workspace)}


def unfinished(identifier: str) -> Finding:
    """A task of which only checkpoints are left."""
    return Finding(
        "tasks",
        "note",
        f"Task {shown(identifier)} has checkpoints, but neither row nor result.",
        "Start the same training with this task_id: it goes on from its newest checkpoint.",
    )


def sorted_rows(workspace: Workspace, left_out: list[Finding]) -> list[ModelRow]:
    """The row of every whole version, in the order of saving."""
    rows = []
    for directory in published(workspace):
        try:
            rows.append(row_of(workspace, directory))
        except KtrdrError as error:
            text = f"{workspace.relative(directory)}: {error.message}"
            left_out.append(Finding("models", "wrong", text, error.hint))
    rows.sort(key=lambda row: (row.created_at, row.model_name, row.version))
    return list(without_copies(rows, left_out))


def without_copies(rows: list[ModelRow], left_out: list[Finding]) -> Iterator[ModelRow]:
    """The first row of each model and of each version; the registry can hold no second one."""
    seen: set[tuple[str, int] | str] = set()
    for row in rows:
        keys: set[tuple[str, int] | str] = {row.model_id, (row.model_name, row.version)}
        if keys & seen:
            text = f"{row.path} is a copy of a version that is registered."
            left_out.append(Finding("models", "wrong", text, "Move it out of the workspace."))
            continue
        seen |= keys
        yield row


def lost_tasks(
    workspace: Workspace, known: set[str], left_out: list[Finding]
) -> Iterator[tuple[NewTask, Columns]]:
    """The tasks whose bundles lie in the workspace and that the database does not have.

    In the order of their ends, so that trials are numbered about as they were.
    """
    bundles = (workspace.internal / "tasks").glob("*/bundle")
    for directory in sorted(bundles, key=lambda bundle: bundle.lstat().st_mtime_ns):
        identifier = directory.parent.name
        if identifier in known:
            continue
        try:
            document = bundle.read(directory).document
            with bundle.understood():
                finished = finished_task(task_id(identifier), document)
            yield finished
        except KtrdrError as error:
            text = f"{workspace.relative(directory)}: {error.message}"
            left_out.append(Finding("tasks", "wrong", text, error.hint))


def finished_task(identifier: str, document: dict[str, Any]) -> tuple[NewTask, Columns]:
    """A completed task as its bundle tells of it."""
    spec = TrainingSpec.from_dict(document["spec"])
    series = spec.series[0]
    outcome = outcome_of(identifier, Ended(result=result(document)), Live(0.0), False)
    if spec.task_id != identifier or outcome is None or outcome.status != "completed":
        raise ModelCorrupted(
            "The bundle is not this task's.", hint="Move it out of the workspace, or delete it."
        )
    metrics = document["metrics"]
    tested = metrics["walk_forward"]["tested"] or metrics["test_period"]
    first, last = document.get("tested_window") or tested
    request = request_of(document)
    accepted = {"data": metrics["data"], "warnings": [], "duration_s": 0.0}
    new = NewTask(
        task_id=identifier,
        symbol=series.symbol,
        timeframe=series.timeframe,
        strategy=spec.strategy.name,
        config=spec.config.model_dump(),
        spec={**spec.to_dict(), "accepted": accepted, "request": request},
        spec_version=SPEC_VERSION,
        request_hash=request["hash"] or REBUILT_HASH,
        idempotency_key=request["key"],
        similarity_hash=similarity_hash(spec),
        total_epochs=spec.config.epochs,
        test_start=first,
        test_end=last,
    )
    return new, outcome.columns


def request_of(document: dict[str, Any]) -> dict[str, str | None]:
    """The hash and the idempotency key of the request, as far as the bundle knows them."""
    kept = document.get("request")
    values = kept if isinstance(kept, dict) else {}
    known = {name: value for name, value in values.items() if isinstance(value, str)}
    return {"hash": known.get("hash"), "key": known.get("key")}
