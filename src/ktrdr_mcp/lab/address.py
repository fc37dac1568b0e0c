"""Where the laboratory of a workspace is reached: a file that only its user can read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from ktrdr_mcp import __version__, durable
from ktrdr_mcp.contract import CONTRACT_VERSION
from ktrdr_mcp.paths import Workspace

FORMAT: Final = 1
NAME: Final = "lab.json"
MAX_BYTES: Final = 16 * 1024

# detached: started by a front, ends by itself; the others end when their user ends them
Kind = Literal["detached", "serve", "in_process"]


def now_text() -> str:
    """The time as replies show it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class LabAddress:
    """How to reach the process that owns a workspace.

    Attributes:
        url: scheme, host and port.
        token: the bearer token, or None where none is asked for.
        kind: how its process came to be, and so who may end it.
    """

    url: str
    token: str | None = field(repr=False)
    pid: int = field(default_factory=os.getpid)
    started_at: str = field(default_factory=now_text)
    version: str = __version__
    contract_version: str = CONTRACT_VERSION
    kind: Kind = "in_process"


def file_of(workspace: Workspace) -> Path:
    """Where the address is written."""
    return workspace.internal / NAME


def write(workspace: Workspace, address: LabAddress) -> None:
    """Tells other processes of the same user where this laboratory is. Raises StorageError."""
    document = {"format": FORMAT, **asdict(address)}
    durable.replace(file_of(workspace), durable.json_bytes(document), mode=0o600)


def read(workspace: Workspace) -> LabAddress | None:
    """The address that was written last; None if there is none that this version can read."""
    try:
        with file_of(workspace).open("rb") as file:
            document = json.loads(file.read(MAX_BYTES))
        if document.pop("format") != FORMAT:
            return None
        known = {each.name for each in fields(LabAddress)}  # a newer version may say more
        return LabAddress(**{name: value for name, value in document.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None


def remove(workspace: Workspace) -> None:
    """Takes the address back. Raises StorageError."""
    with durable.storage_errors("removing the address of the laboratory"):
        file_of(workspace).unlink(missing_ok=True)
