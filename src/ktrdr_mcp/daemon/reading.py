"""A workspace that is only read: somebody else may have made it, or it cannot be written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import anyio.to_thread

from ktrdr_mcp import files
from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.errors import KtrdrError, NotReady, StorageError
from ktrdr_mcp.ownership import trust
from ktrdr_mcp.ownership.lock import is_owned
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.requests import Empty, GetTrainingStatus
from ktrdr_mcp.schemas.responses import Ready, TrainingStatus
from ktrdr_mcp.schemas.service import OnProgress, ServiceProtocol

DATABASE_FILES: Final = ("ktrdr.db", "ktrdr.db-wal")


def why_only_read(workspace: Workspace) -> StorageError | None:
    """Why a workspace must not or cannot be changed; None if it may be.

    Raises:
        StorageError: there are links where the program's own files lie.
    """
    with files.storage_errors("looking at the workspace"):
        if os.path.lexists(workspace.internal):
            files.check_private_entries(workspace.internal)
        if not workspace.root.is_dir() or is_owned(workspace):
            return None
        if trust.is_foreign(workspace):
            return trust.not_trusted()
        place = workspace.internal if workspace.internal.is_dir() else workspace.root
        if os.access(place, os.W_OK | os.X_OK):
            return None
    return StorageError(
        "The workspace cannot be written, so it is only read.",
        hint="Make it writable for this user, or name another folder with --workspace.",
    )


class RefusingService:
    """Refuses everything with one reason, where the workspace cannot even be read.

    Args:
        reason: why.
    """

    def __init__(self, reason: KtrdrError) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        """The operation of this name."""
        if name not in OPERATIONS:
            raise AttributeError(name)
        return self._refuse

    async def get_training_status(
        self, request: GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> TrainingStatus:
        """Refuses. Raises KtrdrError."""
        return await self._refuse(request)

    async def ready(self, request: Empty) -> Ready:
        """Refuses, as what takes no work. Raises NotReady."""
        raise NotReady(self._reason.message, hint=self._reason.hint)

    async def _refuse(self, request: object) -> NoReturn:
        """Says why. Raises KtrdrError."""
        raise self._reason


class ReadOnlyService(RefusingService):
    """Answers what changes nothing, and refuses the rest with one reason.

    Args:
        service: answers.
        reason: refuses.
    """

    def __init__(self, service: ServiceProtocol, reason: KtrdrError) -> None:
        super().__init__(reason)
        self._service = service

    def __getattr__(self, name: str) -> Any:
        """The operation of this name."""
        operation = OPERATIONS.get(name)
        if operation is not None and operation.changes:
            return self._refuse
        return getattr(self._service, name)

    async def get_training_status(
        self, request: GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> TrainingStatus:
        """A task's state as it was stored."""
        return await self._service.get_training_status(request, on_progress)


@asynccontextmanager
async def read_workspace(
    workspace: Workspace, reason: StorageError
) -> AsyncIterator[ServiceProtocol]:
    """A service that lists, reads and predicts, and refuses whatever would change something.

    It works on a copy of the database, so that nothing in the workspace is touched.

    Args:
        workspace: the folder.
        reason: with which it refuses.
    Raises:
        StorageError: the database cannot be read.
    """
    from ktrdr_mcp.daemon.server import build_service
    from ktrdr_mcp.store.db import Database
    from ktrdr_mcp.store.stores import Stores

    with tempfile.TemporaryDirectory(prefix="ktrdr-mcp-") as folder:
        copy = Path(folder) / DATABASE_FILES[0]
        await anyio.to_thread.run_sync(copy_database, workspace, copy.parent)
        async with await Database.open(copy) as database:
            # what would run its tasks is never entered
            service, _, _ = await build_service(workspace, Stores.of(database))
            yield ReadOnlyService(service, reason)


def copy_database(workspace: Workspace, folder: Path) -> None:
    """Copies the database with its log, if there is one. Raises StorageError."""
    with files.storage_errors("reading the database"):
        for name in DATABASE_FILES:
            path = workspace.internal / name
            if os.path.lexists(path):
                source = os.fdopen(files.open_private(path, os.O_RDONLY), "rb")
                with source, (folder / name).open("xb") as copy:
                    shutil.copyfileobj(source, copy)
