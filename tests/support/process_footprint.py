"""Whether a process lives, and what it holds, as Linux lists it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

LISTEN = "0A"  # the state of a socket that takes connections
LISTED = Path("/proc/self/fd").exists()


def open_descriptors(pid: int | str = "self") -> int:
    """How many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int | str = "self") -> int:
    """How many threads a process has, those of its libraries too."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def children(pid: int | str = "self") -> list[str]:
    """The processes that one has started and not yet buried, by whichever thread."""
    found = list[str]()
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # of one that has ended
            found += each.read_text(encoding="utf-8").split()
    return sorted(found)


def descendants(pid: int) -> set[int]:
    """A process and all that it and those have started."""
    found, new = set[int](), {pid}
    while new:
        found |= new
        new = {int(child) for parent in new for child in children(parent)} - found
    return found


def listening(pids: Iterable[int]) -> list[IPv4Address | IPv6Address]:
    """The address of each port at which some processes take TCP connections."""
    sockets = dict[str, IPv4Address | IPv6Address]()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTEN:
                sockets[f"socket:[{inode}]"] = address_of(local.partition(":")[0])
    held = list[str]()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):  # it has ended
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    held.append(str(descriptor.readlink()))
    return [sockets[name] for name in held if name in sockets]


def address_of(written: str) -> IPv4Address | IPv6Address:
    """An address as the kernel writes it: words of four bytes in the machine's order."""
    words = [bytes.fromhex(written[at : at + 8]) for at in range(0, len(written), 8)]
    address = ip_address(b"".join(word[::-1] for word in words))
    return getattr(address, "ipv4_mapped", None) or address


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its starter does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    if not LISTED:
        return True
    try:
        return status.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:  # gone meanwhile
        return False


def descriptors(pid: int | str = "self") -> set[str]:
    """What a process has open, where the system tells."""
    folder = Path(f"/proc/{pid}/fd")
    found = set()
    for each in folder.iterdir() if folder.exists() else ():
        with contextlib.suppress(FileNotFoundError):  # the listing itself was open
            found.add(f"{each.readlink()}")
    return found
