"""Reports of trainings: what they show equals the JSON, and nothing in them runs or loads."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from starlette.testclient import TestClient

from ktrdr_mcp.api.http.app import build_api
from ktrdr_mcp.api.http.guard import Rules
from ktrdr_mcp.cli.reports import MOST_COLUMNS, width_of
from ktrdr_mcp.report.drawing import Chart, epoch_axis, growth_axis, linear_axis, sparkline
from ktrdr_mcp.report.explanation import explanation_section
from ktrdr_mcp.report.page import percent, source_hash
from ktrdr_mcp.report.sweep import Candidate, sweep_section
from ktrdr_mcp.report.terminal import chart
from ktrdr_mcp.report.training import TrainingReport, training_page, verdict_section
from ktrdr_mcp.schemas import requests, responses
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
        self.dots: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "data":
            self.figures[str(found["data-field"])] = json.loads(str(found["value"]))
        if (found.get("class") or "").startswith("dots"):
            self.dots.append(str(found["d"]))

    def handle_data(self, data: str) -> None:
        self.text += data


def field_of(document: Any, path: str) -> Any:
    """The value at a dotted path in JSON, where names may have dots themselves."""
    if isinstance(document, dict) and path in document:
        return document[path]
    name, _, rest = path.partition(".")
    inner = document[int(name)] if isinstance(document, list) else document[name]
    return field_of(inner, rest) if rest else inner


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
async def test_a_search_has_its_candidates_drawn_and_an_explanation_its_importances(
    bench: Bench,
) -> None:
    vary = {"learning_rate": {"low": 0.0001, "high": 0.1, "log": True}, "labels.horizon": [6, 8]}
    config = {"epochs": 2, "hidden_layers": [4], "sweep": {"trials": 4, "vary": vary}}
    await bench.trained(task_id=TASK, config=config)
    before = Page((await bench.service.training_report(bench.task(TASK))).html)
    assert not any(path.startswith("groups.") for path in before.figures)
    asked = parse(requests.ExplainModel, {"task_id": TASK})
    explained = (await bench.service.explain_model(asked)).model_dump(mode="json")
    page = Page((await bench.service.training_report(bench.task(TASK))).html)
    performance = (await bench.performance(TASK)).model_dump(mode="json")
    sweep = (await bench.service.sweep_candidates(bench.task(TASK))).sweep
    shown = {
        path: number
        for path, number in page.figures.items()
        if path.startswith(("sweep.", "groups."))
    }
    assert {"sweep.best.0.score", "groups.0.importance", "groups.0.p"} <= shown.keys()
    assert all(field_of({**performance, **explained}, path) == shown[path] for path in shown)
    scores = [each["score"] for each in sweep["candidates"] if each["score"] is not None]
    drawn = [heights(path) for path in page.dots if len(heights(path)) == len(scores)]
    assert len(drawn) == len(vary)  # a drawing for each setting
    for places in drawn:  # downwards, as far as scores differ
        assert np.corrcoef(places, scores)[0, 1] == pytest.approx(-1, abs=0.01)


def heights(path: str) -> list[float]:
    """The vertical places of the dots of a path."""
    return [float(found) for found in re.findall(r"M[\d.]+ ([\d.]+)h0", path)]


def test_the_largest_search_and_explanation_leave_a_report_small() -> None:
    names = [f"setting.number_{n}" for n in range(8)]
    candidates = [
        Candidate(n, {name: n * (place + 1) / 7 for place, name in enumerate(names)}, n / 100)
        for n in range(1, 1_025)
    ]
    groups = [
        {"group": f"indicator_{n}", "importance": 0.1 / n, "error": 0.01, "p": 0.5}
        for n in range(1, 129)
    ]
    explanation = responses.Explanation.model_validate(
        {
            "task_id": TASK,
            "summary": "None.",
            "groups": groups,
            "response": None,
            "rules": [],
            "rows": 1,
            "blocks": 1,
            "test_readings": 1,
            "details": "",
        }
    )
    sweep = responses.SweepFigures.model_validate(
        {
            "trials": 1_024,
            "diverged": 0,
            "collapsed": 0,
            "groups": 1,
            "sampler": "qmc",
            "chosen_by_fold": [1, 2],
            "kept": 3,
            "by_default": 0,
            "best": [],
            "all": "",
            "not_distinguishable_from_best": 0,
            "matters": dict.fromkeys(names, 0.1),
        }
    )
    html = sweep_section(sweep, candidates) + explanation_section(explanation)
    assert len(html.encode()) < 0.4 * LARGEST_BYTES
    page = Page(html)
    assert sum(tag == "svg" for tag, _ in page.tags) == 5
    assert "4 more settings varied" in page.text
    assert "108 less important ones" in page.text


@pytest.mark.asyncio
async def test_a_missing_bundle_is_said(bench: Bench) -> None:
    await bench.trained(task_id=TASK)
    shutil.rmtree(bench.workspace.bundle_directory(TASK))
    page = Page((await bench.service.training_report(bench.task(TASK))).html)
    assert "bundle was removed" in page.text
    assert "Verdict" in page.text


@pytest.mark.asyncio
async def test_a_training_without_folds_has_a_report_that_says_so(bench: Bench) -> None:
    await bench.trained(task_id=TASK, config={"epochs": 2, "walk_forward": None})
    page = Page((await bench.service.training_report(bench.task(TASK))).html)
    assert "has no walk-forward folds" in page.text
    assert loads_nothing(page)


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
    parts = [name for name in ("out_of_sample", "choosing", "in_sample") if reply[name]]
    classes = [found.get("class") for _, found in page.tags]
    assert classes.count("line other") == classes.count("line own") == len(parts)
    assert classes.count("band past") == len({*parts} & {"choosing", "in_sample"}) == 2
    for name in parts:
        assert f"holding at {percent(reply[name]['buy_and_hold_return'], signed=True)}" in page.text
    assert "Shaded: the model was fitted on these bars." in page.text
    assert "Shaded: the model was chosen by its figures on these bars." in page.text


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


def test_all_that_limits_a_verdict_stands_beside_it() -> None:
    spread = responses.Spread(mean=0.4, deviation=0.01)
    seeds = responses.SeedFigures(
        count=5,
        val_accuracy=spread,
        test_accuracy=spread,
        t_median=1.0,
        t_min=-0.5,
        t_max=2.5,
        depends_on_seed=True,
    )
    limits = {"holds_across": False, "suspect": ["half_spread"]}
    verdict = sample_replies.PERFORMANCE.verdict.model_copy(update=limits)
    reply = sample_replies.PERFORMANCE.model_copy(update={"verdict": verdict, "seeds": seeds})
    page = Page(verdict_section(reply))
    said = reply.model_dump(mode="json")
    wanted = {f"verdict.{name}" for name in ("level", "holds_across", "suspect", "trials_since")}
    wanted |= {"seeds.depends_on_seed", "edge.low", "edge.high"}
    assert wanted <= page.figures.keys()
    assert {path: field_of(said, path) for path in wanted} == {
        path: page.figures[path] for path in wanted
    }


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


@pytest.mark.parametrize(("most", "shown"), [(0.1, "0.025"), (10, "2.5"), (4, "1")])
def test_labels_of_ticks_say_where_the_ticks_are(most: float, shown: str) -> None:
    axis = linear_axis([0, most], "unit")
    assert [float(axis.show(tick)) for tick in axis.ticks] == pytest.approx(axis.ticks)
    assert axis.show(axis.ticks[1]) == shown
    assert [float(epoch_axis(1, 8).show(tick)) for tick in epoch_axis(1, 8).ticks] == list(
        epoch_axis(1, 8).ticks
    )


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


def test_a_terminal_drawing_is_as_wide_as_the_terminal_and_bounded_where_there_is_none() -> None:
    assert width_of(Console(file=StringIO(), width=60, force_terminal=True)) == 60
    assert width_of(Console(file=StringIO(), width=5_000, force_terminal=True)) == MOST_COLUMNS
    assert width_of(Console(file=StringIO(), width=5_000)) <= MOST_COLUMNS
