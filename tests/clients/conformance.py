"""`make conformance`: the official conformance suite and the Inspector on a real server."""

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

from tests.clients import node
from tests.support.background_servers import IDLE, end_labs
from tests.support.http_process import ServeProcess

PLAN: Final = Path(__file__).parent / "conformance.yaml"
SCENARIO_LIMIT_S: Final = 120
LISTED: Final = re.compile(r"^\s+- (?P<name>\S+) \[(?P<eras>[^\]]*)\]", re.MULTILINE)
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


def main() -> int:
    """Runs everything, prints a table for each era, and returns the exit code."""
    try:
        node.install()
    except node.Unavailable as reason:
        click.echo(f"Conformance is skipped: {reason}.")
        return 0
    plan = yaml.safe_load(PLAN.read_text(encoding="utf-8"))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = list(run_all(plan, Path(folder)))
    failed = [outcome for outcome in outcomes if outcome.problems]
    for outcome in failed:
        for problem in outcome.problems:
            click.echo(f"{outcome.name}: {problem}")
    click.echo(f"\nIn {time.monotonic() - begun:.0f} s:")
    click.echo(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def run_all(plan: dict[str, Any], folder: Path) -> Iterator[Outcome]:
    """Every scenario of the plan, then the Inspector.

    Args:
        plan: the content of conformance.yaml.
        folder: an empty one for workspace and results.
    """
    click.echo(f"Conformance suite {version('@modelcontextprotocol/conformance')}")
    yield unplanned(plan, folder)
    workspace = folder / "workspace"
    workspace.mkdir()
    with ServeProcess(workspace) as server:
        for era, scenarios in plan["run"].items():
            click.echo(f"\n{era}  passed  expected to fail  warnings")
            for scenario in scenarios:
                known = plan["expected_failures"].get(f"{era} {scenario}", {})
                outcome = run_scenario(f"{server.url}/mcp", era, scenario, known, folder)
                row = f"{outcome.passed:>6}  {outcome.expected:>16}  {outcome.warned:>8}"
                click.echo(f"{row}  {scenario}{'  FAILED' * bool(outcome.problems)}")
                yield outcome
        click.echo(f"\nInspector {version('@modelcontextprotocol/inspector')}, --strict")
        for target in ("stdio", f"{server.url}/mcp"):
            for era in ("legacy", "modern"):
                yield inspect(target, era, folder)


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
        era: the protocol version.
        name: of the scenario.
        known: the checks that must fail, with their reasons.
        folder: where results and settings go.
    """
    results = folder / "results" / era / name
    done = subprocess.run(
        [
            *node.command("conformance"),
            *("server", "--url", url, "--scenario", name, "--spec-version", era),
            *("--output-dir", str(results)),
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


def inspect(target: str, era: str, folder: Path) -> Outcome:
    """Whether the Inspector finds the tools' schemas portable.

    Args:
        target: "stdio", or the URL of the server's MCP endpoint.
        era: "legacy" or "modern".
        folder: where workspace and settings go.
    """
    workspace = folder / "inspected"
    line = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace)]
    done = subprocess.run(
        [
            *node.command("mcp-inspector"),
            *("--cli", *(line if target == "stdio" else [target])),
            *("--method", "tools/list", "--strict", "--protocol-era", era),
        ],
        env=node.environment(folder) | IDLE,
        capture_output=True,
        text=True,
        timeout=SCENARIO_LIMIT_S,
        check=False,
    )
    if target == "stdio":
        end_labs(folder)
    kind = "stdio" if target == "stdio" else "HTTP"
    outcome = Outcome(f"Inspector, {kind}, {era}", passed=1)
    said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    if done.returncode or not json.loads(done.stdout)["tools"]:
        outcome.problems.append(f"exit code {done.returncode}: {said}")
    click.echo(f"{kind:>6}  {era:>6}  {said}")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
