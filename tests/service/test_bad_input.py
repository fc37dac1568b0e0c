"""Every bad input gets an error that an agent can act on, and changes nothing."""

from __future__ import annotations

import re

import pytest

from ktrdr_mcp.errors import (
    DataInvalid,
    DataNotFound,
    InvalidName,
    InvalidRequest,
    InvalidStrategy,
    KtrdrError,
    LimitExceeded,
    ModelCorrupted,
    ModelNameTaken,
    ModelNotFound,
    NotEnoughData,
    StrategyNotFound,
    TaskConflict,
    TaskNotCompleted,
    TaskNotFound,
)
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse

pytestmark = pytest.mark.asyncio
in_the_servers_loop = pytest.mark.asyncio(loop_scope="module")

STARTS = {
    "unknown symbol": ({"symbol": "NOPE"}, DataNotFound, "AAPL 1h"),
    "misspelt symbol": ({"symbol": "AAPLE"}, DataNotFound, "Did you mean 'AAPL'?"),
    "timeframe not stored": ({"timeframe": "5m"}, DataNotFound, "AAPL 1h"),
    "unknown timeframe": ({"timeframe": "2h"}, InvalidName, "1h"),
    "dates reversed": (
        {"start_date": "2025-06-01", "end_date": "2025-01-01"},
        InvalidRequest,
        "start_date",
    ),
    "unparsable date": ({"start_date": "yesterday"}, InvalidRequest, "YYYY-MM-DD"),
    "no such day": ({"end_date": "2025-02-30"}, InvalidRequest, "YYYY-MM-DD"),
    "before the data": (
        {"start_date": "2001-01-01", "end_date": "2001-12-31"},
        KtrdrError,
        "2024-08-06",
    ),
    "beyond the data": ({"start_date": "2090-01-01"}, KtrdrError, "2026-08-05"),
    "too few bars": (
        {"start_date": "2025-01-01", "end_date": "2025-01-10"},
        NotEnoughData,
        "training",
    ),
    "one class": ({"config": {"labels": {"width": 100.0}}}, NotEnoughData, "'hold'"),
    "unknown key": ({"config": {"epoch": 3}}, InvalidRequest, "'epochs'"),
    "unknown label parameter": (
        {"config": {"labels": {"horizons": 3}}},
        InvalidRequest,
        "'horizon'",
    ),
    "unknown strategy": ({"strategy": "mean_reversal"}, StrategyNotFound, "mean_reversion"),
    "hostile strategy": ({"strategy": "../../etc/passwd"}, InvalidName, "strategy name"),
    "hostile symbol": ({"symbol": "../../etc/passwd"}, InvalidName, "symbol"),
    "hostile task id": ({"task_id": "a/../b"}, InvalidName, "task id"),
    "a huge network": (
        {"config": {"hidden_layers": [1_000_000, 1_000_000]}},
        LimitExceeded,
        "GB of memory",
    ),
}


@pytest.mark.parametrize(("arguments", "error", "words"), STARTS.values(), ids=STARTS.keys())
@in_the_servers_loop
async def test_a_start_that_cannot_train_is_refused_and_stores_nothing(
    refusing, arguments, error, words
) -> None:
    with pytest.raises(error) as refused:
        await refusing.start(**arguments)
    said = f"{refused.value.message} {refused.value.hint}"
    assert words in said
    assert refused.value.field
    assert "Traceback" not in said
    assert str(refusing.workspace.root) not in said
    tasks = await refusing.service.list_training_tasks(parse(requests.ListTasks, {}))
    assert tasks.tasks == []
    assert refusing.snapshot() == {}


async def test_a_learning_rate_that_diverges_fails_the_task_with_epoch_and_loss(bench) -> None:
    config = {"epochs": 5, "learning_rate": 1e6, "optimizer": "sgd"}
    started = await bench.start(config=config)
    status = await bench.finish(started.task_id)
    assert (status.status, status.error_code) == ("failed", "diverged")
    assert re.search(r"epoch \d", status.error)
    assert "loss" in status.error
    with pytest.raises(TaskNotCompleted, match="failed"):
        await bench.performance(started.task_id)


@pytest.mark.parametrize("identifier", ["training_1", "x" * 128])
@in_the_servers_loop
async def test_an_unknown_task_is_not_found(refusing, identifier) -> None:
    for call in (refusing.status, refusing.performance, refusing.cancel):
        with pytest.raises(TaskNotFound):
            await call(identifier)
    with pytest.raises(TaskNotFound):
        await refusing.save(identifier, "model")


@in_the_servers_loop
async def test_an_unknown_model_is_not_found(refusing) -> None:
    with pytest.raises(ModelNotFound, match="nothing_here"):
        await refusing.load("nothing_here")
    with pytest.raises(ModelNotFound):
        await refusing.predict("nothing_here")


async def test_saving_a_task_that_is_not_finished_is_a_conflict(bench) -> None:
    started = await bench.start(config={"epochs": 100_000, "early_stopping": None})
    with pytest.raises(TaskNotCompleted) as refused:
        await bench.save(started.task_id, "model")
    assert "wait_s" in refused.value.hint
    assert not bench.workspace.models.exists()


async def test_a_task_id_belongs_to_one_request(bench) -> None:
    first = await bench.start(task_id="mine")
    assert (await bench.start(task_id="mine")) == first
    with pytest.raises(TaskConflict):
        await bench.start(task_id="mine", config={"epochs": 4})


async def test_a_repeated_start_is_answered_even_if_the_data_are_gone(bench, write_csv) -> None:
    write_csv(bench.workspace)
    arguments = {"symbol": "TEST", "idempotency_key": "once"}
    first = await bench.start(**arguments)
    (bench.workspace.data / "TEST_1h.csv").unlink()
    assert (await bench.start(**arguments)).task_id == first.task_id


async def test_a_name_belongs_to_one_strategy_symbol_and_timeframe(bench) -> None:
    await bench.save(await bench.trained(), "mine")
    other = await bench.trained(strategy="mean_reversion")
    with pytest.raises(ModelNameTaken, match="default"):
        await bench.save(other, "mine")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "A", "a b", "a\0", "a" * 10_000, "", "-a"])
@in_the_servers_loop
async def test_a_hostile_model_name_is_refused(refusing, name) -> None:
    for call in (refusing.load, refusing.predict):
        with pytest.raises(InvalidName):
            await call(name)
    with pytest.raises(InvalidName):
        await refusing.save("some_task", name)
    assert not refusing.workspace.models.exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "history.json"])
async def test_a_corrupted_bundle_is_named_and_never_loaded(bench, name) -> None:
    saved = await bench.save(await bench.trained(), "damaged")
    path = bench.workspace.root / saved.model_path / name
    content = path.read_bytes()
    path.write_bytes(content[:-3] + b"\0\0\0")
    for call in (bench.load, bench.predict):
        with pytest.raises(ModelCorrupted, match=name):
            await call("damaged")


DEFECTS = {
    "NaN": ({"close": (40, "nan")}, "NaN"),
    "zero": ({"low": (40, 0.0)}, "zero or below"),
    "duplicate": ({"timestamp": (40, "2024-01-02 15:00:00+00:00")}, "duplicate"),
    "unordered": ({"timestamp": (40, "2023-01-01 00:00:00+00:00")}, "before the bar above"),
    "inconsistent": ({"high": (40, 1.0)}, "high"),
    "unparsable time": ({"timestamp": (40, "noon")}, "time"),
    "text": ({"open": (40, "dear")}, "unreadable values"),
}


@pytest.mark.parametrize(("replace", "word"), DEFECTS.values(), ids=DEFECTS.keys())
@in_the_servers_loop
async def test_defective_bars_are_refused_with_their_place(
    refusing, write_csv, replace, word
) -> None:
    write_csv(refusing.workspace, **replace)
    with pytest.raises(DataInvalid) as refused:
        await refusing.start(symbol="TEST")
    assert word.lower() in refused.value.message.lower()
    assert re.search(r"20\d\d-0\d-0|line \d+|row \d+", refused.value.message)
    summary = await refusing.service.get_market_data_summary(parse(requests.SummarizeData, {}))
    defective = [one for one in summary.series if one.symbol == "TEST"]
    assert defective[0].defects
    (refusing.workspace.data / "TEST_1h.csv").unlink()


async def test_a_volume_of_zero_is_no_error_and_never_becomes_infinite(bench, write_csv) -> None:
    write_csv(bench.workspace, volume=(40, 0.0))
    for strategy in ("default", "mean_reversion", "trend_following", "volatility_breakout"):
        started = await bench.start(symbol="TEST", strategy=strategy)
        assert (await bench.finish(started.task_id)).status == "completed"


STRATEGY_TEXTS = {
    "not YAML": "indicators: [",
    "a python object": "a: !!python/object/apply:os.system ['true']",
    "a list": "- a\n- b",
    "empty": "",
    "unknown indicator": (
        "name: bad\nindicators: [{name: rsy, params: {period: 3}}]\n"
        "fuzzy_sets: {rsy: auto}\nmodel: {type: mlp}\ntraining: {}\n"
    ),
    "unknown parameter": (
        "name: bad\nindicators: [{name: rsi, params: {length: 3}}]\n"
        "fuzzy_sets: {rsi: auto}\nmodel: {type: mlp}\ntraining: {}\n"
    ),
    "unknown TA-Lib function": (
        "name: bad\nindicators: [{name: x, type: talib.STOCHX}]\n"
        "fuzzy_sets: {x: auto}\nmodel: {type: mlp}\ntraining: {}\n"
    ),
}


@pytest.mark.parametrize("text", STRATEGY_TEXTS.values(), ids=STRATEGY_TEXTS.keys())
async def test_a_malformed_strategy_is_refused(bench, text) -> None:
    bench.workspace.strategies.mkdir()
    (bench.workspace.strategies / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidStrategy) as refused:
        await bench.start(strategy="bad")
    assert refused.value.hint
    # The damaged file stands in nobody else's way.
    assert (await bench.start()).strategy == "default"
