"""`doctor --mcp` starts the server as a host does and says what a host would trip over."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktrdr_mcp.cli import host
from ktrdr_mcp.paths import Workspace
from tests.support.background_servers import end_labs


@pytest.fixture(autouse=True)
def _no_lab_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    end_labs(tmp_path)


def examined(workspace: Path) -> dict[str, host.Finding]:
    return {finding.name: finding for finding in host.examine(Workspace(workspace))}


def instead(monkeypatch, tmp_path: Path, code: str) -> None:
    """Puts a program of the test in the place of the server."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{code}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(host.sys, "executable", str(program))


def test_a_server_that_works_passes_every_stage(run, tmp_path) -> None:
    workspace = tmp_path / "workspace"
    run("init", str(workspace))
    found = examined(workspace)
    assert list(found) == ["config", "handshake", "tools", "service", "exit"]
    assert {finding.state for finding in found.values()} == {"ok"}
    assert host.PROTOCOL in found["handshake"].text


def test_a_program_that_ends_at_once_is_wrong_with_its_last_words(monkeypatch, tmp_path) -> None:
    instead(monkeypatch, tmp_path, "import sys; sys.exit('no such module')")
    found = examined(tmp_path / "workspace")
    assert list(found) == ["config", "handshake"]
    assert found["handshake"].state == "wrong"
    assert "no such module" in found["handshake"].text
    assert found["handshake"].remedy


def test_a_stray_line_on_standard_output_is_wrong(monkeypatch, tmp_path) -> None:
    instead(monkeypatch, tmp_path, "print('Hello', flush=True); input()")
    finding = examined(tmp_path / "workspace")["handshake"]
    assert finding.state == "wrong"
    assert "Hello" in finding.text


def test_a_server_that_says_nothing_is_wrong(monkeypatch, tmp_path) -> None:
    instead(monkeypatch, tmp_path, "import sys; sys.stdin.read()")
    monkeypatch.setattr(host, "ANSWER_LIMIT_S", 0.5)
    assert examined(tmp_path / "workspace")["handshake"].state == "wrong"


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        ({"command": sys.executable}, "ok"),
        ({"type": "http", "url": "http://127.0.0.1:8000/mcp"}, "ok"),
        ({"command": "/nowhere/ktrdr-mcp"}, "wrong"),
        ({}, "wrong"),
        (None, "wrong"),
    ],
)
def test_the_entry_of_a_client_is_looked_at_and_not_run(tmp_path, entry, state) -> None:
    file = tmp_path / ".mcp.json"
    servers = {} if entry is None else {"ktrdr": entry}
    file.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    (finding,) = host.read_configured(file)
    assert finding.state == state
    assert bool(finding.remedy) == (state == "wrong")
