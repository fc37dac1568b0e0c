"""Work for worker processes that needs no torch: each run does what its specification says."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ktrdr_mcp.context import Context, Part, Progress
from ktrdr_mcp.errors import Diverged, StorageError
from tests.support.gated_runner import RESULT

CALLED = threading.Event()
LIMIT_BYTES = 2 * 1024**3


def of_parts(names: list[str]) -> list[Part]:
    """Parts of equal size whose specification is their name."""
    return [Part(name, {"name": name}, 1 / len(names)) for name in names]


def open_work(argument: str) -> ScriptedWork:
    """The entry.

    Args:
        argument: "limited" bounds the worker's address space, "never" imports for ever; the name of
            a file makes the worker one of another version while there is such a file.
    """
    if argument == "never":
        time.sleep(1_000)
    if argument == "limited":
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    if argument and Path(argument).exists():
        sys.modules["__main__"].__version__ = "9.9.9"  # type: ignore[attr-defined]  # of the worker
    return ScriptedWork()


class ScriptedWork:
    """A jobs.process.Work."""

    def run(self, spec: dict[str, Any], workdir: Path, context: Context) -> dict[str, Any]:
        """Reports where it runs and for which time, then does as it is told."""
        if "part" in spec:  # whose folder is emptied before each run
            spec, workdir = self.of_part(spec), workdir.parent
        workdir.mkdir(parents=True, exist_ok=True)
        with (workdir / "pids").open("a", encoding="ascii") as pids:
            pids.write(f"{os.getpid()}\n")
        attempt = len((workdir / "pids").read_text(encoding="ascii").split())
        context.begin_at(spec.get("begins_at", [0] * attempt)[attempt - 1], None)
        context.report(Progress(attempt, 100, 0.7, 0.8, 0.5, 0.4))
        if spec.get("does") == "divides":
            context.run_parts(of_parts(spec["parts"]))
            return RESULT
        getattr(self, spec.get("does", "nothing"))(attempt, context)
        return RESULT

    def of_part(self, spec: dict[str, Any]) -> dict[str, Any]:
        """What a part does."""
        return {"does": spec["of_parts"].get(spec["part"]["name"], "nothing")}

    def nothing(self, attempt: int, context: Context) -> None:
        """Ends at once."""

    def turns(self, attempt: int, context: Context) -> None:
        """Takes turns until it must stop."""
        while True:
            context.yield_turn()
            time.sleep(0.001)

    def heeds_nothing(self, attempt: int, context: Context) -> None:
        """Stays inside a step."""
        time.sleep(1_000)

    def dies_once(self, attempt: int, context: Context) -> None:
        """Is killed in its first attempt."""
        if attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def dies(self, attempt: int, context: Context) -> None:
        """Is killed in every attempt."""
        os.kill(os.getpid(), signal.SIGKILL)

    def raises(self, attempt: int, context: Context) -> None:
        """Fails with one of this program's errors."""
        raise Diverged("The loss became NaN.", hint="Lower it.", field="config.learning_rate")

    def fails(self, attempt: int, context: Context) -> None:
        """Fails with an internal error."""
        raise ZeroDivisionError("a secret")

    def fills_memory(self, attempt: int, context: Context) -> None:
        """Asks for more than there is."""
        bytearray(4 * LIMIT_BYTES)

    def finds_no_room_once(self, attempt: int, context: Context) -> None:
        """Cannot publish its result the first time."""
        if attempt == 1:
            error = StorageError("The disk is full.", hint="Make room.")
            error.stage = "publishing"
            raise error

    def prints(self, attempt: int, context: Context) -> None:
        """Writes where only the protocol may be."""
        print("not a line of the protocol", flush=True)  # noqa: T201
        logging.getLogger("ktrdr_mcp.test").warning("said by a worker")

    def about(self) -> dict[str, Any]:
        """Something that only a worker knows."""
        return {"pid": os.getpid()}

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Gives the arguments back, or fails."""
        if name == "raises":
            raise Diverged("The loss became NaN.", hint="Lower it.")
        if name == "waits":
            CALLED.wait(60)
        if name == "wakes":
            CALLED.set()
        if name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"name": name, **arguments}
