"""The only writer of files: whole or not at all, and on the disk when it returns."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp.errors import StorageError, StorageFull, TooManyOpenFiles, quote

TRUST_VARIABLE: Final = "KTRDR_TRUST_WORKSPACE"
STAGING_PREFIX: Final = ".staging-"
EARLIER_INFIX: Final = ".earlier-"  # between the name and the number of what was set aside
FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
TOO_MANY_OPEN: Final = {errno.EMFILE, errno.ENFILE}
CHUNK_BYTES: Final = 1024 * 1024
NO_FULL_SYNC: Final = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL}


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turns operating system errors into ours, without the machine's paths.

    Args:
        doing: what was being done, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno in TOO_MANY_OPEN:
            raise too_many_open(doing) from error
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        if error.errno in FULL:
            raise StorageFull(
                f"No space left while {doing}.", hint="Free disk space, then try again."
            ) from error
        raise StorageError(
            f"The workspace failed while {doing}: {reason}.",
            hint="Check that the workspace exists and can be written, then try again.",
        ) from error


def too_many_open(doing: str) -> TooManyOpenFiles:
    """The error of a process that can open no further file.

    Args:
        doing: what was being done.
    """
    return TooManyOpenFiles(
        f"Too many files were open while {doing}.",
        hint="Close what holds connections to this program open, or raise the limit: ulimit -n.",
    )


# The program's own folder: a workspace may come from anywhere, and a link in it lead anywhere.
WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)  # a pipe that has the name must not hold us up


def trusts_any_workspace() -> bool:
    """Whether the user vouches for whatever workspace this process opens, as in a container."""
    return os.environ.get(TRUST_VARIABLE, "").lower() in {"1", "true", "yes"}


def refuse_private(path: Path, reason: str) -> StorageError:
    """The refusal of an entry of the program's own folder."""
    parent = "" if path.name.startswith(".") else f"{path.parent.name}/"
    return StorageError(
        f"{quote(parent + path.name)} in the workspace {reason}.",
        hint="This program follows no links there and uses regular files of this user alone."
        " Remove that entry, use another workspace, or, in a container that has the folder of"
        " another user, start ktrdr-mcp with --trust-workspace.",
    )


def check_private(path: Path, status: os.stat_result, *, folder: bool = False) -> None:
    """Refuses an entry of the program's own folder that is not what this user's process made.

    Args:
        path: of the entry, for the message.
        status: of the entry itself, not of what a link leads to.
        folder: whether it must be a folder, rather than a regular file.
    Raises:
        StorageError: it is a link, of another kind, another user's, or others can change it.
    """
    if stat.S_ISLNK(status.st_mode):
        raise refuse_private(path, "is a link")
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        raise refuse_private(path, f"is no {'folder' if folder else 'regular file'}")
    if not folder and status.st_nlink > 1:
        raise refuse_private(path, "has another name too")
    if os.name == "nt" or trusts_any_workspace():
        return
    if status.st_uid != os.geteuid():
        raise refuse_private(path, "belongs to another user")


@contextmanager
def private_folder(path: Path) -> Iterator[int | None]:
    """A descriptor of the program's own folder; None where the system has none for folders.

    Raises:
        StorageError: it is a link, or other users can change it.
        OSError: it cannot be opened.
    """
    if os.name == "nt":
        check_private(path, path.lstat(), folder=True)
        yield None
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW)
    except OSError:
        with suppress(FileNotFoundError):
            check_private(path, path.lstat(), folder=True)
        raise
    try:
        status = os.fstat(descriptor)
        check_private(path, status, folder=True)
        if status.st_mode & WRITABLE_BY_OTHERS and not trusts_any_workspace():
            raise refuse_private(path, "can be changed by other users")
        yield descriptor
    finally:
        os.close(descriptor)


def open_private(path: Path, flags: int) -> int:
    """Opens a file of the program's own folder without following a link, and makes it if asked to.

    Args:
        path: a name in that folder.
        flags: as of `os.open`.
    Returns:
        the descriptor of a regular file of this user.
    Raises:
        StorageError: the folder or the file is something else.
        OSError: it cannot be opened.
    """
    with private_folder(path.parent) as folder:
        name = path if folder is None else path.name
        try:
            descriptor = os.open(name, flags | NO_FOLLOW | NO_WAIT, 0o600, dir_fd=folder)
        except OSError:
            with suppress(FileNotFoundError):
                check_private(path, path.lstat())
            raise
    try:
        check_private(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_private(path: Path, most_bytes: int) -> bytes:
    """The start of a file of the program's own folder. Raises StorageError, OSError."""
    with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        return file.read(most_bytes)


def make_private_folder(path: Path) -> None:
    """Makes the program's own folder, or checks the one that is there.

    Raises:
        StorageError: it is a link, or other users can change it or one of its files.
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    check_private_entries(path)


def check_private_entries(path: Path) -> None:
    """Refuses the program's own folder if anything directly in it is not this user's own.

    Raises:
        StorageError: it or an entry is a link, another user's, or can be changed by others.
        OSError: it cannot be read.
    """
    with private_folder(path), os.scandir(path) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process tidies up
                folder = entry.is_dir(follow_symlinks=False)
                check_private(path / entry.name, entry.stat(follow_symlinks=False), folder=folder)


def close_to_others(path: Path) -> None:
    """Lets this user alone into the program's own folder, if there is one.

    Raises:
        StorageError: it is a link.
        OSError: it is another user's.
    """
    if os.name == "nt" or not os.path.lexists(path):
        return
    check_private(path, path.lstat(), folder=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW)
    try:
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def refuse_links(path: Path) -> None:
    """Refuses a folder with a link anywhere in it. Raises StorageError."""
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            if Path(folder, name).is_symlink():
                raise refuse_private(Path(folder, name), "is a link")


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def json_bytes(value: Any) -> bytes:
    """A value as stable, strict JSON: sorted keys, no NaN, one trailing newline."""
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def sync(descriptor: int) -> None:
    """Brings a file's or folder's content to the medium itself.

    Args:
        descriptor: of the open file or folder.
    Raises:
        OSError: the content may not be there.
    """
    if sys.platform == "darwin":  # whose fsync leaves it in the drive's cache
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in NO_FULL_SYNC:  # some network file systems know fsync alone
                raise
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Makes the names inside a folder durable."""
    if os.name == "nt":  # Windows cannot open a folder for syncing
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Makes a folder and those above it, each with a durable name.

    Args:
        path: the folder; it may exist.
        mode: permission bits of the folder itself.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=mode, exist_ok=True)
    sync_directory(path.parent)


def write_new(
    path: Path, data: bytes | memoryview, mode: int = 0o644, durable: bool = True
) -> None:
    """Writes a file that does not exist yet and syncs it.

    Args:
        path: where; inside a staging folder, so that a torn file never has a final name.
        data: the whole content.
        mode: permission bits.
        durable: whether the content must be on the medium before this returns.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            sync(file.fileno())


def replace(path: Path, data: bytes | memoryview, mode: int = 0o644, durable: bool = True) -> None:
    """Puts a file in place of what was there, in one step.

    Args:
        path: the final name.
        data: the whole content.
        mode: permission bits.
        durable: whether it must outlive a power failure; what need not may then be torn.
    Raises:
        StorageError: it could not be written; what was there is unharmed.
    """
    with storage_errors(f"writing {path.name}"):
        make_folder(path.parent)
        temporary = path.with_name(f"{STAGING_PREFIX}{path.name}-{secrets.token_hex(4)}")
        try:
            write_new(temporary, data, mode, durable)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if durable:
            sync_directory(path.parent)


def place(staged: Path, path: Path) -> None:
    """Puts a file that was written elsewhere in place of what was there, in one step.

    Args:
        staged: on the same file system.
        path: the final name.
    Raises:
        StorageError: what was there is unharmed.
    """
    with storage_errors(f"writing {path.name}"):
        descriptor = os.open(staged, os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)
        make_folder(path.parent)
        staged.replace(path)
        sync_directory(path.parent)


@contextmanager
def staging(destination: Path) -> Iterator[Path]:
    """An empty folder beside the destination, removed unless it is published.

    Args:
        destination: the final name of the folder that is being made.
    Yields:
        the staging folder, on the same file system.
    """
    path = destination.with_name(f"{STAGING_PREFIX}{destination.name}-{secrets.token_hex(4)}")
    with storage_errors(f"preparing {destination.name}"):
        make_folder(destination.parent)
        path.mkdir(mode=0o700)
    try:
        with storage_errors(f"writing {destination.name}"):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def publish(staged: Path, destination: Path) -> None:
    """Gives a finished staging folder its final name, in one step.

    Args:
        staged: a folder whose files are all written and synced.
        destination: the final name; it must not exist.
    Raises:
        StorageError: the name is taken or the disk failed; the destination is unharmed.
    """
    with storage_errors(f"publishing {destination.name}"):
        sync_directory(staged)
        staged.chmod(0o755)
        if destination.exists():
            raise FileExistsError(errno.EEXIST, "the destination exists")
        staged.rename(destination)
        sync_directory(destination.parent)


def link(path: Path, target: str) -> None:
    """Makes a name a relative link to a folder beside it, in one step.

    Args:
        path: the name; a link that has it is replaced, a folder is not.
        target: the folder's name; it should exist.
    Raises:
        StorageError: the name is as it was.
    """
    with storage_errors(f"linking {path.name}"):
        temporary = path.with_name(f"{STAGING_PREFIX}{path.name}-{secrets.token_hex(4)}")
        try:
            temporary.symlink_to(target, target_is_directory=True)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)


def discard(path: Path) -> None:
    """Removes a folder; its name is free at once, even if removing is interrupted.

    Args:
        path: the folder.
    """
    with storage_errors(f"removing {path.name}"):
        doomed = path.with_name(f"{STAGING_PREFIX}{path.name}-{secrets.token_hex(4)}")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Frees a name without losing what has it.

    Args:
        path: a folder or file.
    Returns:
        its new path, the first free one beside the old.
    """
    with storage_errors(f"setting {path.name} aside"):
        number = 1
        while os.path.lexists(aside := path.with_name(f"{path.name}{EARLIER_INFIX}{number}")):
            number += 1
        path.rename(aside)
        sync_directory(path.parent)
    return aside


def folders_set_aside(path: Path) -> list[Path]:
    """The folders that were set aside from this name."""
    found = sorted(path.parent.glob(f"{path.name}{EARLIER_INFIX}*"))
    return [each for each in found if each.is_dir() and not each.is_symlink()]


def sweep(parent: Path) -> int:
    """Removes what interrupted writers left in a folder.

    Args:
        parent: the folder whose staging entries are removed.
    Returns:
        how many entries there were.
    """
    leftovers = list(parent.glob(f"{STAGING_PREFIX}*")) if parent.is_dir() else []
    for path in leftovers:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(leftovers)
