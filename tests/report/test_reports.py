"""Reports of trainings: what they show equals the JSON, and nothing in them runs or loads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from ktrdr_mcp.api.http.app import build_api
from ktrdr_mcp.api.http.guard import Rules
from ktrdr_mcp.report.drawing import Chart, growth_axis, linear_axis, sparkline
from ktrdr_mcp.report.page import source_hash
from ktrdr_mcp.report.terminal import chart
from ktrdr_mcp.report.training import TrainingReport, training_page
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support import sample_replies
from tests.support.service_calls import Bench

LARGEST_BYTES = 150_000
TASK = "reported"
HOSTILE = "<script>alert(1)</script>\u202eevil\x07" + "x" * 10_000


class Page(HTMLParser):
    """What a browser would make of a page, as far as a test asks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: dict[str, Any] = {}
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "data":
            self.figures[str(found["data-field"])] = json.loads(str(found["value"]))

    def handle_data(self, data: str) -> None:
        self.text += data


def field_of(document: Any, path: str) -> Any:
    """The value at a dotted path in JSON."""
    for name in path.split("."):
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


def loads_nothing(page: Page) -> bool:
    """Whether no element could run a script or ask for another file."""
    bad_tags = {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    attributes = {name for _, found in page.tags for name in found}
    return not bad_tags & {tag for tag, _ in page.tags} and not any(
        name.startswith("on") or name in {"src", "style", "srcset"} for name in attributes
    )


@pytest.mark.asyncio
async def test_every_figure_of_a_report_is_the_one_of_the_json(bench: Bench) -> None:
    await bench.trained(task_id=TASK)
    html = (await bench.service.training_report(bench.task(TASK))).html
    performance = await bench.performance(TASK)
    history = (await bench.service.training_history(bench.task(TASK))).history
    said = {**history["performance"], **performance.model_dump(mode="json")}
    page = Page(html)
    assert len(page.figures) > 20
    different = {
        path: (shown, field_of(said, path))
        for path, shown in page.figures.items()
        if shown != pytest.approx(field_of(said, path))
    }
    assert different == {}
    assert performance.verdict.reason in page.text
    assert len(html.encode()) < LARGEST_BYTES
    assert loads_nothing(page)
    assert performance.test_readings == 2  # a report is a reading, too


@pytest.mark.asyncio
async def test_a_comparison_and_a_model_have_reports_with_the_figures_of_their_replies(
    bench: Bench,
) -> None:
    await bench.trained(task_id="one")
    await bench.trained(task_id="two", config={"epochs": 2, "hidden_layers": [4]})
    await bench.save("one", "kept")
    compared = parse(requests.CompareTrainings, {"task_ids": ["one", "two"]})
    reply = (await bench.service.compare_trainings(compared)).model_dump(mode="json")
    page = Page((await bench.service.comparison_report(compared)).html)
    assert page.figures
    assert all(field_of(reply, path) == shown for path, shown in page.figures.items())
    traded = parse(requests.BacktestModel, {"model_name": "kept"})
    reply = (await bench.service.backtest_model(traded)).model_dump(mode="json")
    page = Page((await bench.service.model_report(traded)).html)
    assert page.figures
    assert all(field_of(reply, path) == shown for path, shown in page.figures.items())
    assert loads_nothing(page)


@pytest.mark.asyncio
async def test_http_gives_a_browser_the_page_and_a_program_the_json(bench: Bench) -> None:
    await bench.trained(task_id=TASK)
    report = await bench.service.training_report(bench.task(TASK))

    class Fixed:
        async def training_report(self, request: object) -> object:
            return report

    with TestClient(build_api(Fixed(), Rules()).guard, "http://localhost") as client:
        shown = client.get(f"/training/{TASK}/report", headers={"Accept": "text/html,*/*"})
        assert shown.headers["content-type"].startswith("text/html")
        assert shown.text == report.html
        assert "default-src 'none'" in shown.headers["content-security-policy"]
        told = client.get(f"/training/{TASK}/report", headers={"Accept": "application/json"})
        assert told.json()["html"] == report.html


@pytest.mark.parametrize("state", ["pending", "training", "failed", "cancelled"])
def test_a_task_without_a_result_has_a_report_that_says_so(state: str) -> None:
    status = sample_replies.status(state=state)
    epochs = [
        {
            "epoch": n,
            "train_loss": 1 / n,
            "val_loss": 1.1 / n,
            "train_accuracy": 0.4,
            "val_accuracy": 0.3,
        }
        for n in (1, 2, 3)
    ]
    page = Page(
        training_page(TrainingReport(status, "default", "2026-01-01T00:00:00Z", "", epochs))
    )
    assert "State" in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 2  # the curves so far


def test_texts_from_outside_are_shown_as_texts() -> None:
    status = replace_error(HOSTILE)
    html = training_page(TrainingReport(status, HOSTILE, "2026-01-01T00:00:00Z", HOSTILE))
    assert loads_nothing(Page(html))
    assert "\u202e" not in html
    assert "\x07" not in html
    assert len(html) < 20_000


def replace_error(words: str) -> Any:
    """A failed status with an error of a caller's making."""
    return sample_replies.status(state="failed").model_copy(
        update={"error": words, "error_code": "failed"}
    )


def test_the_policy_allows_just_the_page_s_own_style() -> None:
    html = training_page(
        TrainingReport(sample_replies.PENDING, "default", "2026-01-01T00:00:00Z", "")
    )
    style = re.search(r"<style>(.*?)</style>", html, flags=re.DOTALL)
    assert style is not None
    assert source_hash(style[1]) in html


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([0.0], id="one value"),
        pytest.param([5.0, 5.0], id="equal values"),
        pytest.param([-1e-9, 1e-9], id="tiny values"),
        pytest.param([1e12, -1e12], id="huge values"),
        pytest.param([float("nan"), float("inf"), 2.0], id="values that are no numbers"),
        pytest.param([], id="no value"),
    ],
)
def test_an_axis_covers_its_values_with_rising_ticks(values: list[float]) -> None:
    axis = linear_axis(values, "unit")
    finite = [value for value in values if np.isfinite(value)]
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert all(axis.low <= value <= axis.high for value in finite)
    assert 2 <= len(axis.ticks) <= 8


def test_growth_by_many_times_is_shown_by_factors() -> None:
    axis = growth_axis([1.0, 3.0, 900.0], "growth")
    drawn = Chart("growth", linear_axis([0, 1], "x"), axis)
    assert axis.logarithmic
    down, middle, up = (drawn.y(value) for value in (1.0, 30.0, 900.0))
    assert down - middle == pytest.approx(middle - up, abs=0.2)
    assert not growth_axis([1.0, 2.0], "growth").logarithmic
    assert not growth_axis([0.0, 2.0], "growth").logarithmic


def parts(line: str) -> Iterator[int]:
    """The heights of a sparkline."""
    return ("▁▂▃▄▅▆▇█".index(letter) for letter in line)


def test_a_sparkline_follows_its_values() -> None:
    assert list(parts(sparkline([0, 1, 2, 3, 4, 5, 6, 7]))) == list(range(8))
    assert len(sparkline(list(range(1_000)))) == 40
    assert sparkline([]) == ""
    assert sparkline([float("nan")]) == ""


def test_a_terminal_chart_is_as_wide_as_asked_and_falls_where_values_fall() -> None:
    rows = chart({"loss": [3.0, 2.0, 1.0]}, 60, height=4).split("\n")
    assert [len(row) for row in rows] == [60] * 4
    first, last = rows[0], rows[-1]
    blank = "\u2800"
    assert first[10] != blank
    assert first[59] == blank
    assert last[59] != blank
    assert chart({"loss": [1.0]}, 60) == ""
    assert chart({"loss": [1.0, 2.0]}, 10) == ""


def test_frozen_inputs_are_not_changed_by_drawing() -> None:
    report = TrainingReport(sample_replies.PENDING, "default", "2026-01-01T00:00:00Z", "")
    assert training_page(report) == training_page(replace(report))
