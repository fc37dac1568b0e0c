"""Imports files of other tools in a process of its own, of bounded time and memory.

It may hang or die without harm to others, and is this module as a program. The request is JSON on
standard input, the answer JSON on standard output: `understood`, a list of series, or `error` with
its code.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NotRequired, TypedDict

from ktrdr_mcp.data.reader_child import MAX_MEMORY_BYTES, limit_memory, limit_time
from ktrdr_mcp.data.stored import Staged
from ktrdr_mcp.errors import DataInvalid, KtrdrError, LimitExceeded, error_of

CHILD: Final = "ktrdr_mcp.data.importing"
TIMEOUT_S: Final = 900.0  # for one that waits; one that computes ends itself sooner
LIMIT_S: Final = 300  # of the processor
NICENESS: Final = 10  # the server answers while this computes


class ImportRequest(TypedDict):
    """What the process that imports gets: files with their names, and what is said of them."""

    files: list[tuple[str, str]]
    wanted: dict[str, str | None]
    output: str | None


class UnderstoodSeries(TypedDict):
    """What was understood of the files of one series, and what became of it."""

    symbol: str
    timeframe: str
    files: list[str]
    dialect: str
    title: str
    written: str
    columns: dict[str, str]
    timezone: str
    bars: int
    first_bar: str
    last_bar: str
    left_out: list[str]
    notes: list[str]
    staged: Staged | None
    dataset: NotRequired[str]  # the version that was made of it
    is_new: NotRequired[bool]


def understand(
    sources: Sequence[tuple[Path, str]], wanted: dict[str, str | None], output: Path | None
) -> list[UnderstoodSeries]:
    """What files of other tools hold, by series. Blocks.

    Args:
        sources: the files, links already followed, and what messages call them.
        wanted: symbol, timeframe, timezone and dialect, where they are said.
        output: a folder in which each series is staged, as stored.Staged; None to only look.
    Raises:
        KtrdrError: a file cannot be imported as it stands, or is not read within the limits.
    """
    request: ImportRequest = {
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
        raise error_of(answer["error"])
    understood: list[UnderstoodSeries] = answer["understood"]
    return understood


def answer(request: ImportRequest) -> Mapping[str, object]:
    """What a request's files were understood as, or why they cannot be imported."""
    from ktrdr_mcp.data.imports.read import Wanted, import_files

    files = [(Path(path), name) for path, name in request["files"]]
    output = None if request["output"] is None else Path(request["output"])
    try:
        return {"understood": import_files(files, Wanted(**request["wanted"]), output)}
    except KtrdrError as error:
        refusal = error
    except MemoryError:
        refusal = LimitExceeded(
            f"The files need more than {MAX_MEMORY_BYTES // 1024**3} GiB of memory.",
            hint="Import them in parts.",
            field="files",
        )
    return {"error": refusal.to_json()}


def main() -> None:
    """Answers the one request on standard input."""
    limit_memory()
    limit_time(LIMIT_S)
    with contextlib.suppress(AttributeError, OSError):  # not on Windows
        os.nice(NICENESS)
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)
        output.write(json.dumps(answer(json.load(sys.stdin))).encode())


if __name__ == "__main__":
    main()
