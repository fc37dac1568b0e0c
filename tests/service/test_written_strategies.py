"""Strategies that are written through the service: checked, tried dry, kept in versions."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest

from ktrdr_mcp.api.operations import (
    GET_AVAILABLE_INDICATORS,
    GET_AVAILABLE_STRATEGIES,
    SAVE_STRATEGY,
)
from ktrdr_mcp.errors import Conflict, InvalidRequest, InvalidStrategy, KtrdrError, NotFound
from ktrdr_mcp.limits import PAGE_BYTES
from ktrdr_mcp.schemas.responses import fit_page
from ktrdr_mcp.strategy.parsing import parse_strategy
from ktrdr_mcp.strategy.writing import file_text
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

HOURS: dict[str, Any] = {
    "description": "Does the hour matter?",
    "indicators": [
        {"name": "hour"},
        {"name": "rsi_7", "type": "rsi", "params": {"period": 7}},
        {"name": "again", "type": "rsi", "params": {"period": 7}},
    ],
    "fuzzy_sets": {
        "hour": "cyclic",
        "rsi_7": {"low": [0, 20, 40], "never": [200, 300, 400]},
        "again": {"low": [0, 20, 40]},
    },
}


async def save(bench: Bench, strategy: object = HOURS, name: str = "hours", **more: Any) -> Any:
    return await SAVE_STRATEGY.answer(bench.service, {"name": name, "strategy": strategy, **more})


async def text_of(bench: Bench, **which: Any) -> str:
    reply = await GET_AVAILABLE_STRATEGIES.answer(bench.service, which)
    assert reply.text is not None
    return reply.text


async def test_an_object_becomes_a_file_that_trains(bench: Bench) -> None:
    reply = await save(bench)
    assert (reply.saved, reply.version, reply.path) == (True, 1, "strategies/hours.yaml")
    assert reply.features == 5
    read = parse_strategy(bench.workspace.strategy_file("hours").read_text(), "hours")
    assert read.description == HOURS["description"]
    task_id = await bench.trained(strategy="hours")
    assert (await bench.status(task_id)).status == "completed"


async def test_versions_are_kept_and_a_task_keeps_its_own(bench: Bench) -> None:
    await save(bench)
    first = await text_of(bench, name="hours")
    task_id = await bench.trained(strategy="hours")
    as_trained = parse_strategy(first, "hours")
    bench.workspace.strategy_file("hours").write_text(first + "# by hand\n")
    simpler = {"indicators": [{"name": "hour"}], "fuzzy_sets": {"hour": "crisp"}}
    reply = await save(bench, simpler)
    assert reply.version == 3  # what was written by hand in between is the second
    assert await text_of(bench, name="hours", version=1) == first
    assert (await text_of(bench, name="hours", version=2)).endswith("# by hand\n")
    again = await save(bench, simpler)
    assert (again.saved, again.version) == (False, 3)
    assert parse_strategy(await text_of(bench, task_id=task_id), "hours") == as_trained
    with pytest.raises(NotFound):
        await text_of(bench, name="hours", version=4)


async def test_a_dry_run_shows_the_features_and_writes_nothing(bench: Bench) -> None:
    before = bench.snapshot()
    reply = await save(bench, dry_run=True, symbol="AAPL", timeframe="1h")
    assert bench.snapshot() == before
    assert (reply.saved, reply.version, reply.path) == (False, None, None)
    look = reply.on_series
    assert [each.input for each in look.inputs] == ["hour", "rsi_7", "again"]
    assert look.constant == ["rsi_7_never"]
    assert look.alike == ["rsi_7_low +1.000 again_low"]
    assert (look.inputs[0].low, look.inputs[0].high) == (9.5, 15.5)  # New York's clock
    assert 0 < look.inputs[1].on["low"] < 0.3
    assert look.inputs[1].on["never"] == 0
    assert abs(sum(look.class_shares.values()) - 1) < 0.001
    started = await bench.start(task_id="after")
    assert started.data.bars * 0.4 > look.rows > started.data.bars * 0.38
    with sqlite3.connect(bench.workspace.database) as connection:
        ((symbol, bars),) = connection.execute("SELECT symbol, bars FROM looks").fetchall()
    assert symbol == "AAPL"
    assert bars >= look.rows


async def test_everything_that_is_wrong_is_in_one_reply(bench: Bench) -> None:
    wrong = {
        "indicators": [
            {"name": "rsi", "params": {"period": 10**9}},
            {"name": "back", "type": "returns", "params": {"period": -3}},
        ],
        "fuzzy_sets": {"rsi": {"low": [40, 20, 0]}, "back": "cyclic"},
        "model": {"training": {"epochs": 0}},
        "indicater": 1,
    }
    with pytest.raises(InvalidStrategy) as caught:
        await save(bench, wrong)
    places = {problem.field for problem in caught.value.problems}
    assert {
        "strategy.indicators.rsi",
        "strategy.indicators.back",
        "fuzzy_sets.rsi.low",
        "model.training.epochs",
        "indicater",
    } <= places
    assert not bench.workspace.strategies.exists()


RSI = "indicators: [{name: rsi}]\n"
REFUSED: dict[str, tuple[object, type[KtrdrError]]] = {
    "anchors": ("indicators: &a [{name: rsi}]\nfuzzy_sets: {rsi: auto}", InvalidStrategy),
    "tags": ("indicators: !!python/object:os.system [rsi]", InvalidStrategy),
    "a megabyte": ("#" * 2**20, InvalidStrategy),
    "many nodes in text": ("x: [" + "1," * 10**5 + "1]", InvalidStrategy),
    "many nodes": ({"indicators": [1] * 10**5}, InvalidStrategy),
    "nested": (json.loads("[" * 30 + "]" * 30), InvalidRequest),
    "nested object": ({"indicators": [[[[[[[[[[[[[[1]]]]]]]]]]]]]]}, InvalidStrategy),
    "NaN in a set": (f"{RSI}fuzzy_sets: {{rsi: {{a: [.nan, 1, 2]}}}}", InvalidStrategy),
    "names that collide": (
        {"indicators": [{"name": "a", "type": "rsi"}] * 2, "fuzzy_sets": {"a": "auto"}},
        InvalidStrategy,
    ),
    "no mapping": ("- 1\n", InvalidStrategy),
    "empty": ("", InvalidStrategy),
    "a number": (7, InvalidRequest),
}  # fmt: skip


@pytest.mark.parametrize(("strategy", "error"), REFUSED.values(), ids=REFUSED)
async def test_bad_strategies_are_refused_and_nothing_is_written(
    bench: Bench, strategy: object, error: type[KtrdrError]
) -> None:
    with pytest.raises(error):
        await save(bench, strategy)
    assert not bench.workspace.strategies.exists()


async def test_the_programs_own_strategies_are_not_replaced(bench: Bench) -> None:
    with pytest.raises(Conflict):
        await save(bench, name="default")
    with pytest.raises(InvalidRequest):
        await save(bench, symbol="AAPL")


async def test_indicators_are_listed_by_group_and_name(bench: Bench) -> None:
    async def listed(**which: Any) -> Any:
        return await GET_AVAILABLE_INDICATORS.answer(bench.service, which)

    calendar = await listed(group="calendar")
    assert [one.type for one in calendar.indicators] == [
        "hour",
        "weekday",
        "month",
        "minutes_since_open",
    ]
    assert all(one.cyclic for one in calendar.indicators)
    (bands,) = (await listed(name="talib.bbands")).indicators
    assert bands.outputs == ["upperband", "middleband", "lowerband"]
    assert bands.price_like
    assert bands.warm_up_bars == 19
    assert "14 (2 to 10000)" in (await listed(name="rsi")).indicators[0].parameters.values()
    whole = await listed(limit=1000)
    assert sum(whole.groups.values()) == len(whole.indicators)
    with pytest.raises(NotFound) as caught:
        await listed(name="rsj")
    assert "rsi" in caught.value.message
    for offset in range(0, len(whole.indicators), 20):
        page = fit_page(await listed(offset=offset), "indicators", PAGE_BYTES)
        assert len(page.model_dump_json()) <= PAGE_BYTES


async def test_a_long_look_is_cut_to_a_page(bench: Bench) -> None:
    many = {
        "indicators": [
            {"name": f"rsi_{period}", "type": "rsi", "params": {"period": period}}
            for period in range(2, 60)
        ],
        "fuzzy_sets": {f"rsi_{period}": "auto" for period in range(2, 60)},
    }
    reply = await save(bench, many, dry_run=True, symbol="AAPL", timeframe="1h")
    assert SAVE_STRATEGY.brief is not None
    short = SAVE_STRATEGY.brief(reply)
    assert len(short.model_dump_json()) <= PAGE_BYTES
    assert short.on_series is not None
    assert short.on_series.left_out == 58 - len(short.on_series.inputs) > 0


WRITTEN = """\
indicators: [{name: x, type: talib.SMA, source: high, raw: true, timeperiod: 5}]
fuzzy_sets: {x: {a: [1, 2, 3], b: {type: gaussian, parameters: [0, 1]}}}
model: {features: {scaling_method: minmax}, training: {early_stopping: null}}
training: {data_split: {validation: 0.1, test: 0.2}}
decisions:
  long_only: true
  fuzzy_outputs: {bearish: [-2, -1, 0], neutral: [-1, 0, 1], bullish: [0, 1, 3]}
"""
CYCLIC = """\
indicators: [{name: hour}]
fuzzy_sets: {hour: cyclic}
model: {features: {scale_features: false}}
"""


@pytest.mark.parametrize("text", [WRITTEN, CYCLIC])
async def test_a_strategy_is_written_as_it_was_read(text: str) -> None:
    strategy = parse_strategy(text, "s")
    assert parse_strategy(file_text(strategy), "s") == strategy


async def test_saving_while_a_task_trains_leaves_the_task_its_own(bench: Bench) -> None:
    await save(bench)
    forever = {**SHORT, "epochs": 100_000, "early_stopping": None}
    await bench.start(task_id="running", strategy="hours", config=forever)
    before = await text_of(bench, task_id="running")
    await save(bench, {"indicators": [{"name": "hour"}], "fuzzy_sets": {"hour": "crisp"}})
    assert await text_of(bench, task_id="running") == before
