"""The driver: the child process of the server that deals with Ray, so that the server need not.

Started as `python -P -m ktrdr_mcp.jobs.cluster.driver DESCRIPTOR PARENT SETTINGS`, SETTINGS being
JSON. Lines of JSON go both ways over the socket with that descriptor.

to the driver      {"do": "run", "run", "envelope", "workdir"}  {"do": "stop", "run", "draining"}
                   {"do": "forget", "task"}  {"do": "end"}
to the server      {"event": "joined"} or {"event": "refused", "failure"}: once, first
                   {"event": "nodes", "slots", "speeds"}  {"event": "workers", "workers"}
                   {"event": "run", "run", "of": {"event": "begun" | "reported" | "ended", ...}}
                   {"event": "log", ...}
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from ktrdr_mcp.context import CHECKPOINTS
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.errors import KtrdrError, StorageError
from ktrdr_mcp.jobs.cluster import joining, parcels
from ktrdr_mcp.jobs.cluster.actors import Board
from ktrdr_mcp.jobs.cluster.joining import ClusterAddress
from ktrdr_mcp.jobs.cluster.workers import NoPlace, Worker, Workers, describe_death
from ktrdr_mcp.jobs.executors.base import Ended, Envelope, decode, encode
from ktrdr_mcp.jobs.executors.processes import STOP_S
from ktrdr_mcp.jobs.process import Connection, LogToServer, end_with
from ktrdr_mcp.jobs.worker import failure_of
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.training.handover import NAME as PREPARED
from ktrdr_mcp.training.sent import bars_to_send, decides_bars

FETCH_INTERVAL_S: Final = 0.1
LOOK_INTERVAL_S: Final = 2.0
END_S: Final = 8.0  # for what still asks the cluster, and for the end of a local one
MAX_KEPT_BARS: Final = 8  # series whose bars stay in the object store

Said: TypeAlias = list[dict[str, Any]]  # of the series of a training

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the server tells its driver.

    Args:
        workspace: its folder.
        address: of the cluster; see ClusterAddress.
        store: likewise.
        entry: the work of the workers, "module:function".
        cores: of a local cluster.
        log: the file that takes what Ray prints.
        idle_s: after which a worker that does nothing ends.
    """

    workspace: str
    address: str
    store: str | None
    entry: str
    cores: int
    log: str
    idle_s: float


class Run:
    """One attempt that the server has asked for."""

    def __init__(self, number: int, envelope: Envelope, workdir: Path) -> None:
        self.number = number
        self.envelope = envelope
        self.workdir = workdir
        self.root = workdir.parent  # what travels
        self.result = workdir.name
        self.key = f"{envelope.task_id}#{envelope.generation}#{envelope.attempt}#{number}"
        self.stopped = asyncio.Event()
        self.draining = False
        self.killed = False  # by us, because it had to end
        self.stop: Callable[[bool], None] | None = None  # sends it on, once there is a worker
        self.store: Path | None = None  # its own folder in a shared store

    @property
    def store_name(self) -> str:
        """What its folder in a shared store begins with, the same for every attempt."""
        digest = hashlib.sha256(f"{self.root}\0{self.envelope.task_id}".encode()).hexdigest()
        return f"ktrdr-{digest[:24]}"


class Driver:
    """Carries runs to workers, and what they leave back to the disk of the server.

    Args:
        ray: the module, connected.
        settings: see there.
        connection: to the server.
    """

    def __init__(self, ray: Any, settings: Settings, connection: Connection) -> None:
        self._ray = ray
        self._settings = settings
        self._connection = connection
        self._sources = BarCatalog(Workspace(Path(settings.workspace)))
        node = ray.get_runtime_context().get_node_id()
        pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        board = ray.remote(Board).options(num_cpus=0, max_restarts=0, scheduling_strategy=pinned)
        self._board = board.remote()
        here = ClusterAddress(settings.address, settings.store).is_local
        self._workers = Workers(
            ray, self._board, settings.entry, settings.idle_s, reserves=not here
        )
        self._runs: dict[str, Run] = {}
        self._by_number: dict[int, Run] = {}
        self._bars: dict[str, Any] = {}  # references to those that were put there, by hash
        self._said: dict[str | None, tuple[Said, list[str]]] = {}  # with hashes, by what decides
        self._unstored: dict[str, tuple[dict[str, Any], Ended, parcels.Contents]] = {}
        self._fetching = asyncio.Lock()
        self._busy = asyncio.Event()  # there are runs
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def send(self, message: dict[str, Any]) -> None:
        """Sends the server a line."""
        self._connection.send(json.dumps(message, separators=(",", ":")))

    async def serve(self) -> None:
        """Works until the server wants the end, or the cluster is gone."""
        self.send({"event": "joined"})
        self._spawn(self._look())
        self._spawn(self._fetch())
        reason = await self._ends
        if reason is not None:
            log.error("the cluster is gone: %s", reason)

    def obey(self, message: dict[str, Any]) -> None:
        """Does what the server says; on the event loop."""
        if message["do"] == "run":
            envelope = Envelope(**message["envelope"])
            run = Run(message["run"], envelope, Path(message["workdir"]))
            self._runs[run.key] = self._by_number[run.number] = run
            self._busy.set()
            self._spawn(self._carry(run))
        elif message["do"] == "stop":
            self._stop(message["run"], message["draining"])
        elif message["do"] == "forget":
            self._unstored.pop(message["task"], None)
        elif message["do"] == "end" and not self._ends.done():
            self._ends.set_result(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something beside; where that fails, everything ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_finished)

    def _on_finished(self, task: asyncio.Task[None]) -> None:
        """Ends everything if something that must not fail has failed."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._ends.done():
            self._ends.set_result(describe_death(error))

    def _stop(self, number: int, draining: bool) -> None:
        """Asks a run to stop; one that is cancelled and does not heed it soon is killed."""
        run = self._by_number.get(number)
        if run is None:
            return
        run.draining = draining
        run.stopped.set()
        self._workers.look_for_room()
        if run.stop is not None:
            run.stop(draining)

    # Nodes and workers.

    async def _look(self) -> None:
        """Tells the server of nodes and workers whenever they change. Raises if there are none."""
        told: tuple[Any, ...] = (None, None, None)
        while True:
            await self._workers.look()
            state = (self._workers.slots, dict(self._workers.speeds), self._workers.list_states())
            if state[:2] != told[:2]:
                self.send({"event": "nodes", "slots": state[0], "speeds": state[1]})
            if state[2] != told[2]:
                self.send({"event": "workers", "workers": state[2]})
            told = state
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._workers.changed.wait()
            self._workers.changed.clear()

    async def _fetch(self) -> None:
        """Fetches what runs have left ten times a second, while there are any."""
        while True:
            await self._busy.wait()
            await asyncio.sleep(FETCH_INTERVAL_S)
            await self._fetch_once()
            if not self._runs:
                self._busy.clear()

    async def _fetch_once(self) -> None:
        """Passes on what has been left at the board."""
        async with self._fetching:
            entries, logged = await self._board.take.remote()
            for level, name, text in logged:
                logging.getLogger(name).log(level, "%s", text)
            for key, lines, parcel in entries:
                run = self._runs.get(key)
                if run is None:
                    log.warning("what came of %s is dropped: it has lost its task", key)
                    continue
                if parcel:
                    await self._keep_checkpoint(run, parcel)
                for line in lines:
                    self._tell(run, line)

    async def _keep_checkpoint(self, run: Run, parcel: bytes) -> None:
        """Brings a checkpoint to the disk; one that cannot be written costs only itself."""
        try:
            contents = parcels.unpack(parcel)
            await asyncio.to_thread(parcels.put_in_place, run.root, contents, run.result)
        except (StorageError, ValueError) as error:
            log.warning("task %s has no new checkpoint: %s", run.envelope.task_id, error)

    def _tell(self, run: Run, line: str) -> None:
        """Passes an event of a run on."""
        self._connection.send(f'{{"event":"run","run":{run.number},"of":{line}}}')

    # One run.

    async def _carry(self, run: Run) -> None:
        """Sees one run to its end; whatever goes wrong becomes a value."""
        try:
            ended = await self._run(run)
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            ended = Ended(died=describe_death(error))  # with its cluster, or a part of that
        except Exception as error:
            ended = Ended(failure=failure_of(error))
        finally:
            self._runs.pop(run.key, None)
            self._by_number.pop(run.number, None)
            with contextlib.suppress(Exception):  # of a cluster that is gone
                self._board.release.remote(run.key)
        self._tell(run, encode(ended))
        self._workers.changed.set()

    async def _run(self, run: Run) -> Ended:
        """Runs a task once."""
        task_id, spec = run.envelope.task_id, run.envelope.spec
        unstored = self._unstored.pop(task_id, None)
        if unstored is not None and unstored[0] == spec:
            return await self._store(run, *unstored[1:])
        if self._settings.store is not None:
            await asyncio.to_thread(collect, Path(self._settings.store), run)
        said, bars = await self._bars_of(spec)
        envelope = replace(
            run.envelope,
            versions={**run.envelope.versions, "ray": self._ray.__version__},
            bars={"series": said, "result": run.result},
        ).to_dict()
        try:
            worker = await self._workers.take(envelope, run.stopped)
        except NoPlace as error:
            return Ended(died=str(error))
        if worker is None:
            return Ended(stopped=True)
        try:
            return await self._run_on(worker, run, envelope, bars)
        finally:
            self._workers.give_back(worker)

    async def _run_on(
        self, worker: Worker, run: Run, envelope: dict[str, Any], bars: list[Any]
    ) -> Ended:
        """Runs a task on a worker."""
        worker.task = run.envelope.task_id
        self._workers.changed.set()
        if self._settings.store is not None:
            run.store = await asyncio.to_thread(lay_out_in_store, Path(self._settings.store), run)
        store = None if run.store is None else str(run.store)
        sent = b"" if store else await asyncio.to_thread(read_to_send, run)
        parcel = self._ray.put(sent)
        await self._board.hold.remote(run.key)
        self._connect(run, worker)
        text = json.dumps(envelope)
        try:
            line, left = await worker.actor.run.remote(run.key, text, store, parcel, *bars)
        except self._ray.exceptions.RayError as error:
            return await self._bury(worker, run, error)
        await self._fetch_once()  # all that it reported comes before its end
        ended = decode(line)
        if not isinstance(ended, Ended):
            raise TypeError("a run's last event is its end")
        if ended.failure is not None and ended.failure.code == "out_of_memory":
            self._workers.kill(worker)
        return await self._take_home(run, ended, left)

    def _connect(self, run: Run, worker: Worker) -> None:
        """Brings requests to stop to the worker of a run, also one that has come already."""
        loop = asyncio.get_running_loop()

        def kill() -> None:
            if run.key in self._runs:
                run.killed = True
                self._workers.kill(worker)

        def stop(draining: bool) -> None:
            worker.actor.stop.remote(run.key, draining)
            if not draining:
                loop.call_later(STOP_S, kill)

        run.stop = stop
        if run.stopped.is_set():
            stop(run.draining)

    async def _bury(self, worker: Worker, run: Run, error: Exception) -> Ended:
        """Takes what a run had left before its worker died."""
        self._workers.kill(worker)
        await self._fetch_once()
        if self._settings.store is not None:
            await asyncio.to_thread(collect, Path(self._settings.store), run)
        if run.killed:
            return Ended(stopped=True)
        log.warning("the worker of task %s on %s died", run.envelope.task_id, worker.host)
        return Ended(died=describe_death(error))

    async def _take_home(self, run: Run, ended: Ended, left: bytes) -> Ended:
        """Brings everything that a run has left to the disk."""
        if self._settings.store is None:
            return await self._store(run, ended, parcels.unpack(left))
        gone = run.store is None or not await asyncio.to_thread(run.store.is_dir)
        if gone and ended.result is not None:
            return Ended(died="its folder in the shared store is gone")  # with what it had left
        found = await asyncio.to_thread(collect, Path(self._settings.store), run)
        return await self._store(run, ended, found)

    async def _store(self, run: Run, ended: Ended, contents: parcels.Contents) -> Ended:
        """Writes what a run has left; a result that has no room is kept here for the next try."""
        try:
            await asyncio.to_thread(parcels.put_in_place, run.root, contents, run.result)
        except StorageError as error:
            if ended.result is None:
                log.warning("task %s has no new checkpoint: %s", run.envelope.task_id, error)
                return ended
            self._unstored[run.envelope.task_id] = (run.envelope.spec, ended, contents)
            error.stage = "publishing"
            return Ended(failure=failure_of(error))
        return ended

    async def _bars_of(self, spec: dict[str, Any]) -> tuple[Said, list[Any]]:
        """What is said of the series of a training, and references to their bars."""
        key = await asyncio.to_thread(decides_bars, spec, self._sources)
        said, digests = self._said.pop(key, ([], []))
        if not digests or not all(digest in self._bars for digest in digests):
            series, files = await asyncio.to_thread(bars_to_send, spec, self._sources)
            said = [each.to_dict() for each in series]
            digests = [hashlib.sha256(file).hexdigest() for file in files]
            for digest, file in zip(digests, files, strict=True):
                if digest not in self._bars:
                    self._bars[digest] = self._ray.put(file)
        references = [self._bars[digest] for digest in digests]
        self._bars |= {digest: self._bars.pop(digest) for digest in set(digests)}
        if key is not None:
            self._said[key] = said, digests
        drop_oldest(self._bars)
        drop_oldest(self._said)
        return said, references


def drop_oldest(kept: dict[Any, Any]) -> None:
    """Leaves those that were added last."""
    while len(kept) > MAX_KEPT_BARS:
        kept.pop(next(iter(kept)))


def read_to_send(run: Run) -> bytes:
    """The files that a run needs, as a parcel. Raises OSError."""
    contents = parcels.read_all(run.root, run.result)
    if not run.envelope.spec.get("spread"):
        # It is taken, as by a run on this machine.
        (run.root / CHECKPOINTS / PREPARED).unlink(missing_ok=True)
    return parcels.pack(contents)


def lay_out_in_store(store: Path, run: Run) -> Path:
    """A new folder of a shared store with the files that a run needs. Raises StorageError."""
    folder = Path(tempfile.mkdtemp(prefix=f"{run.store_name}-", dir=store))
    parcels.lay_out(folder, parcels.unpack(read_to_send(run)))
    return folder


def collect(store: Path, run: Run) -> parcels.Contents:
    """Takes what attempts of a task have left in a shared store; their folders are gone then.

    A run that had lost its task may have made its folder anew, and touched it last. So the run's
    own folder comes after all others, and a result is taken from it alone.

    Returns:
        what the run left of a result; checkpoints are in place already.
    """
    result: parcels.Contents = {}
    found = sorted(
        store.glob(f"{run.store_name}-*"),
        key=lambda each: (each == run.store, each.stat().st_mtime_ns),
    )
    for folder in found:
        contents = parcels.read_all(folder, run.result)
        contents.pop(f"{CHECKPOINTS}/{PREPARED}", None)
        earlier = parcels.read_all(run.root, run.result) if run.root.is_dir() else {}
        changed = parcels.select_changed(contents, earlier, run.result)
        inside = {name for name in changed if name.startswith(f"{run.result}/")}
        if folder == run.store:
            result = {name: changed[name] for name in inside}
        with contextlib.suppress(StorageError):
            rest = {name: each for name, each in changed.items() if name not in inside}
            parcels.put_in_place(run.root, rest, run.result)
        shutil.rmtree(folder, ignore_errors=True)
    return result


def take_over_output(path: Path) -> None:
    """Lets everything that Ray prints go to a file, and nothing to the server's own output."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def folder_of_cluster(workspace: str) -> Path:
    """An empty folder of this user for the files of a local cluster; its path is short.

    One that a killed driver left is removed.
    """
    digest = hashlib.sha256(workspace.encode()).hexdigest()[:8]
    path = Path(tempfile.gettempdir()) / f"ktrdr-ray-{os.geteuid()}-{digest}"
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return Path(tempfile.mkdtemp(prefix="ktrdr-ray-"))
    return path


async def drive(ray: Any, settings: Settings, connection: Connection) -> None:
    """Serves until the end."""
    driver = Driver(ray, settings, connection)
    loop = asyncio.get_running_loop()

    def listen() -> None:
        while True:
            for message in connection.receive():
                loop.call_soon_threadsafe(driver.obey, message)

    threading.Thread(target=listen, name="listen", daemon=True).start()
    await driver.serve()
    # What waits for a cluster that is gone would keep this process for minutes.
    limit = threading.Timer(END_S, os._exit, [1])
    limit.daemon = True
    limit.start()


def main(arguments: list[str]) -> None:
    """Runs a driver until it ends with its server."""
    descriptor, parent, text = arguments
    end_with(int(parent))
    settings = Settings(**json.loads(text))
    connection = Connection(int(descriptor))
    take_over_output(Path(settings.log))
    os.chdir("/")  # Ray lets workers import what lies in the folder of the driver
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(LogToServer(connection))
    address, folder = ClusterAddress(settings.address, settings.store), None
    try:
        joining.prepare_environment(os.environ, address)
        if address.is_local:
            folder = folder_of_cluster(settings.workspace)
        ray = joining.join(address, settings.cores, folder or Path("/"))
    except KtrdrError as error:
        failure = asdict(failure_of(error))
        connection.send(json.dumps({"event": "refused", "failure": failure}))
        os._exit(1)
    asyncio.run(drive(ray, settings, connection))
    ray.shutdown()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
