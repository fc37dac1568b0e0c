"""A search through a service: trained, read by validation alone, saved and reproduced."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import services
from ktrdr_mcp.errors import InvalidRequest, NotFound
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.responses import SeedFigures
from ktrdr_mcp.service.evaluation import judge_seeds

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


async def see_a_candidate(service: Any, only: requests.TaskOnly) -> None:
    """Asks for one candidate's test figures: the search stays what it was, and more was tried."""
    before = (await service.get_model_performance(only)).verdict
    for candidate, adds, said in ((2, 3, "now count 3 trials more"), (3, 0, "already")):
        asked = parse(requests.ReadCandidate, {"task_id": only.task_id, "candidate": candidate})
        found = await service.candidate_test(asked)
        assert (found.candidate, found.adds_trials) == (candidate, adds)
        assert said in found.note
        assert found.adjusted_p == pytest.approx(1 - (1 - found.p) ** 3, abs=1e-3)
    after = await service.get_model_performance(only)
    assert after.verdict.trials_since == 3
    assert after.verdict.model_copy(update={"trials_since": 0}) == before
    every = (await service.sweep_candidates(only)).sweep
    assert after.sweep.counts_as == every["counts_as"] == 1 + 3
    wrong = parse(requests.ReadCandidate, {"task_id": only.task_id, "candidate": 4})
    with pytest.raises(NotFound) as refused:
        await service.candidate_test(wrong)
    assert refused.value.field == "candidate"


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
        await see_a_candidate(service, only)
        copy = parse(
            requests.ReadCandidate, {"task_id": again.reproduction_task_id, "candidate": 2}
        )
        assert (await service.candidate_test(copy)).adds_trials == 0  # the same trials
        alone = await start(service, {"epochs": 1, "hidden_layers": [4], "batch_size": 256})
        told = await service.get_model_performance(parse(requests.TaskOnly, {"task_id": alone}))
        assert told.verdict.as_of_trial == 1 + 3 + 1  # the search, its candidates, itself
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


@pytest.mark.parametrize(
    ("t_min", "t_max", "critical", "depends"),
    [
        (2.2, 2.9, 2.57, True),
        (2.2, 2.9, 2.0, False),
        (2.2, 2.9, 3.16, False),
        (2.2, 2.9, 2.9, True),
        (None, None, 2.0, None),
    ],
)
def test_a_claim_depends_on_the_seed_by_the_t_that_its_own_trial_needs(
    t_min, t_max, critical, depends
) -> None:
    stored = SeedFigures(count=3, t_min=t_min, t_max=t_max)
    assert judge_seeds(stored, critical).depends_on_seed is depends


SMALL = {"epochs": 1, "hidden_layers": [4], "batch_size": 128}


@pytest.mark.asyncio
async def test_one_seed_of_a_set_started_again_counts_as_the_whole_set(tmp_path: Path) -> None:
    async with services.open_service(tmp_path) as service:

        async def again(task_id: str, **config: Any) -> tuple[str, int]:
            raw = {**SERIES, "task_id": task_id, "config": {**SMALL, **config}, "wait_s": 50}
            told = await service.start_training(parse(requests.StartTraining, raw))
            counted = [each for each in told.warnings if "in task" in each]
            return "".join(counted), told.performance.verdict.as_of_trial

        assert await again("other", seed=43, dropout_rate=0.3) == ("", 1)
        assert await again("set", seed=42, seeds=3) == ("", 2)
        only = parse(requests.TaskOnly, {"task_id": "set"})
        told = await service.get_model_performance(only)
        seeds, level = told.seeds, float(re.search(r"level T ([\d.]+)", told.verdict.luck)[1])
        assert seeds.depends_on_seed is (seeds.t_min < level <= seeds.t_max)
        stored = (await service.training_history(only)).history["performance"]["seeds"]
        assert stored["depends_on_seed"] is seeds.depends_on_seed
        said, number = await again("second", seed=43)
        assert "candidate 2 of 3 in task set" in said
        assert number == 3 + 2
        assert await again("second", seed=43) == (said, number)
        said, number = await again("third", seed=44)
        assert "candidate 3 of 3 in task set, which count as trials already" in said
        assert number == 6
        assert await again("fourth", seed=45) == ("", 7)
        assert await again("whole", seed=42, seeds=3) == ("", 8)
        said, number = await again("two", seed=45, seeds=2)
        assert (said, number) == ("", 9)
        assert await again("more", seed=46, seeds=2) == (
            "This repeats 1 of 2 candidates in task two, which adds 1 trial.",
            11,
        )


@pytest.mark.asyncio
async def test_one_candidates_settings_started_again_count_as_the_whole_search(
    tmp_path: Path,
) -> None:
    async with services.open_service(tmp_path) as service:
        task_id = await start(service, SEARCH)
        only = parse(requests.TaskOnly, {"task_id": task_id})
        chosen = (await service.sweep_candidates(only)).sweep["candidates"][1]["settings"]
        labels = {"horizon": chosen["labels.horizon"]} if "labels.horizon" in chosen else {}
        rest = {name: value for name, value in chosen.items() if "." not in name}
        raw = {**SERIES, "config": {**SMALL, **rest, "labels": labels}, "wait_s": 50}
        told = await service.start_training(parse(requests.StartTraining, raw))
        assert f"candidate 2 of 3 in task {task_id}" in told.warnings[-1]
        assert told.performance.verdict.as_of_trial == 1 + 3
