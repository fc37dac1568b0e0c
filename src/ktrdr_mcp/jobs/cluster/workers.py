"""The workers of a cluster as the driver sees them, and the nodes that do not fit.

A worker is started when there is a run for it, keeps what it has imported, and ends when it has
been idle. Where it starts is Ray's to choose, but never on a node that was found not to fit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any, Final

from ktrdr_mcp.errors import LabUnavailable
from ktrdr_mcp.jobs.cluster.actors import ClusterWorker
from ktrdr_mcp.jobs.executors.processes import NICENESS
from ktrdr_mcp.jobs.fit import check_fit
from ktrdr_mcp.store.db import utc_now_text

THREADS: Final = 5  # of a worker: a run, its stop, and what the driver asks meanwhile
MAX_STARTS: Final = 3  # of workers for one run that die before they have begun it

log = logging.getLogger(__name__)


class NoPlace(Exception):
    """A worker could not be started; the text says why."""


class Worker:
    """One worker.

    Args:
        actor: of actors.ClusterWorker.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.since = utc_now_text()
        self.idle_since_s = time.monotonic()
        self.taken = True
        self.gone = False
        self.task: str | None = None
        self.memory_bytes = 0
        self.pid = 0
        self.node = self.host = ""
        self.versions: dict[str, str] = {}

    def know(self, about: dict[str, Any]) -> None:
        """Takes what it says of itself."""
        self.pid, self.node, self.host = about["pid"], about["node"], about["host"]
        self.versions = about["versions"]

    def shown(self) -> dict[str, Any]:
        """As executors.processes.WorkerState has it."""
        return {
            "pid": self.pid,
            "task": self.task,
            "memory_bytes": self.memory_bytes,
            "since": self.since,
            "node": f"{self.host} {self.node[:8]}",
        }


class Workers:
    """All workers of this driver. Used on its event loop only.

    Args:
        ray: the module, connected.
        board: the actor of actors.Board.
        entry: the work, "module:function".
        idle_s: after which an idle worker ends.
    """

    def __init__(self, ray: Any, board: Any, entry: str, idle_s: float) -> None:
        self.slots = 0
        self.speeds: dict[str, dict[str, float]] = {}  # by node
        self.changed = asyncio.Event()
        self._ray = ray
        self._board = board
        self._entry = entry
        self._idle_s = idle_s
        self._all: list[Worker] = []
        self._unfit: dict[str, LabUnavailable] = {}  # nodes, and what differs there
        self._measuring: set[asyncio.Task[None]] = set()
        self._kind = ray.remote(ClusterWorker)

    def shown(self) -> list[dict[str, Any]]:
        """All that have come to work."""
        return [each.shown() for each in self._all if each.pid]

    async def take(self, envelope: dict[str, Any], stopped: asyncio.Event) -> Worker | None:
        """An idle worker or a new one; None if the run is to stop before there is one.

        Args:
            envelope: what is to run, as JSON; a worker with another set-up is refused.
            stopped: set when the run is to stop.
        Raises:
            LabUnavailable: no node of the cluster fits.
            NoPlace: as many workers as are tried died while they started.
        """
        deaths = 0
        while not stopped.is_set():
            idle = [each for each in self._all if not each.taken and not each.gone]
            worker = max(idle, key=lambda each: each.idle_since_s) if idle else self._start()
            worker.taken = True
            try:
                if not await self._came(worker, stopped):
                    continue
                check_fit(envelope, None, worker.versions)
            except NoPlace as error:  # of which the run knows nothing: it costs no attempt
                deaths += not idle
                if deaths == MAX_STARTS:
                    raise
                log.warning("a worker without a task died: %s", error)
            except LabUnavailable as error:
                self._refuse(worker, error)
            else:
                return worker
        return None

    def _start(self) -> Worker:
        """A new worker, on a node that may fit. Raises LabUnavailable if none does."""
        alive = {each["NodeID"] for each in self._nodes()}
        unfit = [node for node in self._unfit if node in alive]
        if unfit and not self.slots_of(alive - set(unfit)):
            raise self._unfit[unfit[0]]
        options: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        if unfit:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(unfit)})"}
        actor = self._kind.options(**options, max_concurrency=THREADS).remote(
            self._board, self._entry, NICENESS
        )
        worker = Worker(actor)
        self._all.append(worker)
        return worker

    async def _came(self, worker: Worker, stopped: asyncio.Event) -> bool:
        """Waits until a worker answers, unless the run is to stop. Raises NoPlace if it is dead."""
        about = asyncio.ensure_future(as_coroutine(worker.actor.about.remote()))
        stop = asyncio.ensure_future(stopped.wait())
        await asyncio.wait({about, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not about.done():
            about.cancel()
            self.kill(worker)
            return False
        try:
            worker.know(json.loads(about.result()))
        except self._ray.exceptions.RayError as error:
            self.kill(worker)
            raise NoPlace(describe(error)) from error
        self.changed.set()
        return True

    def _refuse(self, worker: Worker, error: LabUnavailable) -> None:
        """Uses a node no more."""
        self._unfit[worker.node] = error
        log.warning("node %s of the cluster is not used: %s", worker.host, error.message)
        self.kill(worker)

    def give_back(self, worker: Worker) -> None:
        """Lets a worker be idle; on a node whose speed is unknown, it is measured then."""
        worker.task, worker.taken, worker.idle_since_s = None, False, time.monotonic()
        if not worker.gone and worker.node not in self.speeds:
            measuring = asyncio.create_task(self._measure(worker))
            self._measuring.add(measuring)
            measuring.add_done_callback(self._measuring.discard)

    async def _measure(self, worker: Worker) -> None:
        """Asks a worker how fast its machine is."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            about = json.loads(await worker.actor.speed.remote())
            self.speeds[worker.node] = about["speed"]
            self.changed.set()

    def kill(self, worker: Worker) -> None:
        """Ends a worker at once."""
        worker.gone = True
        if worker in self._all:
            self._all.remove(worker)
        with contextlib.suppress(Exception):  # one that is dead
            self._ray.kill(worker.actor)
        self.changed.set()

    async def look(self) -> None:
        """Looks at nodes and workers, and ends those that have been idle for long."""
        nodes = await asyncio.to_thread(self._nodes)
        alive = {each["NodeID"] for each in nodes}
        self._unfit = {node: error for node, error in self._unfit.items() if node in alive}
        self.speeds = {node: each for node, each in self.speeds.items() if node in alive}
        self.slots = self.slots_of(alive - set(self._unfit), nodes)
        for worker in list(self._all):
            if not worker.taken and time.monotonic() - worker.idle_since_s >= self._idle_s:
                self.kill(worker)
            elif worker.pid:
                await self._ask_memory(worker)

    async def _ask_memory(self, worker: Worker) -> None:
        """Asks a worker what it holds; one that cannot answer and is idle is gone."""
        try:
            async with asyncio.timeout(1.0):
                worker.memory_bytes = await worker.actor.memory.remote()
        except TimeoutError:
            return
        except self._ray.exceptions.RayError:
            if not worker.taken:
                self.kill(worker)

    def _nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive."""
        return [each for each in self._ray.nodes() if each["Alive"]]

    def slots_of(self, nodes: set[str], known: list[dict[str, Any]] | None = None) -> int:
        """How many workers nodes have room for."""
        known = self._nodes() if known is None else known
        return sum(
            int(each["Resources"].get("CPU", 0)) for each in known if each["NodeID"] in nodes
        )


async def as_coroutine(awaitable: Any) -> Any:
    """The value of what Ray gives to await."""
    return await awaitable


def describe(error: BaseException) -> str:
    """What killed a worker, in a few words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
