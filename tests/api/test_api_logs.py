"""Log lines go to standard error, one line each."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ktrdr_mcp.api.logs import HANDLER_NAME, REQUESTS, configure_logging, write_json_lines


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers = list(root.handlers)
    levels = {name: logging.getLogger(name).level for name in (None, "mcp", "httpx2", REQUESTS)}
    yield
    root.handlers[:] = handlers
    logging.captureWarnings(capture=False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


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


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_line_of_json_says_when_how_bad_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    write_json_lines()
    before = datetime.now(UTC).replace(microsecond=0)
    log = logging.getLogger("ktrdr_mcp.jobs")
    log.warning("attempt %d of task %s had lost its task", 3, "m\x1b[2J\u202e1")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("%s failed", "a\nb")
    lost, failed = json_lines(capsys.readouterr().err)
    assert set(lost) == {"time", "level", "logger", "event", "task_id"}
    assert before <= datetime.fromisoformat(lost["time"]) <= datetime.now(UTC)
    assert lost["time"].endswith("Z")
    assert (lost["level"], lost["task_id"]) == ("warning", r"m\x1b[2J\u202e1")
    assert lost["event"] == r"attempt 3 of task m\x1b[2J\u202e1 had lost its task"
    assert (failed["level"], failed["event"]) == ("error", r"a\nb failed")
    assert failed["traceback"].endswith("ValueError: first\nsecond")


def test_no_secret_reaches_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    secret = 'a-"token\\of-16-characters'
    write_json_lines([secret])
    try:
        raise ValueError(secret)
    except ValueError:
        logging.getLogger("ktrdr_mcp.test").exception("It is %s", secret)
    (line,) = json_lines(capsys.readouterr().err)
    assert secret not in json.dumps(line)
    assert secret not in line["event"] + line["traceback"]
    assert "token\\\\of" not in line["traceback"]


def test_a_warning_of_a_library_is_a_line_of_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    write_json_lines()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("deprecated", UserWarning, stacklevel=1)
    (line,) = json_lines(capsys.readouterr().err)
    assert line["logger"] == "py.warnings"
    assert "deprecated" in line["event"]
