"""Imports files of other tools into the workspace's data folder."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import __version__, files, limits, paths
from ktrdr_mcp.data.files import ORIGIN_SUFFIX, SUFFIXES
from ktrdr_mcp.data.importing import understand
from ktrdr_mcp.errors import Conflict, InvalidRequest, LimitExceeded, NotFound, quote
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.schemas import requests, responses

IMPORTED_SUFFIX: Final = ".imported"  # of a file of data/ whose bars were imported


def import_bars(workspace: paths.Workspace, request: requests.ImportBars) -> responses.BarsImported:
    """Recognises, normalises and stores the bars of files. Blocks.

    Args:
        workspace: whose data folder takes them; whoever calls owns it, unless it is a dry run.
        request: the files, and what is said of them.
    Raises:
        KtrdrError: a file cannot be imported as it stands; nothing was stored.
    """
    sources = [source(workspace, name) for name in request.files]
    wanted = {
        "symbol": request.symbol,
        "timeframe": request.timeframe,
        "timezone": request.timezone,
        "dialect": request.dialect,
    }
    named = [(path, printable_name(path)) for path in sources]
    if request.dry_run:
        understood = understand(named, wanted, None)
        return reply(understood, None)
    files.sweep(workspace.data)
    with files.staging(workspace.data / "import") as folder:
        understood = understand(named, wanted, folder)
        for one in understood:
            require_free(workspace, one, sources)
        with storage_errors("storing the imported bars"):
            for number, one in enumerate(understood):
                store(workspace, one, folder / f"{number}.parquet", sources)
    return reply(understood, workspace)


def source(workspace: paths.Workspace, name: str) -> Path:
    """The file of a name: absolute, or relative to the workspace. Raises KtrdrError."""
    path = workspace.root / Path(name)  # an absolute name stays as it is
    called = quote(path.name or name)
    try:
        with storage_errors(f"looking for {called}"):
            real = Path(os.path.realpath(path))
            if not real.exists():
                raise NotFound(
                    f"There is no file {called}.",
                    hint="Name a file by its whole path, or relative to the workspace.",
                    field="files",
                )
            if not real.is_file():
                raise InvalidRequest(
                    f"{called} is not a regular file.",
                    hint="Name the files themselves.",
                    field="files",
                )
            if real.stat().st_size > limits.MAX_DATA_FILE_BYTES:
                raise LimitExceeded(
                    f"{called} has more than {limits.MAX_DATA_FILE_BYTES // 1024**2:,} MiB.",
                    hint="Import it in parts.",
                    field="files",
                )
    except ValueError:  # a zero byte
        raise InvalidRequest(
            f"{called} is not the name of a file.", hint="Name a file.", field="files"
        ) from None
    return real


def printable_name(path: Path) -> str:
    """A file's name as messages have it."""
    return path.name if path.name.isprintable() else quote(path.name).strip("'\"")


def require_free(workspace: paths.Workspace, one: dict[str, Any], sources: list[Path]) -> None:
    """Refuses to put a series beside another of its name. Raises Conflict."""
    for suffix in SUFFIXES:
        path = workspace.data_file(one["symbol"], one["timeframe"], suffix)
        if not os.path.lexists(path) or path.resolve() in sources:
            continue
        raise Conflict(
            f"data/{path.name} is there already.",
            hint="Move it out of data/, or import under another symbol with --symbol.",
            field="symbol",
        )


def store(
    workspace: paths.Workspace, one: dict[str, Any], staged: Path, sources: list[Path]
) -> None:
    """Gives a staged series its name in data/, with its origin beside it."""
    final = workspace.data_file(one["symbol"], one["timeframe"], ".parquet")
    origin = {
        "imported_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "program": f"ktrdr-mcp {__version__}",
        "sources": [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": files.sha256_of_file(path)}
            for path in sources
        ],
        **one,
    }
    stem = paths.series_in_file_name(one["symbol"], one["timeframe"])
    files.replace(workspace.data / f"{stem}{ORIGIN_SUFFIX}", files.json_bytes(origin))
    for path in sources:
        if path.parent == workspace.data.resolve() and path.stem == stem:
            path.rename(path.with_name(f"{path.name}{IMPORTED_SUFFIX}"))
    files.place(staged, final)


def reply(
    understood: list[dict[str, Any]], workspace: paths.Workspace | None
) -> responses.BarsImported:
    """What was understood, and where it was stored."""
    return responses.BarsImported(
        dry_run=workspace is None,
        series=[
            responses.ImportedSeries(
                **one,
                stored=None
                if workspace is None
                else workspace.relative(
                    workspace.data_file(one["symbol"], one["timeframe"], ".parquet")
                ),
            )
            for one in understood
        ],
    )
