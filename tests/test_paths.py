"""Names are allow-listed, and nothing a caller writes leads outside the workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktrdr_mcp import paths
from ktrdr_mcp.errors import InvalidName, StorageError
from ktrdr_mcp.paths import Workspace, find_workspace

HOSTILE = [
    "../x",
    "..",
    ".",
    "",
    " ",
    "/etc/passwd",
    "a/../../b",
    "a\\..\\b",
    "%2e%2e%2f",
    "a\0b",
    "~root",
    "C:\\x",
    "file:///etc/passwd",
    "-rf",
    ".staging-x",
    "a" * 10_000,
    "a\u202eb",
    "\uff0e\uff0e\uff0f",
    "a\n",
    "a\x1b[31m",
    "${HOME}",
    None,
    7,
    True,
    ["a"],
    {"a": 1},
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
@pytest.mark.parametrize(
    "check", [paths.task_id, paths.model_name, paths.strategy_name, paths.symbol, paths.timeframe]
)
def test_a_hostile_name_is_refused_with_the_allowed_form(check, text) -> None:
    with pytest.raises(InvalidName) as refused:
        check(text)
    assert len(refused.value.message) < 200
    assert refused.value.message.isprintable()
    assert refused.value.hint


def test_a_symbol_is_upper_cased_only_from_ascii() -> None:
    assert paths.symbol("brk-b") == "BRK-B"
    assert paths.symbol("^gspc") == "^GSPC"
    with pytest.raises(InvalidName):
        paths.symbol("\u0131bm")  # a dotless i, whose upper case is I


def test_a_clients_own_uuid_is_a_task_id() -> None:
    identifier = "3F2504E0-4f89-41d3-9a0c-0305e82c3301"
    assert paths.task_id(identifier) == identifier


def test_a_stored_path_that_leads_outside_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.root.mkdir()
    assert workspace.inside("models/a") == workspace.root / "models" / "a"
    for hostile in ("../workspace-evil", "/etc", "models/../../x"):
        with pytest.raises(StorageError):
            workspace.inside(hostile)


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.models.mkdir(parents=True)
    (workspace.models / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError):
        workspace.inside("models/link")


def test_the_workspace_is_found_in_the_documented_order(tmp_path: Path) -> None:
    (tmp_path / "strategies").mkdir()
    environment = {"KTRDR_WORKSPACE": str(tmp_path / "environment")}
    argument = find_workspace(str(tmp_path / "argument"), environment, tmp_path)
    assert argument.root == tmp_path / "argument"
    assert find_workspace(None, environment, tmp_path).root == tmp_path / "environment"
    assert find_workspace(None, {}, tmp_path).root == tmp_path
    assert find_workspace(None, {}, tmp_path / "elsewhere").root.name == "ktrdr-mcp"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("60m", "1h"),
        ("60min", "1h"),
        ("240 min", "4h"),
        ("24h", "1d"),
        ("hourly", "1h"),
        ("2d", "1d"),
    ],
)
def test_a_width_in_other_words_is_answered_with_a_timeframe(said: str, meant: str) -> None:
    with pytest.raises(InvalidName) as refused:
        paths.timeframe(said)
    assert f"'{meant}'" in refused.value.message


@pytest.mark.parametrize(("said", "meant"), [("Mine", "mine"), ("My model!", "my_model")])
def test_a_model_name_in_another_form_is_answered_with_a_usable_one(said: str, meant: str) -> None:
    with pytest.raises(InvalidName) as refused:
        paths.model_name(said)
    assert f"'{meant}'" in refused.value.message
    assert paths.model_name(meant) == meant
