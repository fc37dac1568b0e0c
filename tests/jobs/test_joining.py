"""Which clusters are joined: addresses, tokens, releases; nothing here needs Ray."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.daemon.executors import Cluster, place_of
from ktrdr_mcp.errors import InvalidRequest, LabUnavailable
from ktrdr_mcp.jobs.cluster import joining
from ktrdr_mcp.jobs.cluster.joining import ClusterAddress
from ktrdr_mcp.jobs.executors.ray import LOCAL_TRIES, RayExecutor

REMOTE = ClusterAddress("10.0.0.5:6379")


@pytest.mark.parametrize("text", ["local", "10.0.0.5:6379", "head.example:1", "[::1]:10001"])
def test_an_address_that_a_head_can_have_is_taken(text: str) -> None:
    assert joining.check_address(text) == text


@pytest.mark.parametrize(
    "text", ["auto", "10.0.0.5", ":6379", "ray://10.0.0.5:10001", "a b:1", "h:0", "h:65536", ""]
)
def test_another_text_is_no_address(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        joining.check_address(text)
    assert refused.value.field == "ray_address"


@pytest.mark.parametrize("port", [10_002, 19_999])
def test_a_port_of_the_workers_is_refused(port: int) -> None:
    with pytest.raises(InvalidRequest, match=f"Port {port}"):
        joining.check_address(f"10.0.0.5:{port}")


@pytest.mark.parametrize(
    ("release", "hole"),
    [
        ("2.51.1", "CVE-2025-62593"),
        ("2.53.0", "CVE-2026-27482"),
        ("2.54.1", "CVE-2026-32981"),
        ("1.13", "CVE-2025-62593"),
    ],
)
def test_a_release_with_a_known_hole_is_refused_by_name(release: str, hole: str) -> None:
    with pytest.raises(LabUnavailable, match=f"Ray {release} .*{hole}"):
        joining.check_release(release)


@pytest.mark.parametrize("release", ["2.55.0", "2.60.0", "3.0.0rc1"])
def test_a_release_without_one_is_taken(release: str) -> None:
    joining.check_release(release)


def test_a_missing_ray_says_how_to_install_it() -> None:
    with pytest.raises(LabUnavailable) as refused:
        joining.check_release(None)
    assert "ktrdr-mcp[ray]" in refused.value.hint


def test_a_local_cluster_gets_a_token_of_its_own_each_time() -> None:
    tokens = []
    for _ in range(2):
        environment = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": "/elsewhere"}
        joining.demand_token(environment, ClusterAddress("local"))
        assert environment["RAY_AUTH_MODE"] == "token"
        assert "RAY_AUTH_TOKEN_PATH" not in environment
        tokens.append(environment["RAY_AUTH_TOKEN"])
    assert len(set(tokens)) == 2
    assert min(map(len, tokens)) >= 32


def test_a_cluster_of_others_is_not_joined_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LabUnavailable, match="no token"):
        joining.demand_token({}, REMOTE)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret", encoding="ascii")
    environment: dict[str, str] = {}
    joining.demand_token(environment, REMOTE)
    assert environment == {"RAY_AUTH_MODE": "token"}


def test_where_trainings_run_is_said_by_options_before_variables(tmp_path: Path) -> None:
    environment = {"KTRDR_RAY_ADDRESS": "head:6379", "KTRDR_STORE": str(tmp_path)}
    assert place_of("threads", environment=environment) == "threads"
    assert place_of("ray", environment=environment) == Cluster("head:6379", str(tmp_path))
    assert place_of("ray", "local", environment={}) == Cluster("local")
    with pytest.raises(InvalidRequest, match="address"):
        place_of("ray", environment={})
    with pytest.raises(InvalidRequest, match="not a folder"):
        place_of("ray", "local", str(tmp_path / "missing"), {})


class Failing(RayExecutor):
    """An executor whose cluster does not start the first few times."""

    def __init__(self, address: str, failures: int) -> None:
        super().__init__({"address": address})
        self.tries = 0
        self._failures = failures

    async def _ready(self) -> Any:
        self.tries += 1
        if self.tries <= self._failures:
            raise LabUnavailable("It took too long.", hint="Wait.")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("address", "failures", "tries", "opens"),
    [
        ("local", LOCAL_TRIES - 1, LOCAL_TRIES, True),
        ("local", LOCAL_TRIES, LOCAL_TRIES, False),
        ("10.0.0.5:6379", 1, 1, False),
    ],
)
async def test_only_a_cluster_of_this_machine_is_started_again_when_it_did_not_start(
    address: str, failures: int, tries: int, opens: bool
) -> None:
    executor = Failing(address, failures)
    with nullcontext() if opens else pytest.raises(LabUnavailable):
        await executor.open(lambda: None)
    assert executor.tries == tries
