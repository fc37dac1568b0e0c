"""A worker refuses by name what it cannot run as it was meant."""

from __future__ import annotations

import logging
import platform
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import pytest

from ktrdr_mcp.errors import LabUnavailable
from ktrdr_mcp.jobs.executors.base import Envelope
from ktrdr_mcp.jobs.fit import check_fit, own_versions

ENVELOPE = Envelope("a", 1, "g", {}, versions=dict(own_versions()), bars={"workspace": "/bars"})


def with_version(name: str, other: str) -> dict[str, Any]:
    """An envelope of a server that has another version of something."""
    return replace(ENVELOPE, versions={**ENVELOPE.versions, name: other}).to_dict()


def test_versions_are_read_without_importing() -> None:
    assert own_versions()["torch"] == version("torch")
    assert own_versions()["python"] == platform.python_version()


def test_what_fits_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    check_fit(ENVELOPE.to_dict(), "/bars")
    check_fit(ENVELOPE.to_dict(), None)
    assert not caplog.records


@pytest.mark.parametrize(("name", "other"), [("ktrdr-mcp", "9.9.9"), ("python", "3.99.0")])
def test_another_program_or_python_is_refused_by_name(name: str, other: str) -> None:
    with pytest.raises(LabUnavailable, match=rf"{name} .* instead of {other}"):
        check_fit(with_version(name, other), "/bars")


def test_another_workspace_is_refused_and_all_differences_are_named_at_once() -> None:
    with pytest.raises(LabUnavailable, match=r"ktrdr-mcp .* and the workspace '/elsewhere'"):
        check_fit(with_version("ktrdr-mcp", "9.9.9"), "/elsewhere")


@pytest.mark.parametrize("name", ["torch", "scipy", "optuna"])
def test_another_library_is_a_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_fit(with_version(name, "0.1"), "/bars")
    assert name in caplog.text
    assert "0.1" in caplog.text


def test_a_patch_of_python_is_taken() -> None:
    major, minor, _ = platform.python_version_tuple()
    check_fit(with_version("python", f"{major}.{minor}.99"), "/bars")
