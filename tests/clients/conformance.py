"""`make conformance`: the official conformance suite and the Inspector on a real server.

The tables are Markdown; with `--output FILE` they are written there, too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import yaml

from tests.clients import fixture_server, node
from tests.support.background_servers import IDLE, end_labs
from tests.support.http_process import ServeProcess

PLAN: Final = Path(__file__).parent / "conformance.yaml"
SCENARIO_LIMIT_S: Final = 120
LISTED: Final = re.compile(r"^\s+- (?P<name>\S+) \[(?P<eras>[^\]]*)\]", re.MULTILINE)
EXTENSION: Final = "extension"  # what the suite calls the era of its scenarios of extensions
TRAINING: Final = {  # a training of seconds, so that the Inspector looks more than once
    "symbol": "AAPL",
    "timeframe": "1h",
    "config": '{"epochs": 40, "early_stopping": null}',
}
HEADING: Final = """\
# Conformance

What `python -m tests.clients.conformance --output docs/conformance.md` printed; `make conformance`
prints the same. "Expected to fail" are checks that tests/clients/conformance.yaml names with the
reason; it names the scenarios that are left out, too. [The protocol](mcp.md) says what is
spoken."""
FAILED: Final = "FAILURE"
PASSED: Final = "SUCCESS"
WARNED: Final = "WARNING"


@dataclass
class Outcome:
    """What one scenario or one look of the Inspector came to."""

    name: str
    passed: int = 0
    expected: int = 0
    warned: int = 0
    problems: list[str] = field(default_factory=list)


class Tables:
    """The lines of the tables, each printed as soon as it is known."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, title: str, *columns: str) -> None:
        """Begins a table."""
        self._say(f"\n## {title}\n" if self.lines else f"## {title}\n")
        self.row(*columns)
        self.row(*("---" for _ in columns))

    def row(self, *cells: str | int) -> None:
        """Adds a row."""
        self._say(f"| {' | '.join(map(str, cells))} |")

    def _say(self, line: str) -> None:
        click.echo(line)
        self.lines.append(line)


@click.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path))
def main(output: Path | None) -> None:
    """Runs everything and prints a table for each era; exits with 1 if anything failed."""
    try:
        node.install()
    except node.Unavailable as reason:
        click.echo(f"Conformance is skipped: {reason}.")
        return
    plan = yaml.safe_load(PLAN.read_text(encoding="utf-8"))
    begun, tables = time.monotonic(), Tables()
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcomes = list(run_all(plan, Path(folder), tables))
        finally:
            end_labs(Path(folder))
    failed = [outcome for outcome in outcomes if outcome.problems]
    for outcome in failed:
        for problem in outcome.problems:
            click.echo(f"{outcome.name}: {problem}")
    click.echo(f"\nIn {time.monotonic() - begun:.0f} s:")
    click.echo(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    if output is not None:
        output.write_text("\n".join([HEADING, "", *tables.lines, ""]), encoding="utf-8")
    sys.exit(1 if failed else 0)


def run_all(plan: dict[str, Any], folder: Path, tables: Tables) -> Iterator[Outcome]:
    """Every scenario of the plan, then the Inspector.

    Args:
        plan: the content of conformance.yaml.
        folder: an empty one for workspace and results.
        tables: get a row for each.
    """
    yield unplanned(plan, folder)
    workspace = folder / "workspace"
    workspace.mkdir()
    suite = f"@modelcontextprotocol/conformance {version('@modelcontextprotocol/conformance')}"
    with ServeProcess(workspace) as server, fixture_server.serving() as fixture:
        for era, scenarios in plan["run"].items():
            of_era = "Tasks extension" if era == EXTENSION else f"Protocol {era}"
            columns = ("scenario", "checks passed", "expected to fail", "warnings", "")
            tables.begin(f"{of_era}, {suite}", *columns)
            url = fixture if era == EXTENSION else f"{server.url}/mcp"
            for scenario in scenarios:
                known = plan["expected_failures"].get(f"{era} {scenario}", {})
                outcome = run_scenario(url, era, scenario, known, folder)
                counts = (outcome.passed, outcome.expected, outcome.warned)
                tables.row(scenario, *counts, "FAILED" if outcome.problems else "ok")
                yield outcome
        inspector = f"@modelcontextprotocol/inspector {version('@modelcontextprotocol/inspector')}"
        tables.begin(f"Inspector, {inspector}", "transport", "era", "what", "came to")
        for target in ("stdio", f"{server.url}/mcp"):
            for era in ("legacy", "modern"):
                yield inspect_schemas(target, era, folder, tables)
            yield follow_training(target, folder, tables)


def version(package: str) -> str:
    """The installed version of an npm package."""
    document = json.loads((node.MODULES / package / "package.json").read_text(encoding="utf-8"))
    return str(document["version"])


def unplanned(plan: dict[str, Any], folder: Path) -> Outcome:
    """Scenarios that the suite has and the plan does not name, and the reverse."""
    listed = subprocess.run(
        [*node.command("conformance"), "list", "--server"],
        env=node.environment(folder),
        capture_output=True,
        text=True,
        timeout=SCENARIO_LIMIT_S,
        check=True,
    )
    outcome = Outcome("conformance.yaml", passed=1)
    left_out = plan["left_out"]
    known = {era: {*left_out, *names} for era, names in plan["run"].items()}
    offered: dict[str, set[str]] = {}
    for found in LISTED.finditer(listed.stdout):
        for era in found["eras"].split(","):
            offered.setdefault(era, set()).add(found["name"])
    for era, names in known.items():
        for name in sorted(offered.get(era, set()) - names):
            outcome.problems.append(f"{name} of {era} is neither run nor left out")
        for name in sorted(set(plan["run"][era]) - offered.get(era, set())):
            outcome.problems.append(f"the suite has no {name} of {era}")
    for name in sorted(set(left_out) - set().union(*offered.values())):
        outcome.problems.append(f"the suite has no {name}, which is left out")
    return outcome


def run_scenario(url: str, era: str, name: str, known: dict[str, str], folder: Path) -> Outcome:
    """Runs one scenario by its name.

    Args:
        url: of the server's MCP endpoint.
        era: the protocol version, or EXTENSION.
        name: of the scenario.
        known: the checks that must fail, with their reasons.
        folder: where results and settings go.
    """
    results = folder / "results" / era / name
    done = subprocess.run(
        [
            *node.command("conformance"),
            *("server", "--url", url, "--scenario", name, "--output-dir", str(results)),
            *(() if era == EXTENSION else ("--spec-version", era)),
        ],
        env=node.environment(folder),
        capture_output=True,
        text=True,
        timeout=SCENARIO_LIMIT_S,
        check=False,
    )
    outcome = Outcome(f"{era} {name}")
    checks = [
        check
        for file in results.rglob("checks.json")
        for check in json.loads(file.read_text(encoding="utf-8"))
    ]
    if not any(check["status"] == PASSED for check in checks):
        outcome.problems.append(f"no check passed: {(done.stdout + done.stderr)[-2_000:]}")
    failures = {check["id"]: check for check in checks if check["status"] == FAILED}
    outcome.passed = sum(check["status"] == PASSED for check in checks)
    outcome.warned = sum(check["status"] == WARNED for check in checks)
    outcome.expected = len(failures.keys() & known)
    for identifier in failures.keys() - known:
        check = failures[identifier]
        said = check.get("errorMessage") or check["description"]
        outcome.problems.append(f"{identifier}: {said}")
    for identifier in known.keys() - failures.keys():
        outcome.problems.append(f"{identifier} no longer fails; take it out of conformance.yaml")
    return outcome


def run_inspector(target: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the Inspector's command line on a server.

    Args:
        target: "stdio", or the URL of the server's MCP endpoint.
        folder: where workspace and settings go.
        options: what it is to do.
    """
    workspace = folder / "inspected"
    line = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace)]
    server = line if target == "stdio" else [target]
    return subprocess.run(
        [*node.command("mcp-inspector"), "--cli", *server, *options],
        env=node.environment(folder) | IDLE,
        capture_output=True,
        text=True,
        timeout=SCENARIO_LIMIT_S,
        check=False,
    )


def inspect_schemas(target: str, era: str, folder: Path, tables: Tables) -> Outcome:
    """Whether the Inspector finds the tools' schemas portable; as `run_inspector`."""
    options = ("--method", "tools/list", "--strict", "--protocol-era", era)
    done = run_inspector(target, folder, *options)
    outcome = Outcome(f"Inspector, {transport(target)}, {era}", passed=1)
    said = (done.stderr.strip().splitlines() or ["no findings"])[-1]
    if done.returncode or not json.loads(done.stdout)["tools"]:
        outcome.problems.append(f"exit code {done.returncode}: {said}")
    tables.row(transport(target), era, "`tools/list --strict`", said)
    return outcome


def follow_training(target: str, folder: Path, tables: Tables) -> Outcome:
    """Whether the Inspector follows the task of one start_training to its verdict by itself."""
    given = [part for pair in TRAINING.items() for part in ("--tool-arg", "=".join(pair))]
    options = ("--method", "tools/call", "--tool-name", "start_training", *given)
    done = run_inspector(target, folder, *options, "--protocol-era", "modern", "--format", "json")
    outcome = Outcome(f"Inspector, {transport(target)}, a task", passed=1)
    came_to = "nothing"
    try:
        content = json.loads(done.stdout)["result"]["structuredContent"]
        verdict = content["performance"]["verdict"]
        came_to = f"{content['status']}, verdict: {verdict['prediction']}"
    except (ValueError, KeyError) as error:
        said = (done.stdout + done.stderr)[-2_000:]
        outcome.problems.append(f"exit code {done.returncode}, no {error}: {said}")
    tables.row(transport(target), "modern", "a task of `start_training`", came_to)
    return outcome


def transport(target: str) -> str:
    """The word for how a server is reached."""
    return "stdio" if target == "stdio" else "HTTP"


if __name__ == "__main__":
    main()
