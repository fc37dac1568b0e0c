"""`python -m tests.conversation.record` has the conversation and writes down what was answered."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .comparing import RECORDED, differences, record, recorded, told
from .program import Program
from .talk import talk


def main() -> None:
    """Records, or only compares; says what differs from the recording that there was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the Python of another version")
    parser.add_argument("--compare", action="store_true", help="write nothing")
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        now = talk(Program(options.python), Path(folder))
    lasted = time.monotonic() - begun
    found = list(differences(recorded(), now)) if RECORDED.exists() else []
    print(told(found) if found else "Nothing differs from the recording.")
    print(f"{sum(map(len, now.values()))} replies in {lasted:.1f} s")
    if not options.compare:
        record(now)
    elif found:
        sys.exit(1)


if __name__ == "__main__":
    main()
