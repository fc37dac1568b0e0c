"""Log lines go to standard error, one line each."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from ktrdr_mcp.api.logs import HANDLER_NAME, configure_logging


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, sdk = logging.getLogger(), logging.getLogger("mcp")
    handlers, level, sdk_level = list(root.handlers), root.level, sdk.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sdk.setLevel(sdk_level)


def test_a_message_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    logging.getLogger("ktrdr_mcp.test").info("first\nforged line\r%s", "x")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("INFO ktrdr_mcp.test: first\\nforged line\\rx\n")


def test_names_from_outside_are_escaped_in_messages_and_tracebacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging()
    name = "m\x1b[2J\u202eodel\u2028\n$(touch x)"
    try:
        raise ValueError(name)
    except ValueError:
        logging.getLogger("ktrdr_mcp.test").exception("%s failed", name)
    err = capsys.readouterr().err
    assert r"m\x1b[2J\u202eodel\u2028\n$(touch x) failed" in err
    lines = err.rstrip("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    configure_logging(logging.WARNING)
    names = [handler.name for handler in logging.getLogger().handlers]
    assert names.count(HANDLER_NAME) == 1
    logging.getLogger("ktrdr_mcp.test").info("unseen")
    logging.getLogger("ktrdr_mcp.test").warning("seen")
    assert capsys.readouterr().err.count("seen") == 1


def test_a_traceback_follows_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("ktrdr_mcp.test").exception("It failed")
    err = capsys.readouterr().err
    assert "It failed\n  Traceback (most recent call last):\n" in err
    assert err.endswith("ValueError: why\n")


def test_the_sdk_does_not_log_refused_requests(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    logging.getLogger("mcp.server.mcpserver.server").info("Resource %r failed", "x" * 10_000)
    assert capsys.readouterr().err == ""
