"""Word of a run reaches its server only while the run holds its task."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest

from ktrdr_mcp.context import Progress
from ktrdr_mcp.jobs.cluster import actors, parcels
from ktrdr_mcp.jobs.cluster.actors import Board, Messenger
from ktrdr_mcp.jobs.executors.base import Begun, Reported, decode
from tests.support.background_servers import wait_until

CHECKPOINT = {"checkpoints/a/manifest.json": b"whole"}


def test_the_board_keeps_what_is_left_until_it_is_taken() -> None:
    board = Board()
    board.hold("task#1")
    assert board.put("task#1", ["begun"], b"")
    assert board.put("task#1", [], b"parcel")
    board.log(30, "name", "text")
    assert board.take() == (
        [("task#1", ["begun"], b""), ("task#1", [], b"parcel")],
        [[30, "name", "text"]],
    )
    assert board.take() == ([], [])


def test_an_attempt_that_lost_its_task_leaves_nothing_and_is_told() -> None:
    board = Board()
    board.hold("task#1")
    board.release("task#1")
    board.hold("task#2")
    assert not board.put("task#1", ["ended"], b"late result")
    assert board.put("task#2", [], b"")
    assert board.take()[0] == [("task#2", [], b"")]


def test_a_run_that_lost_its_task_is_stopped() -> None:
    told = threading.Event()
    messenger = Messenger(lambda lines, parcel: False, None)
    messenger.lost = told.set
    messenger.start()
    messenger.outbox.put(Begun(0, None))
    assert told.wait(10.0)
    messenger.end()


def test_everything_is_left_in_its_order_and_a_checkpoint_when_it_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[tuple[list[str], bytes]] = []

    def put(lines: list[str], parcel: bytes) -> bool:
        left.append((lines, parcel))
        return True

    monkeypatch.setattr(actors, "SEND_INTERVAL_S", 0.0)
    messenger = Messenger(put, parcels.Changes(tmp_path, "bundle"))
    messenger.start()
    messenger.outbox.put(Begun(0, None))
    parcels.put_in_place(tmp_path, CHECKPOINT, "bundle")  # in one step, as a run does it
    wait_until(lambda: any(parcel for _, parcel in left))
    for epoch in range(1, 4):
        messenger.outbox.put(Reported(Progress(epoch, 3, 1.0, 1.0, 0.5, 0.5), 0.1))
    messenger.end()
    events = [decode(line) for lines, _ in left for line in lines]
    assert isinstance(events[0], Begun)
    assert isinstance(events[-1], Reported)
    assert events[-1].progress.epoch == 3
    (parcel,) = [parcel for _, parcel in left if parcel]
    assert parcels.unpack(parcel) == CHECKPOINT


def test_progress_arrives_while_a_run_goes_on_that_sends_no_checkpoints() -> None:
    left: queue.Queue[str] = queue.Queue()

    def put(lines: list[str], parcel: bytes) -> bool:
        for line in lines:
            left.put(line)
        return True

    messenger = Messenger(put, None)
    messenger.start()
    messenger.outbox.put(Begun(0, None))
    assert isinstance(decode(left.get(timeout=10.0)), Begun)
    for epoch in range(1, 4):
        messenger.outbox.put(Reported(Progress(epoch, 3, 1.0, 1.0, 0.5, 0.5), 0.1))
        reported = decode(left.get(timeout=10.0))
        assert isinstance(reported, Reported)
        assert reported.progress.epoch == epoch
    messenger.end()
