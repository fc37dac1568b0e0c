"""The workers of a cluster as the driver sees them, and the nodes that do not fit.

A worker is started when there is a run for it, keeps what it has imported, and ends when it has
been idle. It starts on a node with room for it, never on one that was found not to fit.

Where the nodes are other machines than the server's, a worker holds as much of its node's `memory`,
which Ray counts, as its run may need at most; a later run gets it if it needs about as much. One
that needs more than any node has gets a whole node, as one on the server's own machine runs alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from ktrdr_mcp.errors import LabUnavailable
from ktrdr_mcp.jobs.cluster.actors import ClusterWorker
from ktrdr_mcp.jobs.executors.gate import Line
from ktrdr_mcp.jobs.executors.processes import NICENESS, WORKER_BYTES
from ktrdr_mcp.jobs.fit import check_fit
from ktrdr_mcp.store.db import utc_now_text

THREADS: Final = 5  # of a worker: a run, its stop, and what the driver asks meanwhile
MAX_STARTS: Final = 3  # of workers for one run that die before they have begun it
LEAST_BYTES: Final = 2**29  # that a worker holds of its node's memory
STEP: Final = 1.5  # from one size of workers to the next, so that runs of about one size share them
MOST_TOO_LARGE: Final = 2.0  # a worker may hold so many times what is wanted, and no more

log = logging.getLogger(__name__)


class NoPlace(Exception):
    """A worker could not be started; the text says why."""


class Worker:
    """One worker.

    Args:
        actor: of actors.ClusterWorker.
        node: that it was started on.
        holds: of its node's memory, in bytes.
    """

    def __init__(self, actor: Any, node: str, holds: int) -> None:
        self.actor = actor
        self.holds = holds
        self.since = utc_now_text()
        self.idle_since_s = time.monotonic()
        self.taken = True
        self.gone = False
        self.killed = asyncio.Event()
        self.task: str | None = None
        self.memory_bytes = 0
        self.pid = 0
        self.node, self.host = node, ""
        self.versions: dict[str, str] = {}

    def know(self, about: dict[str, Any]) -> None:
        """Takes what it says of itself."""
        self.pid, self.node, self.host = about["pid"], about["node"], about["host"]
        self.versions = about["versions"]

    def to_state(self) -> dict[str, Any]:
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
        reserves: whether workers hold memory of their nodes; else the server sees to it.
    """

    def __init__(
        self, ray: Any, board: Any, entry: str, idle_s: float, *, reserves: bool = False
    ) -> None:
        self.slots = 0
        self.speeds: dict[str, dict[str, float]] = {}  # by node
        self.changed = asyncio.Event()
        self._ray = ray
        self._board = board
        self._entry = entry
        self._idle_s = idle_s
        self._reserves = reserves
        self._line = Line()  # of runs that wait for room on any node
        self._all: list[Worker] = []
        self._unfit: dict[str, LabUnavailable] = {}  # nodes, and what differs there
        self._measuring: set[asyncio.Task[None]] = set()
        self._kind = ray.remote(ClusterWorker)

    def list_states(self) -> list[dict[str, Any]]:
        """All that have come to work."""
        return [each.to_state() for each in self._all if each.pid]

    async def take(self, envelope: dict[str, Any], stopped: asyncio.Event) -> Worker | None:
        """An idle worker or a new one; None if the run is to stop before there is one.

        Args:
            envelope: what is to run, as JSON; a worker with another set-up is refused.
            stopped: set when the run is to stop; `look_for_room` then.
        Raises:
            LabUnavailable: no node of the cluster fits.
            NoPlace: as many workers as are tried died while they started.
        """
        deaths, turn = 0, self._line.turn(part=envelope["parent"] is not None)
        needs = envelope["memory_bytes"] + WORKER_BYTES
        while (
            worker := await self._line.wait(turn, lambda: self._find(needs), stopped.is_set)
        ) is not None:
            fresh = not worker.pid
            try:
                if not await self._came(worker, stopped):
                    continue
                check_fit(envelope, None, worker.versions)
            except NoPlace as error:  # of which the run knows nothing: it costs no attempt
                deaths += fresh
                if deaths == MAX_STARTS:
                    raise
                log.warning("a worker without a task died: %s", error)
            except LabUnavailable as error:
                self._refuse(worker, error)
            else:
                return worker
        return None

    def _find(self, needs: int) -> Worker | None:
        """Takes an idle worker that suits, or starts one where there is room; else None.

        Args:
            needs: the memory that the run and its worker take at most, in bytes.
        Raises:
            LabUnavailable: no node of the cluster fits.
        """
        nodes = self._nodes_that_fit()
        most = max((each.memory for each in nodes), default=0)
        least, wanted = (min(each, most) for each in (needs, size_for(needs)))
        suit = [each for each in self._idle if least <= each.holds <= MOST_TOO_LARGE * wanted]
        if suit:
            worker = max(suit, key=lambda each: each.idle_since_s)
            worker.taken = True
            return worker
        free = [each for each in nodes if each.has(1, least)]
        if free:
            node = max(free, key=lambda each: (each.cores, each.memory_left))
            return self._start(node.name, min(wanted, node.memory_left))
        for node in nodes:  # where idle workers that do not suit hold what is needed
            idle = sorted(
                (each for each in self._idle if each.node == node.name),
                key=lambda each: each.idle_since_s,
            )
            for number in range(1, len(idle) + 1):
                held = sum(each.holds for each in idle[:number])
                if node.has(1 - number, least - held):
                    for each in idle[:number]:
                        self.kill(each)
                    return self._start(node.name, least)
        return None

    @property
    def _idle(self) -> list[Worker]:
        """The workers that nobody has."""
        return [each for each in self._all if not each.taken and not each.gone]

    def _nodes_that_fit(self) -> list[NodeRoom]:
        """The nodes that train, with the room that they have. Raises LabUnavailable if none fits.

        Ray is told of a worker a moment later than it is started or ended here, and knows of what
        others run on the cluster: the lesser of both counts is left.
        """
        nodes = self._nodes()
        alive = {each["NodeID"] for each in nodes}
        unfit = [node for node in self._unfit if node in alive]
        if unfit and not self.slots_of(alive - set(unfit), nodes):
            raise self._unfit[unfit[0]]
        left, found = read_available(self._ray), list[NodeRoom]()
        for each in nodes:
            name, has = each["NodeID"], each["Resources"]
            ours = [worker for worker in self._all if worker.node == name]
            unused = left.get(name, {})
            cores = min(int(has.get("CPU", 0)) - len(ours), int(unused.get("CPU", 0)))
            memory = int(has.get("memory", 0)) if self._reserves else 0
            rest = memory - sum(worker.holds for worker in ours)
            rest = min(rest, int(unused.get("memory", 0))) if self._reserves else 0
            if name not in unfit and has.get("CPU", 0) >= 1:
                found.append(NodeRoom(name, cores, memory, rest))
        return found

    def _start(self, node: str, holds: int) -> Worker:
        """A new worker for a run, on a node of whose memory it holds some bytes."""
        actor = self._kind.options(
            num_cpus=1,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=THREADS,
            label_selector={"ray.io/node-id": node},
            **({"memory": holds} if holds else {}),
        ).remote(self._board, self._entry, NICENESS)
        worker = Worker(actor, node, holds)
        self._all.append(worker)
        return worker

    def look_for_room(self) -> None:
        """Lets those who wait for room look again."""
        self._line.look()

    async def _came(self, worker: Worker, stopped: asyncio.Event) -> bool:
        """Waits until a worker answers, unless the run is to stop. Raises NoPlace if it is dead."""
        about = asyncio.ensure_future(as_coroutine(worker.actor.about.remote()))
        came = asyncio.Event()
        about.add_done_callback(lambda _: came.set())
        await first_of(came, stopped, worker.killed)
        if not about.done():
            about.cancel()
            self.kill(worker)
            return False
        try:
            worker.know(json.loads(about.result()))
        except self._ray.exceptions.RayError as error:
            self.kill(worker)
            raise NoPlace(describe_death(error)) from error
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
        self._line.look()
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
        worker.killed.set()
        self.changed.set()
        self._line.look()

    async def look(self) -> None:
        """Looks at nodes and workers, and ends those that have been idle for long."""
        nodes = await asyncio.to_thread(self._nodes)
        alive = {each["NodeID"] for each in nodes}
        self._unfit = {node: error for node, error in self._unfit.items() if node in alive}
        self.speeds = {node: each for node, each in self.speeds.items() if node in alive}
        self.slots = self.slots_of(alive - set(self._unfit), nodes)
        for worker in list(self._all):
            idle_s = 0.0 if worker.taken else time.monotonic() - worker.idle_since_s
            lost = not worker.pid and worker.node not in alive  # Ray would wait for its node
            if lost or (not worker.taken and idle_s >= self._idle_s):
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


@dataclass(frozen=True)
class NodeRoom:
    """What a node has for workers, memory in bytes.

    Args:
        name: its id.
        cores: that are left.
        memory: all that it has.
        memory_left: what is left of it.
    """

    name: str
    cores: int
    memory: int
    memory_left: int

    def has(self, cores: int, memory: int) -> bool:
        """Whether so much is left."""
        return self.cores >= cores and self.memory_left >= memory


def size_for(needs: int) -> int:
    """What a worker holds whose run needs some bytes."""
    size = LEAST_BYTES
    while size < needs:
        size = int(size * STEP)
    return size


def read_available(ray: Any) -> dict[str, dict[str, float]]:
    """What Ray has not given away of each node; there is no public way to ask for it."""
    found: dict[str, dict[str, float]] = ray._private.state.available_resources_per_node()
    return found


async def first_of(*events: asyncio.Event) -> None:
    """Waits for the first of some events."""
    waits = [asyncio.ensure_future(each.wait()) for each in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


async def as_coroutine(awaitable: Any) -> Any:
    """The value of what Ray gives to await."""
    return await awaitable


def describe_death(error: BaseException) -> str:
    """What killed a worker, in a few words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
