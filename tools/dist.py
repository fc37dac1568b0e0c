"""`make dist`: everything that is published, made and checked; one step alone with its name.

Each installation goes into an empty environment outside the checkout. A step that this machine
cannot take is skipped with its reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.clients import node

ROOT: Final = Path(__file__).resolve().parents[1]
TOOLS: Final = ROOT / "build" / "tools" / "bin"
DIST: Final = ROOT / "dist"
CONSTRAINTS: Final = ROOT / "constraints.txt"
SKILL_WORDS: Final = 600
DESCRIPTION_CHARACTERS: Final = 100  # the registry's bound
WARM_CPU_S: Final = 2.5  # of a warm uvx up to the answer of initialize; what else runs counts not
WARM_GOAL_S: Final = 1.2  # on a machine with nothing else to do
PIP_GOAL_S: Final = 90  # likewise
EMPTY_SERVER: Final = "from mcp.server.mcpserver import MCPServer; MCPServer('empty').run()"
TIMES: Final = 5  # each is started by turns; the quickest counts
# Where the repository's owner and name stand; CONTRIBUTING.md says so to whoever moves it.
WITH_ADDRESSES: Final = (
    "pyproject.toml",
    "server.json",
    "packaging/mcpb/manifest.json",
    "plugin/.claude-plugin/plugin.json",
    "docs/clients.md",
)
IN_WHEEL: Final = (  # beside every file of src
    "ktrdr_mcp/strategies/default.yaml",
    "ktrdr_mcp/strategies/mean_reversion.yaml",
    "ktrdr_mcp/strategies/trend_following.yaml",
    "ktrdr_mcp/strategies/volatility_breakout.yaml",
)
CACHES: Final = frozenset({"__pycache__"})
IN_SDIST: Final = ("constraints.txt", "strategies/default.yaml", "tests/conftest.py", "Makefile")


class Skipped(Exception):
    """This machine cannot take the step."""


def run(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Runs a program and returns its output. Raises CalledProcessError, with the output shown."""
    done = subprocess.run(
        [str(each) for each in command], cwd=cwd, env=env, capture_output=True, text=True
    )
    if done.returncode:
        print(done.stdout[-4_000:], done.stderr[-4_000:], file=sys.stderr)
        done.check_returncode()
    return done.stdout


def the_wheel() -> Path:
    """The wheel that was built."""
    (path,) = DIST.glob("*.whl")
    return path


def version() -> str:
    """The version that the package says."""
    text = (ROOT / "src/ktrdr_mcp/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found is not None
    return found[1]


def document(name: str) -> Any:
    """A JSON file of the checkout."""
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


def build(folder: Path) -> str:
    """The sdist, and the wheel out of it; twine, and what must be inside."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(TOOLS / "python", "-m", "build", "--outdir", DIST)
    (sdist,) = DIST.glob("*.tar.gz")
    run(TOOLS / "twine", "check", "--strict", the_wheel(), sdist)
    with zipfile.ZipFile(the_wheel()) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        needs = archive.read(metadata).decode()
    with tarfile.open(sdist) as packed:
        held = {name.partition("/")[2] for name in packed.getnames()}
    sources = (path for path in (ROOT / "src").rglob("*") if path.is_file())
    wanted = {
        str(path.relative_to(ROOT / "src")) for path in sources if path.parent.name not in CACHES
    }
    missing = sorted({*wanted, *IN_WHEEL} - names)
    missing += [name for name in IN_SDIST if name not in held]
    assert not missing, f"not packed: {missing}"
    foreign = [name for name in names if not name.startswith("ktrdr_mcp")]
    assert not foreign, f"does not belong into the wheel: {foreign}"
    assert re.search(r"^Requires-Dist: torch>=", needs, re.MULTILINE), "torch must stay a range"
    return f"{the_wheel().name}, {the_wheel().stat().st_size // 1_000} kB; twine is content"


def repositories(name: str) -> list[str]:
    """The repositories of GitHub that a file names, "owner/name"."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"(?:github\.com/|marketplace add )([\w-]+/[\w-]+)", text)


def metadata(folder: Path) -> str:
    """server.json, the plugin and the bundle agree with the package and with each other."""
    expected = version()
    server, plugin = document("server.json"), document("plugin/.claude-plugin/plugin.json")
    bundle = document("packaging/mcpb/manifest.json")
    told = {
        "server.json": server["version"],
        "server.json, package": server["packages"][0]["version"],
        "plugin.json": plugin["version"],
        "manifest.json": bundle["version"],
    }
    assert set(told.values()) == {expected}, f"the version is {expected}, but {told}"
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", server["name"])
    assert len(server["description"]) <= DESCRIPTION_CHARACTERS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    home = project["urls"]["Homepage"].removeprefix("https://github.com/")
    mark = f"<!-- mcp-name: {server['name']} -->"
    assert mark in (ROOT / "README.md").read_text(encoding="utf-8"), f"README lacks {mark}"
    foreign = [name for name in WITH_ADDRESSES if set(repositories(name)) - {home}]
    assert not foreign, f"{foreign} name another repository than pyproject.toml's {home}"
    assert server["name"] == f"io.github.{home}"
    (listed,) = document(".claude-plugin/marketplace.json")["plugins"]
    assert (ROOT / listed["source"] / ".claude-plugin/plugin.json").is_file()
    assert listed["name"] == plugin["name"]
    assert document("plugin/.mcp.json")["mcpServers"]["ktrdr"]["command"] == "uvx"
    skills = list((ROOT / "plugin/skills").glob("*/SKILL.md"))
    for skill in skills:
        text = skill.read_text(encoding="utf-8")
        assert len(text.split()) < SKILL_WORDS, f"{skill.name} is too long"
        assert f"\nname: {skill.parent.name}\n" in text
    assert skills
    return f"{server['name']} {expected}"


def try_program(program: Sequence[str | Path], folder: Path, env: Mapping[str, str]) -> None:
    """A workspace, a look as a client, and a training to its verdict, outside the checkout."""
    workspace = folder / "workspace"
    run(*program, "init", workspace, env=env, cwd=folder)
    strategies = json.loads(run(*program, "strategies", "--json", env=env, cwd=folder))
    assert "volatility_breakout" in json.dumps(strategies)
    at = [*program, "--workspace", workspace]
    checks = json.loads(run(*at, "doctor", "--mcp", "--json", env=env, cwd=folder))
    assert checks["healthy"], checks
    replies = json.loads(run(*at, "demo", "--json", env=env, cwd=folder))["replies"]
    assert replies["get_model_performance"]["verdict"]["prediction"]


def outside(folder: Path) -> dict[str, str]:
    """An environment without this checkout, whose settings lie in the folder."""
    kept = {name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")}
    kept.pop("XDG_DATA_HOME", None)
    return {**kept, "HOME": str(folder)}


def pip(folder: Path) -> str:
    """pip, into an empty virtual environment; then a training there."""
    before, begun = cpu_spent_s(), time.monotonic()
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv/bin/python"
    env = pip_settings(outside(folder))
    run(python, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, the_wheel(), env=env, cwd=folder)
    took = f"installed in {time.monotonic() - begun:.0f} s (goal {PIP_GOAL_S}; {load()})"
    took += f", {cpu_spent_s() - before:.0f} s of CPU"
    try_program([folder / "venv/bin/ktrdr-mcp"], folder, env)
    return f"{took}, demo came to a verdict"


def pipx(folder: Path) -> str:
    """pipx, with its own folders."""
    env = pip_settings(outside(folder))
    env |= {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "bin")}
    arguments = f"--pip-args=-q -c {CONSTRAINTS}"
    run(TOOLS / "pipx", "install", arguments, the_wheel(), env=env, cwd=folder)
    try_program([folder / "bin/ktrdr-mcp"], folder, env)
    return "demo came to a verdict"


def uvx(folder: Path) -> str:
    """uvx, which does not read pip's settings: find-links and constraints name the CPU torch."""
    links = find_links()
    if not links:
        raise Skipped("no folder of wheels with torch's CPU build; name one in PIP_FIND_LINKS")
    env = outside(folder)
    env["PATH"] = f"{TOOLS}{os.pathsep}{env['PATH']}"  # where a user has uvx
    if "PIP_CERT" in env:
        env["SSL_CERT_FILE"] = env["PIP_CERT"]
    uv = ["--python", sys.executable, "--constraints", CONSTRAINTS, "--find-links", links]
    environment = [str(TOOLS / "uvx"), *uv, "--from", str(the_wheel())]
    program = [*environment, "ktrdr-mcp"]
    begun = time.monotonic()
    assert version() in run(*program, "--version", env=env, cwd=folder)
    cold_s = time.monotonic() - begun
    try_program(program, folder, env)
    timed = [*program, "--workspace", str(folder / "timed")]
    empty = [*environment, "python", "-c", EMPTY_SERVER]
    pairs = [(answer_s(timed, folder, env), answer_s(empty, folder, env)) for _ in range(TIMES)]
    warm_s, cpu_s = min(ours for ours, _ in pairs)
    floor_s, floor_cpu_s = min(theirs for _, theirs in pairs)
    run(*timed, "lab", "stop", env=env, cwd=folder)
    assert cpu_s < WARM_CPU_S, f"a warm uvx needs {cpu_s:.1f} s of CPU to answer initialize"
    return (
        f"cold {cold_s:.0f} s; warm {warm_s:.2f} s to the answer of initialize (goal"
        f" {WARM_GOAL_S}; {load()}), {cpu_s:.2f} s of CPU; an empty server of the SDK there"
        f" {floor_s:.2f} s and {floor_cpu_s:.2f} s: {warm_s / floor_s:.2f} and"
        f" {cpu_s / floor_cpu_s:.2f} times as much"
    )


def load() -> str:
    """What else the machine has to do, beside which times are read."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def cpu_spent_s() -> float:
    """Seconds of CPU that the programs which this one started, and which have ended, took."""
    spent = os.times()
    return spent.children_user + spent.children_system


def answer_s(program: list[str], folder: Path, env: Mapping[str, str]) -> tuple[float, float]:
    """Seconds from the start of a program to its answer of initialize, and of CPU to its end.

    The service is another process, which is not counted.
    """
    parameters = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "make dist", "version": "1"},
    }
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters}
    before, begun = cpu_spent_s(), time.monotonic()
    with subprocess.Popen(
        program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        cwd=folder,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        took_s = time.monotonic() - begun
        process.stdin.close()
    cpu_s = cpu_spent_s() - before
    assert answer["result"]["serverInfo"]["name"] in ("ktrdr-mcp", "empty")
    return took_s, cpu_s


def find_links() -> str:
    """The folder of wheels that pip is set to look into, if any."""
    if os.environ.get("PIP_FIND_LINKS"):
        return os.environ["PIP_FIND_LINKS"]
    said = run(sys.executable, "-m", "pip", "config", "list")
    found = re.search(r"find-links='([^']+)'", said)
    return found[1] if found else ""


def pip_settings(env: dict[str, str]) -> dict[str, str]:
    """The environment with pip's own file of settings, which another HOME would hide."""
    if "PIP_CONFIG_FILE" not in env:
        for path in (Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
            if path.is_file():
                return {**env, "PIP_CONFIG_FILE": str(path)}
    return env


def mcpb(folder: Path) -> str:
    """The bundle for desktop clients: validated and packed by the official program."""
    try:
        node.install()
    except node.Unavailable as reason:
        raise Skipped(str(reason)) from None
    staged = folder / "ktrdr-mcp"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "strategies"):
        shutil.copytree(ROOT / name, staged / name, ignore=ignored)
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, staged)
    shutil.copy(ROOT / "packaging/mcpb/manifest.json", staged)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    uv = (ROOT / "packaging/mcpb/uv.toml").read_text(encoding="utf-8")
    (staged / "pyproject.toml").write_text(project + uv, encoding="utf-8")
    env = node.environment(folder)
    run(*node.command("mcpb"), "validate", staged / "manifest.json", env=env)
    DIST.mkdir(exist_ok=True)
    made = DIST / f"ktrdr-mcp-{version()}.mcpb"
    run(*node.command("mcpb"), "pack", staged, made, env=env)
    with zipfile.ZipFile(made) as archive:
        assert {"manifest.json", "pyproject.toml", "src/ktrdr_mcp/__main__.py"} <= set(
            archive.namelist()
        )
    return f"{made.name}, {made.stat().st_size // 1_000} kB, valid"


STEPS: Final[Mapping[str, Callable[[Path], str]]] = {
    "metadata": metadata,
    "build": build,
    "mcpb": mcpb,
    "pip": pip,
    "pipx": pipx,
    "uvx": uvx,
}


def main(names: Sequence[str]) -> int:
    """Takes the named steps, or all; returns the exit code."""
    failed, passed, skipped = [], 0, 0
    for name in names or STEPS:
        with tempfile.TemporaryDirectory(prefix=f"dist-{name}-", ignore_cleanup_errors=True) as at:
            try:
                told = STEPS[name](Path(at))
                passed += 1
            except Skipped as reason:
                told = f"skipped: {reason}"
                skipped += 1
            except (AssertionError, subprocess.CalledProcessError) as error:
                told = f"FAILED: {error}"
                failed.append(name)
        print(f"{name:>8}  {told}", flush=True)
    print(f"{passed} passed, {len(failed)} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
