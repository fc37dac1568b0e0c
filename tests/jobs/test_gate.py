"""Which run begins next where memory is short: measured exactly, and in the order of coming."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ktrdr_mcp import memory
from ktrdr_mcp.context import Context
from ktrdr_mcp.jobs.executors import gate, processes
from ktrdr_mcp.jobs.executors.base import Ended, Envelope, HeardRun
from ktrdr_mcp.jobs.executors.gate import Gate
from ktrdr_mcp.jobs.executors.processes import ProcessExecutor, ProcessRun, WorkerState
from ktrdr_mcp.jobs.executors.ray import RayExecutor
from ktrdr_mcp.jobs.executors.threads import ThreadExecutor

pytestmark = pytest.mark.asyncio


def run_of(name: str, memory_bytes: int, parent: str | None = None) -> HeardRun:
    return HeardRun(Envelope(name, 1, "g", {}, memory_bytes, parent=parent), Path(name))


class Machine:
    """A gate of a machine on which runs hold nothing yet, and the order in which they begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, available: int) -> None:
        monkeypatch.setattr(gate, "LOOK_S", 60.0)  # what is tested needs no look
        monkeypatch.setattr(gate, "available_bytes", lambda: available)
        self.gate = Gate[HeardRun](self._promised, lambda run: run.envelope.memory_bytes)
        self.begun: list[str] = []
        self.entering: dict[str, asyncio.Task[bool]] = {}

    def _promised(self, runs: Sequence[HeardRun]) -> int:
        return sum(run.envelope.memory_bytes for run in runs)

    async def come(self, *runs: HeardRun) -> None:
        """Lets runs come one after the other."""
        for run in runs:
            self.entering[run.envelope.task_id] = asyncio.create_task(self._enter(run))
        await self.settle()

    async def _enter(self, run: HeardRun) -> bool:
        may = await self.gate.enter(run)
        if may:
            self.begun.append(run.envelope.task_id)
        return may

    async def settle(self) -> None:
        """Lets everything happen that can."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def end(self, run: HeardRun) -> None:
        run.deliver(Ended(result={}))
        await self.settle()


async def test_a_run_that_needs_much_is_not_overtaken_by_later_ones_that_need_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, available=10)
    small = [run_of(f"small{number}", 4) for number in range(4)]
    large = run_of("large", 9)
    await machine.come(small[0], small[1], large, small[2], small[3])
    assert machine.begun == ["small0", "small1"]
    await machine.end(small[0])
    assert machine.begun == ["small0", "small1"]
    await machine.end(small[1])
    assert machine.begun == ["small0", "small1", "large"]
    await machine.end(large)
    assert machine.begun == ["small0", "small1", "large", "small2", "small3"]


async def test_a_whole_task_does_not_wait_for_memory_behind_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, available=10)
    parts = [run_of(f"sweep/{number}", 8, parent="sweep") for number in range(3)]
    await machine.come(*parts, run_of("mine", 8))
    await machine.end(parts[0])
    assert machine.begun == ["sweep/0", "mine"]


async def test_a_run_that_needs_more_than_there_is_begins_once_it_is_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, available=10)
    first, large, last = run_of("first", 1), run_of("large", 99), run_of("last", 1)
    await machine.come(first, large, last)
    assert machine.begun == ["first"]
    await machine.end(first)
    assert machine.begun == ["first", "large"]
    await machine.end(large)
    assert machine.begun == ["first", "large", "last"]


async def test_a_run_that_is_to_stop_leaves_the_line_to_those_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, available=10)
    first, large, last = run_of("first", 8), run_of("large", 9), run_of("last", 2)
    await machine.come(first, large, last)
    large.note_stop()
    await machine.settle()
    assert await machine.entering["large"] is False
    assert machine.begun == ["first", "last"]


class PlayedPool:
    """As much of a Pool as an executor asks for, with one idle worker."""

    argument = ""

    def __init__(self, idle: Any) -> None:
        self._idle = idle

    def next_for(self, task_id: str | None) -> Any:
        return self._idle


async def test_what_a_worker_holds_is_measured_when_a_run_waits_not_when_it_last_said_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {1: processes.WORKER_BYTES, 2: processes.WORKER_BYTES}
    monkeypatch.setattr(memory, "resident_bytes", held.__getitem__)
    stale = 5_000_000_000  # of the run before, which has given it back
    busy, idle = (
        SimpleNamespace(process=SimpleNamespace(pid=pid), memory_bytes=stale) for pid in held
    )
    executor: Any = ProcessExecutor(PlayedPool(idle), 3)  # type: ignore[arg-type]
    run, another = (
        ProcessRun(Envelope(name, 1, "g", {}, 5_000_000_000), Path(name)) for name in "ab"
    )
    monkeypatch.setattr(gate, "available_bytes", lambda: 9_000_000_000)
    assert await executor._gate.enter(run)
    run.worker = busy
    waiting = asyncio.create_task(executor._gate.enter(another))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()  # 10 GB are wanted, of 9
    held[1] += 4_000_000_000  # the first one has taken 4 of its 5
    monkeypatch.setattr(gate, "available_bytes", lambda: 6_000_000_000)
    executor._gate._line.look()
    assert await asyncio.wait_for(waiting, 10.0)


async def test_a_run_in_a_thread_waits_until_there_is_memory_beside_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "available_bytes", lambda: 1_500_000_000)
    inside = {name: asyncio.Event() for name in "ab"}
    ends, loop = threading.Event(), asyncio.get_running_loop()

    def work(spec: dict[str, Any], workdir: Path, context: Context) -> dict[str, Any]:
        loop.call_soon_threadsafe(inside[workdir.name].set)
        ends.wait(10.0)
        return {}

    executor = ThreadExecutor(work, 2)
    first, second = (
        executor.submit(Envelope(name, 1, "g", {}, 1_000_000_000), Path(name)) for name in "ab"
    )
    await asyncio.wait_for(inside["a"].wait(), 10.0)
    assert (executor._gate.inside, second.ended) == ([first], False)
    ends.set()
    await asyncio.wait_for(inside["b"].wait(), 10.0)
    await executor.close()


async def test_a_run_on_a_cluster_of_this_machine_waits_until_there_is_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {1: 4_000_000_000, 2: processes.WORKER_BYTES}  # of a worker that is busy, and one idle
    monkeypatch.setattr(memory, "resident_bytes", held.__getitem__)
    monkeypatch.setattr(gate, "available_bytes", lambda: 2_500_000_000)
    sent: list[str] = []
    executor = PlayedCluster({"address": "local"}, sent)
    executor.shown = [WorkerState(1, None, 0, ""), WorkerState(2, None, 0, "")]
    runs = [executor.submit(Envelope(name, 1, "g", {}, 2_000_000_000), Path()) for name in "abc"]
    executor.shown[0] = replace(executor.shown[0], task="a")
    for _ in range(20):
        await asyncio.sleep(0)
    assert sent == ["a", "b"]  # the first one holds all that it needs
    runs[2].stop(draining=False)
    runs[1].deliver(Ended(result={}))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (sent, runs[2].ended) == (["a", "b"], True)
    await executor.close()


class PlayedCluster(RayExecutor):
    """A cluster whose driver takes every run and says nothing."""

    def __init__(self, settings: dict[str, Any], sent: list[str]) -> None:
        super().__init__(settings)
        self._sent = sent
        self.shown: list[WorkerState] = []

    @property
    def workers(self) -> list[WorkerState]:
        return self.shown

    async def _ready(self) -> Any:
        def begin(run: Any) -> None:
            self._sent.append(run.envelope.task_id)

        return SimpleNamespace(gone=False, begin=begin)


async def test_a_process_that_is_gone_holds_no_memory() -> None:
    assert memory.resident_bytes(2**22 + 1) == 0
