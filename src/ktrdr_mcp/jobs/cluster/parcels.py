"""A task's files on their way between the server's disk and a worker's.

A parcel is bytes: the length of an index, the index as JSON, then all files. The index has the name
of each file, relative to the task's folder, its length, and the SHA-256 of all that follows.

A folder of which only the whole counts, such as a checkpoint or a bundle, travels and is put in
place as a whole; other files one by one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from ktrdr_mcp import files
from ktrdr_mcp.context import CHECKPOINTS

HEAD_BYTES: Final = 8  # the length of the index
WORD: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
NAME: Final = re.compile(f"{WORD}(/{WORD}){{0,7}}")
GENERATIONS: Final = frozenset({"a", "b"})  # of checkpoints

Contents: TypeAlias = dict[str, bytes]
Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]

log = logging.getLogger(__name__)


def pack(contents: Mapping[str, bytes]) -> bytes:
    """Makes a parcel of files by their names."""
    body = b"".join(contents.values())
    sizes = [[name, len(content)] for name, content in contents.items()]
    index = json.dumps({"files": sizes, "sha256": hashlib.sha256(body).hexdigest()}).encode()
    return len(index).to_bytes(HEAD_BYTES, "big") + index + body


def unpack(parcel: bytes) -> Contents:
    """The files of a parcel. Raises ValueError if it is damaged or a name leads elsewhere."""
    start = HEAD_BYTES + int.from_bytes(parcel[:HEAD_BYTES], "big")
    index = json.loads(parcel[HEAD_BYTES:start])
    if hashlib.sha256(parcel[start:]).hexdigest() != index["sha256"]:
        raise ValueError("the parcel is damaged")
    contents: Contents = {}
    for name, size in index["files"]:
        if NAME.fullmatch(name) is None:
            raise ValueError("the parcel has a file whose name leads elsewhere")
        contents[name] = parcel[start : start + size]
        start += size
    return contents


def is_whole(folder: PurePosixPath, result: str) -> bool:
    """Whether a folder is put in place as a whole: a checkpoint, or a run's result."""
    return folder.name in GENERATIONS or str(folder) == result


def files_of_run(root: Path, result: str) -> Iterator[Path]:
    """Everything that a run needs or leaves, but for what is unfinished.

    Args:
        root: the folder of the task, or of the part.
        result: the name of the folder with its result.
    """
    for name_of_folder, folders, names in os.walk(root):
        folder = Path(name_of_folder)
        folders[:] = [each for each in folders if not is_leftover(each)]
        if folder == root:
            folders[:] = [each for each in folders if each in {CHECKPOINTS, result}]
        for name in names:
            path = folder / name
            if not is_leftover(name) and path.is_file() and not path.is_symlink():
                yield path


def is_leftover(name: str) -> bool:
    """Whether a name is of what is unfinished or was set aside."""
    return name.startswith(files.STAGING_PREFIX) or files.EARLIER_INFIX in name


class Changes:
    """What has changed in a task's folder since it was last asked.

    Args:
        root: the folder.
        result: the name of the folder with the run's result.
    """

    def __init__(self, root: Path, result: str) -> None:
        self._root = root
        self._result = result
        self._known: dict[str, Signature] = self._signatures()

    def _signatures(self) -> dict[str, Signature]:
        """What tells each whole folder, and each other file, from an earlier one of its name."""
        found: dict[str, list[tuple[str, int, int, int]]] = {}
        for path in files_of_run(self._root, self._result):
            try:
                state = path.stat()
            except FileNotFoundError:  # it is being replaced
                continue
            folder = PurePosixPath(path.relative_to(self._root).parent.as_posix())
            unit = str(folder if is_whole(folder, self._result) else folder / path.name)
            signature = (path.name, state.st_size, state.st_mtime_ns, state.st_ino)
            found.setdefault(unit, []).append(signature)
        return {unit: tuple(sorted(each)) for unit, each in found.items()}

    def take(self, *, checkpoints_only: bool = False) -> Contents:
        """Reads what has changed; what is being replaced meanwhile waits for the next time.

        Args:
            checkpoints_only: whether everything else waits.
        """
        contents: Contents = {}
        now = self._signatures()
        for unit, signature in now.items():
            if self._known.get(unit) == signature:
                continue
            if checkpoints_only and PurePosixPath(unit).name not in GENERATIONS:
                continue
            found = self._read(unit)
            if found is not None and self._signatures().get(unit) == signature:
                contents |= found
                self._known[unit] = signature
        return contents

    def _read(self, unit: str) -> Contents | None:
        """The files of a whole folder, or the one file; None if it is being replaced."""
        path = self._root / unit
        try:
            if path.is_dir():
                return {f"{unit}/{each.name}": each.read_bytes() for each in path.iterdir()}
            return {unit: path.read_bytes()}
        except (FileNotFoundError, NotADirectoryError):
            return None


def read_all(root: Path, result: str) -> Contents:
    """Everything that a run needs of its task's folder. Raises OSError."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in files_of_run(root, result)
    }


def put_in_place(root: Path, contents: Mapping[str, bytes], result: str) -> None:
    """Writes files so that each whole folder is there as it was or as it is now.

    The result comes last: once it is there, the run has ended.

    Args:
        root: the task's folder.
        contents: by name.
        result: the name of the folder with the run's result; an earlier one is set aside.
    Raises:
        StorageError: not everything could be written.
    """
    whole: dict[str, Contents] = {}
    for name, content in contents.items():
        path = PurePosixPath(name)
        if is_whole(path.parent, result):
            whole.setdefault(str(path.parent), {})[path.name] = content
        else:
            files.replace(root / name, content)
    for unit in sorted(whole, key=lambda each: each == result):
        put_whole(root / unit, whole[unit], keeps_earlier=unit == result)


def put_whole(destination: Path, contents: Mapping[str, bytes], *, keeps_earlier: bool) -> None:
    """Puts one folder in place of what was there. Raises StorageError."""
    with files.staging(destination) as staged:
        for name, content in contents.items():
            files.write_new(staged / name, content)
        if destination.exists() and keeps_earlier:
            log.warning("an earlier result is kept as %s", files.set_aside(destination).name)
        elif destination.exists():
            files.discard(destination)
        files.publish(staged, destination)


def lay_out(root: Path, contents: Mapping[str, bytes]) -> None:
    """Writes files into an empty folder of a worker, where nothing need outlive anything.

    Raises:
        StorageError: the disk failed.
    """
    with files.storage_errors("laying out a training"):
        for name, content in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def select_changed(contents: Contents, earlier: Mapping[str, bytes], result: str) -> Contents:
    """Those of some files that differ, each with all of its whole folder."""
    units = {unit_of(name, result) for name, each in contents.items() if earlier.get(name) != each}
    return {name: each for name, each in contents.items() if unit_of(name, result) in units}


def unit_of(name: str, result: str) -> str:
    """The whole folder that a file belongs to, or the file itself."""
    folder = PurePosixPath(name).parent
    return str(folder) if is_whole(folder, result) else name
