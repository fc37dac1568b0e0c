"""What tests ask of a server, in this process or in another."""

from __future__ import annotations

import asyncio

from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol
from tests.support.made_workspace import SHORT

FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [8]}
TRAINS_S = 240
ALL_TASKS = parse(requests.ListTasks, {})


def start_of(**raw: object) -> requests.StartTraining:
    body = {"symbol": "AAPL", "timeframe": "1h", "config": SHORT, **raw}
    return parse(requests.StartTraining, body)


async def status_of(service: ServiceProtocol, task_id: str, wait_s: float = 0.0) -> str:
    raw = {"task_id": task_id, "wait_s": wait_s}
    return str((await service.get_training_status(parse(requests.GetTrainingStatus, raw))).status)


async def cancel(service: ServiceProtocol, task_id: str) -> str:
    cancelled = await service.cancel_training(parse(requests.TaskOnly, {"task_id": task_id}))
    return str(cancelled.status)


async def until_it_trains(service: ServiceProtocol, task_id: str) -> None:
    """Returns once the server that there is now has reported an epoch."""
    begun = asyncio.Event()
    raw = parse(requests.GetTrainingStatus, {"task_id": task_id, "wait_s": 50.0})

    async def told(status: responses.TrainingStatus) -> None:
        if status.current_metrics is not None:  # else it tells what an earlier one did
            begun.set()

    async def ask() -> None:
        while (await service.get_training_status(raw, told)).status in ("pending", "training"):
            pass  # a busy machine has not started its worker yet

    asking, waiting = asyncio.create_task(ask()), asyncio.create_task(begun.wait())
    both = [asking, waiting]
    await asyncio.wait(both, timeout=TRAINS_S, return_when=asyncio.FIRST_COMPLETED)
    for task in both:
        task.cancel()
    outcome, _ = await asyncio.gather(*both, return_exceptions=True)
    assert begun.is_set(), f"{task_id} does not train: {outcome!r}"
