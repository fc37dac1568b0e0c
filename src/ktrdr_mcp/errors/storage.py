"""Errors of the workspace and of the process that owns it."""

from __future__ import annotations

from ktrdr_mcp.errors.base import KtrdrError


class StorageError(KtrdrError):
    """The workspace could not be read or written."""

    code = "storage_error"


class StorageFull(StorageError):
    """No space is left for the workspace."""

    code = "storage_full"
    http_status = 507


class ModelCorrupted(StorageError):
    """A stored model whose files are not what was written."""

    code = "model_corrupted"


class DatabaseError(StorageError):
    """The workspace's database cannot be used."""

    code = "database_error"


class WorkspaceLocked(StorageError):
    """Another process owns this workspace."""

    code = "workspace_locked"


class LabUnavailable(KtrdrError):
    """The process that owns this workspace does not answer."""

    code = "lab_unavailable"
    http_status = 503
