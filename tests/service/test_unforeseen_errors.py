"""What an error that nobody foresaw does to a process that has a server in it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace

import pytest

from ktrdr_mcp.api import logs
from ktrdr_mcp.daemon import connection, process, signals, stdio
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.paths import Workspace

pytestmark = pytest.mark.asyncio

PROCESSES = {
    "detached": process.run_daemon,
    "over HTTP": partial(stdio.serve_http, port=0),
    "over stdio": partial(stdio.serve_stdio, in_process=True),
}
DEFECT = RuntimeError("of the drain")
FORESEEN = [StorageError("It is full.", hint=""), PermissionError(13, "Permission denied")]


class ProcessEnded(BaseException):
    """Instead of the end of the process."""


def ended(code: int) -> None:
    """For end_process."""
    raise ProcessEnded(code)


@pytest.fixture
def service_that_raises(monkeypatch):
    """Lets the server raise an error, in a task group, when it is left after a signal."""

    def prepare(error: Exception) -> None:
        signal = asyncio.Event()

        @asynccontextmanager
        async def announced(workspace, rules=None, listener=None, *, begun, **options):
            begun()
            yield SimpleNamespace(service=None)
            if listener is not None:
                listener.close()
            raise ExceptionGroup("of the session manager", [error])

        async def speak(service, stopped) -> int:
            signal.set()
            return 0

        monkeypatch.setattr(logs, "configure_logging", lambda: None)  # it is for a whole process
        monkeypatch.setattr(signals, "end_process", ended)
        monkeypatch.setattr(stdio, "speak", speak)
        for module in (process, stdio, connection):
            monkeypatch.setattr(module, "serve_workspace", announced)
        for module in (process, stdio):
            monkeypatch.setattr(module, "termination", signal.wait)
            monkeypatch.setattr(module, "settle", signal.set)

    return prepare


@pytest.mark.parametrize("kind", PROCESSES)
async def test_a_defect_is_logged_and_ends_the_process_at_once(
    tmp_path, service_that_raises, caplog, kind
) -> None:
    service_that_raises(DEFECT)
    with pytest.raises(ProcessEnded) as told:
        await PROCESSES[kind](Workspace(tmp_path))
    assert told.value.args == (1,)
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "internal error of ktrdr-mcp" in record.getMessage()
    assert "RuntimeError: 'of the drain'" in record.getMessage()
    assert record.exc_info[1].exceptions == (DEFECT,)


@pytest.mark.parametrize("error", FORESEEN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", PROCESSES)
async def test_an_error_that_has_a_meaning_is_left_to_the_command_line(
    tmp_path, service_that_raises, kind, error
) -> None:
    service_that_raises(error)
    with pytest.raises(ExceptionGroup) as told:
        await PROCESSES[kind](Workspace(tmp_path))
    assert told.value.exceptions == (error,)
