"""`python -m tools.pictures` makes the README's pictures from the built-in AAPL bars.

It needs playwright and a Chromium: make browser installs the first.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Protocol

from playwright.sync_api import Page, sync_playwright

FOLDER: Final = Path(__file__).parents[1] / "docs" / "pictures"
LARGEST_BYTES: Final = 150_000
WIDTH: Final = 760
LIMIT_MS: Final = 60_000
LONG: Final = ("--epochs", "2000", "--set", "early_stopping=null")


class Run(Protocol):
    """Runs a command of the program in the workspace and returns what it prints."""

    def __call__(self, *arguments: str) -> str:
        """See the class."""
        ...


def main() -> None:
    """Trains, draws and photographs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        environment = {**os.environ, "KTRDR_DATA_HOME": str(workspace / "user")}
        program = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace)]

        def run(*arguments: str) -> str:
            done = subprocess.run(
                [*program, *arguments], env=environment, capture_output=True, text=True, check=True
            )
            return done.stdout.strip()

        try:
            run("train", "AAPL", "1d", "--json")
            run("train", "AAPL", "1h", "--strategy", "mean_reversion", "--json")
            run("models", "save", newest(run), "aapl_hourly")
            photograph(run, program, environment)
        finally:
            run("lab", "stop")
    for path in sorted(FOLDER.glob("*.png")):
        size = path.stat().st_size
        print(f"{path.name}: {size / 1000:.0f} kB{' TOO LARGE' if size > LARGEST_BYTES else ''}")


def newest(run: Run) -> str:
    """The id of the newest completed task."""
    listed = run("tasks", "--status", "completed", "--json")
    return str(json.loads(listed)["tasks"][0]["task_id"])


def photograph(run: Run, program: list[str], environment: dict[str, str]) -> None:
    """The live page with a training under way, and the report of the daily bars."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.set_default_timeout(LIMIT_MS)
        page.goto(run("open", "--no-browser"))
        with subprocess.Popen(
            [*program, "train", "AAPL", "1d", *LONG],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as training:
            try:
                page.wait_for_function(
                    "() => Number(document.querySelector('article')?.dataset.epoch) > 20"
                )
                page.screenshot(path=FOLDER / "live.png")
                page.click("article button")
                page.click("dialog button[value=yes]")
                page.wait_for_selector("article", state="detached")
            finally:
                training.terminate()  # it only waits; the server has the training
            training.wait()
        page.set_viewport_size({"width": WIDTH, "height": 1_165})
        report = opened_report(page)
        report.set_viewport_size({"width": WIDTH, "height": 1_165})
        report.screenshot(path=FOLDER / "report.png")
        browser.close()


def opened_report(page: Page) -> Page:
    """The tab of the oldest completed task's report."""
    with page.context.expect_page() as opened:
        page.locator("#tasks tr", has_text="AAPL 1d").locator(
            "button:has-text('Report')"
        ).last.click()
    tab = opened.value
    tab.wait_for_selector("svg")
    return tab


if __name__ == "__main__":
    main()
