"""Every command explains itself, and light ones start quickly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from ktrdr_mcp.cli import cli, session


def paths_of(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from paths_of(command, (*above, name))
        else:
            yield (*above, name)


COMMANDS = sorted(paths_of(cli))
WITHOUT_REPLY = {("serve",), ("lab", "run"), ("lab", "logs")}


def test_the_commands_are_those_that_are_promised() -> None:
    assert {path[0] for path in COMMANDS} == {
        "train",
        "tasks",
        "status",
        "performance",
        "report",
        "cancel",
        "compare",
        "reproduce",
        "backtest",
        "models",
        "predict",
        "data",
        "strategies",
        "research",
        "explain",
        "init",
        "demo",
        "doctor",
        "clean",
        "serve",
        "open",
        "lab",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(run, path) -> None:
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert "Usage: ktrdr-mcp" in result.stdout
    assert path in WITHOUT_REPLY or "--json" in result.stdout


@pytest.mark.parametrize("group", ["models", "data", "strategies"])
def test_a_group_without_a_command_lists_and_still_has_help(run, group) -> None:
    assert "Commands:" in run(group, "--help").stdout
    assert "Commands:" not in run(group, "list", "--help").stdout


EXIT_CODES = (
    "DONE",
    "INTERNAL_ERROR",
    "USAGE",
    "LOCKED",
    "REFUSED",
    "TRAINING_FAILED",
    "INTERRUPTED",
    "PIPE_CLOSED",
)


def test_the_help_documents_every_exit_code(run) -> None:
    text = run("--help").stdout
    codes = [getattr(session, name) for name in EXIT_CODES]
    assert all(f"\n    {code} " in text for code in codes)


LIGHT = """
import sys
from ktrdr_mcp.cli import cli
def run(*arguments):
    try:
        cli.main(["--workspace", sys.argv[1], *arguments], prog_name="ktrdr-mcp")
    except SystemExit as ended:
        assert ended.code == 0, ended.code
heavy = {"torch", "pandas", "numpy", "mcp", "sklearn", "pydantic"}
run("--help")
run("train", "--help")
loaded = sorted(heavy & set(sys.modules))
assert not loaded, loaded
run("strategies")
run("data", "--json")
run("data", "check", sys.argv[2])
run("strategies", "check", sys.argv[3])
loaded = sorted({"torch", "mcp", "sklearn"} & set(sys.modules))
assert not loaded, loaded
"""


def test_light_commands_import_nothing_heavy(tmp_path, bars_file) -> None:
    from ktrdr_mcp.strategy.catalog import built_in

    strategy = tmp_path / "default.yaml"
    strategy.write_bytes(built_in("default").read_bytes())
    arguments = [str(tmp_path / "workspace"), str(bars_file()), str(strategy)]
    command = [sys.executable, "-P", "-c", LIGHT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "workspace").exists()
