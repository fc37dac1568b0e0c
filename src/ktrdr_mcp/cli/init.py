"""First steps: `init` makes a workspace, `demo` shows what the tools do."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ktrdr_mcp.cli import output
from ktrdr_mcp.cli.session import in_process, json_option
from ktrdr_mcp.errors import Conflict, quote
from ktrdr_mcp.files import replace, storage_errors

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace

SERVER: Final = "ktrdr"
STRATEGY: Final = "my_strategy"
TIMEOUT_MS: Final = 600_000
MOST_CONFIGURATION_BYTES: Final = 1 << 20
MADE_BY_UVX: Final = "archive-v0"  # the folder of uv's cache, whose programs may go at any time
STRATEGY_TEXT: Final = """\
# A strategy of your own. Check it with: ktrdr-mcp strategies check strategies/my_strategy.yaml
name: my_strategy # the file's own name
description: Momentum and the width of the Bollinger bands.

# What is computed from the bars. rsi, sma, ema and macd are KTRDR's; every function of TA-Lib is
# talib.NAME with TA-Lib's own parameters. Prices are divided by the close unless `raw: true`.
indicators:
  - {name: rsi_7, type: rsi, params: {period: 7}}
  - {name: bands, type: talib.BBANDS, params: {timeperiod: 20}}

# How each value becomes features: named sets, `auto` (three sets at quantiles of the training
# rows) or `crisp` (the value itself).
fuzzy_sets:
  rsi_7: {low: [0, 20, 40], middle: [30, 50, 70], high: [60, 80, 100]}
  bands_upperband: auto
  bands_lowerband: auto

# The network and its training; a request's `config` comes before what stands here.
model:
  type: mlp
  architecture: {hidden_layers: [32, 16], activation: relu, dropout: 0.1}
  training: {learning_rate: 0.001, epochs: 60, early_stopping: {patience: 8}}

# What is to be foretold: which of two barriers is touched first within 12 bars.
training:
  labels: {method: triple_barrier, horizon: 12}

# How predictions are traded in backtests.
decisions: {long_only: true, cost_bps: 5}
"""
IGNORED_TEXT: Final = "# The program's own: database, tasks, checkpoints, address.\n.ktrdr/\n"


@click.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
@json_option
def init(directory: Path, as_json: bool) -> None:
    """Make a workspace: folders, a commented strategy and .mcp.json.

    DIRECTORY is made if it is missing; without it, the current folder is meant. Files that exist
    are kept as they are; in .mcp.json only the entry of this server is added.
    """
    root = directory.expanduser().resolve()
    with storage_errors("making the workspace"):
        files = dict(make(root))
    commands = next_commands(root)
    if as_json:
        reply = {"success": True, "workspace": str(root), "files": files, "next": commands}
        output.print_json(reply)
        return
    to = output.console()
    output.heading(to, str(root))
    for name, state in files.items():
        to.print(f"  {state}  {name}")
    to.print("\nNext:")
    for command in commands:
        to.print(f"  {output.printable(command)}", soft_wrap=True)


def make(root: Path) -> Iterator[tuple[str, str]]:
    """Makes what is missing, and tells of each part whether it was made or kept.

    Args:
        root: the folder of the workspace.
    Raises:
        Conflict: .mcp.json is not what a client could read.
    """
    configuration = add_server(root / ".mcp.json")  # refused before anything is written
    for name in ("data", "strategies", "models"):
        folder = root / name
        yield f"{name}/", "kept" if folder.is_dir() else "made"
        folder.mkdir(parents=True, exist_ok=True)
    texts = {f"strategies/{STRATEGY}.yaml": STRATEGY_TEXT, ".gitignore": IGNORED_TEXT}
    for name, text in texts.items():
        if (root / name).exists():
            yield name, "kept"
        else:
            replace(root / name, text.encode())
            yield name, "made"
    if configuration is None:
        yield ".mcp.json", "kept"
    else:
        replace(root / ".mcp.json", json.dumps(configuration, indent=2).encode() + b"\n")
        yield ".mcp.json", "made"


def add_server(path: Path) -> dict[str, Any] | None:
    """The configuration with this server's entry added; None if it has one.

    Args:
        path: of .mcp.json, which need not exist.
    Raises:
        Conflict: it is no JSON object of servers.
    """
    document: Any = {}
    if path.exists():
        try:
            document = json.loads(path.read_bytes()[:MOST_CONFIGURATION_BYTES])
        except ValueError as error:
            raise unreadable(f"it is no JSON: {quote(str(error))}") from None
    servers = document.get("mcpServers", {}) if isinstance(document, dict) else None
    if not isinstance(servers, dict):
        raise unreadable("mcpServers is no object")
    if SERVER in servers:
        return None
    command, *arguments = program()
    entry = {"command": command, "args": [*arguments, "--workspace", "."], "timeout": TIMEOUT_MS}
    return {**document, "mcpServers": {**servers, SERVER: entry}}


def unreadable(reason: str) -> Conflict:
    """The error of a configuration that nothing can be added to."""
    return Conflict(
        f"The .mcp.json of this folder cannot be extended: {reason}.",
        hint="Mend it or move it away, then run `ktrdr-mcp init` again. Nothing was made.",
        field="directory",
    )


def program() -> list[str]:
    """The command that starts this program from anywhere, as a client's configuration needs it."""
    found = shutil.which("ktrdr-mcp", path=str(Path(sys.executable).parent))
    if found is None:
        return [sys.executable, "-m", "ktrdr_mcp"]
    if MADE_BY_UVX in Path(found).resolve().parts:
        return ["uvx", "ktrdr-mcp"]
    return [found]


def next_commands(root: Path) -> list[str]:
    """The two commands to run after this one."""
    start = shlex.join([*program(), "--workspace", str(root)])
    return [f"{start} doctor --mcp", f"{start} train AAPL 1h --strategy {STRATEGY}"]


@click.command()
@json_option
@click.pass_obj
def demo(workspace: Workspace, as_json: bool) -> None:
    """Walk every tool over MCP stdio on real AAPL bars."""
    import anyio

    from ktrdr_mcp.cli.demo import run_demo

    anyio.run(run_demo, workspace, as_json, in_process())
