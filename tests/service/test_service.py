"""The use cases, on real bars and a real store."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import InvalidRequest, WorkspaceLocked
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service.models import row_of
from tests.support.service_calls import SHORT, Bench, card_of, history_of, names_of

pytestmark = pytest.mark.asyncio

FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [8]}


async def test_a_training_is_completed_saved_loaded_and_predicts(bench) -> None:
    task_id = await bench.trained(task_id="whole")
    status = await bench.status(task_id)
    assert (status.progress, status.status) == (100, "completed")
    assert status.started_at
    assert status.current_metrics is not None
    assert status.current_metrics.val_loss is not None
    saved = await bench.save(task_id, "first_model", "a description")
    assert saved.model_path == "models/first_model/AAPL_1h_v1"
    assert saved.created
    loaded = await bench.load("first_model")
    performance = await bench.performance(task_id)
    assert loaded.model_info.test_accuracy == pytest.approx(
        performance.test_metrics.test_accuracy, abs=1e-4
    )
    predicted = await bench.predict("first_model", test_date="2025-06-09")
    assert predicted.as_of.startswith("2025-06-09T19:30")
    assert predicted.prediction.confidence == max(predicted.prediction.probabilities.values())
    assert sum(predicted.prediction.probabilities.values()) == pytest.approx(1)
    assert sum(predicted.prediction.fuzzy_outputs.values()) == pytest.approx(1)
    assert 100 < predicted.input_features["sma_20"] < 400


async def test_predictions_before_saving_and_after_loading_elsewhere_are_equal(bench) -> None:
    task_id = await bench.trained()
    await bench.save(task_id, "kept")
    bundle = bench.workspace.bundle_directory(task_id) / "bundle.json"
    parity = json.loads(bundle.read_text(encoding="utf-8"))["parity"]
    timestamp, probabilities = parity["times"][-1], parity["probabilities"][-1]
    predicted = await bench.predict("kept", test_date=timestamp)
    assert predicted.as_of == timestamp
    assert list(predicted.prediction.probabilities.values()) == pytest.approx(
        probabilities, abs=1e-6
    )
    newest = await bench.predict("kept")
    assert newest.as_of >= timestamp
    assert not newest.in_sample
    assert (await bench.predict("kept", test_date="2024-12-02")).in_sample


async def test_the_same_task_under_the_same_name_is_one_version(bench) -> None:
    task_id = await bench.trained()
    first = await bench.save(task_id, "model")
    again = await bench.save(task_id, "model")
    assert (again.model_id, again.version, again.created) == (first.model_id, 1, False)
    other = await bench.save(await bench.trained(config={**SHORT, "seed": 3}), "model")
    assert (other.version, other.created) == (2, True)
    assert (await bench.load("model")).model_info.version == 2
    listed = await bench.service.list_trained_models(parse(requests.ListModels, {}))
    assert [row.version for row in listed.models] == [2, 1]


async def test_every_account_of_a_model_gives_the_size_of_its_weights(bench) -> None:
    task_id = await bench.trained()
    saved = await bench.save(task_id, "model")
    directory = bench.workspace.inside(saved.model_path)
    weights = load_file(directory / "weights.safetensors")
    size_mb = sum(tensor.nbytes for tensor in weights.values()) / 1e6
    told = [
        saved.model_size_mb,
        (await bench.save(task_id, "model")).model_size_mb,
        (await bench.performance(task_id)).model_info.model_size_mb,
        (await card_of(bench.service, "model"))["metrics"]["model_info"]["model_size_mb"],
        row_of(bench.workspace, directory).model_size_mb,
    ]
    assert told == [pytest.approx(size_mb, abs=1e-9)] * len(told)


async def test_simultaneous_saves_of_two_tasks_get_two_versions(bench) -> None:
    tasks = [await bench.trained(config={**SHORT, "seed": seed}) for seed in (1, 2, 3)]
    saved = await asyncio.gather(*(bench.save(task, "model") for task in tasks))
    assert sorted(one.version for one in saved) == [1, 2, 3]


async def test_a_similar_training_says_so_and_trains_under_its_own_id(bench) -> None:
    first = await bench.start()
    second = await bench.start(config={**SHORT, "seed": 9})
    third = await bench.start(config={**SHORT, "epochs": 4})
    assert first.similar_to == []
    assert second.similar_to == [first.task_id]
    assert third.similar_to == []
    assert len({first.task_id, second.task_id, third.task_id}) == 3


async def test_a_start_says_what_the_request_reaches_beyond(bench) -> None:
    started = await bench.start(start_date="2024-01-01", end_date="2025-12-31")
    assert started.data.first_bar == "2024-08-06T13:30:00Z"
    assert any("2024-01-01" in warning for warning in started.warnings)
    assert started.config["epochs"] == 3
    assert started.config["early_stopping"] == {"patience": 10, "monitor": "val_accuracy"}
    assert 0 < started.estimated_duration_minutes < 5


async def test_a_start_says_what_its_strategy_computes_otherwise_than_it_seems(bench) -> None:
    bench.workspace.strategies.mkdir()
    text = "indicators: [{name: line, type: macd, raw: true}]\nfuzzy_sets: {line: auto}\n"
    written = f"version: 1\n{text}"
    (bench.workspace.strategies / "units.yaml").write_text(written, encoding="utf-8")
    usual = (await bench.start()).warnings
    told = (await bench.start(strategy="units")).warnings
    ignored, default, units = [warning for warning in told if warning not in usual]
    assert (
        ignored == "These parts of strategy 'units' have no effect: version, indicators.line.raw."
    )
    assert "include_price_context" in default
    assert "price units" in units


async def test_a_running_training_can_be_watched_and_cancelled(bench) -> None:
    started = await bench.start(config=FOREVER)
    seen = []
    told = asyncio.Event()

    async def follow(status) -> None:
        seen.append(status)
        if len(seen) >= 2:
            told.set()

    waiting = asyncio.ensure_future(
        bench.service.get_training_status(
            parse(requests.GetTrainingStatus, {"task_id": started.task_id, "wait_s": 50.0}), follow
        )
    )
    await asyncio.wait_for(told.wait(), 60)
    assert seen[-1].status == "training"
    assert seen[-1].current_epoch > seen[0].current_epoch
    assert seen[-1].estimated_completion is not None
    assert (await bench.cancel(started.task_id)).status in {"training", "cancelled"}
    ended = await waiting
    assert ended.status == "cancelled"
    again = await bench.cancel(started.task_id)
    assert again.status == "cancelled"
    assert not bench.workspace.bundle_directory(started.task_id).exists()


async def test_cancelling_a_finished_task_changes_nothing(bench) -> None:
    task_id = await bench.trained()
    before = await bench.performance(task_id)
    assert (await bench.cancel(task_id)).status == "completed"
    after = await bench.performance(task_id)
    assert after.test_readings == before.test_readings + 1
    assert after.model_copy(update={"test_readings": before.test_readings}) == before


async def test_a_waiting_task_knows_its_place(bench) -> None:
    running = [await bench.start(config={**FOREVER, "seed": seed}) for seed in (1, 2)]
    waiting = [await bench.start(config={**FOREVER, "seed": seed}) for seed in (3, 4)]
    positions = [(await bench.status(one.task_id)).queue_position for one in waiting]
    assert positions == [0, 1]
    for one in running + waiting:
        await bench.cancel(one.task_id)


async def test_tasks_are_listed_newest_first_and_by_status(bench) -> None:
    ids = [await bench.trained(config={**SHORT, "seed": seed}) for seed in (1, 2, 3)]
    page = await bench.service.list_training_tasks(
        parse(requests.ListTasks, {"limit": 2, "status": "completed"})
    )
    assert [row.task_id for row in page.tasks] == ids[:0:-1]
    assert page.has_more
    rest = await bench.service.list_training_tasks(parse(requests.ListTasks, {"offset": 2}))
    assert [row.task_id for row in rest.tasks] == ids[:1]
    none = await bench.service.list_training_tasks(parse(requests.ListTasks, {"symbol": "MSFT"}))
    assert (none.tasks, none.has_more) == ([], False)


async def test_the_history_has_every_epoch(bench) -> None:
    task_id = await bench.trained()
    history = await history_of(bench.service, task_id)
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2, 3]
    assert history["performance"]["training_metrics"]["epochs_completed"] == 3
    assert all(np.isfinite(epoch["val_loss"]) for epoch in history["epochs"])


async def test_a_model_has_a_card(bench) -> None:
    await bench.save(await bench.trained(), "carded", "what it is for")
    card = await card_of(bench.service, "carded")
    assert card["description"] == "what it is for"
    assert card["strategy"]["name"] == "default"
    assert card["periods"]["test"][0] > card["periods"]["train"][1]


async def test_names_are_completed(bench) -> None:
    task_id = await bench.trained(task_id="alpha")
    await bench.save(task_id, "beta")
    assert await names_of(bench.service, "task_id", "al") == ["alpha"]
    assert await names_of(bench.service, "model_name", "be") == ["beta"]
    assert await names_of(bench.service, "symbol", "aa") == ["AAPL"]
    assert "mean_reversion" in await names_of(bench.service, "strategy", "mean")


async def test_another_timeframe_is_refused_and_another_symbol_warned_about(
    bench, write_csv
) -> None:
    write_csv(bench.workspace)
    await bench.save(await bench.trained(), "model")
    with pytest.raises(InvalidRequest, match="1h bars"):
        await bench.predict("model", timeframe="1d")
    predicted = await bench.predict("model", symbol="TEST")
    assert predicted.warnings
    assert not predicted.in_sample


async def test_a_timeframe_that_is_a_multiple_is_aggregated_and_said(bench) -> None:
    started = await bench.start(timeframe="1w", symbol="AAPL")
    assert any("1d" in warning for warning in started.warnings)


async def test_a_workspace_has_one_owner(bench) -> None:
    with pytest.raises(WorkspaceLocked) as refused:
        async with open_workspace(bench.workspace):
            pass
    assert "--workspace" in refused.value.hint


async def test_tasks_and_models_outlive_the_process(tmp_path) -> None:
    from ktrdr_mcp.paths import Workspace

    workspace = Workspace(tmp_path)
    async with open_workspace(workspace) as opened:
        first = Bench(opened.service, workspace)
        finished = await first.trained(task_id="finished")
        await first.save(finished, "model")
        expected = await first.predict("model")
        await first.start(config=FOREVER, task_id="interrupted")
    async with open_workspace(workspace) as opened:
        second = Bench(opened.service, workspace)
        assert (await second.status("finished")).status == "completed"
        assert (await second.status("interrupted")).status in {"pending", "training"}
        assert await second.predict("model") == expected
        await second.cancel("interrupted")
        assert (await second.finish("interrupted")).status == "cancelled"
