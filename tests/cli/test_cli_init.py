"""`init` makes a workspace that works, and never writes over what is there."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ktrdr_mcp.cli.init import program


def made(run, folder: Path) -> dict:
    result = run("init", str(folder), "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_folders_a_strategy_and_the_entry_of_a_client_are_made(run, tmp_path) -> None:
    folder = tmp_path / "new" / "place"
    reply = made(run, folder)
    assert reply["workspace"] == str(folder)
    assert set(reply["files"].values()) == {"made"}
    for name in ("data", "strategies", "models"):
        assert (folder / name).is_dir()
    entry = json.loads((folder / ".mcp.json").read_text("utf-8"))["mcpServers"]["ktrdr"]
    assert entry["args"][-2:] == ["--workspace", "."]
    line = [entry["command"], *entry["args"][:-2], "--version"]
    said = subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "ktrdr-mcp" in said.stdout


def test_the_strategy_that_is_made_can_be_trained_and_is_explained(run, tmp_path) -> None:
    made(run, tmp_path / "workspace")
    file = tmp_path / "workspace" / "strategies" / "my_strategy.yaml"
    assert run("strategies", "check", str(file)).exit_code == 0
    assert file.read_text("utf-8").count("#") > 8


def test_the_next_two_commands_are_printed_and_run(run, tmp_path) -> None:
    reply = made(run, tmp_path / "a folder")
    assert len(reply["next"]) == 2
    shown = run("init", str(tmp_path / "a folder")).stdout
    for command in reply["next"]:
        assert command in shown
        words = shlex.split(command)
        assert str(tmp_path / "a folder") in words
    check = [*words[: words.index("train")], "strategies", "show", "my_strategy"]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0


def test_what_exists_is_kept_and_other_servers_stay(run, tmp_path) -> None:
    (tmp_path / "strategies").mkdir()
    mine = tmp_path / "strategies" / "my_strategy.yaml"
    mine.write_text("mine", encoding="utf-8")
    others = {"mcpServers": {"other": {"command": "other"}}, "more": 1}
    (tmp_path / ".mcp.json").write_text(json.dumps(others), encoding="utf-8")
    files = made(run, tmp_path)["files"]
    assert files["strategies/my_strategy.yaml"] == files["strategies/"] == "kept"
    assert mine.read_text("utf-8") == "mine"
    document = json.loads((tmp_path / ".mcp.json").read_text("utf-8"))
    assert document["more"] == 1
    assert document["mcpServers"].keys() == {"other", "ktrdr"}
    before = (tmp_path / ".mcp.json").read_bytes()
    assert set(made(run, tmp_path)["files"].values()) == {"kept"}
    assert (tmp_path / ".mcp.json").read_bytes() == before


@pytest.mark.parametrize("text", ["{", "[]", '{"mcpServers": []}'])
def test_a_configuration_that_cannot_be_extended_is_refused_and_nothing_is_made(
    run, tmp_path, text
) -> None:
    (tmp_path / ".mcp.json").write_text(text, encoding="utf-8")
    result = run("init", str(tmp_path), "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["error"]["code"] == "conflict"
    assert [path.name for path in tmp_path.iterdir()] == [".mcp.json"]


def test_a_program_in_a_passing_folder_of_uv_is_started_by_uvx(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "archive-v0" / "abc" / "bin"
    folder.mkdir(parents=True)
    file = folder / "ktrdr-mcp"
    file.write_text("#!/bin/sh\n", encoding="utf-8")
    file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert program() == ["uvx", "ktrdr-mcp"]
