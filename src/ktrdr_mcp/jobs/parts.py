"""The parts of a running task: each is begun, fenced, resumed and given up by itself.

Beside the task's bundle, for as long as the task has not ended:

checkpoints/parts/NAME/
  result.json    what the part returned, with the SHA-256 of what it was asked and of this
  files/         what it left; its own checkpoints, from which its task goes on, lie beside it
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import files, limits
from ktrdr_mcp.context import Part, folder_of
from ktrdr_mcp.errors import RunnerFailed, StorageError
from ktrdr_mcp.jobs.executors.base import Begun, Ended, Envelope, Event, Failure, Reported
from ktrdr_mcp.jobs.live import count_whole
from ktrdr_mcp.jobs.running import Running
from ktrdr_mcp.jobs.worker import failure_of, hash_of, wrap_part_result
from ktrdr_mcp.store.tasks import crash_loop

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
RESULT: Final = "result.json"
FILES: Final = "files"

log = logging.getLogger(__name__)


def check_names(parts: Sequence[Part]) -> None:
    """Refuses names that are no names of folders. Raises ValueError."""
    names = [part.name.lower() for part in parts]
    if len(set(names)) < len(names) or not all(map(NAME.fullmatch, names)):
        raise ValueError("the names of parts are not different names")


@dataclass(frozen=True)
class Done:
    """A part that has a result."""

    asked: str  # SHA-256 of what it was asked
    share: float


@dataclass
class Standing:
    """What is known of a part that has no result yet."""

    part: Part
    attempt: int = 0
    crashes: int = 0  # in a row without progress
    epoch: int = 0  # where the attempt began that got furthest
    done: float = 0.0  # its own share that is finished, 0 to 1


class RunningPart(Running):
    """One run of a part.

    Args:
        group: that it belongs to.
        standing: what earlier runs came to.
    """

    def __init__(self, group: Group, standing: Standing) -> None:
        super().__init__(group.parent.row, lambda: None)
        self.standing = standing
        self.attempt = standing.attempt
        self.gives_way = False  # it was asked to, for a task that waits
        self.began_s = asyncio.get_running_loop().time()
        self.folder = folder_of(group.directory, standing.part.name)
        self.directory = self.folder / FILES
        self._group = group
        self._found = False  # what an earlier attempt of the task had done of it was counted

    def envelope(self) -> Envelope:
        """See Running."""
        part, whole = self.standing.part, super().envelope()
        return replace(
            whole,
            task_id=f"{whole.task_id}/{part.name}",
            attempt=self.attempt,
            spec={**whole.spec, "part": part.spec},
            memory_bytes=part.spec.get("memory_bytes", whole.memory_bytes),
            parent=whole.task_id,
            part=part.name,
            results={},
        )

    def receive(self, event: Event) -> None:
        """See Running; the task shows what its parts come to."""
        super().receive(event)
        if isinstance(event, Begun):
            self._find(event.total_epochs)
        elif isinstance(event, Reported):
            progress = event.progress
            self._find(progress.total_epochs)
            self.standing.done = min(1.0, progress.epoch / max(1, progress.total_epochs))
            self._group.show(event)

    def _find(self, total_epochs: int) -> None:
        """Counts where it goes on, once, if an earlier attempt of the task had begun it.

        Args:
            total_epochs: of the part; 0 while it is not known.
        """
        epoch = self.live.resumed_epoch
        if self.attempt == 1 and epoch > 0 and total_epochs > 0 and not self._found:
            self._found = True
            self.standing.done = min(1.0, epoch / total_epochs)
            self._group.find(self.standing.done * self.standing.part.share)

    def warn(self, alarm: str) -> None:
        """See Running; the task shows it."""
        self._group.parent.warn(alarm)

    def give_way(self) -> None:
        """Stops with its state, so that a task that waits may run."""
        self.gives_way = True
        self.request_stop(draining=True)

    def clear(self) -> None:
        """Removes what a run that died may have left half done. Raises StorageError."""
        if self.directory.exists():
            files.discard(self.directory)

    def keep(self, ended: Ended) -> bool:
        """Writes what it returned, if it did; False if the disk takes nothing now."""
        if ended.result is None:
            return True
        part = self.standing.part
        digest = digest_of(self.row.spec, part, ended.result)
        try:
            files.replace(
                self.folder / RESULT,
                files.json_bytes({"sha256": digest, "result": ended.result}),
            )
        except StorageError as error:
            log.warning("part %s of %s: %s", part.name, self.row.task_id, error.message)
            return False
        return True


class Group:
    """The parts of one running task. On the event loop only.

    Args:
        parent: the task.
        directory: of its bundle.
    """

    def __init__(self, parent: Running, directory: Path) -> None:
        self.parent = parent
        self.directory = directory
        self.results: dict[str, dict[str, Any]] = {}
        self._finished: dict[str, Done] = {}
        self.waiting: list[Standing] = []
        self.running: dict[str, RunningPart] = {}
        self.failure: Failure | None = None
        self._began_s = asyncio.get_running_loop().time()
        shown = parent.live.progress
        # Of the whole task: what it did itself, and the parts with results.
        self._done = shown.epoch / max(1, shown.total_epochs) if shown else 0.0
        self._earlier = 0.0  # of the whole task, what earlier attempts had done
        self._asked = 0
        self._idle = asyncio.Event()

    def ask(self, parts: Sequence[Part], results: Mapping[str, dict[str, Any]]) -> None:
        """Adds parts, unless the task has to stop.

        Args:
            parts: all that the task asks for.
            results: of those that have run.
        """
        if self.parent.stop_requested:  # since its run ended: what waits has been dropped
            return
        for part in parts:
            if self.has_result(part):
                continue
            self._forget(part.name)
            if part.name in results:
                self._keep(part, results[part.name])
                self.find(part.share)
            else:
                self.waiting.append(Standing(part))
        self._asked = len({*self.results, *(part.name for part in parts)})
        self._look()

    def has_result(self, part: Part) -> bool:
        """Whether this very part has run, and not another one that had its name."""
        done = self._finished.get(part.name)
        return done is not None and done.asked == hash_of(part)

    @property
    def kept(self) -> dict[str, dict[str, Any]]:
        """All results, as an envelope holds them."""
        return {
            name: wrap_part_result(self._finished[name].asked, result)
            for name, result in self.results.items()
        }

    def _keep(self, part: Part, result: dict[str, Any]) -> None:
        """Takes the result of a part."""
        self.results[part.name] = result
        self._finished[part.name] = Done(hash_of(part), part.share)
        self._done += part.share

    def _forget(self, name: str) -> None:
        """Drops the result of a part that was asked something else, if there is one."""
        if name in self.results:
            log.warning("part %s of task %s is another one now", name, self.parent.row.task_id)
            del self.results[name]
            self._done -= self._finished.pop(name).share

    def find(self, share: float) -> None:
        """Counts what an earlier attempt had done, and says where the task goes on then.

        Args:
            share: of the whole task.
        """
        self._earlier += share
        if self._earlier > self.parent.live.resumed_share:
            epoch = count_whole(self._earlier, self.parent.row.total_epochs)
            known = self.parent.live.epochs.points
            words = f"{len(self.results)} parts had run"
            self.parent.begin(Begun(epoch, words, known), self._earlier)

    def _share_done(self) -> float:
        """The share of the whole task that is done, 0 to 1."""
        standings = (*self.waiting, *(part.standing for part in self.running.values()))
        return min(1.0, self._done + sum(each.done * each.part.share for each in standings))

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not (self.waiting or self.running)

    async def until_idle(self) -> None:
        """Waits until all have run, or must not run any more."""
        await self._idle.wait()

    def begin_next(self) -> RunningPart:
        """The next part that waits, which runs from now on."""
        standing = self.waiting.pop(0)
        standing.attempt += 1
        part = self.running[standing.part.name] = RunningPart(self, standing)
        return part

    def finish(self, running: RunningPart, ended: Ended) -> None:
        """Takes the end of a run."""
        standing = running.standing
        name = standing.part.name
        if self.running.get(name) is not running:
            return
        del self.running[name]
        if (epoch := running.live.resumed_epoch) > standing.epoch:
            standing.epoch, standing.crashes = epoch, 0
        if ended.result is not None:
            self._keep(standing.part, ended.result)
        elif ended.died is not None and standing.crashes + 1 < limits.MAX_CRASHES:
            standing.crashes += 1
            self.waiting.insert(0, standing)
        elif ended.stopped and running.stop_requested:
            self.waiting.insert(0, standing)
        else:
            self._fail(failure_of_part(ended))
        if self.parent.stop_requested or self.failure is not None:
            self.waiting.clear()
        self._look()

    def request_stop(self, draining: bool) -> None:
        """Ends all parts; see Running.request_stop."""
        self.waiting.clear()
        for part in self.running.values():
            part.request_stop(draining)
        self._look()

    def show(self, event: Reported) -> None:
        """Shows how far the whole task has come, with the losses of the part that reported."""
        epochs, shown = self.parent.row.total_epochs, self.parent.live.progress
        before = shown.epoch if shown else 0
        epoch = max(count_whole(self._share_done(), epochs), before)
        words = f"{len(self.results)} of {self._asked} parts"
        progress = replace(event.progress, epoch=epoch, total_epochs=epochs, sweep=words)
        elapsed_s = asyncio.get_running_loop().time() - self._began_s
        figures = (progress.figures,) if epoch > before else ()
        self.parent.receive(Reported(progress, elapsed_s, figures))

    def _fail(self, failure: Failure) -> None:
        """Gives the whole task up."""
        self.failure = self.failure or failure
        self.waiting.clear()
        for part in self.running.values():
            part.request_stop()

    def _look(self) -> None:
        """Says whether there is something left to run."""
        if self.is_idle:
            self._idle.set()
        else:
            self._idle.clear()


def failure_of_part(ended: Ended) -> Failure:
    """Why a task fails whose part ended like this, without a result."""
    if ended.failure is not None:
        return ended.failure
    if ended.died is not None:
        return failure_of(crash_loop(limits.MAX_CRASHES))
    return failure_of(
        RunnerFailed("A part of the training came to no end of its own.", hint="Start it again.")
    )


def digest_of(spec: Mapping[str, Any], part: Part, result: Mapping[str, Any]) -> str:
    """The hash by which a stored result is known to be whole and of this part."""
    return hashlib.sha256(files.json_bytes([spec, part.name, part.spec, result])).hexdigest()


def read_results(group: Group, parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """What earlier attempts have kept of these parts; blocks.

    Args:
        group: whose parts they are.
        parts: with different names. Raises ValueError if they are not.
    """
    check_names(parts)
    missing = [part for part in parts if not group.has_result(part)]
    found = {part.name: read_result(group, part) for part in missing}
    return {name: result for name, result in found.items() if result is not None}


def read_result(group: Group, part: Part) -> dict[str, Any] | None:
    """What a part returned; None if it has to run, again where what is kept is not whole."""
    path = folder_of(group.directory, part.name) / RESULT
    if path.is_symlink() or not path.exists():
        return None
    try:
        kept = json.loads(path.read_bytes())
        result: dict[str, Any] = kept["result"]
        whole = kept["sha256"] == digest_of(group.parent.row.spec, part, result)
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        whole = False
    if not whole:
        log.warning("part %s of task %s runs again", part.name, group.parent.row.task_id)
    return result if whole else None
