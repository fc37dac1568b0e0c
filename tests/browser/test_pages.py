"""The live page and the report in a real browser: no error, nothing loaded, all usable."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import LONG, TOKEN, Watched, command, program
from tests.clients import node
from tests.support.http_process import ServeProcess

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

AXE = Path(node.__file__).parent / "node_modules" / "axe-core" / "axe.min.js"


def enter(context: BrowserContext, server: ServeProcess) -> Watched:
    """The live page, entered by the address that `open` prints."""
    tab = Watched(context)
    tab.page.goto(command(server.workspace, "open", "--no-browser").strip())
    tab.page.wait_for_selector("#tasks table")
    return tab


def serious(page: Page) -> list[str]:
    """What axe-core finds and calls serious or worse."""
    if not AXE.exists():
        try:
            node.install()
        except node.Unavailable as reason:
            pytest.skip(f"axe-core is not to be had: {reason}")
    # the browser's debugger may run it: the page's own policy lets no other script in
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate("async () => await axe.run()")
    return [
        f"{each['id']}: {json.dumps(each['nodes'][0]['html'])}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]


def fits(page: Page) -> bool:
    """Whether nothing but tables must be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_the_page_shows_tasks_series_and_verdicts_and_opens_a_report(
    context: BrowserContext, server: ServeProcess
) -> None:
    tab = enter(context, server)
    tab.page.wait_for_selector("#series table")
    tab.page.click("#show-verdicts")
    tab.page.wait_for_selector("#verdicts table")
    assert fits(tab.page)
    assert serious(tab.page) == []
    with context.expect_page() as opened:
        tab.page.click("#tasks button:has-text('Report')")
    report = opened.value
    report.wait_for_selector("svg")
    assert "Verdict" in report.inner_text("main")
    assert fits(report)
    assert serious(report) == []
    assert tab.errors == []
    assert all(url.startswith((server.url, "blob:")) for url in tab.asked)


def test_the_live_curve_grows_and_cancel_stops_the_training(
    context: BrowserContext, server: ServeProcess
) -> None:
    tab = enter(context, server)
    with subprocess.Popen(
        [*program(server.workspace), "train", "AAPL", "1d", *LONG],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as training:
        tab.page.wait_for_selector("article svg path.line")
        first = int(tab.page.get_attribute("article", "data-epoch") or 0)
        tab.page.wait_for_function(
            "before => Number(document.querySelector('article').dataset.epoch) > before + 2",
            arg=first,
        )
        assert serious(tab.page) == []
        tab.page.focus("article button")  # by keyboard alone
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("dialog[open]")
        assert serious(tab.page) == []
        tab.page.focus("dialog button[value=yes]")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("article", state="detached")
        assert training.wait(60) != 0  # its training was cancelled
    assert tab.errors == []


def test_without_a_token_the_page_asks_for_one_and_shows_nothing(
    context: BrowserContext, server: ServeProcess
) -> None:
    tab = Watched(context)
    tab.page.goto(server.url)
    tab.page.wait_for_selector("#enter", state="visible")
    assert not tab.page.is_visible("#main")
    assert serious(tab.page) == []
    tab.page.fill("#token", TOKEN)
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector("#tasks table")
    assert context.cookies() == []
    assert "token" not in tab.page.url


def test_a_report_from_the_command_line_opens_from_the_disk(
    context: BrowserContext, server: ServeProcess, tmp_path: Path
) -> None:
    tasks = json.loads(command(server.workspace, "tasks", "--status", "completed", "--json"))
    path = tmp_path / "report.html"
    command(server.workspace, "report", tasks["tasks"][0]["task_id"], "-o", str(path))
    tab = Watched(context)
    tab.page.goto(path.as_uri())
    assert tab.page.locator("svg").count() >= 5
    assert fits(tab.page)
    assert tab.errors == []
    assert tab.asked == [path.as_uri()]
