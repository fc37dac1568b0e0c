"""What a run sees, turns and a stop, and what its server hears of it: progress, never lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ktrdr_mcp import limits
from ktrdr_mcp.context import Cancelled, Progress
from ktrdr_mcp.jobs.executors.base import Begun, Ended, Envelope, Event, Reported, decode, encode
from ktrdr_mcp.jobs.executors.threads import FairLease, ThreadContext, ThreadRun
from ktrdr_mcp.jobs.queue import Running
from ktrdr_mcp.jobs.worker import Outbox
from ktrdr_mcp.store.task_row import TaskRow

pytestmark = pytest.mark.asyncio

BOUND_S = 60.0


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class CountingLease(FairLease):
    """A lease that counts how often it was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def acquire(self, owner, gives_up):  # type: ignore[no-untyped-def]
        self.taken += 1
        return super().acquire(owner, gives_up)


def until_someone_waits(lease: FairLease) -> None:
    """Returns once someone stands in the queue behind the holder."""
    while True:
        with lease._changed:
            if len(lease._queue) > 1:
                return


def thread_run() -> ThreadRun:
    envelope = Envelope("task", 1, "g", {})
    return ThreadRun(FairLease(), asyncio.get_running_loop(), envelope, Path())


def epoch(number: int) -> Progress:
    return Progress(number, 100, 0.7, 0.8, 0.5, 0.4)


def context_on(lease: FairLease, clock: Clock) -> ThreadContext:
    return ThreadContext(lease, Outbox(lambda: None), clock)


def running_task() -> Running:
    """A claimed task, which nothing runs."""
    columns = {**dict.fromkeys(TaskRow.__dataclass_fields__), "total_epochs": 100}
    return Running(TaskRow(**columns), lambda: None)  # type: ignore[arg-type]


async def test_the_lease_is_passed_on_when_the_turn_is_over_and_not_before() -> None:
    lease, clock = CountingLease(), Clock()
    context = context_on(lease, clock)
    context.yield_turn()
    clock.now_s += limits.TURN_S * 0.9
    context.yield_turn()
    assert lease.taken == 1
    clock.now_s += limits.TURN_S * 0.2
    context.yield_turn()
    assert lease.taken == 2
    clock.now_s += limits.TURN_S * 0.9
    context.yield_turn()
    assert lease.taken == 2


async def test_a_run_that_must_stop_is_told_at_its_next_turn() -> None:
    lease, clock = CountingLease(), Clock()
    context = context_on(lease, clock)
    context.yield_turn()
    context.request_stop()
    with pytest.raises(Cancelled):
        context.yield_turn()


async def test_a_run_that_waits_for_its_turn_is_told_to_stop_at_once() -> None:
    lease = FairLease()
    assert lease.acquire("another run inside a long step", lambda: False)
    context = context_on(lease, Clock())
    waiting = asyncio.create_task(asyncio.to_thread(context.yield_turn))
    await asyncio.to_thread(until_someone_waits, lease)
    context.request_stop()
    with pytest.raises(Cancelled):
        await asyncio.wait_for(waiting, BOUND_S)


async def test_ending_a_turn_frees_the_lease_and_can_be_repeated() -> None:
    lease, clock = FairLease(), Clock()
    context = context_on(lease, clock)
    context.end_turn()
    context.yield_turn()
    context.end_turn()
    context.end_turn()
    assert lease.acquire("next", lambda: False)


async def test_a_storm_of_reports_wakes_the_loop_seldom_and_keeps_the_last() -> None:
    heard: list[int] = []
    last_came = asyncio.Event()

    def listen(event: Event) -> None:
        assert isinstance(event, Reported)
        heard.append(event.progress.epoch)
        if heard[-1] == 50_000:
            last_came.set()

    run = thread_run()
    run.attach(listen)

    def storm() -> None:
        for number in range(1, 50_001):
            run.context.report(epoch(number))

    await asyncio.to_thread(storm)
    await asyncio.wait_for(last_came.wait(), BOUND_S)
    assert len(heard) < 100
    assert heard == sorted(heard)


async def test_a_report_within_the_interval_is_published_without_another_one() -> None:
    heard: asyncio.Queue[Event] = asyncio.Queue()
    run = thread_run()
    run.attach(heard.put_nowait)
    for number in (1, 2):
        run.context.report(epoch(number))
        event = await asyncio.wait_for(heard.get(), BOUND_S)
        assert isinstance(event, Reported)
        assert event.progress == epoch(number)


async def test_events_come_in_order_and_none_is_lost_before_somebody_listens() -> None:
    heard: list[Event] = []
    run = thread_run()
    run.context.begin_at(40, None)
    run.context.report(epoch(41))
    run.context.report(epoch(42))
    run.outbox.put(Ended(stopped=True))
    while not run.ended:  # noqa: ASYNC110
        await asyncio.sleep(0)
    run.attach(heard.append)
    assert [type(event) for event in heard] == [Begun, Reported, Ended]
    assert isinstance(heard[1], Reported)
    assert heard[1].progress == epoch(42)


async def test_a_report_to_a_closed_loop_goes_nowhere_silently() -> None:
    async def make() -> ThreadRun:
        return thread_run()

    run = await asyncio.to_thread(asyncio.run, make())
    run.context.report(epoch(1))
    run.outbox.put(Ended(stopped=True))


@pytest.mark.parametrize(
    "event",
    [
        Begun(40, "the checkpoint has another format"),
        Reported(Progress(3, 9, float("inf"), 0.1 + 0.2, 1.0, 0.0, "flat"), 1.5),
        Ended(result={"metrics": {"loss": 0.1}, "columns": {"scores": None}}),
        Ended(stopped=True),
        Ended(died="signal 9"),
    ],
)
async def test_every_event_crosses_as_one_line(event: Event) -> None:
    line = encode(event)
    assert "\n" not in line
    assert decode(line.encode()) == event


async def test_the_duration_of_an_epoch_is_measured_without_what_came_before_the_first() -> None:
    running = running_task()
    assert (running.live.seconds_per_epoch, running.live.percent) == (None, 0)
    running.receive(Reported(epoch(1), 10.0))  # with reading the data
    assert running.live.seconds_per_epoch == pytest.approx(10)
    for number, elapsed_s in ((2, 12.0), (3, 14.0)):
        running.receive(Reported(epoch(number), elapsed_s))
    live = running.live
    assert live.seconds_per_epoch == pytest.approx(2)
    assert live.remaining_s == pytest.approx(2 * 97)
    assert live.percent == 3


async def test_the_time_of_a_report_counts_from_the_beginning_of_the_run() -> None:
    clock, heard = Clock(), list[Event]()
    outbox = Outbox(lambda: None)
    context = ThreadContext(FairLease(), outbox, clock)
    clock.now_s += 10
    context.report(epoch(1))
    heard += map(decode, outbox.take())
    assert heard == [Reported(epoch(1), 10.0, (epoch(1).figures,))]


async def test_a_running_training_never_says_100_percent() -> None:
    running = running_task()
    running.receive(Reported(epoch(100), 5.0))
    assert (running.live.percent, running.live.remaining_s) == (99, 0.0)


async def test_a_resumed_run_measures_only_its_own_epochs() -> None:
    running = running_task()
    running.receive(Begun(40, None))
    running.receive(Reported(epoch(40), 0.5))  # what the earlier run had reported last
    assert (running.live.percent, running.live.seconds_per_epoch) == (40, None)
    for number, elapsed_s in ((41, 3.5), (42, 6.5)):
        running.receive(Reported(epoch(number), elapsed_s))
    assert running.live.seconds_per_epoch == pytest.approx(3)
    assert running.live.resumed_from == "epoch 40"


async def test_a_run_that_begins_anew_says_why() -> None:
    running = running_task()
    running.receive(Begun(0, "the checkpoint has another format"))
    assert running.live.resumed_from == "epoch 0: the checkpoint has another format"


@pytest.mark.parametrize(
    ("requests", "draining"),
    [([True], True), ([False], False), ([True, False], False), ([False, True], False)],
)
async def test_only_a_run_that_nobody_cancelled_is_worth_keeping(
    requests: list[bool], draining: bool
) -> None:
    running = running_task()
    for each in requests:
        running.request_stop(draining=each)
    assert (running.stop_requested, running.draining) == (True, draining)
