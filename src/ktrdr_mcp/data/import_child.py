"""The process that imports one batch of files: it may hang or die without harm to others.

The request is JSON on standard input, the answer JSON on standard output: `understood`, a list of
series, or `error` with its code.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp.data.imports.read import Wanted, import_files
from ktrdr_mcp.data.reader_child import MAX_MEMORY_BYTES, limit_memory, limit_time
from ktrdr_mcp.errors import KtrdrError, LimitExceeded

LIMIT_S: Final = 300  # of the processor
NICENESS: Final = 10  # the server answers while this computes


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What a request's files were understood as, or why they cannot be imported."""
    files = [(Path(path), str(name)) for path, name in request["files"]]
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
    return {
        "error": {
            "code": refusal.code,
            "message": refusal.message,
            "hint": refusal.hint,
            "field": refusal.field,
        }
    }


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
