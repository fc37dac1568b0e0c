"""A Ray cluster as an administrator starts it, each node with `ray start`, on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support import programs
from tests.support.background_servers import wait_until

STARTS_S = 240.0
TRIES = 3
STORE_BYTES = 100 * 1024**2


class Node:
    """One node.

    Args:
        command: what starts it, for as long as it runs.
        environment: of it.
        log: where its output goes.
    """

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def runs(self) -> bool:
        """Waits until it runs; False if it has ended instead."""

        def told() -> bool:
            return "Ray runtime started" in self.log.read_text(errors="replace")

        wait_until(lambda: told() or self.process.poll() is not None, STARTS_S)
        return self.process.poll() is None

    def kill(self) -> None:
        """Kills everything of the node at once: kill -9 of its whole session."""
        for pid in members(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def members(session: int) -> list[int]:
    """The processes of a session, whatever their groups."""
    found = list[int]()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text(errors="replace").rsplit(")", 1)[1].split()
            if int(fields[3]) == session:
                found.append(int(status.parent.name))
    return found


@dataclass(frozen=True)
class Network:
    """A network namespace that one cable joins to this machine's own."""

    name: str
    ours: str
    theirs: str
    cable: str

    @classmethod
    @contextmanager
    def made(cls) -> Iterator[Network]:
        """Makes one, and removes it. Raises OSError or CalledProcessError where that fails."""
        number = os.getpid() % 250
        found = cls(f"ktrdr{number}", f"10.231.{number}.1", f"10.231.{number}.2", f"ktr{number}h")
        try:
            for line in (
                f"netns add {found.name}",
                f"link add {found.cable} type veth peer name eth0 netns {found.name}",
                f"addr add {found.ours}/24 dev {found.cable}",
                f"link set {found.cable} up",
                f"-n {found.name} addr add {found.theirs}/24 dev eth0",
                f"-n {found.name} link set eth0 up",
                f"-n {found.name} link set lo up",
            ):
                found.ip(line)
            yield found
        finally:
            subprocess.run(["ip", "netns", "del", found.name], stderr=subprocess.DEVNULL)

    def ip(self, line: str) -> None:
        """Runs ip."""
        subprocess.run(["ip", *line.split()], check=True, stderr=subprocess.DEVNULL)

    def cut(self) -> None:
        """Cuts the cable."""
        self.ip(f"link set {self.cable} down")

    def mend(self) -> None:
        """Mends it."""
        self.ip(f"link set {self.cable} up")


class RayCluster:
    """A head without cores, and nodes that are started when they are asked for.

    Args:
        token: what the cluster asks for; None for one that is open.
        host: the address of the head.
    """

    def __init__(self, token: str | None, host: str = "127.0.0.1") -> None:
        self.host = host
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = 6_400 + free.getsockname()[1] % 3_000
        self.address = f"{host}:{self.port}"
        self._token = token
        self._nodes: list[Node] = []
        try:
            self.start_head()
        except BaseException:
            self.close()
            raise

    def start_head(self) -> Node:
        """A head at the same port as ever, once what was there before is gone."""
        wait_until(lambda: not self._answers(), STARTS_S)
        self.head = self._start("--head", f"--port={self.port}", "--num-cpus=0", at=self.host)
        return self.head

    def _answers(self) -> bool:
        """Whether anything takes connections at the head's port."""
        with socket.socket() as asking:
            return asking.connect_ex((self.host, self.port)) == 0

    def leave_head_alone(self) -> None:
        """Kills every other node."""
        for node in self._nodes:
            if node is not self.head:
                node.kill()

    def node_of(self, pid: int) -> Node:
        """The node that started a process."""
        ancestors = {pid}
        while pid > 1:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1]
            pid = int(status.split()[1])
            ancestors.add(pid)
        (node,) = [each for each in self._nodes if each.process.pid in ancestors]
        return node

    def add(
        self,
        cores: int,
        path: str | None = None,
        inside: Network | None = None,
        memory: int | None = None,
    ) -> Node:
        """A further node.

        Args:
            cores: how many trainings it runs at once.
            path: what Python imports from first, there.
            inside: a network of its own.
            memory: in bytes, that it gives away; by default what is free.
        """
        at = self.host if inside is None else inside.theirs
        where = [] if inside is None else ["ip", "netns", "exec", inside.name]
        joins = [f"--address={self.address}", f"--num-cpus={cores}"]
        joins += [] if memory is None else [f"--memory={memory}"]
        return self._start(*joins, at=at, path=path, prefix=where)

    def _start(
        self, *arguments: str, at: str, path: str | None = None, prefix: Sequence[str] = ()
    ) -> Node:
        """Starts a node; again where a busy machine was too slow for it."""
        for _ in range(TRIES):
            node = self._launch(prefix, path, f"--node-ip-address={at}", *arguments)
            if node.runs():
                return node
            node.kill()
        raise AssertionError(node.log.read_text(errors="replace"))

    def _launch(self, prefix: Sequence[str], path: str | None, *arguments: str) -> Node:
        """Begins to start a node."""
        environment = {
            **{name: each for name, each in os.environ.items() if not name.startswith("RAY_")},
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled" if self._token is None else "token",
            "RAY_AUTH_TOKEN": self._token or "",
            "PYTHONPATH": ":".join(filter(None, [path, str(programs.ROOT)])),
        }
        program = [sys.executable, "-P", "-c", "from ray.scripts.scripts import main; main()"]
        common = ["--block", "--disable-usage-stats", f"--object-store-memory={STORE_BYTES}"]
        if "--head" in arguments:
            common += ["--include-dashboard=false", f"--temp-dir={self.folder}"]
        log = self.folder / f"node-{len(self._nodes)}.log"
        node = Node([*prefix, *program, "start", *common, *arguments], environment, log)
        self._nodes.append(node)
        return node

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every node."""
        for node in reversed(self._nodes):
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
