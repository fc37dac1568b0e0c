"""The program `ktrdr-mcp` as a script for fault tests: a checkpoint after every epoch, and marks.

Writes a line to standard error at each stage in `marks`. Its first argument is the stage that is
held, or another word; the rest is the program's command line.
"""

from __future__ import annotations

import os
import runpy
import sys

if __name__ == "__main__":
    from ktrdr_mcp import limits
    from ktrdr_mcp.daemon import executors
    from tests.support import eager_work, programs
    from tests.support import stage_marks as marks

    os.environ["PYTHONPATH"] = str(programs.ROOT)  # for the workers
    executors.TRAINING = eager_work.ENTRY  # type: ignore[misc]
    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    marks.install(held=sys.argv.pop(1))
    runpy.run_module("ktrdr_mcp", run_name="__main__", alter_sys=True)
