"""Trainings name the version of their bars, and are reproduced on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support.service_calls import Bench, history_of


async def dataset_of(bench: Bench, task_id: str) -> object:
    """The version of the bars that a completed task was trained on."""
    history = await history_of(bench.service, task_id)
    return history["performance"]["data"]["dataset"]


@pytest.mark.asyncio
async def test_a_training_is_reproduced_on_its_version_when_there_is_a_newer_one(
    bench: Bench, write_csv: Callable[..., None], tmp_path: Path
) -> None:
    async def imported(rows: int) -> str | None:
        write_csv(bench.workspace, rows, "export.csv")
        path = (bench.workspace.data / "export.csv").rename(tmp_path / "export.csv")
        raw = {"files": [str(path)], "symbol": "TEST", "timeframe": "1h"}
        reply = await bench.service.import_bars(parse(requests.ImportBars, raw))
        return reply.series[0].dataset

    assert await imported(600) == "v1"
    old = await bench.trained(symbol="TEST")
    assert await imported(700) == "v2"
    new = await bench.trained(symbol="TEST")
    assert [await dataset_of(bench, one) for one in (old, new)] == ["1h v1", "1h v2"]
    asked = parse(requests.ReproduceTraining, {"task_id": old, "wait_s": 50})
    again = await bench.service.reproduce_training(asked)
    assert (again.result, again.differences) == ("match", [])
    assert await dataset_of(bench, again.reproduction_task_id) == "1h v1"
