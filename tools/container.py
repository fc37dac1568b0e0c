"""`make container`: builds and tries the image; without an engine, runs its steps on this machine.

The steps of the Dockerfile then run as they stand, one after the other, in a root of their own: an
overlay over this machine's files, with this machine's Python in the place of the base image. What
only an engine can do is named: the base images and the network between the services.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TOKEN: Final = "a-token-for-this-test-alone"
PORT: Final = 8000
START_LIMIT_S: Final = 120
END_LIMIT_S: Final = 15  # stop_grace_period of compose.yaml
INSIDE: Final = "KTRDR_CONTAINER_ROOT"


@dataclass(frozen=True)
class Step:
    """One instruction of the Dockerfile."""

    name: str
    text: str


def instructions(text: str) -> Iterator[Step]:
    """The instructions of a Dockerfile without its comments."""
    joined = re.sub(r"\\\n", "", text)
    for line in joined.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield Step(name.upper(), rest.strip())


def main() -> int:
    """Tries the image, or its steps; returns the exit code."""
    if has_engine():
        return with_engine()
    if os.environ.get(INSIDE):
        return Steps().run()
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        print("The container is skipped: no engine runs, and its steps need root on Linux.")
        return 0
    print("No container engine runs: the steps are run on this machine, as far as they go.")
    with tempfile.TemporaryDirectory(prefix="container-") as folder:
        script = (
            f"mount -t tmpfs tmpfs {folder} && cd {folder} && mkdir upper work root "
            "&& mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root "
            "&& mount -t proc proc root/proc && mount --rbind /dev root/dev"
        )
        line = f'{script} || exit 99; exec "$0" -m tools.container'
        done = subprocess.run(
            ["unshare", "--mount", "--fork", "sh", "-c", f"{line}", sys.executable],
            env={**os.environ, INSIDE: f"{folder}/root", "PYTHONPATH": str(ROOT)},
            check=False,
        )
    if done.returncode == 99:
        print("The container is skipped: this machine allows no overlay of its files.")
        return 0
    return done.returncode


def has_engine() -> bool:
    """Whether docker is there and reaches its engine."""
    docker = shutil.which("docker")
    return (
        docker is not None and not subprocess.run([docker, "info"], capture_output=True).returncode
    )


def with_engine() -> int:
    """Builds the image and runs both services of compose.yaml; needs a network."""
    token = ROOT / "token.txt"
    made = not token.exists()
    if made:
        token.write_text(TOKEN, encoding="ascii")
    up = ["docker", "compose", "up", "--build", "--exit-code-from", "research"]
    try:
        return subprocess.run(up, cwd=ROOT, check=False).returncode
    finally:
        subprocess.run(["docker", "compose", "down", "--volumes"], cwd=ROOT, check=False)
        if made:
            token.unlink()


class Steps:
    """The Dockerfile's steps in an overlay of this machine's files."""

    def __init__(self) -> None:
        self.root = Path(os.environ.pop(INSIDE))
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "SSL_")) or name in {"HOME", "PATH"}
        }
        self.chroot = shutil.which("chroot") or "/usr/sbin/chroot"
        self.where = "/"
        self.user: str | None = None
        self.entrypoint: list[str] = []
        self.health: list[str] = []
        self.arguments: dict[str, str] = {}

    def run(self) -> int:
        """Runs every step, then the server and a client of it; returns the exit code."""
        base = self.root / "usr/local/bin/python"
        base.unlink(missing_ok=True)
        base.symlink_to(Path(sys.base_prefix) / "bin" / "python3")
        for folder in Path(sys.base_prefix).parents:  # which may be root's own on this machine
            inner = self.root / str(folder).lstrip("/")
            inner.chmod(inner.stat().st_mode | 0o555)
        for step in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
            print(f"  {step.name} {step.text[:90]}", flush=True)
            name = step.name.lower()
            getattr(self, METHODS.get(name, name))(step.text)
        self.serve()
        return 0

    # The instructions, each by its own name.

    def FROM(self, text: str) -> None:  # noqa: N802
        """Begins a stage; this machine stands for the base image."""
        print(f"    (an image is not drawn: {sys.version.split()[0]} of this machine instead)")

    def arg(self, text: str) -> None:
        """Takes an argument's value: this machine's pip has its own settings for torch."""
        name, _, default = text.partition("=")
        self.arguments[name] = "" if has_own_torch() else shlex.split(default)[0]
        self.environment[name] = self.arguments[name]

    def workdir(self, text: str) -> None:
        """Makes and enters a folder."""
        self.where = text
        (self.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def copy(self, text: str) -> None:
        """Copies from the checkout; a stage before lies in the same root."""
        *sources, target = shlex.split(text)
        if sources[0].startswith("--from="):
            return
        folder = self.root / self.where.lstrip("/")
        for source in sources:
            origin = ROOT / source
            if origin.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(origin, folder / target, dirs_exist_ok=True, ignore=ignored)
            else:
                shutil.copy(origin, folder / target)

    def run_(self, text: str) -> None:
        """Runs a shell command in the root."""
        self.inside(["sh", "-c", text])

    def env(self, text: str) -> None:
        """Sets variables."""
        self.environment |= dict(pair.split("=", 1) for pair in shlex.split(text))

    def user_(self, text: str) -> None:
        """Everything after this is another user's."""
        self.user = text
        self.environment["HOME"] = f"/home/{text}"

    def volume(self, text: str) -> None:
        """The folder that stays writable."""
        assert text == self.environment["KTRDR_WORKSPACE"]

    def expose(self, text: str) -> None:
        """The port that `serve` listens on."""
        assert int(text) == PORT

    def healthcheck(self, text: str) -> None:
        """Keeps the command for later."""
        self.health = json.loads(text.split(" CMD ")[1])

    def entrypoint_(self, text: str) -> None:
        """Keeps the program for later."""
        self.entrypoint = json.loads(text)

    def line(self, command: Sequence[str]) -> list[str]:
        """A command in the root, as the image's user."""
        user = ["setpriv", f"--reuid={self.user}", "--clear-groups", "--no-new-privs"]
        words = shlex.join([*(user if self.user else []), *command])
        inner = f"cd {shlex.quote(self.where)} && exec {words}"
        return [self.chroot, str(self.root), "sh", "-c", inner]

    def inside(self, command: Sequence[str]) -> str:
        """Runs a command in the root; its output. Raises CalledProcessError."""
        done = subprocess.run(
            self.line(command), env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    def serve(self) -> None:
        """Starts what compose.yaml starts, asks for its health, trains over HTTP, and ends it."""
        (self.root / "run/token").write_text(TOKEN, encoding="ascii")
        client = self.root / "http_client.py"
        shutil.copy(ROOT / "packaging/http_client.py", client)
        # The root cannot be written from here on, as with `read_only: true`.
        volume = self.root.parent / "volume"
        volume.mkdir()
        made = (self.root / "workspace").stat()
        os.chown(volume, made.st_uid, made.st_gid)
        for mount in (
            ["--bind", str(volume), f"{self.root}/workspace"],
            ["-t", "tmpfs", "tmpfs", f"{self.root}/tmp"],
            ["-o", "remount,ro", str(self.root)],
        ):
            subprocess.run(["mount", *mount], check=True)
        self.check_read_only()
        options = ["serve", "--host", "0.0.0.0", "--port", str(PORT), "--token-file", "/run/token"]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                print(f"  The server is skipped: another program listens on port {PORT}.")
                return
        print(f"  {shlex.join([*self.entrypoint, *options])}", flush=True)
        server = subprocess.Popen(self.line([*self.entrypoint, *options]), env=self.environment)
        try:
            self.wait_until_healthy(server)
            print("  healthy; a client over HTTP:", flush=True)
            address = f"http://127.0.0.1:{PORT}"
            print(self.inside(["python", "/http_client.py", address, "/run/token"]))
            server.send_signal(signal.SIGTERM)
            assert server.wait(END_LIMIT_S) == 0
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()

    def check_read_only(self) -> None:
        """The user is not root, and can write to the workspace alone."""
        assert self.inside(["id", "-u"]).strip() == "10001"
        self.inside(["touch", "/workspace/written"])
        refused = subprocess.run(
            self.line(["touch", "/opt/ktrdr/written"]), env=self.environment, capture_output=True
        )
        assert refused.returncode

    def wait_until_healthy(self, server: subprocess.Popen[bytes]) -> None:
        """Asks as an engine does. Raises TimeoutError."""
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            asked = subprocess.run(
                self.line(self.health), env=self.environment, capture_output=True
            )
            if asked.returncode == 0:
                return
            if server.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"The server is not healthy: {asked.stderr.decode()[-500:]}")
            time.sleep(0.5)


# `run`, `user`, `entrypoint` and `from` have other meanings in Python.
METHODS: Final = {"run": "run_", "user": "user_", "entrypoint": "entrypoint_", "from": "FROM"}


def has_own_torch() -> bool:
    """Whether this machine's pip is set to find a CPU build of torch."""
    line = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(line, capture_output=True, text=True, check=False).stdout
    return "find-links" in said or bool(os.environ.get("PIP_FIND_LINKS"))


if __name__ == "__main__":
    sys.exit(main())
