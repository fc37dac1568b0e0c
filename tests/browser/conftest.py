"""A headless Chromium and a server to look at; without them, one line says what was skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.http_process import ServeProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

WANTED = "KTRDR_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome")
TOKEN = "a-token-of-sixteen-characters"
SEEN_MS = 60_000
LONG = ["--epochs", "5000", "--set", "early_stopping=null", "--set", "walk_forward=null"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's browser, without a window."""
    if WANTED not in os.environ:
        pytest.skip("browser tests run with: make browser")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found: Any = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A tab with what went wrong in it and what it asked for."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.asked: list[str] = []
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on(
            "console",
            lambda said: self.errors.append(said.text) if said.type == "error" else None,
        )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """A server that asks for a token, with one training that is completed."""
    folder = tmp_path_factory.mktemp("browser")
    secret = folder / "token"
    secret.write_text(TOKEN, encoding="utf-8")
    with ServeProcess(folder, "--token-file", str(secret)) as process:
        command(folder, "train", "AAPL", "1h", "--epochs", "4", "--json")
        yield process


def command(folder: Path, *arguments: str) -> str:
    """What a command prints."""
    line = [*program(folder), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=120).stdout


def program(folder: Path) -> list[str]:
    """The command line of the program on a workspace."""
    return [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(folder)]


@pytest.fixture(params=[(1400, "light"), (390, "dark")], ids=["wide light", "phone dark"])
def context(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A window of one of the sizes and colours that there are."""
    width, colours = request.param
    made = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=colours, bypass_csp=False
    )
    made.set_default_timeout(SEEN_MS)
    yield made
    made.close()
