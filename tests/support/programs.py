"""Support modules that run as processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # where they must be started


def command(module: str) -> list[str]:
    """Runs one support module as a script; needs `cwd=ROOT`."""
    return [sys.executable, "-m", f"tests.support.{module}"]
