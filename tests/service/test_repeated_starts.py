"""A start that is repeated says what has become of its task, and what to do."""

from __future__ import annotations

import asyncio

import pytest

from ktrdr_mcp.errors import TaskConflict, TaskNotFound
from ktrdr_mcp.service import training
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [8]}
DIVERGING = {**SHORT, "learning_rate": 1e6, "optimizer": "sgd"}
# of {"symbol": "AAPL", "timeframe": "1h", "config": SHORT, "strategy": null}
HASH_WITH_NULL = "0cd2d61ef735ef902bf1b3aa03e93860a9ac0ee520d136cb157f716c3ad12b36"
ASK = "Call get_training_status with wait_s=50 until it is completed."


async def test_a_new_training_is_queued(bench: Bench) -> None:
    assert (await bench.start(task_id="new")).message.endswith(f" is under way. {ASK}")


async def test_a_repeated_start_of_a_running_training_says_that_it_runs(bench: Bench) -> None:
    await bench.start(task_id="long", config=FOREVER)
    while (await bench.status("long")).status != "training":  # noqa: ASYNC110
        await asyncio.sleep(0)
    again = await bench.start(task_id="long", config=FOREVER)
    assert again.message.endswith(f" is under way. {ASK}")


async def test_a_repeated_start_of_a_completed_training_leads_to_its_figures(bench: Bench) -> None:
    await bench.trained(task_id="done")
    message = (await bench.start(task_id="done")).message
    assert message.endswith(" is already completed. Call get_model_performance; do not wait.")


async def test_a_null_means_what_leaving_it_out_means(bench: Bench) -> None:
    await bench.trained(task_id="done", strategy=None, end_date=None)
    for arguments in ({}, {"strategy": None}, {"start_date": None}):
        assert "is already completed" in (await bench.start(task_id="done", **arguments)).message


async def test_a_setting_switched_off_is_not_one_left_out(bench: Bench) -> None:
    await bench.trained(task_id="done")
    with pytest.raises(TaskConflict, match="belongs to another request"):
        await bench.start(task_id="done", config={**SHORT, "walk_forward": None})


async def test_a_task_whose_stored_hash_is_of_its_nulls_too_is_repeated_as_it_was_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(training, "request_hash", lambda request: HASH_WITH_NULL)
        await bench.trained(task_id="kept", strategy=None)
    again = await bench.start(task_id="kept", strategy=None)
    assert "is already completed" in again.message


async def test_a_start_whose_id_differs_from_a_known_one_in_case_alone_is_refused(
    bench: Bench,
) -> None:
    await bench.trained(task_id="done")
    before = bench.snapshot()
    for config in (SHORT, {**SHORT, "seed": 2}):
        with pytest.raises(TaskConflict, match="that of task done but for upper and lower case"):
            await bench.start(task_id="Done", config=config)
    with pytest.raises(TaskNotFound, match="no task 'Done'"):
        await bench.status("Done")
    assert bench.snapshot() == before


async def test_a_repeated_start_of_a_cancelled_training_asks_for_another_id(bench: Bench) -> None:
    await bench.start(task_id="gone", config=FOREVER)
    await bench.cancel("gone")
    assert (await bench.finish("gone")).status == "cancelled"
    message = (await bench.start(task_id="gone", config=FOREVER)).message
    assert "was cancelled and does not run." in message
    assert message.endswith("start it under another task_id.")


async def test_a_repeated_start_of_a_failed_training_names_the_error_and_another_id(
    bench: Bench,
) -> None:
    names = {"task_id": "bad", "idempotency_key": "once"}
    await bench.start(**names, config=DIVERGING)
    assert (await bench.finish("bad")).status == "failed"
    message = (await bench.start(idempotency_key="once", config=DIVERGING)).message
    assert "has failed (diverged) and does not run" in message
    assert message.endswith("start it under another task_id and idempotency_key.")
