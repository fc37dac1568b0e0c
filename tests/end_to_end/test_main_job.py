"""An agent's whole way over stdio, compared with the specification field by field."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio

OPEN_OBJECTS = {"config", "input_features"}  # whose keys are the request's or the strategy's
NULLABLE = {"error"}
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


def differences(example: Any, actual: Any, path: str = "") -> list[str]:
    """Every field of the example that the reply lacks or types differently."""
    if example is None or path in NULLABLE:
        return []
    if isinstance(example, dict):
        if not isinstance(actual, dict):
            return [f"{path}: not an object"]
        if path in OPEN_OBJECTS:
            return [] if actual else [f"{path}: empty"]
        missing = [f"{path}.{name}: missing" for name in example if name not in actual]
        return missing + [
            found
            for name in example
            if name in actual
            for found in differences(example[name], actual[name], f"{path}.{name}".strip("."))
        ]
    if isinstance(example, list):
        if not isinstance(actual, list) or not actual:
            return [f"{path}: not a list with items"]
        return [found for item in actual for found in differences(example[0], item, path)]
    return [] if same_type(example, actual) else [f"{path}: {actual!r} instead of {example!r}"]


def same_type(example: Any, actual: Any) -> bool:
    if isinstance(example, bool) or isinstance(actual, bool):
        return isinstance(example, bool) and isinstance(actual, bool)
    if isinstance(example, str) and re.match(r"\d{4}-\d{2}-\d{2}T", example):
        return isinstance(actual, str) and bool(MOMENT.fullmatch(actual))
    if isinstance(example, (int, float)):
        return isinstance(actual, (int, float))
    return isinstance(actual, type(example))


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
    assert found == {name: [] for name in specification}
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
