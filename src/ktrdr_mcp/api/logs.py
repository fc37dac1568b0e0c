"""Log lines on standard error; standard output belongs to the protocol."""

from __future__ import annotations

import json
import logging
import re
import sys
import textwrap
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

from ktrdr_mcp.errors import printable

HANDLER_NAME: Final = "ktrdr-mcp"
LINE_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")  # of this HTTP request
REQUESTS: Final = "ktrdr_mcp.requests"  # logs each request, where lines are JSON
TASK: Final = re.compile(r"\btask (%s)")  # in this program's own messages
DIRECTIVE: Final = re.compile(r"%[sdrgf]")
CONCEALED: Final = "[token]"
MAX_EVENT_CHARACTERS: Final = 1_000


class OneLine(logging.Formatter):
    """One line for each message, whatever text a caller got into it; tracebacks follow indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with its traceback, whatever another handler has made of that."""
        record.exc_text = None
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """The record as one line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 (logging's own name)
        """The traceback; what an exception says may have line breaks of its own."""
        return textwrap.indent(printable(super().formatException(ei), keep="\n"), "  ")


class JsonLine(logging.Formatter):
    """One JSON object for each message: time, level, logger, event, and what else is known.

    Args:
        concealed: texts that never reach the log.
    """

    def __init__(self, concealed: Sequence[str] = ()) -> None:
        super().__init__()
        self._concealed = tuple(concealed)

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of ASCII."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            # Concealed before it is cut, or the beginning of a token would be left.
            "event": self._conceal(printable(record.getMessage()))[:MAX_EVENT_CHARACTERS],
        }
        if (task_id := task_of(record)) is not None:
            line["task_id"] = printable(task_id)
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = printable(self.formatException(record.exc_info), keep="\n")
        return self._conceal(json.dumps(line))

    def _conceal(self, text: str) -> str:
        """A text without what is never logged, plain or as in JSON."""
        for secret in self._concealed:
            text = text.replace(json.dumps(secret)[1:-1], CONCEALED).replace(secret, CONCEALED)
        return text


def task_of(record: logging.LogRecord) -> str | None:
    """The id of the task that a message of this program names; None if it names none."""
    if not record.name.startswith("ktrdr_mcp") or not isinstance(record.args, tuple):
        return None
    if (found := TASK.search(record.msg)) is None:
        return None
    place = len(DIRECTIVE.findall(record.msg[: found.start(1)]))
    return str(record.args[place]) if place < len(record.args) else None


def configure_logging(level: int = logging.INFO) -> None:
    """Sends every log line to standard error. Repeating it changes the level only.

    Call it before an MCPServer exists: the SDK installs a boxed 80-column format otherwise.

    Args:
        level: the least severe level that is shown.
    """
    root = logging.getLogger()
    root.setLevel(level)
    # At INFO, the SDK repeats every refused request with the caller's text in full, and the HTTP
    # client tells of every request.
    for chatty in ("mcp", "httpx2"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    if any(handler.name == HANDLER_NAME for handler in root.handlers):
        return
    logging.getLogger(REQUESTS).setLevel(logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.name = HANDLER_NAME
    handler.setFormatter(OneLine(LINE_FORMAT))
    root.addHandler(handler)


def write_json_lines(concealed: Sequence[str] = ()) -> None:
    """Makes each line of the log a JSON object, and logs each HTTP request.

    Args:
        concealed: texts that never reach the log, such as tokens.
    """
    configure_logging()
    logging.captureWarnings(capture=True)
    logging.getLogger(REQUESTS).setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        if handler.name == HANDLER_NAME:
            handler.setFormatter(JsonLine(concealed))
