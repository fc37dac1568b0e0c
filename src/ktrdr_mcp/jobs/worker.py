"""The worker's side of a run: what it may ask of the world, and the events that it sends."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from ktrdr_mcp import files
from ktrdr_mcp.context import Cancelled, Context, Divided, EpochFigures, Part, Progress
from ktrdr_mcp.errors import KtrdrError, OutOfMemory, RunnerFailed
from ktrdr_mcp.jobs.epochs import EpochCurve
from ktrdr_mcp.jobs.executors.base import Begun, Ended, Event, Failure, Reported, encode

ALLOCATION_FAILURES: Final = ("can't allocate memory", "out of memory")  # torch's RuntimeErrors

Run: TypeAlias = Callable[[dict[str, Any], Path, Context], dict[str, Any]]

NO_RESULTS: Final[Mapping[str, dict[str, Any]]] = MappingProxyType({})

log = logging.getLogger(__name__)


def hash_of(part: Part) -> str:
    """SHA-256 of what a part is asked."""
    return hashlib.sha256(files.json_bytes(part.spec)).hexdigest()


def wrap_part_result(asked: str, returned: dict[str, Any]) -> dict[str, Any]:
    """The result of a part as an envelope holds it: it counts for the same question alone.

    Where a run goes on in another worker, a part of the same name may be another one.

    Args:
        asked: the hash of what it was asked.
        returned: what it returned.
    """
    return {"asked": asked, "returned": returned}


class Outbox:
    """Events that wait to be taken; of progress the newest, with the figures before it.

    Args:
        wake: called, in the run's thread, when something has come that nobody was woken for.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._progress: Reported | None = None
        self._figures: list[EpochFigures] = []  # of progress that nobody has taken yet
        self._woken = False

    def put(self, event: Event) -> None:
        """Adds an event. Raises TypeError and ValueError if it cannot be JSON."""
        if isinstance(event, Reported):
            with self._lock:
                self._progress = event
                self._figures.append(event.progress.figures)
                wakes, self._woken = not self._woken, True
        else:
            line = encode(event)
            with self._lock:
                self._flush()
                self._lines.append(line)
                wakes = self._woken = True
        if wakes:
            self._wake()

    def take(self) -> list[str]:
        """Everything that has come, oldest first. Progress wakes nobody until `rearm`."""
        with self._lock:
            self._flush()
            lines, self._lines = self._lines, []
            return lines

    def rearm(self) -> list[str]:
        """Everything that has come since; once that is nothing, progress wakes again."""
        with self._lock:
            self._flush()
            lines, self._lines = self._lines, []
            self._woken = bool(lines)
            return lines

    def _flush(self) -> None:
        """Puts the newest progress behind what came before it."""
        if self._progress is not None:
            figures = EpochCurve().with_figures(self._figures).points
            self._lines.append(encode(replace(self._progress, figures=figures)))
            self._progress, self._figures = None, []


class WorkerContext:
    """The context.Context of one run that has its worker for itself.

    Args:
        outbox: where its events go.
        monotonic: the clock that measures epochs, in seconds.
        results: of the parts of this training that have run, by name; see `wrap_part_result`.
    """

    def __init__(
        self,
        outbox: Outbox,
        monotonic: Callable[[], float] = time.monotonic,
        results: Mapping[str, dict[str, Any]] = NO_RESULTS,
    ) -> None:
        self._outbox = outbox
        self._results = results
        self._monotonic = monotonic
        self._began_s = monotonic()
        self.should_stop = False
        self.draining = False
        self.divides = True

    def begin_at(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        total_epochs: int = 0,
    ) -> None:
        """See context.Context."""
        self._outbox.put(Begun(epoch, reason, tuple(figures), total_epochs))

    def report(self, progress: Progress) -> None:
        """See context.Context."""
        self._outbox.put(Reported(progress, self._monotonic() - self._began_s))

    def yield_turn(self) -> None:
        """See context.Context; there is nobody else to let run."""
        if self.should_stop:
            raise Cancelled

    def end_turn(self) -> None:
        """Does nothing: there is nobody else to let run."""

    def run_parts(self, parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
        """See context.Context."""
        found = {}
        for part in parts:
            result = self._results.get(part.name)
            if result is None or result["asked"] != hash_of(part):
                raise Divided(parts)
            found[part.name] = result["returned"]
        return found

    def request_stop(self, draining: bool = False) -> None:
        """Asks the run to stop at its next `yield_turn`; from any thread.

        Args:
            draining: whether its state is worth keeping.
        """
        self.draining = draining
        self.should_stop = True


def perform(
    run: Run, spec: dict[str, Any], workdir: Path, context: Context, outbox: Outbox
) -> Ended:
    """Runs one job; whatever goes wrong becomes a value.

    Args:
        run: the work.
        spec: everything it needs.
        workdir: where it leaves its files.
        context: its line to the world.
        outbox: where its end goes, after all other events.
    Returns:
        how it ended.
    """
    ended = how_it_ends(run, spec, workdir, context)
    context.end_turn()
    try:
        outbox.put(ended)
    except (TypeError, ValueError, RecursionError) as error:  # a result that is no JSON
        ended = Ended(failure=failure_of(error))
        outbox.put(ended)
    return ended


def how_it_ends(run: Run, spec: dict[str, Any], workdir: Path, context: Context) -> Ended:
    """The end of a run."""
    try:
        return Ended(result=run(spec, workdir, context))
    except Cancelled:
        return Ended(stopped=True)
    except Divided as divided:
        return Ended(parts=divided.parts)
    except BaseException as error:
        return Ended(failure=failure_of(error))


def failure_of(error: BaseException) -> Failure:
    """An error as it crosses to the server; an internal error goes to the log with its traceback.

    Args:
        error: what a run raised.
    """
    known = known_error(error)
    if known is None:
        log.error("a run failed with an internal error", exc_info=error)
        known = RunnerFailed(
            f"An internal error stopped the training ({type(error).__name__}).",
            hint="Start it again; if it fails again, report it with the program's log.",
        )
    stage = getattr(error, "stage", None)
    return Failure(
        known.code,
        known.message,
        known.hint,
        known.field,
        stage if isinstance(stage, str) else None,
    )


def known_error(error: BaseException) -> KtrdrError | None:
    """The error that a client reads; None for an internal one."""
    if isinstance(error, KtrdrError):
        return error
    if isinstance(error, OSError) and error.errno in files.TOO_MANY_OPEN:
        return files.too_many_open("training")
    if isinstance(error, MemoryError) or is_failed_allocation(error):
        return OutOfMemory(
            "The training needed more memory than there was.",
            hint="Reduce hidden_layers or batch_size, or train on a shorter date range.",
        )
    return None


def is_failed_allocation(error: BaseException) -> bool:
    """Whether torch found no memory; it has no class of its own for that on the CPU."""
    text = str(error)
    return isinstance(error, RuntimeError) and any(part in text for part in ALLOCATION_FAILURES)
