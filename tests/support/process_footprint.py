"""What a process holds, as Linux lists it."""

from __future__ import annotations

from pathlib import Path

LISTED = Path("/proc/self/fd").exists()


def open_descriptors(pid: int | str = "self") -> int:
    """How many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int | str = "self") -> int:
    """How many threads a process has, those of its libraries too."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def children(pid: int | str = "self") -> list[str]:
    """The processes that one has started and not yet buried, by whichever thread."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(pid for each in lists for pid in each.read_text(encoding="utf-8").split())
