"""What the view in a chat draws of a task, and what it is allowed to do."""

from __future__ import annotations

import re

import pytest

from ktrdr_mcp.report.drawing import SPARKS
from ktrdr_mcp.report.live import view_drawing, view_page
from ktrdr_mcp.report.page import source_hash
from ktrdr_mcp.report.training import TrainingReport
from ktrdr_mcp.schemas import requests
from tests.report.test_reports import HOSTILE, Page, loads_nothing
from tests.support import sample_replies
from tests.support.service_calls import Bench


def test_the_view_allows_its_own_script_and_style_and_nothing_else() -> None:
    html = view_page()
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert f"{kind} {source_hash(content)};" in html
    assert "default-src 'none'" in html
    assert "http://" not in html
    assert "https://" not in html


@pytest.mark.asyncio
async def test_a_completed_task_is_drawn_only_when_asked_and_that_counts_as_a_reading(
    bench: Bench,
) -> None:
    await bench.trained(task_id="shown")
    asked = requests.ShowTraining(task_id="shown")
    reply = await bench.service.show_training(asked)
    history = (await bench.service.training_history(bench.task("shown"))).history
    losses = [each["val_loss"] for each in history["epochs"]]
    assert reply.drawing is None
    assert reply.task.val_loss == round(losses[-1], 6)
    assert len(reply.sparkline) == min(len(losses), 40)
    assert set(reply.sparkline) <= set(SPARKS)
    before = await bench.performance("shown")
    drawn = await bench.service.show_training(asked.model_copy(update={"draw": True}))
    assert (await bench.performance("shown")).test_readings == before.test_readings + 2
    assert drawn.drawing is not None
    page = Page(drawn.drawing)
    assert loads_nothing(page)
    assert before.verdict.reason in page.text
    assert page.figures["trading.trades"] == before.trading.trades


def test_texts_from_outside_are_shown_as_text() -> None:
    failed = sample_replies.FAILED.model_copy(update={"error": HOSTILE})
    epochs = [
        {"epoch": n, "train_loss": 1 / n, "val_loss": 1 / n, "train_accuracy": 0.4,
         "val_accuracy": 0.4}
        for n in (1, 2, 3)
    ]  # fmt: skip
    html = view_drawing(TrainingReport(failed, HOSTILE, sample_replies.TIMESTAMP, "", epochs))
    page = Page(html)
    assert loads_nothing(page)
    assert "svg" in {tag for tag, _ in page.tags}
    assert "\u202e" not in html
    assert "<script>alert(1)</script>" in page.text
    assert len(html) < 10_000
