"""Imports files of other tools in a process of its own, of bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp.errors import DataInvalid, kinds_by_code

CHILD: Final = "ktrdr_mcp.data.import_child"
TIMEOUT_S: Final = 900.0  # for one that waits; one that computes ends itself sooner


def understand(
    sources: Sequence[tuple[Path, str]], wanted: dict[str, str | None], output: Path | None
) -> list[dict[str, Any]]:
    """What files of other tools hold, by series. Blocks.

    Args:
        sources: the files, links already followed, and what messages call them.
        wanted: symbol, timeframe, timezone and dialect, where they are said.
        output: a folder in which each series is staged, as versions.Staged; None to only look.
    Raises:
        KtrdrError: a file cannot be imported as it stands, or is not read within the limits.
    """
    request = {
        "files": [(str(path), name) for path, name in sources],
        "wanted": wanted,
        "output": None if output is None else str(output),
    }
    try:
        # -P keeps the current folder from being searched for modules.
        done = subprocess.run(  # noqa: S603 - nothing in it comes from a caller
            [sys.executable, "-P", "-m", CHILD],
            input=json.dumps(request).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        names = ", ".join(name for _, name in sources[:3])
        raise DataInvalid(
            f"{names} cannot be read within the limits of time and memory.",
            hint="Import fewer files at once, or a part; a small one is damaged.",
            field="files",
        ) from None
    if "error" in answer:
        error = answer["error"]
        kind = kinds_by_code()[error["code"]]
        raise kind(error["message"], hint=error["hint"], field=error["field"])
    understood: list[dict[str, Any]] = answer["understood"]
    return understood
