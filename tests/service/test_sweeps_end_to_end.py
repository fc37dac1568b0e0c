"""A search through a service: trained, read by validation alone, saved and reproduced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import services
from ktrdr_mcp.errors import InvalidRequest, NotFound
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse

SERIES = {"symbol": "AAPL", "timeframe": "1h", "start_date": "2025-06-01"}
SEARCH = {
    "epochs": 1,
    "hidden_layers": [4],
    "batch_size": 128,
    "sweep": {"trials": 3, "vary": {"learning_rate": [0.001, 0.01], "labels.horizon": [2, 4]}},
}


async def start(service: Any, config: dict[str, Any]) -> str:
    """Starts a training and waits for its end."""
    return await services.train(service, config, SERIES)


@pytest.mark.asyncio
async def test_a_search_is_one_task_that_can_be_read_and_trained_again(tmp_path: Path) -> None:
    async with services.open_service(tmp_path) as service:
        task_id = await start(service, SEARCH)
        only = parse(requests.TaskOnly, {"task_id": task_id})
        told = (await service.get_model_performance(only)).sweep
        assert told is not None
        assert (told.trials, told.counts_as, told.all) == (3, 1, f"sweep://{task_id}")
        every = (await service.sweep_candidates(only)).sweep["candidates"]
        assert [each["number"] for each in every] == [1, 2, 3]
        assert every[0]["settings"] == {}
        assert all("test" not in each for each in every)
        assert told.kept in {1, 2, 3}
        again = await service.reproduce_training(
            parse(requests.ReproduceTraining, {"task_id": task_id})
        )
        assert (again.result, again.differences) == ("match", [])
        alone = await start(service, {"epochs": 1, "hidden_layers": [4], "batch_size": 128})
        with pytest.raises(NotFound):
            await service.sweep_candidates(parse(requests.TaskOnly, {"task_id": alone}))
        wrong = {
            "labels.method": ["zigzag_segments", "triple_barrier"],
            "strategy": ["default", "nothing"],
        }
        with pytest.raises(InvalidRequest) as refused:
            await start(service, {"sweep": {"vary": wrong}})
        assert "zigzag_segments" in refused.value.message
        assert "'nothing'" in refused.value.message
