"""How fast and how large ktrdr-mcp is, beside its peers and beside the bare arithmetic."""

import atexit
import os
import shutil
import tempfile

USER_FOLDER = "KTRDR_DATA_HOME"
os.environ.setdefault("KTRDR_TRIAL_RECORD", ".ktrdr/trials.db")  # in each workspace

if USER_FOLDER not in os.environ:
    # a user of its own: the workspaces of benchmarks leave no marks in the real one's folder
    os.environ[USER_FOLDER] = tempfile.mkdtemp(prefix="ktrdr-user-")
    atexit.register(shutil.rmtree, os.environ[USER_FOLDER], ignore_errors=True)
