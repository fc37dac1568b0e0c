"""What is published beside the package agrees with it."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tools import container, dist


def test_registry_entry_plugin_and_bundle_name_one_version_and_one_server(tmp_path) -> None:
    assert dist.version() in dist.metadata(tmp_path)


def test_another_version_in_the_package_is_noticed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dist, "version", lambda: "99.0.0")
    with pytest.raises(AssertionError, match=r"99\.0\.0"):
        dist.metadata(tmp_path)


def test_every_step_of_the_dockerfile_can_be_taken_without_an_engine() -> None:
    steps = list(container.instructions((dist.ROOT / "Dockerfile").read_text("utf-8")))
    for step in steps:
        name = step.name.lower()
        assert hasattr(container.Steps, container.METHODS.get(name, name)), step
    names = [step.name for step in steps]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert {"VOLUME", "HEALTHCHECK"} <= set(names)


def test_the_services_share_an_address_a_port_and_a_token() -> None:
    services = yaml.safe_load((dist.ROOT / "compose.yaml").read_text("utf-8"))["services"]
    server, client = services["ktrdr"], services["research"]
    assert server["read_only"]
    assert "ktrdr:8000" in server["command"]
    assert "http://ktrdr:8000" in client["entrypoint"]
    assert server["secrets"] == client["secrets"] == ["token"]
    (mounted,) = client["volumes"]
    assert (dist.ROOT / mounted.split(":")[0]).is_file()


def test_the_lines_for_clients_can_be_copied() -> None:
    text = (dist.ROOT / "docs" / "clients.md").read_text("utf-8")
    lines = re.findall(r"`(\{.*\})`", text)
    assert len(lines) >= 6
    for line in lines:
        assert json.loads(line)
    for name in (
        "Claude Code",
        "Claude Desktop",
        "Cursor",
        "VS Code",
        "Codex",
        "Gemini CLI",
        "Zed",
    ):
        assert f"| {name} |" in text
