"""Rows and folders of a workspace, reconciled: what differs, and what is done about it.

The differences are listed once. A start settles those that need no decision, `doctor --verify`
prints them beside every damaged file, and `doctor --rebuild` applies them to a fresh database.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Final

import anyio.to_thread

from ktrdr_mcp import files
from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.errors import DatabaseError, KtrdrError, ModelCorrupted, StorageError, quote
from ktrdr_mcp.jobs.executors.base import Ended
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.model import TERMINAL, Columns, Outcome, outcome_of, sources_of
from ktrdr_mcp.paths import Workspace, task_id
from ktrdr_mcp.schemas.results import SubmittedRequest
from ktrdr_mcp.service import models, published, training
from ktrdr_mcp.service.diagnosis import Finding, State
from ktrdr_mcp.service.families import recorded_sketches
from ktrdr_mcp.service.training import similarity_hash
from ktrdr_mcp.store import repair
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.store.stores import Stores
from ktrdr_mcp.store.task_row import NewTask, TaskRow
from ktrdr_mcp.store.tasks import REBUILT_HASH
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.publish import earlier_result
from ktrdr_mcp.training.spec import SPEC_VERSION, TrainingSpec

REBUILD: Final = "'ktrdr-mcp doctor --rebuild' makes the registry anew from the folders."
RESUME: Final = "Start the same training with this task_id: it goes on from its newest checkpoint."
EARLIER: Final = (
    "As {bundle} of another workspace, 'ktrdr-mcp doctor --rebuild' there brings it back;"
    " 'ktrdr-mcp clean' here removes it."
)
COPY: Final = "The model itself is whole; save its task under another model_name for KTRDR."
ONLY_LOG: Final = "only the database's log knew of them"
ONLY_DATABASE: Final = "only the lost database knew of them"

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """A way in which rows and folders differ."""

    LEFTOVER = "leftover"  # of an interrupted writer
    UNRECORDED_END = "unrecorded end"  # a result, of a task that its row says is training
    UNREGISTERED = "unregistered"  # a published version without a row
    MISSING = "missing"  # a registered version without a folder
    UNKNOWN_RESULT = "unknown result"  # a result without a row
    NEEDLESS = "needless checkpoints"  # of a task that has ended
    ORPHANED = "orphaned checkpoints"  # of a task without row and result


# What a difference is called, how grave it is, what it says, and what helps.
SENTENCES: Final[Mapping[Kind, tuple[str, State, str, str]]] = {
    Kind.LEFTOVER: (
        "staging",
        "note",
        "{path} is unfinished",
        "A process is writing it now, or the next start removes it.",
    ),
    Kind.UNRECORDED_END: (
        "tasks",
        "note",
        "Task {name} has a result that its row does not say yet.",
        "A process is storing it now, or the next start does.",
    ),
    Kind.UNREGISTERED: (
        "models",
        "note",
        "{path} is not registered.",
        "The next start registers it, or its log says why it cannot.",
    ),
    Kind.MISSING: ("models", "wrong", "{path} is missing.", REBUILD),
    Kind.UNKNOWN_RESULT: (
        "tasks",
        "wrong",
        "The database does not know the result of task {name}.",
        "'ktrdr-mcp doctor --rebuild' takes it in.",
    ),
    Kind.NEEDLESS: (
        "tasks",
        "note",
        "Task {name} has ended and still has checkpoints.",
        "A process is removing them now, or the next start does.",
    ),
    Kind.ORPHANED: (
        "tasks",
        "note",
        "Task {name} has checkpoints, but neither row nor result.",
        RESUME,
    ),
}


@dataclass(frozen=True)
class Difference:
    """One thing that rows and folders do not agree on.

    Args:
        kind: in which way.
        path: the file or folder, relative to the workspace.
        task_id: of the task that it belongs to, as the folder says; empty for a model.
        row: of the task, where its end is what was not recorded.
        version: that is missing.
    """

    kind: Kind
    path: str
    task_id: str = ""
    row: TaskRow | None = None
    version: ModelRow | None = None

    def finding(self) -> Finding:
        """The difference as doctor prints it."""
        name, state, text, remedy = SENTENCES[self.kind]
        return Finding(name, state, text.format(path=self.path, name=quote(self.task_id)), remedy)


@dataclass(frozen=True)
class Folders:
    """What lies in a workspace; listed before the rows are read, so that none comes too late.

    Args:
        leftovers: of interrupted writers.
        results: ids of the tasks with a bundle, oldest bundle first.
        checkpoints: ids of the tasks with checkpoints.
        versions: folders of the published versions.
    """

    leftovers: Sequence[str]
    results: Sequence[str]
    checkpoints: Sequence[str]
    versions: Sequence[str]


@dataclass(frozen=True)
class Rows:
    """What the database holds, as far as folders can differ from it.

    Args:
        statuses: of all tasks, by id.
        running: the tasks that are training, or were when their process died.
        versions: the registered versions.
    """

    statuses: Mapping[str, str]
    running: Sequence[TaskRow]
    versions: Sequence[ModelRow]


def list_folders(workspace: Workspace) -> Folders:
    """Lists what lies in a workspace's folders."""
    tasks, relative = workspace.internal / "tasks", workspace.relative
    bundles = sorted(tasks.glob("*/bundle"), key=lambda path: path.lstat().st_mtime_ns)
    return Folders(
        [relative(path) for parent in staging_folders(workspace) for path in list_staged(parent)],
        [path.parent.name for path in bundles],
        [path.parent.name for path in sorted(tasks.glob("*/checkpoints"))],
        [relative(directory) for directory in published.find_published(workspace)],
    )


def staging_folders(workspace: Workspace) -> Iterator[Path]:
    """Every folder in which this program writes."""
    yield from (workspace.internal, workspace.strategies, workspace.models)
    tasks = workspace.internal / "tasks"
    for parent in (tasks, workspace.models):
        for folder in parent.iterdir() if parent.is_dir() else ():
            if folder.is_dir() and not folder.is_symlink():
                yield folder
    for pattern in ("*/checkpoints", "*/checkpoints/parts/*", "*/checkpoints/parts/*/checkpoints"):
        yield from sorted(tasks.glob(pattern))


def list_staged(parent: Path) -> Iterator[Path]:
    """What interrupted writers left in a folder."""
    return parent.glob(f"{files.STAGING_PREFIX}*")


def list_differences(workspace: Workspace, folders: Folders, rows: Rows) -> Iterator[Difference]:
    """Everything that rows and folders do not agree on, in the order in which it is settled.

    Args:
        workspace: the folder.
        folders: what lies there; nothing in them is read.
        rows: what the database holds.
    """
    for path in folders.leftovers:
        yield Difference(Kind.LEFTOVER, path)
    known = {row.path for row in rows.versions}
    running = {row.task_id: row for row in rows.running}
    for name in folders.results:
        if name in running:
            yield task_difference(workspace, Kind.UNRECORDED_END, name, running[name])
    for path in folders.versions:
        if path not in known:
            yield Difference(Kind.UNREGISTERED, path)
    for version in rows.versions:
        if not published.has_folder(workspace, version):
            yield Difference(Kind.MISSING, version.path, version=version)
    for name in folders.results:
        if name not in rows.statuses:
            yield task_difference(workspace, Kind.UNKNOWN_RESULT, name)
    yield from checkpoint_differences(workspace, folders, rows)


def checkpoint_differences(
    workspace: Workspace, folders: Folders, rows: Rows
) -> Iterator[Difference]:
    """The checkpoints from which nothing will go on by itself."""
    results = set(folders.results)
    for name in folders.checkpoints:
        status = rows.statuses.get(name)
        if status in TERMINAL:
            yield task_difference(workspace, Kind.NEEDLESS, name)
        elif status is None and name not in results:
            yield task_difference(workspace, Kind.ORPHANED, name)


def task_difference(
    workspace: Workspace, kind: Kind, name: str, row: TaskRow | None = None
) -> Difference:
    """A difference that a folder of a task makes."""
    folder = "checkpoints" if kind in {Kind.NEEDLESS, Kind.ORPHANED} else "bundle"
    tasks = workspace.relative(workspace.internal / "tasks")
    return Difference(kind, f"{tasks}/{name}/{folder}", name, row)


async def recover(workspace: Workspace, stores: Stores) -> None:
    """Puts a workspace in order before any task runs; this process owns it.

    Nothing here is needed for answering, so whatever fails is logged and left for the next start.

    Args:
        workspace: the folder.
        stores: of its database.
    """
    unsettled: dict[Kind, list[Difference]] = {}
    try:
        folders = await anyio.to_thread.run_sync(list_folders, workspace)
        rows = Rows(
            await stores.tasks.statuses(),
            await stores.tasks.find_left_running(""),
            await stores.registry.everything(),
        )
        found = list(list_differences(workspace, folders, rows))
    except Exception:
        log.exception("the workspace could not be put in order; the next start tries again")
        return
    for difference in found:
        try:
            if not await settle(workspace, stores, difference):
                unsettled.setdefault(difference.kind, []).append(difference)
        except KtrdrError as error:
            log.warning("%s: %s", quote(difference.path), error.message)
        except Exception:
            log.exception("%s could not be put in order", quote(difference.path))
    for first, *others in unsettled.values():
        finding = await anyio.to_thread.run_sync(look_into, workspace, first)
        more = f" So it is with {len(others)} more." if others else ""
        log.error("%s%s %s", finding.text, more, finding.remedy)


async def settle(workspace: Workspace, stores: Stores, difference: Difference) -> bool:
    """Does what a start may do about a difference without asking.

    Returns:
        False if it is for a person to decide.
    Raises:
        KtrdrError: it could not be done; nothing was changed.
    """
    path = workspace.root / difference.path
    match difference.kind:
        case Kind.LEFTOVER:
            await anyio.to_thread.run_sync(files.sweep, path.parent)
            log.warning("%s was unfinished and is removed", quote(difference.path))
        case Kind.UNRECORDED_END if difference.row is not None:
            await record_end(workspace, stores, difference.row)
        case Kind.UNREGISTERED:
            await register(workspace, stores, path)
        case Kind.NEEDLESS:
            await anyio.to_thread.run_sync(files.discard, path)
        case Kind.ORPHANED:
            pass  # not of this database; nothing that is ours to remove
        case _:
            return False
    return True


async def record_end(workspace: Workspace, stores: Stores, row: TaskRow) -> None:
    """Completes a task whose bundle was published just before its process died, if it is whole."""
    outcome = await anyio.to_thread.run_sync(published_outcome, workspace, row)
    if outcome is not None:
        columns = {**outcome.columns, "resumed_from": row.resumed_from}
        allowed = sources_of(outcome.status)
        await stores.tasks.move(row.task_id, allowed, outcome.status, row.fence, columns)
        log.warning("task %s had finished; now it is %s", row.task_id, outcome.status)
        await anyio.to_thread.run_sync(discard_checkpoints, workspace, row.task_id)


def published_outcome(workspace: Workspace, row: TaskRow) -> Outcome | None:
    """The end of a run that published its bundle; None if the bundle is not whole, or another's."""
    directory = workspace.bundle_directory(row.task_id)
    found = earlier_result(directory, TrainingSpec.from_dict(row.spec))
    return None if found is None else outcome_of(Ended(found.to_json()), Live(), False)


async def register(workspace: Workspace, stores: Stores, directory: Path) -> None:
    """Registers a version that was published just before its process died. Raises KtrdrError."""
    row = await anyio.to_thread.run_sync(models.row_of, workspace, directory)
    _, created = await stores.registry.insert(row)
    if created:
        log.warning("model %s version %d is registered now", row.model_name, row.version)
    else:
        log.warning("%s is a copy of a registered model", quote(workspace.relative(directory)))


def discard_checkpoints(workspace: Workspace, identifier: str) -> None:
    """Removes what only a further run of a task would need. Raises StorageError."""
    folder = workspace.checkpoints_directory(identifier)
    if folder.exists():
        files.discard(folder)


def verify(workspace: Workspace) -> Iterator[Finding]:
    """Compares the database with the folders and every file with its hash; changes nothing.

    Args:
        workspace: the folder; it need not be owned, and a process may be running on it.
    Yields:
        what is wrong or worth knowing, then one finding that counts what is whole.
    """
    folders = list_folders(workspace)
    try:
        content = content_of(workspace)
    except KtrdrError as error:
        yield Finding("database", "wrong", error.message, error.hint)
        return
    running = [row for row in content.tasks if row.status == "training"]
    rows = Rows({row.task_id: row.status for row in content.tasks}, running, content.models)
    differing = (look_into(workspace, each) for each in list_differences(workspace, folders, rows))
    wrong = 0
    for finding in chain(find_damage(workspace, content), differing):
        wrong += finding.state == "wrong"
        yield finding
    if not wrong:
        counts = f"{len(content.tasks)} tasks and {len(content.models)} models"
        yield Finding("hashes", "ok", f"{counts}, every file is what was written")


def content_of(workspace: Workspace) -> repair.Content:
    """What the database holds; nothing where there has been none yet. Raises KtrdrError."""
    if workspace.database.exists():
        return repair.read(workspace.database)
    repair.check(workspace.database)
    return repair.Content([], [], {})


def look_into(workspace: Workspace, difference: Difference) -> Finding:
    """A difference as doctor prints it: what became of a missing version, what of a strange one."""
    if difference.kind is Kind.MISSING and difference.version is not None:
        missing = published.missing_folder(workspace, difference.version)
        if missing is not None:
            return wrong("models", missing.message, missing.hint)
    if difference.kind is Kind.UNREGISTERED:
        directory = workspace.root / difference.path
        try:
            published.read_card(directory)
            bundle.read(directory)
        except ModelCorrupted as error:
            return wrong("models", f"{difference.path}: {error.message}", error.hint)
    return difference.finding()


def wrong(name: str, text: str, remedy: str) -> Finding:
    """A finding that must be put right."""
    return Finding(name, "wrong", text, remedy)


def find_damage(workspace: Workspace, content: repair.Content) -> Iterator[Finding]:
    """What is not as it was written, of all that rows and folders agree on."""
    for row in content.tasks:
        yield from task_damage(workspace, row, content.scores[row.task_id])
        directory = workspace.bundle_directory(row.task_id)
        for folder in files.folders_set_aside(directory):
            text = f"{workspace.relative(folder)} is another training's result, or a damaged one."
            remedy = EARLIER.format(bundle=workspace.relative(directory))
            yield Finding("tasks", "note", text, remedy)
    for model in content.models:
        if published.has_folder(workspace, model):
            yield from version_damage(workspace, model)


def task_damage(workspace: Workspace, row: TaskRow, scores: str | None) -> Iterator[Finding]:
    """What is wrong with a task's specification and, once it has completed, with its bundle."""
    try:
        TrainingSpec.from_dict(row.spec)
    except KtrdrError as error:
        state: State = "note" if row.status in TERMINAL else "wrong"
        yield Finding("tasks", state, f"Task {row.task_id}: {error.message}", error.hint)
    directory = workspace.bundle_directory(row.task_id)
    if row.status != "completed":
        return
    if not directory.exists():
        yield Finding("tasks", "note", f"The bundle of task {row.task_id} is not kept any more.")
        return
    try:
        models.require(bundle.read(directory).manifest, row, scores)
    except ModelCorrupted as error:
        text = f"The bundle of task {row.task_id}: {error.message}"
        yield wrong("tasks", text, "Start the same training again to have its result.")
    except DatabaseError as error:
        yield wrong("tasks", f"Task {row.task_id}: {error.message}", REBUILD)


def version_damage(workspace: Workspace, row: ModelRow) -> Iterator[Finding]:
    """What is wrong with a registered version's files, or with KTRDR's copy of it."""
    try:
        directory = workspace.inside(row.path)
        bundle.read(directory, row.bundle_sha256)
        hashes = published.read_card(directory).get("sha256", {})
    except KtrdrError as error:
        yield wrong("models", f"{row.path}: {error.message}", error.hint)
        return
    for name, expected in hashes.items():  # none in versions saved before copies were hashed
        try:
            bundle.verify(directory, name, expected)
        except ModelCorrupted as error:
            yield wrong("models", f"{row.path}, KTRDR's copy: {error.message}", COPY)


@dataclass(frozen=True)
class Rebuilt:
    """What the database holds now that it did not, and what could not be taken in."""

    models: int  # registered
    tasks: int  # completed tasks that the database had lost
    remembered: int  # looks and notes of the research that it had lost
    quarantined: list[str]  # files of a damaged database, under their new names
    left_out: list[Finding]


async def rebuild(workspace: Workspace) -> Rebuilt:
    """Applies the differences to a database without models and without what cannot be read.

    A damaged database is put in quarantine, not deleted, and its newest whole backup takes its
    place: only that knows the tasks without a bundle and how often test results were read. Tasks
    that the database still holds are kept.

    Args:
        workspace: the folder; the caller owns it (see `ownership`).
    Raises:
        DatabaseError: it was written by a newer version, or belongs to another program.
        StorageError: it cannot be written.
    """
    opened, quarantined, unknown = await open_anyway(workspace)
    async with opened as database:
        stores = Stores.of(database)
        dropped = await repair.drop_unreadable_tasks(database)
        folders = await anyio.to_thread.run_sync(list_folders, workspace)
        rows = Rows(await stores.tasks.statuses(), [], [])
        found = list(list_differences(workspace, folders, rows))
        recorded = await recorded_sketches(workspace)
        taken = await anyio.to_thread.run_sync(take_in, workspace, found, recorded)
        await stores.registry.replace_all(taken.versions)
        for one in taken.tasks:
            await stores.tasks.insert_completed(one.task, one.columns, one.created_at)
        remembered = 0
        try:
            remembered = await stores.research.take_in_copy()
        except StorageError as error:
            taken.left_out.append(wrong("research", error.message, error.hint))
        try:
            await stores.handles.take_in_copy()
        except StorageError as error:
            taken.left_out.append(wrong("handles", error.message, error.hint))
    restored, left_out = {one.task.task_id for one in taken.tasks}, taken.left_out
    for name in dropped:
        if name not in restored:
            text = f"The row of task {name} was unreadable and is gone."
            left_out.append(wrong("tasks", text, "Start the same training again."))
    if restored or unknown:
        left_out.append(incomplete(unknown or ONLY_DATABASE))
    return Rebuilt(len(taken.versions), len(taken.tasks), remembered, quarantined, left_out)


async def open_anyway(workspace: Workspace) -> tuple[Database, list[str], str | None]:
    """The database, or one without its log, or its newest whole backup, or a new one.

    Returns:
        the database, the new names of what was damaged, and what is not known any more.
    """
    path, quarantined, unknown = workspace.database, list[str](), None
    for remedy in (repair.quarantine_log, repair.quarantine_database):
        try:
            return await Database.open(path), quarantined, unknown
        except DatabaseError as error:
            if "damaged" not in error.message:
                raise
        quarantined += await anyio.to_thread.run_sync(remedy, path)
        unknown = ONLY_LOG
    backup = await anyio.to_thread.run_sync(repair.restore_newest_backup, path)
    unknown = f"they came after {backup}" if backup else ONLY_DATABASE
    return await Database.open(path), quarantined, unknown


def incomplete(unknown: str) -> Finding:
    """What bundles cannot say, so that the trial log may count too little."""
    return Finding(
        "ledger",
        "note",
        f"Trainings without a result and readings of test results are missing if {unknown}.",
        "Verdicts count fewer trials than there were; take a narrow 'skill' with a grain of salt.",
    )


@dataclass(frozen=True)
class TakenIn:
    """What a rebuild makes of the folders: rows to insert, and what cannot be one."""

    versions: list[ModelRow]
    tasks: list[FinishedTask]
    left_out: list[Finding]


@dataclass(frozen=True)
class FinishedTask:
    """A completed task as its folder describes it.

    Args:
        task: as it was started.
        columns: that its run set.
        created_at: when it was started, if its folder says.
    """

    task: NewTask
    columns: Columns
    created_at: str | None


def take_in(
    workspace: Workspace,
    differences: Iterable[Difference],
    recorded: Mapping[tuple[str, str], Sketch],
) -> TakenIn:
    """Reads and verifies whatever the database does not know.

    Args:
        workspace: the folder.
        differences: between it and the database.
        recorded: sketches of tested bars, by task id and beginning of the window, for tasks whose
            folder has none.

    Returns:
        versions in the order of saving, and tasks in that of their ends, so that trials are
        numbered about as they were.
    """
    taken = TakenIn([], [], [])
    for difference in differences:
        path = workspace.root / difference.path
        try:
            if difference.kind is Kind.UNREGISTERED:
                taken.versions.append(models.row_of(workspace, path))
            elif difference.kind is Kind.UNKNOWN_RESULT:
                identifier = task_id(difference.task_id)
                request = training.read_request(workspace, identifier)
                manifest = bundle.read(path).manifest
                taken.tasks.append(finished_task(identifier, manifest, request, recorded))
            elif difference.kind is Kind.ORPHANED:
                taken.left_out.append(difference.finding())
        except KtrdrError as error:
            name = SENTENCES[difference.kind][0]
            taken.left_out.append(wrong(name, f"{difference.path}: {error.message}", error.hint))
    taken.versions.sort(key=lambda row: (row.created_at, row.model_name, row.version))
    seen: set[tuple[str, int] | str] = set()
    for row in list(taken.versions):
        keys: set[tuple[str, int] | str] = {row.model_id, (row.model_name, row.version)}
        if keys & seen:  # the registry can hold no second one
            text = f"{row.path} is a copy of a version that is registered."
            taken.left_out.append(wrong("models", text, "Move it out of the workspace."))
            taken.versions.remove(row)
        seen |= keys
    return taken


def finished_task(
    identifier: str,
    manifest: bundle.BundleManifest,
    request: SubmittedRequest | None,
    recorded: Mapping[tuple[str, str], Sketch],
) -> FinishedTask:
    """A completed task as its folder describes it.

    Args:
        identifier: of the task.
        manifest: of its bundle; older ones keep the request themselves.
        request: what its folder keeps of its start.
        recorded: as of `take_in`.
    Raises:
        ModelCorrupted: the bundle is another task's.
    """
    spec = TrainingSpec.from_dict(manifest.spec)
    series = spec.series[0]
    outcome = outcome_of(Ended(manifest.result().to_json()), Live(), False)
    if spec.task_id != identifier or outcome is None or outcome.status != "completed":
        raise ModelCorrupted(
            "The bundle is not this task's.", hint="Move it out of the workspace, or delete it."
        )
    metrics = manifest.metrics
    first, last = manifest.tested_window or metrics.walk_forward.tested or metrics.test_period
    earlier = manifest.request or bundle.RequestReference()
    sketches = training.kept_sketches(request)
    if sketches.tested is None:
        sketches = replace(sketches, tested=recorded.get((identifier, first)))
    accepted = {"data": metrics.data.model_dump(), "warnings": [], "duration_s": 0.0}
    new = NewTask(
        task_id=identifier,
        symbol=series.symbol,
        timeframe=series.timeframe,
        strategy=spec.strategy.name,
        config=spec.config.model_dump(),
        spec={**spec.to_dict(), "accepted": accepted},
        spec_version=SPEC_VERSION,
        request_hash=request.request_hash if request else earlier.hash or REBUILT_HASH,
        idempotency_key=request.idempotency_key if request else earlier.key,
        similarity_hash=similarity_hash(spec),
        total_epochs=spec.config.epochs,
        test_start=first,
        test_end=last,
        sketches=sketches,
    )
    return FinishedTask(new, outcome.columns, request.created_at if request else None)
