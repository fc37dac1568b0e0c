"""Strategy files that this program wrote beside a saved model, for other programs to read."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from ktrdr_mcp.limits import MAX_STRATEGY_BYTES

STAMP: Final = re.compile(rb"# Written by ktrdr-mcp [^\n]* sha256:([0-9a-f]{64})\n")


def stamp(text: str, model_name: str, version: int) -> bytes:
    """A strategy file that says who wrote it.

    Args:
        text: the file's YAML.
        model_name: the model that it is for.
        version: of the model.
    """
    body = text.encode()
    first = (
        f"# Written by ktrdr-mcp for model {model_name}, version {version}; a later version"
        f" replaces it, unless it was edited. sha256:{hashlib.sha256(body).hexdigest()}\n"
    )
    return first.encode() + body


def is_ours(path: Path) -> bool:
    """Whether a file is exactly what this program wrote beside a model."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_STRATEGY_BYTES:
        return False
    with path.open("rb") as file:
        first = file.readline(1_000)
        found = STAMP.fullmatch(first)
        body = file.read() if found is not None else b""
    return found is not None and hashlib.sha256(body).hexdigest() == found[1].decode()
