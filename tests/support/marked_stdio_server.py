"""The stdio server as a script for fault tests: a checkpoint after every epoch, and marks.

Writes a line to standard error at each stage in `marks`. Its only argument is the workspace.
"""

from __future__ import annotations

import asyncio
import os
import sys

if __name__ == "__main__":
    from ktrdr_mcp import limits
    from ktrdr_mcp.daemon import executors
    from ktrdr_mcp.daemon.stdio import serve_stdio
    from ktrdr_mcp.paths import find_workspace
    from tests.support import eager_work, programs
    from tests.support import stage_marks as marks

    os.environ["PYTHONPATH"] = str(programs.ROOT)  # for workers, if it has any
    executors.TRAINING = eager_work.ENTRY  # type: ignore[misc]
    executors.SENT_TRAINING = eager_work.SENT_ENTRY  # type: ignore[misc]
    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    marks.install()
    asyncio.run(serve_stdio(find_workspace(sys.argv[1]), in_process=True))
