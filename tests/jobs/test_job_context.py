"""What a run sees: turns, a stop, and progress that is cheap and never lost."""

from __future__ import annotations

import asyncio

import pytest

from ktrdr_mcp import limits
from ktrdr_mcp.context import Cancelled, Progress
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.threads import FairLease, JobContext

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


def epoch(number: int) -> Progress:
    return Progress(number, 100, 0.7, 0.8, 0.5, 0.4)


def context_on(lease: FairLease, clock: Clock, publish=lambda: None) -> JobContext:  # type: ignore[no-untyped-def]
    return JobContext(lease, asyncio.get_running_loop(), publish, clock)


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
    published: list[int] = []
    last_came = asyncio.Event()

    def publish() -> None:
        assert context.live.progress is not None
        published.append(context.live.progress.epoch)
        if published[-1] == 50_000:
            last_came.set()

    context = context_on(FairLease(), Clock(), publish)

    def storm() -> None:
        for number in range(1, 50_001):
            context.report(epoch(number))

    await asyncio.to_thread(storm)
    await asyncio.wait_for(last_came.wait(), BOUND_S)
    assert len(published) < 100
    assert published == sorted(published)


async def test_a_report_within_the_interval_is_published_without_another_one() -> None:
    told: asyncio.Queue[Live] = asyncio.Queue()
    context = context_on(FairLease(), Clock(), lambda: told.put_nowait(context.live))
    context.report(epoch(1))
    assert (await asyncio.wait_for(told.get(), BOUND_S)).progress == epoch(1)
    context.report(epoch(2))
    assert (await asyncio.wait_for(told.get(), BOUND_S)).progress == epoch(2)


def reported_after_the_loop() -> JobContext:
    """A context whose event loop is closed."""

    async def make() -> JobContext:
        return context_on(FairLease(), Clock())

    context = asyncio.run(make())
    context.report(epoch(1))
    return context


async def test_a_report_to_a_closed_loop_is_kept_silently() -> None:
    context = await asyncio.to_thread(reported_after_the_loop)
    assert context.live.progress == epoch(1)


async def test_the_duration_of_an_epoch_is_measured_without_what_came_before_the_first() -> None:
    clock = Clock()
    context = context_on(FairLease(), clock)
    assert (context.live.seconds_per_epoch, context.live.percent) == (None, 0)
    clock.now_s += 10  # reading the data, and the first epoch
    context.report(epoch(1))
    assert context.live.seconds_per_epoch == pytest.approx(10)
    for number in (2, 3):
        clock.now_s += 2
        context.report(epoch(number))
    live = context.live
    assert live.seconds_per_epoch == pytest.approx(2)
    assert live.remaining_s == pytest.approx(2 * 97)
    assert (live.started_s, live.percent) == (100.0, 3)


async def test_a_running_training_never_says_100_percent() -> None:
    context = context_on(FairLease(), Clock())
    context.report(epoch(100))
    assert (context.live.percent, context.live.remaining_s) == (99, 0.0)


async def test_a_resumed_run_measures_only_its_own_epochs() -> None:
    clock = Clock()
    context = context_on(FairLease(), clock)
    context.resumed(40, None)
    context.report(epoch(40))  # what the earlier run had reported last
    assert (context.live.percent, context.live.seconds_per_epoch) == (40, None)
    for number in (41, 42):
        clock.now_s += 3
        context.report(epoch(number))
    assert context.live.seconds_per_epoch == pytest.approx(3)
    assert context.live.resumed_from == "epoch 40"


async def test_a_run_that_begins_anew_says_why() -> None:
    context = context_on(FairLease(), Clock())
    context.resumed(0, "the checkpoint has another format")
    assert context.live.resumed_from == "epoch 0: the checkpoint has another format"


@pytest.mark.parametrize(
    ("requests", "draining"),
    [([True], True), ([False], False), ([True, False], False), ([False, True], False)],
)
async def test_only_a_run_that_nobody_cancelled_is_worth_keeping(
    requests: list[bool], draining: bool
) -> None:
    context = context_on(FairLease(), Clock())
    for each in requests:
        context.request_stop(draining=each)
    assert (context.stop_requested, context.draining) == (True, draining)
