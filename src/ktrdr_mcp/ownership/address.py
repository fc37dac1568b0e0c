"""Where the service of a workspace is reached: a file that only its user can read."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from ktrdr_mcp import __version__, files
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import CONTRACT_VERSION

FORMAT: Final = 1
NAME: Final = "lab.json"
MAX_BYTES: Final = 16 * 1024
URL: Final = re.compile(r"http://(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+):([0-9]{1,5})")
WORD: Final = re.compile(r"[!-~]+")  # what may stand in a header
MAX_PORT: Final = 65_535
MAX_PID: Final = 2**31 - 1

# detached: started by a client, ends by itself; the others end when their user ends them
Kind = Literal["detached", "serve", "in_process"]


def now_text() -> str:
    """The time as replies show it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class DaemonAddress:
    """How to reach the process that owns a workspace.

    Attributes:
        url: scheme, host and port.
        token: the bearer token, or None where none is asked for.
        kind: how its process came to be, and so who may end it.
        instance: which process it is; another one may listen at the same port later.
        secret: by which it proves, before it is sent the token, that it wrote this; None if an
            older version did.
    """

    url: str
    token: str | None = field(repr=False)
    pid: int = field(default_factory=os.getpid)
    started_at: str = field(default_factory=now_text)
    version: str = __version__
    contract_version: str = CONTRACT_VERSION
    kind: Kind = "in_process"
    instance: str | None = None
    secret: str | None = field(default=None, repr=False)


def new_instance() -> str:
    """A name that no other process has."""
    return secrets.token_hex(16)


def prove(secret: str, challenge: str) -> str:
    """What only whoever knows the secret of an address can answer to a challenge."""
    return hmac.new(secret.encode(), challenge.encode(), hashlib.sha256).hexdigest()


def file_of(workspace: Workspace) -> Path:
    """Where the address is written."""
    return workspace.internal / NAME


def write(workspace: Workspace, address: DaemonAddress) -> None:
    """Tells other processes of the same user where this one is. Raises StorageError."""
    document = {"format": FORMAT, **asdict(address)}
    files.replace(file_of(workspace), files.json_bytes(document), mode=0o600)


def read(workspace: Workspace) -> DaemonAddress | None:
    """The address that was written last; None if there is none that this version can read."""
    try:
        document = json.loads(files.read_private(file_of(workspace), MAX_BYTES))
        if document.pop("format") != FORMAT:
            return None
        known = {each.name for each in fields(DaemonAddress)}  # a newer version may say more
        found = DaemonAddress(**{name: value for name, value in document.items() if name in known})
        return found if is_usable(found) else None
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError, StorageError):
        return None


def is_usable(found: DaemonAddress) -> bool:
    """Whether requests can be made of what a file said. Raises TypeError if it is no text."""
    url = URL.fullmatch(found.url)
    words = [word for word in (found.token, found.instance, found.secret) if word is not None]
    texts: list[Any] = [found.started_at, found.version, found.contract_version, found.kind]
    return (
        url is not None
        and is_loopback(url[1].strip("[]"))
        and 0 < int(url[2]) <= MAX_PORT
        and type(found.pid) is int
        and 0 < found.pid <= MAX_PID
        and all(WORD.fullmatch(word) for word in words)
        and all(isinstance(text, str) and text.isprintable() for text in texts)
    )


def is_loopback(host: str) -> bool:
    """Whether a host is a literal address that reaches this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def remove(workspace: Workspace) -> None:
    """Takes the address back. Raises StorageError."""
    with files.storage_errors("removing the address of the service"):
        file_of(workspace).unlink(missing_ok=True)
