"""A workspace to save models into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.saved_models import Saver


@pytest.fixture
def saver(tmp_path: Path) -> Saver:
    return Saver(tmp_path / "workspace")
