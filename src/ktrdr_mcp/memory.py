"""How much memory is free, for this machine, this control group and this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

KILOBYTE: Final = 1024
CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
PROCESS: Final = Path("/proc/self")
MEMORY: Final = Path("/proc/meminfo")


def free_bytes() -> list[int]:
    """What is free by each limit that the system tells of; empty where it tells of none."""
    found = [in_machine(), in_address_space(), *in_control_groups()]
    return [max(0, each) for each in found if each is not None]


def in_machine() -> int | None:
    """What new work may take without swapping, as the system estimates it."""
    for line in read(MEMORY).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * KILOBYTE
    return None


def in_address_space() -> int | None:
    """What is left of the limit of `ulimit -v`, if there is one."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    sizes = read(PROCESS / "statm").split()
    if limit == resource.RLIM_INFINITY or not sizes:
        return None
    return limit - int(sizes[0]) * resource.getpagesize()


def in_control_groups(root: Path = CONTROL_GROUPS, process: Path = PROCESS) -> Iterator[int]:
    """What is left of the limit of this process's group and of each above it, as in containers.

    Args:
        root: where control groups are mounted.
        process: where the system describes this process.
    """
    for line in read(process / "cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            files, top = ("memory.max", "memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = root / "memory"
        else:
            continue
        folder = top / name.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(top) and (free := in_group(each, *files)) is not None:
                yield free


def resident_bytes(process: int | None = None) -> int:
    """The memory that a process holds; 0 where the system does not say, or if it has ended.

    Args:
        process: its id; None for this one.
    """
    if sys.platform == "win32":
        return 0
    import resource

    folder = PROCESS if process is None else PROCESS.with_name(str(process))
    sizes = read(folder / "statm").split()
    return int(sizes[1]) * resource.getpagesize() if len(sizes) > 1 else 0


def in_group(folder: Path, limit: str, used: str, reclaimable: str) -> int | None:
    """What is left of one group's limit; None if it has none.

    Args:
        folder: the group's.
        limit: its file with the most that it may use, in bytes.
        used: its file with what it uses.
        reclaimable: the line of memory.stat with what the system takes back when it is needed.
    """
    most, now = read(folder / limit).strip(), read(folder / used).strip()
    if not (most.isdecimal() and now.isdecimal()):
        return None
    lines = (line.split() for line in read(folder / "memory.stat").splitlines())
    cached = next((int(line[1]) for line in lines if line[:1] == [reclaimable]), 0)
    return int(most) - int(now) + cached


def read(path: Path) -> str:
    """The text of a file of the system; empty if there is none."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
