"""The log of the daemon keeps its bound, whatever fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktrdr_mcp.daemon import log
from ktrdr_mcp.paths import Workspace

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows does not rename open files")

ROUNDS = 5
FILLING = """
import resource, sys
from pathlib import Path
from ktrdr_mcp.daemon.log import BoundedLog, MAX_LOG_BYTES
from ktrdr_mcp.paths import Workspace
workspace, refused = Workspace(Path(sys.argv[1])), sys.argv[2]
bounded = BoundedLog(workspace)
if refused == "descriptors":
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
if refused == "folder":
    workspace.internal.rename(workspace.root / "moved")
for _ in range(int(sys.argv[3])):
    sys.stderr.write("x" * (MAX_LOG_BYTES + 1))
    sys.stderr.flush()
    bounded.bound()
"""


@pytest.mark.parametrize("refused", ["nothing", "descriptors", "folder"])
def test_the_log_keeps_its_bound_also_when_no_file_can_be_opened(tmp_path, refused) -> None:
    workspace = Workspace(tmp_path)
    workspace.internal.mkdir(mode=0o700)
    line = [sys.executable, "-c", FILLING, str(tmp_path), refused, str(ROUNDS)]
    output = os.open(log.log_file(workspace), log.APPENDING, 0o600)
    try:
        subprocess.run(line, stderr=output, check=True)
    finally:
        os.close(output)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*lab.log*")]
    assert sum(sizes) <= 2 * log.MAX_LOG_BYTES


def test_an_error_stream_that_is_another_file_is_left_alone(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    workspace.internal.mkdir(mode=0o700)
    log.log_file(workspace).write_text("of another process\n", encoding="utf-8")
    elsewhere: Path = tmp_path / "errors"
    with elsewhere.open("wb") as output:
        line = [sys.executable, "-c", FILLING, str(tmp_path), "nothing", "1"]
        subprocess.run(line, stderr=output, check=True)
    assert elsewhere.stat().st_size == log.MAX_LOG_BYTES + 1
    assert log.log_lines(workspace, 5) == ["of another process"]
