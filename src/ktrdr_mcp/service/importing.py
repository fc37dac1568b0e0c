"""Imports files of other tools into the workspace's data folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ktrdr_mcp import __version__, files, limits, paths
from ktrdr_mcp.data import versions
from ktrdr_mcp.data.files import SUFFIXES
from ktrdr_mcp.data.importing import UnderstoodSeries, understand
from ktrdr_mcp.errors import Conflict, InvalidRequest, LimitExceeded, NotFound, quote
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.schemas import requests, responses

IMPORT: Final = "import"  # the source of what was imported
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
            imported = [store(workspace, one, sources) for one in understood]
    return reply(imported, workspace)


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


def require_free(workspace: paths.Workspace, one: UnderstoodSeries, sources: list[Path]) -> None:
    """Refuses to put a series beside another of its name. Raises Conflict."""
    known = versions.version_of_file(workspace, one["symbol"], one["timeframe"])
    for suffix in SUFFIXES:
        path = workspace.data_file(one["symbol"], one["timeframe"], suffix)
        ours = suffix == ".parquet" and known is not None
        if ours or not os.path.lexists(path) or path.resolve() in sources:
            continue
        raise Conflict(
            f"data/{path.name} is there already.",
            hint="Move it out of data/, or import under another symbol with --symbol.",
            field="symbol",
        )


def store(
    workspace: paths.Workspace, one: UnderstoodSeries, sources: list[Path]
) -> UnderstoodSeries:
    """Makes a staged series a version, and its file in data/; says which.

    A file of data/ that was imported from under the series' own name is kept under another.
    """
    request = {
        "files": [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": files.sha256_of_file(path)}
            for path in sources
        ],
        "dialect": one["dialect"],
        "written": one["written"],
        "columns": one["columns"],
        "left_out": one["left_out"],
    }
    facts = versions.Manifest(
        symbol=one["symbol"],
        timeframe=one["timeframe"],
        source=IMPORT,
        request=request,
        client=f"ktrdr-mcp {__version__}",
        fetched_at=versions.now(),
        adjustment="unknown",
        zone=one["timezone"],
    )
    why = f"imported: {', '.join(one['files'][:3])}"
    if one["staged"] is None:
        raise AssertionError("what is stored was staged")
    manifest, is_new = versions.commit(workspace, one["staged"], facts, why)
    stem = paths.series_in_file_name(one["symbol"], one["timeframe"])
    for path in sources:
        if path.parent == workspace.data.resolve() and path.name == f"{stem}.csv":
            path.rename(path.with_name(f"{path.name}{IMPORTED_SUFFIX}"))
    return {**one, "dataset": manifest.newest.name, "is_new": is_new}


def reply(
    understood: Sequence[UnderstoodSeries], workspace: paths.Workspace | None
) -> responses.BarsImported:
    """What was understood, and where it was stored."""
    return responses.BarsImported(
        dry_run=workspace is None,
        series=[
            responses.ImportedSeries.model_validate(
                {
                    **one,
                    "stored": None
                    if workspace is None
                    else workspace.relative(
                        workspace.data_file(one["symbol"], one["timeframe"], ".parquet")
                    ),
                }
            )
            for one in understood
        ],
    )


def list_versions(
    workspace: paths.Workspace, request: requests.StoredSeries
) -> responses.DatasetVersions:
    """What is known of a stored series. Raises DataNotFound."""
    manifest = versions.read_manifest(workspace, request.symbol, request.timeframe)
    if manifest is None:
        raise versions.no_versions(request.symbol, request.timeframe)
    return describe_versions(manifest)


def list_stored(workspace: paths.Workspace) -> responses.StoredManifests:
    """What is known of every stored series."""
    return responses.StoredManifests(
        series=[describe_versions(one) for one in versions.manifests(workspace)]
    )


def describe_versions(manifest: versions.Manifest) -> responses.DatasetVersions:
    """A manifest as replies have it."""
    names = responses.DatasetVersion.model_fields.keys() - {"version"}
    return responses.DatasetVersions(
        symbol=manifest.symbol,
        timeframe=manifest.timeframe,
        source=manifest.source,
        since=manifest.request.get("since"),
        client=manifest.client,
        fetched_at=manifest.fetched_at,
        adjustment=manifest.adjustment,
        timezone=manifest.zone,
        last_final=manifest.last_final,
        versions=[
            responses.DatasetVersion(
                version=one.name, **{name: getattr(one, name) for name in names}
            )
            for one in reversed(manifest.versions)
        ],
    )


def remove_series(
    workspace: paths.Workspace, request: requests.StoredSeries
) -> responses.SeriesRemoved:
    """Removes a stored series. Raises DataNotFound, StorageError."""
    removed = versions.remove(workspace, request.symbol, request.timeframe)
    return responses.SeriesRemoved(
        symbol=request.symbol, timeframe=request.timeframe, versions=removed
    )
