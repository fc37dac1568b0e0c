"""What every executor has in common: an envelope goes in, events and one end come out.

Both are plain JSON, so that a run may be in another thread, process or machine alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from ktrdr_mcp.context import EpochFigures, Part, Progress


@dataclass(frozen=True)
class Envelope:
    """One attempt at one task, or at one part of a task: everything that a worker is given."""

    task_id: str  # of a part, PARENT/PART
    attempt: int
    generation: str  # of the server that submits it
    spec: dict[str, Any]  # as it was stored with the task; of a part, with its own as "part"
    memory_bytes: int = 0  # what it may need at most, beside the program itself
    parent: str | None = None  # the id of the task that this is a part of
    part: str | None = None  # its name in there
    # Of parts; see worker.wrap_part_result.
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)  # the server's; see jobs.fit
    bars: dict[str, Any] = field(default_factory=dict)  # where they are; an executor says it
    fingerprint: str | None = None  # of the bars, where they travel with it

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Begun:
    """A run says where it begins; see context.Context.begin_at."""

    epoch: int
    reason: str | None
    figures: tuple[EpochFigures, ...] = ()  # of epochs before
    total_epochs: int = 0  # of the run; 0 where only its reports will say it


@dataclass(frozen=True)
class Reported:
    """A run has finished an epoch."""

    progress: Progress
    elapsed_s: float  # since the run began, by the worker's own clock
    figures: tuple[EpochFigures, ...] = ()  # of the epochs since the report before


@dataclass(frozen=True)
class Failure:
    """An error on its way from a worker; the fields are those of errors.KtrdrError."""

    code: str
    message: str
    hint: str
    field: str | None = None
    stage: str | None = None  # how far the run had come, where the error itself says so


@dataclass(frozen=True)
class Ended:
    """How a run ended. One of the five is set."""

    result: dict[str, Any] | None = None
    parts: list[Part] | None = None  # it is begun again once these have run
    failure: Failure | None = None
    stopped: bool = False  # without a result, because it was to stop
    died: str | None = None  # its process ended before it: with what, in words


Event: TypeAlias = Begun | Reported | Ended
KINDS: Final = {"begun": Begun, "reported": Reported, "ended": Ended}


def encode(event: Event) -> str:
    """An event as one line of JSON. Raises TypeError and ValueError if it holds anything else."""
    (kind,) = (name for name, kind in KINDS.items() if isinstance(event, kind))
    # A loss may be infinite, which only Python's own JSON can say; what is stored is strict.
    return json.dumps({"event": kind, **asdict(event)}, separators=(",", ":"))


def decode(line: str | bytes) -> Event:
    """The event of a line that `encode` made."""
    raw = json.loads(line)
    kind = raw.pop("event")
    if kind != "ended":
        raw["figures"] = tuple(EpochFigures(*each) for each in raw["figures"])
    if kind == "begun":
        return Begun(**raw)
    if kind == "reported":
        return Reported(**{**raw, "progress": Progress(**raw["progress"])})
    failure = raw.pop("failure")
    parts = raw.pop("parts")
    return Ended(
        failure=failure and Failure(**failure),
        parts=None if parts is None else [Part(**part) for part in parts],
        **raw,
    )


Listener: TypeAlias = Callable[[Event], None]


class Handle(Protocol):
    """A run that an executor has taken. Used on the event loop only."""

    def attach(self, listener: Listener) -> None:
        """Hears of the run from now on.

        Args:
            listener: called with what has already come, then with every further event on the
                event loop; progress comes at most ten times a second, and last an `Ended`.
        """

    def stop(self, draining: bool) -> None:
        """Asks the run to end without a result.

        Args:
            draining: whether its state is worth keeping.
        """


class Heard:
    """What a `Handle` does with events: they wait until somebody listens."""

    def __init__(self) -> None:
        self.ended = False
        self._stopped = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None  # called when it is to stop or has ended
        self._listener: Listener | None = None
        self._events: list[Event] = []

    def attach(self, listener: Listener) -> None:
        """See Handle."""
        self._listener = listener
        events, self._events = self._events, []
        for event in events:
            listener(event)

    def deliver(self, event: Event) -> None:
        """Passes an event on, now or once somebody listens; nothing after the end."""
        if self.ended:
            return
        self.ended = isinstance(event, Ended)
        if self._listener is None:
            self._events.append(event)
        else:
            self._listener(event)
        if self.ended:
            self.on_change()

    @property
    def stop_requested(self) -> bool:
        """Whether it is to stop."""
        return self._stopped.is_set()

    def note_stop(self) -> None:
        """Notes that it is to stop."""
        self._stopped.set()
        self.on_change()

    async def wait_for_stop(self, seconds: float) -> None:
        """Waits until it is to stop, or time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()


class HeardRun(Heard):
    """A `Heard` that knows what it runs.

    Args:
        envelope: what to run.
        workdir: where it leaves its files.
    """

    def __init__(self, envelope: Envelope, workdir: Path) -> None:
        super().__init__()
        self.envelope = envelope
        self.workdir = workdir


class Executor(Protocol):
    """A place where tasks run. Used on the event loop only."""

    @property
    def capacity(self) -> int:
        """The most tasks that it runs at once."""

    @property
    def kills(self) -> bool:
        """Whether it ends a cancelled run that does not stop by itself."""

    @property
    def here(self) -> bool:
        """Whether its runs share the memory of this machine."""

    async def open(self, on_room: Callable[[], None]) -> None:
        """Makes ready to take runs. Raises KtrdrError if it cannot be.

        Args:
            on_room: called on the event loop when there may be room for more of them.
        """

    def submit(self, envelope: Envelope, workdir: Path) -> Handle:
        """Begins a run.

        Args:
            envelope: what to run.
            workdir: where it leaves its files.
        """

    def forget(self, task_id: str) -> None:
        """Drops what is kept for a further run of a task, such as a result that had no room.

        Args:
            task_id: of an envelope; it is not submitted again.
        """

    async def close(self) -> bool:
        """Ends everything that was begun.

        Returns:
            whether all has ended; False if a run could not be ended and is left behind.
        """
