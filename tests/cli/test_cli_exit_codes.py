"""What every kind of failure exits with, and that none shows a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ktrdr_mcp.cli import session
from ktrdr_mcp.daemon import connection
from ktrdr_mcp.ownership.lock import ownership
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests

TRAIN = ("train", "AAPL", "1h")
SERIES = {"symbol": "AAPL", "timeframe": "1h"}
FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [8]}


def check(result, code: int, error_code: str | None = None) -> None:
    """A refusal in one form or the other, without a traceback."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    if error_code is not None:
        assert json.loads(result.stdout)["error"]["code"] == error_code


USAGE = [
    ("nonsense",),
    ("--nonsense",),
    ("train",),
    ("train", "AAPL"),
    (*TRAIN, "more"),
    (*TRAIN, "--epochs", "many"),
    (*TRAIN, "--epochs", "9" * 5_000),
    (*TRAIN, "--set", "epochs"),
    (*TRAIN, "--set", "=5"),
    (*TRAIN, "--set", "a..b=5"),
    (*TRAIN, "--set", "epochs=5", "--epochs", "6"),
    (*TRAIN, "--set", "labels=5", "--set", "labels.method=zigzag"),
    (*TRAIN, "--set", "labels.method=zigzag", "--set", "labels=5"),
    ("tasks", "--status", "done"),
    ("tasks", "--limit", "x"),
    ("status",),
    ("status", "a", "--wait", "-1"),
    ("status", "a", "--wait", "nan"),
    ("status", "a", "--wait", "9" * 400),
    ("models", "burn"),
    ("models", "save", "a"),
    ("data", "check"),
]


@pytest.mark.parametrize("line", USAGE, ids=lambda line: " ".join(line)[:40])
def test_wrong_usage_is_2(run, line) -> None:
    check(run(*line), session.USAGE)
    check(run(*line, "--json"), session.USAGE, "invalid_request")


REFUSED = [
    (("train", "../AAPL", "1h"), "invalid_name"),
    (("train", "", ""), "invalid_name"),
    (("train", "AAPL", "7h"), "invalid_name"),
    (("train", "A\x1b[2J", "1h"), "invalid_name"),
    (("train", "\udcff", "1h"), "invalid_name"),
    (("train", "NONE", "1h"), "data_not_found"),
    ((*TRAIN, "--strategy", "../x"), "invalid_name"),
    ((*TRAIN, "--strategy", "nothing"), "strategy_not_found"),
    ((*TRAIN, "--start", "yesterday"), "invalid_request"),
    ((*TRAIN, "--start", "\udcff"), "invalid_request"),
    ((*TRAIN, "--start", "2030-01-01"), "not_enough_data"),
    ((*TRAIN, "--epochs", "0"), "limit_exceeded"),
    ((*TRAIN, "--set", "epoch=5"), "invalid_request"),
    ((*TRAIN, "--set", "epochs=NaN"), "invalid_request"),
    ((*TRAIN, "--set", "learning_rate=1e999"), "invalid_request"),
    ((*TRAIN, "--set", "epochs=five"), "invalid_request"),
    ((*TRAIN, "--set", "seed=" + "9" * 5_000), "invalid_request"),
    ((*TRAIN, "--set", "labels=" + "[" * 50_000), "invalid_request"),
    ((*TRAIN, "--set", "early_stopping.patience=true"), "invalid_request"),
    ((*TRAIN, "--set", "early_stopping." * 500 + "x=1"), "invalid_request"),
    (("status", "no such task"), "invalid_name"),
    (("status", "nothing"), "task_not_found"),
    (("cancel", "nothing"), "task_not_found"),
    (("performance", "nothing"), "task_not_found"),
    (("tasks", "--limit", "0"), "limit_exceeded"),
    (("tasks", "--offset", "-1"), "limit_exceeded"),
    (("tasks", "--symbol", "/etc"), "invalid_name"),
    (("models", "show", "Upper"), "invalid_name"),
    (("models", "show", "nothing"), "model_not_found"),
    (("models", "load", "nothing"), "model_not_found"),
    (("models", "save", "nothing", "name"), "task_not_found"),
    (("models", "save", "nothing", "name", "--description", "x" * 501), "invalid_request"),
    (("predict", "nothing"), "model_not_found"),
    (("predict", "nothing", "--symbol", "AAPL", "--timeframe", "2h"), "invalid_name"),
    (("data", "--limit", "0"), "limit_exceeded"),
    (("data", "check", "no-such-file.csv"), "not_found"),
    (("data", "check", "/"), "not_found"),
    (("data", "check", "/dev/null"), "not_found"),
    (("data", "check", "x" * 5_000), "storage_error"),
    (("data", "check", "\udcff.csv"), "not_found"),
    (("strategies", "show", "../../etc/passwd"), "invalid_name"),
    (("strategies", "show", "nothing"), "strategy_not_found"),
    (("strategies", "check", "nothing.yaml"), "not_found"),
]


@pytest.mark.parametrize(("line", "code"), REFUSED, ids=lambda value: str(value)[:50])
def test_refusals_are_4(shop, line, code) -> None:
    check(shop.run(*line, "--json"), session.REFUSED, code)


@pytest.mark.parametrize("line", [REFUSED[3][0], REFUSED[4][0], REFUSED[21][0]])
def test_a_refusal_is_two_sentences_without_control_characters(shop, line) -> None:
    result = shop.run(*line)
    check(result, session.REFUSED)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert "\x1b" not in result.stderr


def test_hints_name_commands_instead_of_tools(shop) -> None:
    assert "`ktrdr-mcp tasks`" in shop.run("status", "nothing").stderr


def test_a_workspace_that_is_a_file_is_4(tmp_path, run) -> None:
    (tmp_path / "workspace").write_text("not a folder", encoding="utf-8")
    check(run("tasks", "--json"), session.REFUSED, "storage_error")


@pytest.mark.parametrize("folder", ["~nobody-of-this-name", "\0"])
def test_a_workspace_that_cannot_be_named_is_4(run, folder) -> None:
    check(run("--workspace", folder, "data", "--json"), session.REFUSED, "invalid_request")


def test_a_workspace_whose_owner_does_not_answer_is_3(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(connection, "START_TIMEOUT_S", 0.0)
    with ownership(Workspace(tmp_path / "workspace")):
        check(run("tasks", "--json"), session.LOCKED, "workspace_locked")


def test_a_training_that_diverges_is_5(shop) -> None:
    wild = ("--set", "optimizer=sgd", "--set", "learning_rate=1000000", "--epochs", "5")
    check(shop.run(*TRAIN, *wild, "--json"), session.TRAINING_FAILED, "diverged")


def test_waiting_for_a_training_that_failed_is_5_and_looking_at_it_is_0(shop) -> None:
    wild = {"optimizer": "sgd", "learning_rate": 1e6, "epochs": 5}
    started = shop.ask("start_training", requests.StartTraining, **SERIES, config=wild)
    line = ("status", started["task_id"])
    waited = shop.run(*line, "--wait", "50", "--json")
    assert waited.exit_code == session.TRAINING_FAILED
    assert json.loads(waited.stdout)["status"] == "failed"
    assert shop.run(*line).exit_code == session.DONE


def test_a_cancelled_training_is_waited_for_with_the_command_that_cancelling_prints(shop) -> None:
    started = shop.ask("start_training", requests.StartTraining, **SERIES, config=FOREVER)
    line = ("status", started["task_id"])
    while shop.reply(*line)["status"] != "training":
        pass
    assert shop.run(*line, "--wait", "1").exit_code == session.DONE
    told = shop.run("cancel", started["task_id"]).stdout
    _, printed, _ = told.split("`")
    program, *arguments = printed.split()
    assert program == "ktrdr-mcp"
    waited = shop.run(*arguments, "--json")
    assert json.loads(waited.stdout)["status"] == "cancelled"
    assert waited.exit_code == session.TRAINING_FAILED


def test_an_interruption_is_130(run, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "with_service", interrupted)
    check(run("tasks", "--json"), session.INTERRUPTED, "interrupted")


def test_an_internal_error_is_1_and_the_only_one_with_a_traceback(run, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(session, "with_service", broken)
    result = run("tasks", "--json")
    assert result.exit_code == session.INTERNAL_ERROR
    assert json.loads(result.stdout)["error"]["code"] == "internal_error"
    assert "Traceback" in result.stderr


def test_what_a_task_group_wraps_is_told_as_itself(run, monkeypatch) -> None:
    def wrapped(*_: object, **__: object) -> None:
        raise BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [KeyboardInterrupt()])])

    monkeypatch.setattr(session, "with_service", wrapped)
    check(run("tasks"), session.INTERRUPTED)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes")
def test_a_closed_pipe_is_141_and_silent(tmp_path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [
        sys.executable,
        "-m",
        "ktrdr_mcp",
        "--workspace",
        str(tmp_path),
        "--in-process",
        "strategies",
    ]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert done.returncode == session.PIPE_CLOSED
    assert done.stderr == b""


def test_closed_output_ends_the_program_without_a_traceback(tmp_path) -> None:
    command = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(tmp_path), "data"]
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (141, "")
