"""The table of saved models: one version for each task and name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ktrdr_mcp.errors import Conflict, ModelNameTaken, ModelNotFound
from ktrdr_mcp.store import inspection, repair
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.models import ModelRegistry, ModelRow

pytestmark = pytest.mark.asyncio

Make = Callable[..., ModelRow]


async def test_a_registered_model_reads_back_as_it_was(
    registry: ModelRegistry, model_row: Make
) -> None:
    row = model_row("trend", 1)
    assert await registry.insert(row) == (row, True)
    assert await registry.newest("trend") == row
    assert await registry.get("trend", 1) == row
    assert await registry.find("trend", "task-1") == row
    assert await registry.find("trend", "task-2") is None


async def test_versions_count_up_for_each_name(registry: ModelRegistry, model_row: Make) -> None:
    assert await registry.next_version("trend") == 1
    await registry.insert(model_row("trend", 1))
    await registry.insert(model_row("trend", 2))
    await registry.insert(model_row("other", 1))
    assert await registry.next_version("trend") == 3
    assert (await registry.newest("trend")).version == 2


async def test_the_same_task_under_the_same_name_gives_the_version_that_exists(
    registry: ModelRegistry, model_row: Make
) -> None:
    first = model_row("trend", 1)
    await registry.insert(first)
    again = model_row("trend", 2, task_id="task-1")
    assert await registry.insert(again) == (first, False)
    assert await registry.insert(model_row("other", 1)) == (model_row("other", 1), True)


@pytest.mark.parametrize("change", [{"symbol": "MSFT"}, {"timeframe": "1d"}, {"strategy": "rsi"}])
async def test_a_name_belongs_to_one_strategy_symbol_and_timeframe(
    registry: ModelRegistry, model_row: Make, change: dict[str, str]
) -> None:
    assert await registry.owner("trend") is None
    await registry.insert(model_row("trend", 1))
    assert await registry.owner("trend") == ("default", "AAPL", "1h")
    with pytest.raises(ModelNameTaken, match="default on AAPL 1h"):
        await registry.insert(model_row("trend", 2, **change))
    assert await registry.next_version("trend") == 2


async def test_of_two_saves_that_chose_the_same_version_one_is_refused(
    registry: ModelRegistry, model_row: Make
) -> None:
    rows = [model_row("trend", 1, task_id=task, model_id=task) for task in ("t1", "t2")]
    answers = await asyncio.gather(*(registry.insert(row) for row in rows), return_exceptions=True)
    assert answers[0] == (rows[0], True)
    assert isinstance(answers[1], Conflict)
    assert "Save again" in answers[1].hint


async def test_an_unknown_model_is_answered_with_those_that_exist(
    registry: ModelRegistry, model_row: Make
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        await registry.newest("trend")
    assert "save_trained_model" in caught.value.hint
    await registry.insert(model_row("trend", 1))
    await registry.insert(model_row("reversal", 1))
    with pytest.raises(ModelNotFound) as caught:
        await registry.newest("trnd")
    assert caught.value.hint == "Saved models: reversal, trend. Did you mean 'trend'?"
    with pytest.raises(ModelNotFound, match="no version 2") as caught:
        await registry.get("trend", 2)
    assert "newest version is 1" in caught.value.hint


async def test_pages_and_names_are_newest_first(registry: ModelRegistry, model_row: Make) -> None:
    for name, version in (("trend", 1), ("range", 1), ("trend", 2)):
        await registry.insert(model_row(name, version))
    await registry.insert(model_row("msft", 1, symbol="MSFT"))

    async def page(**arguments: object) -> tuple[list[str], bool]:
        found = await registry.page(**arguments)  # type: ignore[arg-type]
        return [row.model_id for row in found.rows], found.has_more

    assert await page(limit=2) == (["msft-1", "trend-2"], True)
    assert await page(limit=2, offset=2) == (["range-1", "trend-1"], False)
    assert await page(limit=5, symbol="AAPL", name="trend") == (["trend-2", "trend-1"], False)
    assert await registry.names("", 5) == ["msft", "trend", "range"]
    assert await registry.names("tr", 5) == ["trend"]


async def test_versions_are_read_where_nothing_can_be_written_beside_the_database(
    path, model_row, monkeypatch
) -> None:
    async with await Database.open(path) as database:
        await ModelRegistry(database).insert(model_row("kept", 1))
    monkeypatch.setattr(inspection.os, "access", lambda *_: False)
    before = sorted(each.name for each in path.parent.iterdir())
    assert [row.model_name for row in repair.read_models(path)] == ["kept"]
    repair.check(path)
    assert sorted(each.name for each in path.parent.iterdir()) == before
