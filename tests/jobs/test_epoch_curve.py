"""The epochs that are shown of a training: bounded, evenly spaced, the newest among them."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest

from ktrdr_mcp.context import EpochFigures, Progress
from ktrdr_mcp.jobs.epochs import EpochCurve
from ktrdr_mcp.jobs.executors.base import Reported, decode
from ktrdr_mcp.jobs.worker import Outbox
from ktrdr_mcp.limits import MAX_SHOWN_EPOCHS


def figures(epoch: int, loss: float = 0.5) -> EpochFigures:
    return EpochFigures(epoch, loss, 0.6, 0.4, 0.3)


@pytest.mark.parametrize("epochs", [0, 1, 7, 199, 200, 201, 1_000, 5_000])
def test_so_many_epochs_are_evenly_spaced_from_the_first_to_the_newest(epochs: int) -> None:
    curve = EpochCurve()
    for number in range(1, epochs + 1):  # as they come, and not all at once
        curve = curve.with_figures([figures(number)])
    shown = [each.epoch for each in curve.points]
    assert curve == EpochCurve().with_figures(map(figures, range(1, epochs + 1)))
    assert len(shown) <= MAX_SHOWN_EPOCHS
    assert shown[:1] == [1][:epochs]
    assert shown[-1:] == [epochs][:epochs]
    steps = {later - earlier for earlier, later in pairwise(shown[:-1])}
    assert len(steps) <= 1
    if epochs < MAX_SHOWN_EPOCHS:
        assert len(shown) == epochs


def test_figures_that_json_cannot_say_are_left_out() -> None:
    curve = EpochCurve().with_figures([figures(1), figures(2, inf), figures(3)])
    assert [each.epoch for each in curve.points] == [1, 3]


def test_an_epoch_that_is_reported_twice_is_kept_once() -> None:
    curve = (
        EpochCurve().with_figures(map(figures, range(1, 8))).with_figures([figures(7), figures(8)])
    )
    assert [each.epoch for each in curve.points] == list(range(1, 9))


def test_epochs_that_end_between_two_looks_all_reach_the_server() -> None:
    outbox = Outbox(lambda: None)
    for number in range(1, 51):
        outbox.put(Reported(Progress(number, 100, number / 100, 0.6, 0.4, 0.3), 0.1 * number))
    (line,) = outbox.take()
    event = decode(line)
    assert isinstance(event, Reported)
    assert event.progress.epoch == 50
    assert event.figures == tuple(figures(number, number / 100) for number in range(1, 51))
    assert outbox.take() == []
