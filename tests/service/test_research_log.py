"""Notes, the research log, and a trial in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.api.operations import (
    ADD_RESEARCH_NOTE,
    LIST_TRAINING_TASKS,
    REPRODUCE_TRAINING,
    RESEARCH_LOG,
    START_TRAINING,
)
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import InvalidRequest, TaskNotFound
from ktrdr_mcp.limits import PAGE_BYTES
from ktrdr_mcp.paths import Workspace
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

SERIES = {"symbol": "AAPL", "timeframe": "1h"}
FOREVER = {**SHORT, "epochs": 100_000, "early_stopping": None}


async def log_of(service: Any, **which: Any) -> Any:
    return await RESEARCH_LOG.answer(service, which)


async def started(bench: Bench, **more: Any) -> Any:
    return await START_TRAINING.answer(bench.service, {**SERIES, "config": SHORT, **more})


async def test_a_start_that_waits_answers_with_the_performance(bench: Bench) -> None:
    reply = await started(bench, wait_s=50)
    assert (reply.status, reply.progress) == ("completed", 100)
    assert reply.performance.task_id == reply.task_id
    assert reply.performance.test_readings == 1
    assert START_TRAINING.brief is not None
    assert len(START_TRAINING.brief(reply).model_dump_json()) <= PAGE_BYTES
    plain = await started(bench, task_id="plain")
    fields = set(plain.model_dump(mode="json"))
    assert plain.status == "training_started"
    assert not fields & {"progress", "error", "error_code", "performance"}


async def test_a_wait_that_is_too_short_says_where_the_task_stands(bench: Bench) -> None:
    reply = await started(bench, config=FOREVER, wait_s=0.01)
    assert reply.status in {"pending", "training"}
    assert reply.performance is None


async def test_waiting_and_noting_are_no_part_of_what_is_trained(bench: Bench) -> None:
    first = await started(bench, task_id="one", wait_s=50, note="first")
    again = await started(bench, task_id="one")
    assert again.task_id == first.task_id


async def test_trials_that_a_page_has_no_room_for_are_no_readings(bench: Bench) -> None:
    for number in (1, 2):
        await started(bench, task_id=f"t{number}", wait_s=50, config={**SHORT, "seed": number})
    whole = await log_of(bench.service)
    room = len(whole.model_dump_json().encode()) - 1
    before = [(await bench.performance(task_id)).test_readings for task_id in ("t1", "t2")]
    page = await log_of(bench.service, page_bytes=room)
    assert ([each.task_id for each in page.trials], page.has_more) == (["t2"], True)
    after = [(await bench.performance(task_id)).test_readings for task_id in ("t1", "t2")]
    assert [later - former for former, later in zip(before, after, strict=True)] == [1, 2]


async def test_a_new_conversation_goes_on_where_the_last_one_stopped(bench: Bench) -> None:
    await started(bench, task_id="one", wait_s=50, note="does momentum carry? " + "x" * 400)
    await started(bench, task_id="two", wait_s=50, config={**SHORT, "learning_rate": 0.01})
    await ADD_RESEARCH_NOTE.answer(bench.service, {"note": "try hours next", "symbol": "aapl"})
    await ADD_RESEARCH_NOTE.answer(bench.service, {"note": "weak", "task_id": "one"})
    page = await log_of(bench.service, symbol="AAPL", timeframe="1h")
    two, one = page.trials
    assert (two.task_id, two.trial, one.task_id, one.trial) == ("two", 2, "one", 1)
    assert one.note.startswith("does momentum carry?")
    assert "learning_rate=0.01" in two.differs
    assert one.verdict.split(", ")[0] in {"no skill", "inconclusive", "skill"}
    assert [(each.note, each.task_id) for each in page.notes] == [
        ("weak", "one"),
        ("try hours next", None),
    ]
    assert (await log_of(bench.service, symbol="MSFT")).trials == []
    rows = (await LIST_TRAINING_TASKS.answer(bench.service, {})).tasks
    assert rows[1].note.startswith("does momentum carry?")
    assert len(rows[1].note) <= 80
    assert rows[0].note is None


async def test_the_log_lists_what_differs_from_the_strategy_and_names_what_was_searched(
    bench: Bench,
) -> None:
    await started(bench, task_id="own", strategy="mean_reversion", config={"epochs": 1})
    vary = {"learning_rate": [0.001, 0.01], "dropout_rate": [0.0, 0.3]}
    searched = {"epochs": 1, "sweep": {"trials": 2, "vary": vary}}
    await started(bench, task_id="search", strategy="mean_reversion", config=searched, wait_s=50)
    search, own = (await log_of(bench.service)).trials
    assert own.differs == "epochs=1"
    assert search.differs == "sweep=2 over learning_rate, dropout_rate, epochs=1"


async def test_notes_survive_the_server(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    note = {"note": "kept", "symbol": "X", "timeframe": "1d"}
    async with open_workspace(workspace) as first:
        await ADD_RESEARCH_NOTE.answer(first.service, note)
    async with open_workspace(workspace) as second:
        page = await log_of(second.service, symbol="X", timeframe="1d")
        assert [each.note for each in page.notes] == ["kept"]
        assert (await log_of(second.service, symbol="X", timeframe="1h")).notes == []


async def test_a_reproduction_does_not_take_the_note_over(bench: Bench) -> None:
    await started(bench, task_id="one", wait_s=50, note="mine")
    again = await REPRODUCE_TRAINING.answer(bench.service, {"task_id": "one", "wait_s": 50})
    notes = {each.task_id: each.note for each in (await log_of(bench.service)).trials}
    assert notes == {"one": "mine", again.reproduction_task_id: None}
    assert again.result == "match"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"note": "x"}, InvalidRequest),
        ({"note": "x", "task_id": "a", "symbol": "AAPL"}, InvalidRequest),
        ({"note": "x", "task_id": "absent"}, TaskNotFound),
        ({"note": "x" * 501, "symbol": "AAPL"}, InvalidRequest),
        ({"note": "", "symbol": "AAPL"}, InvalidRequest),
    ],
)
async def test_a_note_that_belongs_nowhere_is_refused(
    bench: Bench, request_: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await ADD_RESEARCH_NOTE.answer(bench.service, request_)
