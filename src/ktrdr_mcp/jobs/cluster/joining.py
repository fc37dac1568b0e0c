"""Joins a Ray cluster, or starts one on this machine; refuses what is not safe or cannot work.

Ray runs whatever anybody who reaches it sends, and a web page or another user reaches the loopback
too. So every cluster asks for a token, and releases with known holes are not used.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp.errors import InvalidRequest, LabUnavailable, quote

LOCAL: Final = "local"
MODE: Final = "RAY_AUTH_MODE"
TOKEN: Final = "RAY_AUTH_TOKEN"  # noqa: S105 (the name of a variable)
TOKEN_PATH: Final = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 (likewise)
DEFAULT_TOKEN: Final = Path("~/.ray/auth_token")
WORKER_PORTS: Final = range(10_002, 20_000)  # Ray's own, for its workers
# The first release without each hole, newest last: what is older than any of them is refused.
HOLES: Final[Mapping[tuple[int, int], str]] = {
    (2, 52): "CVE-2025-62593 (a web page could run programs on the cluster)",
    (2, 54): "CVE-2026-27482 (a web page could delete jobs)",
    (2, 55): "CVE-2026-32981 (files of a node could be read)",
}
REACH_S: Final = 5.0
ASK_S: Final = 60.0
LOCAL_STORE_BYTES: Final = 150 * 1024**2
LOCAL_LOST_S: Final = 5  # after which a cluster of this machine ends without its head
QUIET: Final = 40  # logging.ERROR


@dataclass(frozen=True)
class ClusterAddress:
    """Which cluster to join.

    Args:
        text: "HOST:PORT", or "local" for one that the server starts and ends itself.
        store: a folder that every machine of the cluster sees, if there is one.
    """

    text: str
    store: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the cluster is the server's own."""
        return self.text == LOCAL


def check_address(text: str) -> str:
    """An address that can be joined. Raises InvalidRequest."""
    if text == LOCAL:
        return text
    match = re.fullmatch(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})", text)
    if match is None or not 0 < int(match[2]) < 65_536:
        raise InvalidRequest(
            f"{quote(text)} is not the address of a Ray cluster.",
            hint="Write HOST:PORT as 'ray start --head' printed it, or local for a cluster on this"
            " machine that the server starts and ends itself.",
            field="ray_address",
        )
    if int(match[2]) in WORKER_PORTS:
        raise InvalidRequest(
            f"Port {match[2]} belongs to the workers of Ray, and no head can have it.",
            hint="Start the head with a port below 10002, for example"
            " 'ray start --head --port=6379', and name that.",
            field="ray_address",
        )
    return text


def check_store(text: str | None) -> str | None:
    """A folder that the cluster shares, as an absolute path. Raises InvalidRequest."""
    if text is None:
        return None
    path = Path(text).expanduser().resolve()
    if not path.is_dir() or not os.access(path, os.W_OK):
        raise InvalidRequest(
            f"{quote(text)} is not a folder that can be written.",
            hint="Name a folder that every machine of the cluster sees under the same path, or"
            " leave it out: none is needed.",
            field="store",
        )
    return str(path)


def check_release(found: str | None) -> None:
    """Refuses a missing Ray and one with known holes. Raises LabUnavailable."""
    if found is None:
        raise LabUnavailable(
            "Ray is not installed.", hint="Install it with: pip install 'ktrdr-mcp[ray]'"
        )
    numbers = tuple(int(each) for each in re.findall(r"\d+", found)[:2])
    open_holes = [hole for first, hole in HOLES.items() if numbers < first]
    if open_holes:
        raise LabUnavailable(
            f"Ray {found} has known holes: {', '.join(open_holes)}.",
            hint="Install a newer release on every machine: pip install -U 'ktrdr-mcp[ray]'",
        )


def installed_release() -> str | None:
    """The version of Ray here, without importing it."""
    try:
        return version("ray")
    except PackageNotFoundError:
        return None


def demand_token(environment: MutableMapping[str, str], address: ClusterAddress) -> None:
    """Lets Ray ask for and send a token; before it is imported.

    Args:
        environment: of this process, which the nodes of a local cluster inherit.
        address: a local cluster gets a token that nobody else knows.
    Raises:
        LabUnavailable: there is no token for a cluster that others started.
    """
    environment[MODE] = "token"
    if address.is_local:
        environment[TOKEN] = secrets.token_hex(32)
        environment.pop(TOKEN_PATH, None)
    elif not (
        environment.get(TOKEN)
        or environment.get(TOKEN_PATH)
        or DEFAULT_TOKEN.expanduser().is_file()
    ):
        raise LabUnavailable(
            f"There is no token for the Ray cluster at {address.text}, and none is joined without.",
            hint="Start every node with RAY_AUTH_MODE=token, and put the token of 'ray"
            " get-auth-token --generate' into ~/.ray/auth_token or RAY_AUTH_TOKEN here too.",
        )


def prepare_environment(environment: MutableMapping[str, str], address: ClusterAddress) -> None:
    """Sets what Ray reads when it is imported. Raises LabUnavailable."""
    check_release(installed_release())
    demand_token(environment, address)
    environment["RAY_USAGE_STATS_ENABLED"] = "0"  # it would send them to its makers
    if address.is_local:
        environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = str(LOCAL_LOST_S)
        # The server lets a run begin only where this machine has memory for it, by the same gate as
        # without Ray. The monitor counts what every other program holds, too, and kills from 95 %
        # on: three times, and a training that the gate let run alone would be a crash loop.
        environment["RAY_DISABLE_MEMORY_MONITOR"] = "1"
        # Ray replaces 127.0.0.1 by an address that others reach, and then listens at all, unless
        # it believes that this system has no clusters.
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        environment["RAY_worker_niceness"] = "0"  # workers lower their own; the board must answer


def join(address: ClusterAddress, cores: int, folder: Path) -> Any:
    """Joins the cluster; blocks for seconds.

    Args:
        address: which.
        cores: how many a local cluster has.
        folder: where a local cluster keeps its files.
    Returns:
        the module.
    Raises:
        LabUnavailable: it cannot be joined; says why.
    """
    import ray

    quiet: dict[str, Any] = {
        "include_dashboard": False if address.is_local else None,
        "log_to_driver": False,
        "configure_logging": False,
        "logging_level": QUIET,
    }
    if address.is_local:
        settings: dict[str, Any] = {
            "address": LOCAL,
            "num_cpus": cores,
            "object_store_memory": LOCAL_STORE_BYTES,
            "_temp_dir": str(folder),
            "_node_ip_address": "127.0.0.1",
        }
    else:
        settings = {"address": address.text}
        reach(address.text)
        check_token(address.text)
    try:
        ray.init(**settings, **quiet)
    except Exception as error:
        raise refusal(address, error) from error
    return ray


def reach(address: str) -> None:
    """Looks whether somebody listens there. Raises LabUnavailable."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except OSError as error:
        raise LabUnavailable(
            f"Nothing answers at {address}, where the Ray cluster should be"
            f" ({error.strerror or type(error).__name__}).",
            hint="Start its head there: RAY_AUTH_MODE=token ray start --head --port="
            f"{port} --include-dashboard=false",
        ) from error


# Says whether the head at an address takes a token, and then goes on trying: its first line counts.
ASK: Final = (
    "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1]); print('taken')"
)


def takes(address: str, token: str | None = None) -> bool:
    """Whether the head of a cluster takes a token, asked in a process of its own.

    Args:
        address: of the head.
        token: by default the one that this process has.
    Raises:
        LabUnavailable: it says neither.
    """
    environment = dict(os.environ) if token is None else {**os.environ, TOKEN: token}
    with subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-P", "-c", ASK, address],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as asking:
        limit = threading.Timer(ASK_S, asking.kill)
        limit.start()
        try:
            for line in asking.stdout or ():
                if line.strip() == "taken":
                    return True
                if "nauthenticated" in line:
                    return False
        finally:
            limit.cancel()
            asking.kill()
    raise LabUnavailable(
        f"What answers at {address} is no head of a Ray cluster.",
        hint="Name the port that 'ray start --head' printed.",
    )


def check_token(address: str) -> None:
    """Refuses a cluster that is open to everybody, and one that has another token.

    Raises:
        LabUnavailable: says which.
    """
    if takes(address, secrets.token_hex(32)):
        raise LabUnavailable(
            f"The Ray cluster at {address} asks for no token: whoever reaches it can run programs.",
            hint="Start every node of it with RAY_AUTH_MODE=token and the same token.",
        )
    if not takes(address):
        raise LabUnavailable(
            f"The Ray cluster at {address} does not take this token.",
            hint="Put the one that its nodes have into ~/.ray/auth_token or RAY_AUTH_TOKEN here.",
        )


def refusal(address: ClusterAddress, error: Exception) -> LabUnavailable:
    """Why a cluster could not be joined, in our words, with the first of Ray's."""
    text = " ".join(str(error).split())
    where = "on this machine" if address.is_local else f"at {address.text}"
    if "ersion mismatch" in text:
        return LabUnavailable(
            f"The Ray cluster {where} has other versions of Ray or Python: {text[:200]}",
            hint="Install the same versions on every machine.",
        )
    if "address" in text and "raylet" in text.lower():
        return LabUnavailable(
            f"This machine is no node of the Ray cluster {where}.",
            hint="Join it first, without cores of its own if it shall not train:"
            f" RAY_AUTH_MODE=token ray start --address={address.text} --num-cpus=0",
        )
    return LabUnavailable(
        f"The Ray cluster {where} cannot be joined: {text[:200]}",
        hint="See .ktrdr/ray.log in the workspace, and the logs of Ray.",
    )
