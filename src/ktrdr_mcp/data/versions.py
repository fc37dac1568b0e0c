"""Versions of stored series: immutable monthly parts, and a manifest that names them.

    .ktrdr/data/{SERIES}/manifest.json
    .ktrdr/data/{SERIES}/parts/{month}-{hash}.parquet
    data/{SERIES}.parquet            the newest version, replaced by a rename

Nothing that is stored is changed in place. A version exists once the manifest names it; the file in
`data/` follows, and is made again from the parts if a crash came in between.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import files, limits, paths
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.files import ORIGIN_SUFFIX
from ktrdr_mcp.data.stored import WHOLE, Staged, read_parts
from ktrdr_mcp.errors import DataNotFound, StorageError
from ktrdr_mcp.files import storage_errors

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
PARTS: Final = "parts"
HASH_CHARACTERS: Final = 16  # of a part's name


@dataclass(frozen=True)
class Version:
    """One version of a series.

    Args:
        version: 1, 2, ...
        created_at: ISO 8601.
        why: what made it another than the one before.
        bars: how many there are.
        first_bar: opening of the first, ISO 8601.
        last_bar: of the last.
        fingerprint: of times and columns, as `bars.fingerprint` makes it.
        size: of its file in data/, bytes.
        mtime_ns: of its file in data/.
        sha256: of its file in data/.
        parts: the SHA-256 of each month's part.
    """

    version: int
    created_at: str
    why: str
    bars: int
    first_bar: str
    last_bar: str
    fingerprint: str
    size: int
    mtime_ns: int
    sha256: str
    parts: dict[str, str]

    @property
    def name(self) -> str:
        """As replies have it."""
        return f"v{self.version}"


@dataclass(frozen=True)
class Manifest:
    """Everything that is known of a stored series.

    Args:
        symbol: what was traded.
        timeframe: the width of a bar.
        source: where it comes from: `import`, or a feed such as `ccxt:binance`.
        request: what was asked of it.
        client: the library that fetched it, with its version.
        fetched_at: when it was asked last, ISO 8601.
        adjustment: raw, split or all, where the source says it.
        zone: of the clock by which it names its days.
        versions: oldest first.
    """

    symbol: str
    timeframe: str
    source: str
    request: dict[str, Any]
    client: str
    fetched_at: str
    adjustment: str
    zone: str
    versions: list[Version] = field(default_factory=list)

    @property
    def newest(self) -> Version:
        """The newest version."""
        return self.versions[-1]

    @property
    def last_final(self) -> str:
        """The opening of the last bar that is final: no other is stored."""
        return self.newest.last_bar

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        return {"format": FORMAT, "last_final": self.last_final, **asdict(self)}


def series_folder(workspace: paths.Workspace, symbol: str, timeframe: str) -> Path:
    """Where the versions of a series lie."""
    return workspace.internal / "data" / paths.series_in_file_name(symbol, timeframe)


def read_manifest(workspace: paths.Workspace, symbol: str, timeframe: str) -> Manifest | None:
    """What is known of a stored series; None if nothing is.

    Raises:
        StorageError: the manifest is damaged.
    """
    path = series_folder(workspace, symbol, timeframe) / MANIFEST
    workspace.refuse_links(path)
    if not path.exists():
        return None
    try:
        with storage_errors("reading a manifest"):
            raw = json.loads(files.read_private(path, limits.MAX_MANIFEST_BYTES))
        del raw["format"], raw["last_final"]
        versions = [Version(**one) for one in raw.pop("versions")]
        found = Manifest(**raw, versions=versions)
        if not versions:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StorageError(
            f"The manifest of {symbol} {timeframe} is damaged.",
            hint=f"Restore .ktrdr/data/{path.parent.name} from a backup, or move it away and import"
            " or fetch the series again.",
        ) from None
    return found


def manifests(workspace: paths.Workspace) -> list[Manifest]:
    """Every stored series that has versions."""
    folder = workspace.internal / "data"
    found = list[Manifest]()
    for each in sorted(folder.iterdir()) if folder.is_dir() else []:
        symbol, _, timeframe = each.name.rpartition("_")
        if (each / MANIFEST).is_file() and timeframe in paths.TIMEFRAME_MINUTES:
            one = read_manifest(workspace, paths.symbol_of_file_name(symbol), timeframe)
            found += [] if one is None else [one]
    return found


def commit(
    workspace: paths.Workspace, staged: Staged, facts: Manifest, why: str
) -> tuple[Manifest, bool]:
    """Makes a staged series the newest version, unless it is that already.

    Args:
        workspace: whose series it is; whoever calls owns it.
        staged: the series, on the same file system.
        facts: what is known of it; its versions are passed over.
        why: what makes it another than the version before.
    Returns:
        the manifest, and whether there is a new version.
    Raises:
        StorageError: the disk failed; the version before is unharmed.
    """
    series = (facts.symbol, facts.timeframe)
    folder = series_folder(workspace, *series)
    workspace.refuse_links(folder)
    whole = Path(staged["folder"]) / WHOLE
    before = read_manifest(workspace, *series)
    versions = [] if before is None else before.versions
    is_new = not versions or versions[-1].fingerprint != staged["fingerprint"]
    with storage_errors("storing a version"):
        files.make_folder(folder / PARTS, 0o700)
        if is_new:
            for month, sha256 in staged["parts"].items():
                part = part_file(folder, month, sha256)
                if not part.exists():
                    files.place(Path(staged["folder"]) / PARTS / f"{month}.parquet", part)
            status = whole.stat()
            version = Version(
                version=len(versions) + 1,
                created_at=now(),
                why=why,
                bars=staged["bars"],
                first_bar=staged["first_bar"],
                last_bar=staged["last_bar"],
                fingerprint=staged["fingerprint"],
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                sha256=files.sha256_of_file(whole),
                parts=staged["parts"],
            )
            versions = [*versions, version]
        manifest = Manifest(**{**vars(facts), "versions": versions})
        files.replace(folder / MANIFEST, files.json_bytes(manifest.to_json()), 0o600)
        final = workspace.data_file(*series, ".parquet")
        if version_of_file(workspace, *series) != manifest.newest.name:
            files.place(whole, final)
        origin = final.with_name(f"{final.stem}{ORIGIN_SUFFIX}")
        known = {name: value for name, value in manifest.to_json().items() if name != "versions"}
        files.replace(origin, files.json_bytes({**known, "dataset": manifest.newest.name}))
    return manifest, is_new


def part_file(folder: Path, month: str, sha256: str) -> Path:
    """Where a part lies."""
    return folder / PARTS / f"{month}-{sha256[:HASH_CHARACTERS]}.parquet"


def version_of_file(workspace: paths.Workspace, symbol: str, timeframe: str) -> str | None:
    """The version that the file in data/ is; None if it is of no version.

    Args:
        workspace: whose file it is.
        symbol: of the series.
        timeframe: of the series.
    """
    path = workspace.data_file(symbol, timeframe, ".parquet")
    try:
        manifest = read_manifest(workspace, symbol, timeframe)
        status = path.stat()
    except (StorageError, OSError):
        return None
    for version in reversed(manifest.versions if manifest is not None else []):
        same_size = version.size == status.st_size
        if same_size and version.mtime_ns == status.st_mtime_ns:
            return version.name
        if same_size and version.sha256 == files.sha256_of_file(path):
            return version.name
    return None


def written_files(workspace: paths.Workspace, symbol: str, timeframe: str) -> frozenset[str]:
    """The SHA-256 of the files that the versions of a series were in data/."""
    try:
        manifest = read_manifest(workspace, symbol, timeframe)
    except StorageError:
        return frozenset()
    return frozenset(() if manifest is None else (one.sha256 for one in manifest.versions))


def load_version(workspace: paths.Workspace, symbol: str, timeframe: str, name: str) -> Bars:
    """The bars of one version.

    Args:
        workspace: whose series it is.
        symbol: of the series.
        timeframe: as it is stored.
        name: of the version, such as v3.
    Raises:
        DataNotFound: there is no such version.
        StorageError: a part of it is missing or damaged.
    """
    manifest = read_manifest(workspace, symbol, timeframe)
    there = [] if manifest is None else manifest.versions
    version = next((one for one in there if one.name == name), None)
    if version is None:
        listed = (
            f"There are {', '.join(one.name for one in there)}." if there else "There are none."
        )
        raise DataNotFound(
            f"There is no version {name} of {symbol} {timeframe}.",
            hint=listed,
            field="symbol",
        )
    folder = series_folder(workspace, symbol, timeframe)
    parts = {part_file(folder, *part): part[1] for part in sorted(version.parts.items())}
    with storage_errors(f"reading version {name} of {symbol} {timeframe}"):
        for path, sha256 in parts.items():
            if not path.is_file() or files.sha256_of_file(path) != sha256:
                raise StorageError(
                    f"A part of version {name} of {symbol} {timeframe} is missing or damaged.",
                    hint=f"Restore .ktrdr/data/{folder.name} from a backup.",
                )
        return read_parts(list(parts), symbol, timeframe)


def remove(workspace: paths.Workspace, symbol: str, timeframe: str) -> int:
    """Removes a stored series with all its versions.

    Returns:
        how many versions there were.
    Raises:
        DataNotFound: it has no versions; files that users put into data/ are theirs to remove.
        StorageError: the disk failed.
    """
    manifest = read_manifest(workspace, symbol, timeframe)
    if manifest is None:
        raise no_versions(symbol, timeframe)
    final = workspace.data_file(symbol, timeframe, ".parquet")
    with storage_errors("removing a series"):
        if version_of_file(workspace, symbol, timeframe) is not None:
            final.unlink()
        final.with_name(f"{final.stem}{ORIGIN_SUFFIX}").unlink(missing_ok=True)
        shutil.rmtree(series_folder(workspace, symbol, timeframe))
    return len(manifest.versions)


def no_versions(symbol: str, timeframe: str) -> DataNotFound:
    """The error for a series that was neither imported nor fetched."""
    return DataNotFound(
        f"There is no imported or fetched series {symbol} {timeframe}.",
        hint="get_market_data_summary shows what there is; a file that you put into data/ yourself"
        " has no versions.",
        field="symbol",
    )


def now() -> str:
    """The time, ISO 8601 UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
