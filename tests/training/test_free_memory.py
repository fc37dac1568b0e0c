"""The memory that a training may use is what is really free, by every limit that there is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ktrdr_mcp import memory
from ktrdr_mcp.errors import LimitExceeded
from ktrdr_mcp.nn.perceptron import Mlp
from ktrdr_mcp.training.estimate import Needs, check, limit_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as Linux tells of it")

GB = 10**9
LIMITED = """
import resource
from ktrdr_mcp.training.estimate import limit_bytes
resource.setrlimit(resource.RLIMIT_AS, (6 * 10**9, 6 * 10**9))
before = limit_bytes(0, {})
held = bytearray(10**9)
print(before, limit_bytes(0, {}), limit_bytes(0, {"KTRDR_MEMORY_LIMIT_MB": "7"}))
"""


def test_what_another_training_holds_of_the_address_space_is_not_offered_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True
    )
    before, after, named = map(int, done.stdout.split())
    assert 0 < before < 6 * GB
    assert before - after >= GB or after < before
    assert named == 7 * 10**6


def group(folder: Path, limit: str, used: str, cached: int, version: int) -> None:
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(limit, encoding="ascii")
    (folder / names[1]).write_text(used, encoding="ascii")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\n", encoding="ascii")


@pytest.mark.parametrize("version", [1, 2])
def test_the_limits_of_a_container_and_of_the_groups_above_it_count(tmp_path, version) -> None:
    root, process = tmp_path / "cgroup", tmp_path / "self"
    top = root if version == 2 else root / "memory"
    group(top / "all" / "one", f"{4 * GB}\n", f"{3 * GB}\n", GB // 2, version)
    group(top / "all", f"{8 * GB}\n", f"{7 * GB}\n", 0, version)
    if version == 2:
        group(top, "max\n", f"{9 * GB}\n", 0, version)
    process.mkdir()
    line = "0::/all/one" if version == 2 else "3:cpu:/x\n5:hugetlb,memory:/all/one"
    (process / "cgroup").write_text(f"{line}\n", encoding="ascii")
    assert list(memory.in_control_groups(root, process)) == [3 * GB // 2, GB]


def test_where_the_system_tells_nothing_there_is_no_limit(tmp_path) -> None:
    assert list(memory.in_control_groups(tmp_path, tmp_path)) == []
    assert memory.in_group(tmp_path, "memory.max", "memory.current", "inactive_file") is None


def test_this_machine_has_memory() -> None:
    assert all(free >= 0 for free in memory.free_bytes())
    assert memory.in_machine() > 10**8


def test_what_other_tasks_will_hold_is_not_offered_again() -> None:
    assert limit_bytes(10**18, {}) == 0
    with pytest.raises(LimitExceeded, match="for other tasks"):
        check(Needs(Mlp(10, (8,), "relu"), 32, 1_000), promised=10**18)


def test_folds_add_no_features_to_those_that_are_held() -> None:
    wide = Needs(Mlp(720, (16,), "relu"), 1_024, 10**6, networks=1, columns=90)
    folds = replace(wide, networks=5)
    indicators = 10**6 * 90 * 8
    assert indicators < wide.bytes < folds.bytes < 2 * GB
    assert replace(folds, tables=2).bytes >= folds.bytes + indicators
    small = replace(folds, rows=10**4)
    assert small.bytes - replace(small, networks=1).bytes >= 4 * 10**4 * 91 * 4
