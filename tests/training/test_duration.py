"""The estimated duration follows what a training has to do, and the machine that does it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktrdr_mcp.nn.perceptron import Mlp
from ktrdr_mcp.training.duration import TYPICAL, Speed, Workload, bound_factor, measure

WORK = Workload(Mlp(9, (64, 32, 16), "relu"), 32, 100, [2_000, 800, 1_200], 3_400, 3, dropout=True)


@pytest.mark.parametrize(
    "more",
    [
        {"epochs": 200},
        {"training_rows": [4_000, 1_600, 2_400]},
        {"training_rows": [2_000] * 8},
        {"batch_rows": 8},
        {"shape": Mlp(9, (512, 256), "relu")},
        {"bars": 100_000},
    ],
)
def test_more_work_takes_longer(more: dict[str, object]) -> None:
    assert replace(WORK, **more).seconds() > WORK.seconds()  # type: ignore[arg-type]


def test_all_epochs_are_counted_and_what_is_done_once_is_not_counted_again() -> None:
    once = WORK.rest_s(TYPICAL)
    assert WORK.seconds() == pytest.approx(once + 100 * WORK.epoch_s(TYPICAL))
    assert replace(WORK, epochs=1).seconds() == pytest.approx(once + WORK.epoch_s(TYPICAL))


def test_a_machine_twice_as_slow_takes_twice_as_long() -> None:
    assert WORK.seconds(Speed(2.0, 2.0)) == pytest.approx(2 * WORK.seconds())


def test_the_measured_speed_of_this_machine_is_of_a_machine() -> None:
    speed = measure()
    assert speed == Speed(bound_factor(speed.overhead), bound_factor(speed.arithmetic))
