"""An agent's whole way over stdio, compared with the specification field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.specification import differences

pytestmark = pytest.mark.asyncio


async def call(client: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.structured_content
    assert json.loads(answer.content[0].text) == answer.structured_content
    return dict(answer.structured_content)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_specifications_example_works_as_it_stands(
    connect, specification, tmp_path, mode
) -> None:
    told: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with connect(mode=mode) as client:
        replies = {"start": await call(client, "start_training", **specification["start"].request)}
        task_id = replies["start"]["task_id"]
        assert task_id == specification["start"].request["task_id"]
        waited = await client.call_tool(
            "get_training_status",
            {"task_id": task_id, "wait_s": 50.0},
            progress_callback=on_progress,
        )
        replies["status"] = dict(waited.structured_content)
        assert replies["status"]["status"] == "completed"
        assert replies["status"]["progress"] == 100
        task = {"task_id": task_id}
        replies["performance"] = await call(client, "get_model_performance", **task)
        saving = {**specification["save"].request, "task_id": task_id}
        replies["save"] = await call(client, "save_trained_model", **saving)
        name = {"model_name": saving["model_name"]}
        replies["load"] = await call(client, "load_trained_model", **name)
        replies["predict"] = await call(
            client, "test_model_prediction", **specification["predict"].request
        )
        replies["list"] = await call(client, "list_trained_models")
    found = {
        name: differences(example.response, replies[name])
        for name, example in specification.items()
    }
    # over MCP only what differs from the defaults, and nothing does
    assert found == {name: [] for name in specification} | {"start": ["config: empty"]}
    assert told == sorted(set(told))
    assert 0.2 < replies["performance"]["test_metrics"]["test_accuracy"] < 0.7

    async with connect(mode=mode) as client:  # another process, the same workspace
        again = await call(client, "test_model_prediction", **specification["predict"].request)
        assert again == replies["predict"]


async def test_the_checker_itself_finds_what_is_missing_or_mistyped(specification) -> None:
    example = specification["performance"].response
    assert differences(example, example) == []
    broken = json.loads(json.dumps(example))
    del broken["test_metrics"]["recall"]
    broken["training_metrics"]["early_stopped"] = 1
    assert len(differences(example, broken)) == 2
