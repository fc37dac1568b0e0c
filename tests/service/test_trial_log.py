"""The trial log knows what was tested when, whatever became of the bars in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from ktrdr_mcp import limits
from ktrdr_mcp.errors import StorageFull
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support.service_calls import SHORT, card_of, history_of

pytestmark = pytest.mark.asyncio

FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [8]}
HOUR = np.timedelta64(1, "h")


def moved(workspace, name: str, by: np.timedelta64) -> None:
    """Moves every bar of a file in time."""
    path = workspace.data / name
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split(",", 1) for line in lines]
    times = [np.datetime64(time[:19].replace(" ", "T")) + by for time, _ in rows]
    text = [f"{time}Z,{rest}" for time, (_, rest) in zip(times, rows, strict=True)]
    path.write_text("\n".join([head, *text]) + "\n", encoding="utf-8")


async def test_bars_that_are_replaced_while_a_task_waits_are_the_ones_it_was_tested_on(
    bench, write_csv
) -> None:
    write_csv(bench.workspace)
    running = [
        (await bench.start(config={**FOREVER, "seed": seed})).task_id
        for seed in range(limits.CONCURRENT_TRAININGS)
    ]
    waiting = (await bench.start(symbol="TEST")).task_id
    moved(bench.workspace, "TEST_1h.csv", 10_000 * HOUR)
    for task_id in running:
        await bench.cancel(task_id)
    assert (await bench.finish(waiting)).status == "completed"
    later = await bench.trained(symbol="TEST", config={**SHORT, "seed": 9})
    assert (await bench.performance(later)).verdict.as_of_trial == 2
    moved(bench.workspace, "TEST_1h.csv", -10_000 * HOUR)
    earlier = await bench.trained(symbol="TEST", config={**SHORT, "seed": 10})
    assert (await bench.performance(earlier)).verdict.as_of_trial == 3  # they are the same bars


async def test_a_window_reaches_to_the_close_of_the_last_bar_that_a_label_depends_on(
    bench, write_csv
) -> None:
    write_csv(bench.workspace)
    horizon = 8
    task_id = await bench.trained(symbol="TEST", config={**SHORT, "labels": {"horizon": horizon}})
    history = await history_of(bench.service, task_id)
    last = np.datetime64(history["performance"]["test_period"][1][:19])  # the bar's opening

    async def counts(hours: float) -> bool:
        """Whether a test that begins so long after that opening is of the same family."""
        begins = f"{last + np.timedelta64(round(hours * 60), 'm')}Z"
        trials = await bench.service._judge._trial_log.trials()
        return task_id in {trial.task_id for trial in trials if trial.test_end >= begins}

    assert await counts(0)
    assert await counts(1.5)  # the label of a bar is never known at its own close
    assert not await counts(horizon + 1.5)


async def test_every_reply_that_shows_test_results_counts_as_a_reading_of_them(bench) -> None:
    task_id = await bench.trained()
    await bench.save(task_id, "kept")
    name = {"model_name": "kept"}
    seen = parse(requests.BacktestModel, {**name, "end_date": "2025-01-31"})
    unseen = parse(requests.BacktestModel, name)
    shows = [
        lambda: bench.load("kept"),
        lambda: bench.service.list_trained_models(parse(requests.ListModels, {})),
        lambda: card_of(bench.service, "kept"),
        lambda: bench.service.backtest_model(unseen),
        lambda: bench.service.equity_curve(unseen),
        lambda: history_of(bench.service, task_id),
        lambda: bench.service.compare_trainings(
            parse(requests.CompareTrainings, {"task_ids": [task_id, other]})
        ),
    ]
    hides = [
        lambda: bench.predict("kept"),
        lambda: bench.predict("kept", symbol=None, timeframe=None),
        lambda: bench.service.backtest_model(seen),
        lambda: bench.service.list_training_tasks(parse(requests.ListTasks, {})),
        lambda: bench.status(task_id),
        lambda: bench.save(task_id, "kept"),
    ]
    other = await bench.trained(config={**SHORT, "seed": 2})
    readings = (await bench.performance(task_id)).test_readings
    assert readings == 1
    for calls, counted in ((shows, 1), (hides, 0)):
        for call in calls:
            await call()
            before, readings = readings, (await bench.performance(task_id)).test_readings
            assert readings - before == counted + 1  # one of them is this performance


async def test_a_list_of_tasks_shows_no_test_result(bench) -> None:
    await bench.trained()
    (task,) = (await bench.service.list_training_tasks(parse(requests.ListTasks, {}))).tasks
    assert task.val_accuracy is not None
    assert not any("test" in name for name in task.model_dump())


async def test_a_disk_that_takes_nothing_keeps_no_results_back_and_no_reading_uncounted(
    bench, monkeypatch
) -> None:
    task_id = await bench.trained()
    await bench.save(task_id, "kept")

    @asynccontextmanager
    async def refused() -> AsyncIterator[None]:
        raise StorageFull("The disk is full.", hint="Free space.")
        yield

    with monkeypatch.context() as full:
        full.setattr(bench.service._judge._trial_log._database, "transaction", refused)
        await bench.load("kept")
        assert (await bench.performance(task_id)).test_readings == 2
    assert (await bench.performance(task_id)).test_readings == 3


async def test_readings_at_the_same_moment_are_each_counted_once(bench) -> None:
    task_id = await bench.trained()
    told = await asyncio.gather(*(bench.performance(task_id) for _ in range(20)))
    assert max(reply.test_readings for reply in told) == 20
    assert (await bench.performance(task_id)).test_readings == 21
