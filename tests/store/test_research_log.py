"""Notes and looks outlive the database: a copy beside it, which a rebuild takes in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service.reconciliation import rebuild
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.research import COPY, ResearchLog, StoredLook

pytestmark = pytest.mark.asyncio

SKETCH = Sketch(1, np.arange(40, dtype=np.uint64))
LOOKS = [
    StoredLook("AAPL", "1h", 10, 20, 5, "one", SKETCH),
    StoredLook("MSFT", "1d", 10, 30, 7, "two"),
]


async def fill(path: Path) -> None:
    async with await Database.open(path) as database:
        log = ResearchLog(database)
        for look in LOOKS:
            await log.add_look(look)
        await log.add_note("AAPL", "1h", None, "first: the hour carries nothing")
        await log.add_note("AAPL", "1h", "task", "second")


async def told(path: Path) -> tuple[list[dict[str, object]], list[str]]:
    async with await Database.open(path) as database:
        log = ResearchLog(database)
        notes = await log.notes(None, None, 10)
        looks = sorted(await log.looks(), key=lambda each: each.fingerprint)
        return [each.parameters() for each in looks], [each.note for each in notes]


def lose(path: Path) -> None:
    """Removes the database, its log and its backups."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


async def test_a_rebuild_brings_notes_and_looks_back_once(path: Path) -> None:
    await fill(path)
    before = await told(path)
    assert [look["sketch"] for look in before[0]] == [SKETCH.key, None]
    assert len(before[1]) == 2
    lose(path)
    workspace = Workspace(path.parent.parent)
    assert (await rebuild(workspace)).remembered == 4
    assert await told(path) == before
    assert (await rebuild(workspace)).remembered == 0
    assert await told(path) == before


async def test_a_copy_from_before_there_were_sketches_is_taken_in(path: Path) -> None:
    await fill(path)
    lose(path)
    copy = path.with_name(COPY)
    content = json.loads(copy.read_bytes())
    del content["sketches"]
    for look in content["looks"]:
        del look["sketch"]
    copy.write_text(json.dumps(content), encoding="utf-8")
    assert (await rebuild(Workspace(path.parent.parent))).remembered == 4
    assert [look["sketch"] for look in (await told(path))[0]] == [None, None]


async def test_a_damaged_copy_is_said_and_hinders_no_rebuild(path: Path) -> None:
    await fill(path)
    lose(path)
    copy = path.with_name(COPY)
    copy.write_bytes(copy.read_bytes()[:-40])
    done = await rebuild(Workspace(path.parent.parent))
    assert done.remembered == 0
    assert "research" in [finding.name for finding in done.left_out]
    assert await told(path) == ([], [])


async def test_a_copy_that_cannot_be_written_loses_no_note(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.with_name(COPY).mkdir()
    await fill(path)
    assert len((await told(path))[1]) == 2
