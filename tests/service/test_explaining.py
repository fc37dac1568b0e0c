"""What a network learned: a planted effect is named, noise is not, and it counts as a reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.api.operations import EXPLAIN_MODEL, REPRODUCE_TRAINING, SAVE_STRATEGY
from ktrdr_mcp.errors import InvalidRequest, KtrdrError, ResultRemoved, TaskNotFound
from ktrdr_mcp.limits import EXPLANATION_BYTES
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.training.explain import FOLDS, shuffled_blocks
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

HOURS: dict[str, Any] = {
    "indicators": [
        {"name": "hour"},
        {"name": "rsi"},
        {"name": "size", "type": "realised_volatility", "window": 3},
    ],
    "fuzzy_sets": {
        "hour": {"night": [-1, 0, 6, 9], "day": [6, 9, 12, 16], "late": [12, 16, 24, 25]},
        "rsi": "auto",
        "size": "crisp",
    },
    "model": {
        "architecture": {"hidden_layers": [16]},
        "training": {"epochs": 15, "batch_size": 128, "learning_rate": 0.003},
    },
    "training": {"labels": {"method": "triple_barrier", "horizon": 2}},
}


def write_series(workspace: Workspace, name: str, strength: float) -> None:
    """Hourly bars that rise at nine and ten and fall at sixteen and seventeen."""
    generator, hours = np.random.default_rng(4), np.arange(5_000) % 24
    planted = np.isin(hours, (9, 10)) * 1.0 - np.isin(hours, (16, 17))
    close = 100 * np.exp(np.cumsum(0.004 * generator.standard_normal(5_000) + strength * planted))
    opens = np.r_[100.0, close[:-1]]
    times = np.datetime64("2022-01-03T00:00:00") + np.arange(5_000) * 3600
    lines = [
        f"{str(time).replace('T', ' ')},{o},{max(o, c) * 1.001},{min(o, c) * 0.999},{c},10"
        for time, o, c in zip(times, opens, close, strict=True)
    ]
    workspace.data.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["timestamp,open,high,low,close,volume", *lines])
    (workspace.data / f"{name}_1h.csv").write_text(text + "\n", encoding="utf-8")


async def explained(bench: Bench, **which: Any) -> Any:
    return await EXPLAIN_MODEL.answer(bench.service, which)


async def test_a_planted_effect_is_named_and_noise_is_not(bench: Bench) -> None:
    await SAVE_STRATEGY.answer(bench.service, {"name": "hours", "strategy": HOURS})
    for name, strength in (("PLANTED", 0.004), ("NOISE", 0.0)):
        write_series(bench.workspace, name, strength)
        task = {"task_id": name, "symbol": name, "strategy": "hours", "config": {}}
        await bench.trained(**task)
    planted, noise = (
        await explained(bench, task_id="PLANTED"),
        await explained(bench, task_id="NOISE"),
    )
    assert planted.groups[0].group == "hour"
    assert [each.group for each in planted.groups if each.p <= 0.02] == ["hour"]
    assert [each.group for each in noise.groups if each.p <= 0.02] == []
    assert planted.response.groups[0] == "hour"
    direction = np.array(planted.response.direction)
    assert direction.shape == (5, 5)
    assert all(0.5 <= rule.fidelity <= 1 and rule.covers >= 0.05 for rule in planted.rules)
    hours_on = {"night": 8 / 24, "day": 7 / 24, "late": 10 / 24}  # where a degree is 0.5 or more
    single = {f"hour is {name}": share for name, share in hours_on.items()}
    found = {rule.when: rule for rule in planted.rules if rule.when in single}
    assert found
    for when, rule in found.items():  # of the test rows of all folds, which are whole days
        assert rule.covers == pytest.approx(single[when], abs=0.005)
    for reply in (planted, noise):
        assert EXPLAIN_MODEL.brief is not None
        assert len(EXPLAIN_MODEL.brief(reply).model_dump_json()) <= EXPLANATION_BYTES
    await bench.save("PLANTED", "planted")
    again = await explained(bench, model_name="planted")
    assert again.groups == planted.groups
    assert again.test_readings == planted.test_readings + 1


async def test_a_task_without_its_folds_is_trained_again(bench: Bench) -> None:
    await bench.trained(task_id="old")
    (bench.workspace.task_directory("old") / FOLDS).unlink()
    with pytest.raises(ResultRemoved) as caught:
        await explained(bench, task_id="old")
    assert "reproduce_training" in caught.value.hint
    reproduction = await REPRODUCE_TRAINING.answer(bench.service, {"task_id": "old", "wait_s": 50})
    found = await explained(bench, task_id=reproduction.reproduction_task_id)
    assert [each.group for each in found.groups if each.p < 0.001] == []


@pytest.mark.parametrize(
    ("which", "error"),
    [
        ({}, InvalidRequest),
        ({"task_id": "x", "model_name": "y"}, InvalidRequest),
        ({"task_id": "absent"}, TaskNotFound),
    ],
)
async def test_what_cannot_be_explained_is_refused(
    bench: Bench, which: dict[str, str], error: type[KtrdrError]
) -> None:
    with pytest.raises(error):
        await explained(bench, **which)


async def test_a_training_without_folds_has_nothing_to_explain(bench: Bench) -> None:
    await bench.trained(task_id="none", config={**SHORT, "walk_forward": None})
    with pytest.raises(ResultRemoved):
        await explained(bench, task_id="none")


async def test_shuffled_blocks_are_every_row_once_and_keep_no_hour_in_its_place() -> None:
    generator = np.random.default_rng(1)
    order = shuffled_blocks(24 * 50, generator)
    assert sorted(order) == list(range(24 * 50))
    assert (np.diff(order) == 1).mean() > 0.9
    assert (order % 24 == np.arange(24 * 50) % 24).mean() < 0.2
