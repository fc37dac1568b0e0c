"""Which executor runs the tasks of a workspace, and its making."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from ktrdr_mcp.errors import InvalidRequest, did_you_mean, quote
from ktrdr_mcp.paths import Workspace

if TYPE_CHECKING:
    from ktrdr_mcp.jobs.executors.base import Executor
    from ktrdr_mcp.jobs.executors.processes import WorkerState
    from ktrdr_mcp.service.model_work import ModelCalls
    from ktrdr_mcp.training.duration import Speed

ExecutorName: TypeAlias = Literal["processes", "threads", "ray"]
NAMES: Final[tuple[ExecutorName, ...]] = get_args(ExecutorName)
VARIABLE: Final = "KTRDR_EXECUTOR"
TRAINING: Final = "ktrdr_mcp.training.work:open_work"
SENT_TRAINING: Final = "ktrdr_mcp.training.work:open_sent_work"
CALLS: Final = "ktrdr_mcp.service.model_work:open_work"
ADDRESS_VARIABLE: Final = "KTRDR_RAY_ADDRESS"
STORE_VARIABLE: Final = "KTRDR_STORE"


def executor_name(
    default: ExecutorName, environment: Mapping[str, str] = os.environ
) -> ExecutorName:
    """The executor that KTRDR_EXECUTOR names.

    Args:
        default: where it names none.
        environment: of this process.
    Raises:
        InvalidRequest: there is none of this name.
    """
    text = environment.get(VARIABLE, "").strip()
    for name in NAMES:
        if text == name:
            return name
    if text:
        raise InvalidRequest(
            f"{VARIABLE} is {quote(text)}; there is no such executor.{did_you_mean(text, NAMES)}",
            hint=f"Set it to one of {', '.join(NAMES)}, or leave it out.",
        )
    # A socket cannot be handed to a process there.
    return "threads" if sys.platform == "win32" else default


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster on which trainings run.

    Args:
        address: HOST:PORT of its head, or "local" for one that the server starts and ends itself.
        store: a folder that all its machines share, if there is one.
    """

    address: str
    store: str | None = None


Place: TypeAlias = Literal["processes", "threads"] | Cluster


def place_of(
    name: ExecutorName,
    address: str | None = None,
    store: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Place:
    """Where trainings run, with what a cluster needs.

    Args:
        name: of the executor.
        address: of a cluster; by default what KTRDR_RAY_ADDRESS says.
        store: likewise of KTRDR_STORE.
        environment: of this process.
    Raises:
        InvalidRequest: there is no address, or one that no cluster can have.
    """
    if name != "ray":
        return name
    from ktrdr_mcp.jobs.cluster.joining import check_address, check_store

    address = address or environment.get(ADDRESS_VARIABLE, "").strip()
    store = store or environment.get(STORE_VARIABLE, "").strip() or None
    if not address:
        raise InvalidRequest(
            "The executor ray needs the address of a cluster.",
            hint=f"Add --ray-address HOST:PORT, or set {ADDRESS_VARIABLE}; 'local' is a cluster on"
            " this machine that the server starts and ends itself.",
            field="ray_address",
        )
    return Cluster(check_address(address), check_store(store))


@dataclass(frozen=True)
class Compute:
    """Everything that computes for a workspace."""

    executor: Executor  # of trainings
    calls: ModelCalls  # of saved models
    speed: Callable[[], Speed]  # of trainings here, as far as it is known
    workers: Callable[[], list[WorkerState]]  # all processes that compute now
    close: Callable[[], Awaitable[None]]  # ends what answers calls
    warm: Callable[[], None]  # makes ready to answer them; on the event loop


def make_executor(place: Place, workspace: Workspace) -> Compute:
    """What computes for a workspace. Blocks; with threads it imports torch, else it does not."""
    if isinstance(place, Cluster):
        return cluster(workspace, place)
    return processes(workspace) if place == "processes" else threads(workspace)


def processes(workspace: Workspace) -> Compute:
    """Worker processes: one for each core that trains, and one that answers calls."""
    from ktrdr_mcp.jobs.executors.processes import (
        CallWorker,
        Pool,
        ProcessExecutor,
        available_cores,
    )
    from ktrdr_mcp.training.duration import TYPICAL, Speed

    root = str(workspace.root)
    training, calls = Pool(TRAINING, root), CallWorker(Pool(CALLS, root, niceness=0))
    executor = ProcessExecutor(training, available_cores())

    def speed() -> Speed:
        measured = training.about.get("speed")
        return Speed(**measured) if measured else TYPICAL

    def workers() -> list[WorkerState]:
        return [*executor.workers, *calls.workers]

    return Compute(executor, calls, speed, workers, calls.close, calls.warm)


def cluster(workspace: Workspace, place: Cluster) -> Compute:
    """The nodes of a Ray cluster, and a worker process here that answers calls."""
    from ktrdr_mcp.jobs.executors.processes import CallWorker, Pool, available_cores
    from ktrdr_mcp.jobs.executors.ray import RayExecutor
    from ktrdr_mcp.training.duration import TYPICAL, Speed

    root = str(workspace.root)
    calls = CallWorker(Pool(CALLS, root, niceness=0))
    executor = RayExecutor(
        {
            "workspace": root,
            "address": place.address,
            "store": place.store,
            "entry": SENT_TRAINING,
            "cores": available_cores(),
            "log": str(workspace.internal / "ray.log"),
        }
    )

    def speed() -> Speed:
        """Of the slowest node, so that an estimate holds on every one."""
        known = [Speed(**each) for each in executor.speeds]
        if not known:
            return TYPICAL
        return Speed(max(each.overhead for each in known), max(each.arithmetic for each in known))

    def workers() -> list[WorkerState]:
        return [*executor.workers, *calls.workers]

    return Compute(executor, calls, speed, workers, calls.close, calls.warm)


def threads(workspace: Workspace) -> Compute:
    """Threads of this process, for all of it."""
    from ktrdr_mcp.jobs.executors.threads import ThreadExecutor, load_torch

    load_torch()
    from ktrdr_mcp.data.catalog import BarCatalog
    from ktrdr_mcp.service.model_work import LocalCalls, ModelWork
    from ktrdr_mcp.training import duration
    from ktrdr_mcp.training.work import open_work

    measured = duration.measure()
    calls = LocalCalls(ModelWork(workspace, BarCatalog(workspace)))
    executor = ThreadExecutor(open_work(str(workspace.root)).run)

    async def close() -> None:
        """Nothing is left to end."""

    return Compute(executor, calls, lambda: measured, list, close, lambda: None)
