"""What the program answers, beside what it answered when it was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from .comparing import differences, recorded, told
from .program import Program
from .talk import talk


@pytest.mark.timeout(300)
def test_every_reply_is_as_recorded(tmp_path: Path) -> None:
    found = list(differences(recorded(), talk(Program(), tmp_path)))
    assert not found, f"{told(found)}\nIf this is meant: python -m tests.conversation.record"
