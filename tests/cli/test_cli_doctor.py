"""The doctor finds what is wrong, says how to mend it, and changes nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
from pathlib import Path

import pytest

from ktrdr_mcp.errors import DatabaseError
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.lock import ownership
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service import diagnosis
from ktrdr_mcp.store import repair, sqlite_errors
from ktrdr_mcp.store.migrate import prepare, read_migrations


@pytest.fixture(autouse=True)
def quick_probe(monkeypatch) -> None:
    """PyTorch takes seconds to import; one test below runs the real probe."""
    monkeypatch.setattr(diagnosis, "TORCH_PROBE", 'print(\'{"version": "1", "device": "cpu"}\')')


def findings(result) -> dict[str, list[dict[str, str]]]:
    checks: dict[str, list[dict[str, str]]] = {}
    for check in json.loads(result.stdout)["checks"]:
        checks.setdefault(check["name"], []).append(check)
    return checks


def test_a_healthy_machine_is_0_and_nothing_is_made(run, tmp_path) -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith("Nothing is wrong.")
    assert list(tmp_path.iterdir()) == []


def test_every_subject_is_looked_at(run) -> None:
    result = run("doctor", "--json")
    assert json.loads(result.stdout)["healthy"] is True
    assert list(findings(result)) == [
        "python",
        "torch",
        "sqlite",
        "workspace",
        "marker",
        "owner",
        "database",
        "disk",
        "data",
        "strategies",
    ]


def test_defects_of_bars_and_strategies_are_named_with_a_remedy(run, bars_file) -> None:
    bars_file("GOOD_1d.csv", folder="workspace/data")
    bars_file("BAD_1h.csv", "t,open,high,low,close\n2024-01-01,1,0,1,1\n", "workspace/data")
    bars_file("stranger.csv", folder="workspace/data")
    bars_file("README.md", folder="workspace/data")
    bars_file("broken.yaml", "indicators: 5", "workspace/strategies")
    bars_file("an upper.yaml", "", "workspace/strategies")
    result = run("doctor", "--json")
    assert result.exit_code == 4
    found = findings(result)
    assert [(one["state"], bool(one["remedy"])) for one in found["data"]] == [
        ("wrong", True),
        ("ok", False),
        ("note", True),
    ]
    assert "BAD 1h" in found["data"][0]["text"]
    assert "3 series" in found["data"][1]["text"]
    assert found["data"][2]["text"].startswith("'stranger.csv' is not read")
    assert "broken" in found["strategies"][0]["text"]
    assert found["strategies"][2]["text"] == "'an upper.yaml' is not read"
    assert "an_upper.yaml" in found["strategies"][2]["remedy"]
    assert run("doctor").stdout.rstrip().endswith("2 to mend.")


def test_a_strategy_with_unknown_names_is_wrong(run, bars_file) -> None:
    text = "indicators: [{name: a, type: rsii}]\nfuzzy_sets: {a: auto}\n"
    bars_file("typo.yaml", text, "workspace/strategies")
    found = findings(run("doctor", "--json"))["strategies"][0]
    assert found["state"] == "wrong"
    assert "'rsi'" in found["text"]


def test_a_damaged_database_is_wrong(run, tmp_path) -> None:
    database = tmp_path / "workspace" / ".ktrdr" / "ktrdr.db"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"this is no database " * 500)
    result = run("doctor", "--json")
    assert result.exit_code == 4
    assert findings(result)["database"][0]["state"] == "wrong"
    assert list(database.parent.iterdir()) == [database]


def test_a_database_of_a_newer_version_is_refused(tmp_path) -> None:
    path = tmp_path / "newer.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1000")
    with pytest.raises(DatabaseError, match="1000"):
        repair.check(path)


def test_the_owner_is_named_without_its_token(run, tmp_path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    with ownership(workspace):
        address.write(workspace, address.DaemonAddress("http://127.0.0.1:1", token="secret-word"))
        result = run("doctor", "--json")
    assert f"process {os.getpid()} " in findings(result)["owner"][0]["text"]
    assert "secret-word" not in result.output


def test_a_lock_that_nobody_holds_is_no_owner(run, tmp_path) -> None:
    with ownership(Workspace(tmp_path / "workspace")):
        pass
    assert findings(run("doctor", "--json"))["owner"][0]["text"] == "no process"


def test_a_whole_database_is_said_to_be_whole(run, tmp_path) -> None:
    path = Workspace(tmp_path / "workspace").database
    prepare(path, read_migrations())
    assert findings(run("doctor", "--json"))["database"][0]["text"] == "whole"


def test_a_torch_that_does_not_work_is_wrong(run, monkeypatch) -> None:
    monkeypatch.setattr(diagnosis, "TORCH_PROBE", "raise ImportError('no libtorch')")
    result = run("doctor", "--json")
    found = findings(result)["torch"][0]
    assert found["state"] == "wrong"
    assert "no libtorch" in found["text"]
    assert "pip install" in found["remedy"]
    assert "Traceback" not in result.output


def test_too_little_space_is_wrong(run, monkeypatch) -> None:
    monkeypatch.setattr(diagnosis, "FREE_BYTES_WANTED", 10**30)
    assert findings(run("doctor", "--json"))["disk"][0]["state"] == "wrong"


def test_a_workspace_that_is_a_file_is_wrong(run, tmp_path) -> None:
    (tmp_path / "workspace").write_text("", encoding="utf-8")
    result = run("doctor", "--json")
    assert result.exit_code == 4
    assert findings(result)["workspace"][0]["state"] == "wrong"


def test_a_workspace_that_cannot_be_written_is_only_read(run, tmp_path, monkeypatch) -> None:
    root = tmp_path / "workspace"
    root.mkdir(mode=0o555)
    if os.geteuid() == 0:  # whom modes do not bind
        monkeypatch.setattr(diagnosis, "can_write", lambda folder: folder != root)
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    (found,) = findings(result)["workspace"]
    assert found["state"] == "note"
    assert "--workspace" in found["remedy"]
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version, affected) -> None:
    assert sqlite_errors.has_wal_reset_bug(version) is affected


def test_the_probe_of_torch_tells_version_and_device(monkeypatch) -> None:
    monkeypatch.undo()
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(diagnosis.TORCH_PROBE, {})
    assert set(json.loads(told.getvalue())) == {"version", "device"}


def test_a_file_of_bars_is_checked_wherever_it_lies(run, bars_file) -> None:
    result = run("data", "check", str(bars_file()))
    assert result.exit_code == 0
    assert result.stdout.startswith("Sound")
    assert "2024-01-01 02:00" in result.stdout


def test_a_file_whose_name_says_no_series_is_checked_and_told_so(run, bars_file) -> None:
    result = run("data", "check", str(bars_file("-my \x1b[1mbars.csv")))
    assert result.exit_code == 0, result.output
    assert "SYMBOL_TIMEFRAME.csv" in result.stdout
    assert "\x1b" not in result.stdout


def test_the_defects_of_a_file_are_named_with_their_lines(run, bars_file) -> None:
    text = "t,open,high,low,close,volume\n2024-01-01,1,2,1,2,5\n2024-01-01,9,2,1,2,-5\n"
    result = run("data", "check", str(bars_file(text=text)))
    assert result.exit_code == 4
    assert "line 3" in result.stderr
    assert "duplicate times" in result.stderr


def test_a_file_that_is_no_table_is_refused_by_its_name(run, bars_file) -> None:
    assert run("data", "check", str(bars_file("bars.txt"))).exit_code == 4


def test_a_checked_path_may_be_a_link(run, bars_file, tmp_path) -> None:
    link = tmp_path / "LINK_1d.csv"
    link.symlink_to(bars_file())
    assert run("data", "check", str(link)).exit_code == 0


def test_a_strategy_file_is_checked_as_a_training_would(run, bars_file) -> None:
    text = (Path(__file__).parents[2] / "strategies" / "mean_reversion.yaml").read_text("utf-8")
    good = bars_file("mean_reversion.yaml", text)
    assert run("strategies", "check", str(good)).exit_code == 0
    bad = bars_file("mean_reversion.yaml", text.replace("rsi_7", "rsi_8", 1))
    result = run("strategies", "check", str(bad))
    assert result.exit_code == 4
    assert result.stderr.startswith("Error: ")


def test_files_of_bars_that_are_passed_over_are_named_with_what_to_do(run, bars_file) -> None:
    names = ("aapl_1h.csv", "AAPL_1D.csv", "IBM_1h.CSV", "MSFT_1h.csv")
    for name in names:
        bars_file(name, folder="workspace/data")
    link = bars_file("GE_1h.csv", folder="workspace/data")
    link.symlink_to(link.rename(link.parents[2] / "GE_1h.csv"))
    told = findings(run("doctor", "--json"))["data"]
    found = {one["text"].split("'")[1]: one["remedy"] for one in told if one["state"] == "note"}
    assert found == {
        "AAPL_1D.csv": "Rename it to AAPL_1d.csv.",
        "GE_1h.csv": "Put a copy of the file there instead of the link.",
        "IBM_1h.CSV": "Rename it to IBM_1h.csv.",
        "aapl_1h.csv": "Rename it to AAPL_1h.csv.",
    }
    listed = run("data", "list")
    assert "'AAPL_1D.csv', which is not read" in " ".join(listed.stdout.split())
    assert "Rename it to IBM_1h.csv" in run("data", "list", "--symbol", "IBM").stdout


def test_a_misnamed_file_is_checked_and_told_its_right_name(run, bars_file) -> None:
    assert "be called AAPL_1h.csv" in run("data", "check", str(bars_file("aapl_1h.csv"))).stdout
