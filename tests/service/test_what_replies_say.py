"""Replies that say what to do next: labels too coarse, names that are not there, what counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ktrdr_mcp.errors import KtrdrError, NotEnoughData, TaskNotCompleted
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

KTRDR_FILES = Path(__file__).parents[1] / "interop" / "strategies"


@pytest.mark.parametrize(
    ("method", "name", "coarse"),
    [
        ("zigzag", "threshold", 0.9),
        ("zigzag_segments", "threshold", 0.5),
        ("forward_return", "threshold", 0.9),
        ("triple_barrier", "width", 100.0),
    ],
)
async def test_labels_too_coarse_for_the_range_name_a_value_that_works(
    bench, method: str, name: str, coarse: float
) -> None:
    labels = {"method": method, name: coarse}
    with pytest.raises(NotEnoughData) as refused:
        await bench.start(config={**SHORT, "labels": labels})
    assert refused.value.field == "config.labels"
    found = re.search(rf"Lower labels\.{name}: (\S+) works", refused.value.hint)
    assert found is not None
    assert float(found[1]) < coarse
    started = await bench.start(config={**SHORT, "labels": {**labels, name: float(found[1])}})
    assert started.data.train_rows >= 100


async def test_a_range_too_short_for_any_labels_wants_a_wider_one(bench) -> None:
    with pytest.raises(NotEnoughData) as refused:
        await bench.start(
            config={**SHORT, "labels": {"method": "zigzag", "threshold": 0.5}},
            start_date="2024-12-20",
            end_date="2024-12-31",
        )
    assert refused.value.field == "start_date"


async def test_a_summary_of_an_unknown_symbol_says_what_there_is(bench) -> None:
    request = parse(requests.SummarizeData, {"symbol": "APPL"})
    reply = await bench.service.get_market_data_summary(request)
    assert reply.series == []
    assert "'AAPL'" in reply.note
    assert "AAPL 1h" in reply.note
    known = await bench.service.get_market_data_summary(parse(requests.SummarizeData, {}))
    assert known.note is None


async def test_standing_notes_are_said_of_the_data_alone(bench) -> None:
    known = await bench.service.get_market_data_summary(parse(requests.SummarizeData, {}))
    standing = {note for series in known.series for note in series.notes}
    assert any("mintalib" in note for note in standing)
    started = await bench.start()
    await bench.finish(started.task_id)
    await bench.save(started.task_id, "m")
    predicted = await bench.predict("m")
    traded = await bench.service.backtest_model(parse(requests.BacktestModel, {"model_name": "m"}))
    for reply in (started, predicted, traded):
        assert not standing & set(reply.warnings)


async def test_a_cancelled_task_is_to_be_left_out_of_a_comparison(bench) -> None:
    whole = await bench.trained()
    other = (await bench.start(config={**SHORT, "epochs": 100_000, "early_stopping": None})).task_id
    await bench.cancel(other)
    await bench.status(other, wait_s=50)
    with pytest.raises(TaskNotCompleted) as refused:
        await bench.service.compare_trainings(
            parse(requests.CompareTrainings, {"task_ids": [whole, other]})
        )
    assert "eave it out" in refused.value.hint


async def test_rows_that_a_page_has_no_room_for_are_no_readings(bench) -> None:
    tasks = [await bench.trained(config={**SHORT, "seed": seed}) for seed in (1, 2)]
    for number, task_id in enumerate(tasks):
        await bench.save(task_id, f"model_{number}")
    whole = await bench.service.list_trained_models(parse(requests.ListModels, {}))
    room = len(whole.model_dump_json()) - 1
    shown = await readings_of(bench, tasks)
    page = await bench.service.list_trained_models(parse(requests.ListModels, {"page_bytes": room}))
    assert (page.returned, page.has_more) == (1, True)
    assert [row.model_name for row in page.models] == ["model_1"]
    after = await readings_of(bench, tasks)
    assert [later - before for before, later in zip(shown, after, strict=True)] == [1, 2]


async def readings_of(bench: Bench, tasks: list[str]) -> list[int]:
    """How often the test rows of each task were looked at, this time included."""
    return [(await bench.performance(task_id)).test_readings for task_id in tasks]


async def test_saving_says_what_ktrdrs_trainer_would_miss(bench) -> None:
    saved = await bench.save(await bench.trained(), "barriers")
    assert "zigzag_threshold" in " ".join(saved.warnings)
    zigzag = {**SHORT, "labels": {"method": "zigzag", "threshold": 0.01}}
    assert (await bench.save(await bench.trained(config=zigzag), "zigzags")).warnings == []


async def test_names_in_other_cases_are_taken_or_suggested(bench) -> None:
    started = await bench.start(strategy="Default", timeframe="1H", symbol="aapl")
    assert (started.strategy, started.timeframe, started.symbol) == ("default", "1h", "AAPL")
    for config, meant in (
        ({"optimizer": "Adam"}, "adam"),
        ({"activation": "ReLU"}, "relu"),
        ({"labels": {"method": "Zigzag"}}, "zigzag"),
        ({"early_stopping": {"monitor": "VAL_LOSS"}}, "val_loss"),
    ):
        with pytest.raises(KtrdrError) as refused:
            await bench.start(config=config)
        assert f"'{meant}'" in refused.value.message


async def test_a_file_of_ktrdrs_trains_without_the_indicator_that_nobody_has(bench) -> None:
    text = (KTRDR_FILES / "range.squeeze.v2.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "market_heat" not in line]
    bench.workspace.strategies.mkdir()
    file = bench.workspace.strategies / "range.variant.yaml"
    file.write_text("\n".join(line for line in lines if "  heat:" not in line), encoding="utf-8")
    started = await bench.start(strategy="Range.Variant", config={"epochs": 1})
    assert started.strategy == "range.variant"
    assert any("stoch_slowk" in warning for warning in started.warnings)
    assert (await bench.finish(started.task_id)).status == "completed"
    saved = await bench.save(started.task_id, "squeeze")
    assert not saved.ktrdr_backtest_compatible
    assert saved.warnings == []  # there is no file that KTRDR could train
    assert any("atr" in reason for reason in saved.ktrdr_incompatibilities)
