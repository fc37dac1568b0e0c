"""The view of a training in a host of MCP Apps: the official bridge, a real server, a browser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.browser.conftest import TOKEN, Watched, command
from tests.clients import node
from tests.support.http_process import ServeProcess

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Frame

HOST = node.FOLDER / "apps_host.mjs"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(13, 17, 23)"
VERTICES = "() => document.querySelector('svg path.line').getAttribute('d').split(/[ML]/).length"


@pytest.fixture(scope="module")
def host_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host with the bridge and a client in it, as one script."""
    path = tmp_path_factory.mktemp("host") / "host.js"
    try:
        node.install()
        line = [*node.command("esbuild"), str(HOST), "--bundle", f"--outfile={path}"]
    except node.Unavailable as reason:
        pytest.skip(f"the bridge of MCP Apps is not to be had: {reason}")
    subprocess.run(line, capture_output=True, check=True, timeout=60)
    return path


def opened(tab: Watched, server: ServeProcess, script: Path, task_id: str, theme: str) -> Frame:
    """The view of a task in a host that lies on the server's origin."""
    page = tab.page
    body = "<!doctype html><title>A host</title><link rel=icon href='data:,'>"
    page.route(
        f"{server.url}/host", lambda route: route.fulfill(body=body, content_type="text/html")
    )
    page.goto(f"{server.url}/host")
    page.add_script_tag(path=script)
    page.evaluate(
        "given => showTraining(given)", {"token": TOKEN, "taskId": task_id, "theme": theme}
    )
    frame = page.query_selector("iframe")
    assert frame is not None
    view = frame.content_frame()
    assert view is not None
    return view


def paper(view: Frame) -> Any:
    """The colour that the view is drawn on."""
    return view.evaluate("() => getComputedStyle(document.body).backgroundColor")


def started(server: ServeProcess) -> str:
    """The id of a training that runs until it is cancelled."""
    config = {"epochs": 5_000, "early_stopping": None, "walk_forward": None}
    answer = httpx2.post(
        f"{server.url}/training/start",
        json={"symbol": "AAPL", "timeframe": "1d", "config": config},
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=60,
    )
    return str(answer.raise_for_status().json()["task_id"])


def completed(server: ServeProcess) -> str:
    """The id of a completed training."""
    listed = command(server.workspace, "tasks", "--status", "completed", "--json")
    return str(json.loads(listed)["tasks"][0]["task_id"])


def test_the_curve_grows_in_the_chat_while_a_training_runs(
    context: BrowserContext, server: ServeProcess, host_script: Path
) -> None:
    tab = Watched(context)
    training = started(server)
    view = opened(tab, server, host_script, training, "dark")
    view.wait_for_selector("svg path.line")
    first = view.evaluate(VERTICES)
    view.wait_for_function(f"before => ({VERTICES})() > before + 2", arg=first)
    assert paper(view) == DARK
    tab.page.evaluate("() => setTheme('light')")
    view.wait_for_function("() => document.documentElement.dataset.theme === 'light'")
    assert paper(view) == LIGHT
    command(server.workspace, "cancel", training)
    view.wait_for_selector("#state:has-text('cancelled')")
    assert view.is_hidden("#progress")
    assert tab.errors == []
    assert all(url.startswith((server.url, "data:", "about:")) for url in tab.asked)


def test_a_completed_training_is_shown_in_the_chat_with_verdict_luck_and_equity(
    context: BrowserContext, server: ServeProcess, host_script: Path
) -> None:
    tab = Watched(context)
    view = opened(tab, server, host_script, completed(server), "light")
    view.wait_for_selector("h2")
    assert view.locator("h2").all_inner_texts() == [
        "Verdict",
        "Luck",
        "Trading the walk-forward predictions",
    ]
    assert view.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    tab.page.wait_for_function("() => document.querySelector('iframe').offsetHeight > 800")
    assert tab.page.evaluate("() => endView()") == {}
    assert tab.errors == []
