"""Verdicts, the trial log, comparison, reproduction and backtests, through the server."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from ktrdr_mcp.errors import InvalidRequest, NotEnoughData, TaskNotCompleted
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.results import Alarm
from ktrdr_mcp.service.backtesting import rule_of
from ktrdr_mcp.service.model_cache import ModelCache
from ktrdr_mcp.training import judgement
from tests.support.service_calls import SHORT, history_of

pytestmark = pytest.mark.asyncio

FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [8]}


async def test_every_training_on_the_window_is_a_trial_whatever_became_of_it(bench) -> None:
    first = await bench.trained()
    assert (await bench.performance(first)).verdict.as_of_trial == 1
    diverging = {"epochs": 2, "learning_rate": 1e6, "optimizer": "sgd"}
    failed = await bench.start(config=diverging)
    assert (await bench.finish(failed.task_id)).status == "failed"
    cancelled = await bench.start(config=FOREVER)
    await bench.cancel(cancelled.task_id)
    await bench.finish(cancelled.task_id)
    daily = await bench.trained(timeframe="1d", start_date="2015-01-01")
    verdict = (await bench.performance(first)).verdict
    assert (verdict.as_of_trial, verdict.trials_since) == (1, 3)
    assert (await bench.performance(daily)).verdict.as_of_trial == 4


async def test_a_verdict_does_not_change_when_others_are_tried_later(bench) -> None:
    first = await bench.trained()
    before = (await bench.performance(first)).verdict
    later = await bench.trained(config={**SHORT, "seed": 2})
    after = (await bench.performance(first)).verdict
    assert after == before.model_copy(update={"trials_since": 1})
    told = (await bench.performance(later)).verdict
    assert (told.as_of_trial, told.trials_since) == (2, 0)
    assert told.level < before.level


async def test_a_reproduction_is_no_new_trial_and_has_the_same_verdict(bench) -> None:
    first = await bench.trained()
    asked = parse(requests.ReproduceTraining, {"task_id": first})
    again = (await bench.service.reproduce_training(asked)).reproduction_task_id
    verdicts = [(await bench.performance(task_id)).verdict for task_id in (first, again)]
    assert verdicts[0] == verdicts[1]
    assert verdicts[0].trials_since == 0


async def test_other_bars_are_another_family_that_must_hold_beside_the_first(bench) -> None:
    early = {"timeframe": "1d", "start_date": "1990-01-01", "end_date": "1999-12-31"}
    late = {"timeframe": "1d", "start_date": "2010-01-01", "end_date": "2019-12-31"}
    first, second = await bench.trained(**early), await bench.trained(**late)
    assert (await bench.performance(first)).verdict.holds_across is None
    verdict = (await bench.performance(second)).verdict
    assert (verdict.as_of_trial, verdict.level) == (1, 0.02)
    assert verdict.holds_across is not None
    assert re.findall(r"\d+", verdict.luck.partition(";")[2]) == ["1"]


async def test_a_window_that_does_not_overlap_is_another_family(bench) -> None:
    early = {"timeframe": "1d", "start_date": "1990-01-01", "end_date": "1999-12-31"}
    late = {"timeframe": "1d", "start_date": "2010-01-01", "end_date": "2019-12-31"}
    one = await bench.trained(**early)
    await bench.trained(**late)
    assert (await bench.performance(one)).verdict.as_of_trial == 1


async def test_readings_of_test_results_are_counted(bench) -> None:
    task_id = await bench.trained()
    assert [(await bench.performance(task_id)).test_readings for _ in range(3)] == [1, 2, 3]


async def test_the_verdict_stands_beside_simple_rules_on_the_same_rows(bench) -> None:
    performance = await bench.performance(await bench.trained())
    accuracies = performance.baselines
    shares = [accuracies.majority.accuracy, accuracies.prior.accuracy]
    assert all(0 < share < 1 for share in shares)
    assert performance.edge is not None
    assert performance.edge.low < performance.edge.accuracy < performance.edge.high
    assert performance.trading.cost_bps == 5.0
    assert performance.trading.net_bps is not None
    low, high = performance.trading.net_bps[1:]
    assert low < performance.trading.net_bps[0] < high
    assert performance.verdict.prediction in {"no_skill", "inconclusive"}
    assert performance.leak_suspected is None
    assert performance.trading.trades > 0


async def test_twins_are_trained_when_asked_for(bench) -> None:
    performance = await bench.performance(await bench.trained(config={**SHORT, "control": True}))
    assert performance.leak_suspected is not None


async def test_seeds_give_mean_and_spread_and_the_best_on_validation(bench) -> None:
    task_id = await bench.trained(config={**SHORT, "seeds": 3})
    performance = await bench.performance(task_id)
    assert performance.seeds is not None
    assert performance.seeds.count == 3
    spread = (await history_of(bench.service, task_id))["performance"]["seeds"]["val_accuracy"]
    assert spread["deviation"] > 0
    assert performance.training_metrics.final_val_accuracy >= spread["mean"]


async def test_the_history_has_folds_and_an_equity_curve(bench) -> None:
    history = await history_of(bench.service, await bench.trained())
    folds = history["performance"]["walk_forward"]["folds"]
    assert len(folds) == 4
    assert all(fold["train"][1] < fold["test"][0] for fold in folds)
    assert [fold["test"][0] for fold in folds] == sorted(fold["test"][0] for fold in folds)
    equity = history["performance"]["equity"]
    assert equity[-1]["equity"] == pytest.approx(
        1 + history["performance"]["trading"]["net_total_return"]
    )


async def test_the_history_has_what_each_alarm_saw(bench, monkeypatch) -> None:
    saw = (
        Alarm(name="sharpe", text="Sharpe ratio 9.1 (a leak?)", of_data=False),
        Alarm(name="near_maximum", text="T is near its maximum, 6.2 (a leak?)", of_data=False),
    )
    monkeypatch.setattr(judgement, "result_alarms", lambda *arguments: iter(saw))
    task_id = await bench.trained()
    verdict = (await bench.performance(task_id)).verdict
    assert f"; {saw[0].text}; see details" in verdict.reason
    told = (await history_of(bench.service, task_id))["alarms"]
    assert verdict.suspect == [each["name"] for each in told] == ["sharpe", "near_maximum"]
    assert [each["text"] for each in told] == [each.text for each in saw]


async def test_the_history_says_what_choosing_among_trials_does(bench) -> None:
    ids = [await bench.trained(config={**SHORT, "seed": seed}) for seed in (1, 2, 3)]
    told = (await history_of(bench.service, ids[0]))["overfitting"]
    assert told["trials"] == 3
    assert 0 <= told["deflated_sharpe"] <= 1
    assert 0 <= told["overfitting_probability"] <= 1


async def test_comparing_shows_what_differs_and_ranks_by_validation(bench) -> None:
    ids = [
        await bench.trained(config={**SHORT, "learning_rate": rate}) for rate in (0.001, 0.01, 0.1)
    ]
    compared = await bench.service.compare_trainings(
        parse(requests.CompareTrainings, {"task_ids": ids})
    )
    gains = [task.val_gain for task in compared.tasks]
    assert gains == sorted(gains, reverse=True)
    assert [task.rank for task in compared.tasks] == [1, 2, 3]
    assert set(compared.differences) == {"learning_rate"}
    rates = dict(zip(ids, (0.001, 0.01, 0.1), strict=True))
    assert compared.differences["learning_rate"] == [rates[t.task_id] for t in compared.tasks]
    assert all(0 < test.p <= 1 for test in compared.tests)
    assert len(compared.tests) == 2


async def test_a_task_is_no_better_than_itself_under_another_id(bench) -> None:
    ids = [await bench.trained(), await bench.trained()]
    compared = await bench.service.compare_trainings(
        parse(requests.CompareTrainings, {"task_ids": ids})
    )
    assert compared.differences == {}
    assert (compared.tests[0].difference, compared.tests[0].p) == (0.0, 1.0)


async def test_what_cannot_be_compared_is_refused(bench, write_csv) -> None:
    write_csv(bench.workspace)
    one = await bench.trained()
    other = await bench.trained(symbol="TEST")
    waiting = (await bench.start(config=FOREVER)).task_id
    for ids, error in (
        ([one, one], InvalidRequest),
        ([one, other], InvalidRequest),
        ([one, waiting], TaskNotCompleted),
    ):
        with pytest.raises(error):
            await bench.service.compare_trainings(
                parse(requests.CompareTrainings, {"task_ids": ids})
            )
    await bench.cancel(waiting)


async def test_a_training_is_reproduced_to_the_bit(bench) -> None:
    task_id = await bench.trained(config={**SHORT, "seeds": 2, "dropout_rate": 0.3})
    asked = parse(requests.ReproduceTraining, {"task_id": task_id})
    told = await bench.service.reproduce_training(asked)
    assert (told.result, told.differences) == ("match", [])
    again = await bench.service.reproduce_training(asked)
    assert again.reproduction_task_id == told.reproduction_task_id


async def test_a_training_on_changed_bars_is_said_to_differ(bench, write_csv) -> None:
    write_csv(bench.workspace)
    task_id = await bench.trained(symbol="TEST")
    write_csv(bench.workspace, close=(300, 100.0), high=(300, 1000.0), low=(300, 1.0))
    told = await bench.service.reproduce_training(
        parse(requests.ReproduceTraining, {"task_id": task_id})
    )
    assert told.result == "differs"
    assert any("bars have changed" in difference for difference in told.differences)


async def test_a_performance_names_the_rows_of_the_verdict_and_of_the_test_metrics(bench) -> None:
    task_id = await bench.trained()
    told = await bench.performance(task_id)
    first, last = (await history_of(bench.service, task_id))["performance"]["test_period"]
    assert told.test_metrics.rows == f"kept network, last part, {first[:10]} to {last[:10]}"
    assert told.verdict.rows.startswith("4 folds, ")
    assert not (told.collapsed and told.beats_linear)


async def test_a_backtest_says_which_part_was_in_sample(bench) -> None:
    task_id = await bench.trained(end_date="2026-03-31")
    await bench.save(task_id, "traded")
    asked = parse(requests.BacktestModel, {"model_name": "traded"})
    told = await bench.service.backtest_model(asked)
    assert told.in_sample is not None
    assert told.choosing is not None
    assert told.out_of_sample is not None
    data = (await history_of(bench.service, task_id))["performance"]["data"]
    assert told.in_sample.bars >= data["train_rows"]
    assert told.choosing.bars >= data["validation_rows"] + data["test_rows"]
    curve = (await bench.service.equity_curve(asked)).equity
    assert curve["out_of_sample"][-1]["equity"] == pytest.approx(
        1 + told.out_of_sample.net_total_return, abs=1e-6
    )
    assert json.dumps(curve)


async def test_costs_and_rules_change_a_backtest_as_they_should(bench) -> None:
    await bench.save(await bench.trained(end_date="2026-03-31"), "traded")

    async def net(**more) -> float:
        asked = parse(requests.BacktestModel, {"model_name": "traded", **more})
        out = (await bench.service.backtest_model(asked)).out_of_sample
        assert out is not None
        return out.net_total_return

    free, usual, dear = [await net(cost_bps=cost) for cost in (0.0, 5.0, 50.0)]
    assert free > usual > dear
    assert usual == await net()
    asked = parse(requests.BacktestModel, {"model_name": "traded", "cost_bps": 2.5})
    assert (await bench.service.backtest_model(asked)).equity == "equity://traded/-/-/-/2.5/-"
    assert np.isfinite(await net(long_only=True))


async def test_a_backtest_of_too_few_bars_is_refused(bench) -> None:
    await bench.save(await bench.trained(), "traded")
    for dates in ({"start_date": "2090-01-01"}, {"end_date": "2024-08-06"}):
        with pytest.raises((NotEnoughData, InvalidRequest)):
            await bench.service.backtest_model(
                parse(requests.BacktestModel, {"model_name": "traded", **dates})
            )


async def test_labels_that_tell_the_past_never_give_skill_on_noise(bench, write_csv) -> None:
    write_csv(bench.workspace, rows=3_000)
    labels = {"method": "zigzag_segments", "threshold": 0.01}
    config = {**SHORT, "epochs": 10, "labels": labels}
    verdict = (await bench.performance(await bench.trained(symbol="TEST", config=config))).verdict
    assert verdict.prediction == "inconclusive"
    assert "p below 0.001" in verdict.reason
    assert "tell the past" in verdict.reason


async def test_a_judgement_that_the_rows_are_too_few_for_is_announced(bench, write_csv) -> None:
    write_csv(bench.workspace, rows=300)
    config = {**SHORT, "control": True, "walk_forward": {"folds": 20}}
    started = await bench.start(symbol="TEST", config=config)
    assert any("0 of 20 walk-forward folds" in warning for warning in started.warnings)
    assert any("control finds no leak here" in warning for warning in started.warnings)
    await bench.finish(started.task_id)
    assert (await bench.performance(started.task_id)).leak_suspected is None


async def test_comparing_names_ranges_labels_and_changed_strategies(bench, write_strategy) -> None:
    ids = []
    for period in (14, 21):
        write_strategy(bench.workspace, period)
        ids.append(await bench.trained(strategy="changing"))
    later = {"start_date": "2025-01-01", "config": {**SHORT, "labels": {"horizon": 4}}}
    ids.append(await bench.trained(strategy="changing", **later))
    compared = await bench.service.compare_trainings(
        parse(requests.CompareTrainings, {"task_ids": ids[:2]})
    )
    assert set(compared.differences) == {"strategy_sha256"}
    compared = await bench.service.compare_trainings(
        parse(requests.CompareTrainings, {"task_ids": ids[1:]})
    )
    assert set(compared.differences) == {"start_date", "labels.horizon"}
    assert compared.summary.startswith("Their labels differ")


async def test_a_reproduction_that_came_to_nothing_is_tried_again(bench) -> None:
    task_id = await bench.trained()
    others = [(await bench.start(config=FOREVER)).task_id for _ in range(2)]
    told = await bench.service.reproduce_training(
        parse(requests.ReproduceTraining, {"task_id": task_id, "wait_s": 0})
    )
    for other in (told.reproduction_task_id, *others):
        await bench.cancel(other)
    again = await bench.service.reproduce_training(
        parse(requests.ReproduceTraining, {"task_id": task_id})
    )
    assert again.reproduction_task_id != told.reproduction_task_id
    assert again.result == "match"


async def test_a_backtest_holds_positions_as_long_as_the_training_did(bench) -> None:
    config = {**SHORT, "labels": {"method": "zigzag_segments", "threshold": 0.01}}
    task_id = await bench.trained(config=config)
    await bench.save(task_id, "traded")
    history = await history_of(bench.service, task_id)
    horizon = history["performance"]["trading_rule"]["horizon"]
    assert horizon > 1
    row = await bench.service._library.newest("traded")
    loaded = ModelCache(bench.service._workspace).load(row)
    rule = rule_of(loaded, parse(requests.BacktestModel, {"model_name": "traded"}))
    assert rule.horizon == horizon
