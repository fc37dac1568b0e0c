"""Log lines on standard error; standard output belongs to the protocol."""

from __future__ import annotations

import logging
import sys
import textwrap
from typing import Any, Final

from ktrdr_mcp.errors import printable

HANDLER_NAME: Final = "ktrdr-mcp"
LINE_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


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
    handler = logging.StreamHandler(sys.stderr)
    handler.name = HANDLER_NAME
    handler.setFormatter(OneLine(LINE_FORMAT))
    root.addHandler(handler)
