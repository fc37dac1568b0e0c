"""Replies stay small enough for a conversation."""

from __future__ import annotations

import numpy as np
import pytest
from mcp.types import CallToolResult, TextContent

from ktrdr_mcp import limits
from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.evaluation.alarms import result_alarms
from ktrdr_mcp.evaluation.blocks import BlockSums
from ktrdr_mcp.evaluation.direction import DirectionalTest
from ktrdr_mcp.evaluation.multiple_testing import EarlierTrials, FamilyJudgement, Stream
from ktrdr_mcp.evaluation.verdict import (
    Caveats,
    across_text,
    luck_line,
    prediction_verdict,
)
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.schemas.responses import fit_page
from ktrdr_mcp.schemas.results import EdgeScores, FailedFolds
from ktrdr_mcp.service.evaluation import fit_reply, shorten_sweep
from tests.support import sample_replies
from tests.support.fake_service import FakeService
from tests.support.mcp_clients import Connect

TASK = {"task_id": sample_replies.UUID}


def size_bytes(result: CallToolResult) -> int:
    """The reply's size; structured content and text are the same data."""
    (block,) = result.content
    assert isinstance(block, TextContent)
    return len(block.text.encode())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply", [sample_replies.PENDING, sample_replies.status(99_999), sample_replies.FAILED]
)
async def test_a_status_is_small(
    connect: Connect, service: FakeService, reply: responses.TrainingStatus
) -> None:
    service.replies["get_training_status"] = reply
    async with connect() as client:
        result = await client.call_tool("get_training_status", TASK)
    assert size_bytes(result) <= limits.STATUS_BYTES


def wordy(leak: bool) -> responses.ModelPerformance:
    """A reply with the longest of verdicts and the figures of several seeds.

    Args:
        leak: whether skill is withheld; otherwise it does not hold across families.
    """
    nothing = np.zeros(2_000, dtype=np.int64)
    blocks = BlockSums(nothing, nothing, np.zeros(2_000))
    edge = EdgeScores(accuracy=0.5123, low=0.49, high=0.55, base_rate=0.5, break_even=0.52)
    test = DirectionalTest(12.1, 0.0002, blocks, 2_000, 48, 96_000, False, 0.5123, 0.0123, edge)
    family = FamilyJudgement(12.1, 0.0002, 0.0012, 1_000, 2.61, 3.04, 3.31, 0.0025, 0.005)
    alarms = tuple(result_alarms(12.1, 144, 8.5, 0.0))
    folds = FailedFolds(planned=4, diverged=2 if leak else 0)
    caveats = Caveats(answer="hold", leak_suspected=leak, folds=folds, alarms=alarms)
    judged = prediction_verdict(test, family, 115_030, caveats)
    spread = responses.Spread(mean=0.4123, deviation=0.0123)
    usual = sample_replies.PERFORMANCE
    earlier = EarlierTrials(missing=999, stream=Stream(place=137))
    traded = f"net +1231.3%, timing p 0.001{', likewise' if leak else ': luck not ruled out'}."
    across = "" if leak else across_text(family, earlier)
    reason = f"{judged.reason} Trading: {traded} {across}".strip()
    luck = luck_line(family, earlier)
    verdict = {
        "reason": reason,
        "needs": judged.needs or "Timing: more than 2,300,600 bars.",
        "luck": luck,
        "holds_across": False,
        "suspect": [alarm.name for alarm in alarms],
    }
    whole = usual.model_copy(
        update={
            "verdict": usual.verdict.model_copy(update=verdict),
            "seeds": responses.SeedFigures(count=10, val_accuracy=spread, test_accuracy=spread),
        }
    )
    return fit_reply(whole)


@pytest.mark.asyncio
@pytest.mark.parametrize("reply", [sample_replies.PERFORMANCE, wordy(True), wordy(False)])
async def test_a_performance_is_small(
    connect: Connect, service: FakeService, reply: responses.ModelPerformance
) -> None:
    service.replies["get_model_performance"] = reply
    async with connect() as client:
        result = await client.call_tool("get_model_performance", TASK)
    assert size_bytes(result) <= limits.PERFORMANCE_BYTES


def searched() -> responses.SweepFigures:
    """What is said of a search over many settings with long values."""
    settings = {
        "early_stopping.patience": 20,
        "hidden_layers": [128, 64, 32],
        "labels.horizon": 16,
        "learning_rate": 0.000123456,
        "strategy": "volatility_breakout",
    }
    best = responses.BestSettings(candidate=512, settings=settings, score=-10.25, noise=10.25)
    figures = responses.SweepFigures(
        trials=512,
        diverged=100,
        collapsed=100,
        groups=48,
        sampler="random",
        chosen_by_fold=[512] * 4,
        kept=512,
        by_default=4,
        best=[best] * 5,
        not_distinguishable_from_best=500,
        matters=dict.fromkeys(settings, 0.25),
        all="sweep://0f8fad5b-d9cb-469f-a165-70867728950e",
    )
    return shorten_sweep(figures)


def test_a_cut_search_has_its_five_best_and_says_what_is_cut() -> None:
    found = searched()
    assert [each.score for each in found.best] == [-10.25] * 5
    kept = [each.settings is not None for each in found.best]
    assert kept == sorted(kept, reverse=True)
    assert found.cut == f"settings of {kept.count(False)} of the best"
    many = {f"early_stopping.setting_{place}": 1 / (place + 1) for place in range(16)}
    best = [each.model_copy(update={"settings": many}) for each in found.best]
    whole = found.model_copy(update={"best": best, "matters": many, "cut": None})
    found = shorten_sweep(whole)
    assert len(found.model_dump_json()) <= limits.SWEEP_BYTES
    assert len(found.best) == 5
    assert 0 < len(found.matters) < 16
    assert list(found.matters) == list(many)[: len(found.matters)]


def test_figures_over_seeds_leave_a_long_reply_before_what_a_decision_needs() -> None:
    spread = responses.Spread(mean=0.4123, deviation=0.0123)
    seeds = responses.SeedFigures(
        count=5,
        val_accuracy=spread,
        test_accuracy=spread,
        t_median=1.9,
        t_min=1.2,
        t_max=2.3,
        depends_on_seed=False,
        by_default=2,
    )
    usual = sample_replies.PERFORMANCE.model_copy(update={"seeds": seeds})
    padding = limits.PERFORMANCE_BYTES + 100 - len(usual.model_dump_json())
    longer = usual.verdict.model_copy(update={"reason": usual.verdict.reason + " " * padding})
    found = fit_reply(usual.model_copy(update={"verdict": longer}))
    bare = seeds.model_copy(update={"val_accuracy": None, "test_accuracy": None})
    assert found == usual.model_copy(update={"verdict": longer, "seeds": bare})


@pytest.mark.asyncio
async def test_what_a_performance_says_of_a_search_is_small(
    connect: Connect, service: FakeService
) -> None:
    reply = sample_replies.PERFORMANCE
    sizes = []
    for each in (reply, reply.model_copy(update={"sweep": searched()})):
        service.replies["get_model_performance"] = each
        async with connect() as client:
            sizes.append(size_bytes(await client.call_tool("get_model_performance", TASK)))
    beside = len('"sweep":,')
    assert sizes[1] - sizes[0] <= limits.SWEEP_BYTES + beside


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "name", ["list_trained_models", "list_training_tasks", "get_market_data_summary"]
)
async def test_a_page_has_as_many_usual_rows_as_fit(
    connect: Connect, service: FakeService, name: str
) -> None:
    few = service.replies[name]
    field = OPERATIONS[name].rows
    assert field is not None
    rows = getattr(few, field)[:1] * limits.MCP_PAGE_ROWS
    service.replies[name] = few.model_copy(update={field: rows, "returned": len(rows)})
    async with connect() as client:
        result = await client.call_tool(name)
    assert size_bytes(result) <= limits.PAGE_BYTES
    assert result.structured_content is not None
    assert 6 <= result.structured_content["returned"] < limits.MCP_PAGE_ROWS
    assert result.structured_content["has_more"] is True


@pytest.mark.asyncio
async def test_a_page_of_long_rows_is_cut_and_says_so(
    connect: Connect, service: FakeService
) -> None:
    row = sample_replies.MODEL_ROW.model_copy(
        update={"description": "d" * limits.MAX_DESCRIPTION_CHARACTERS}
    )
    service.replies["list_trained_models"] = responses.ModelList(
        models=[row] * 5, returned=5, has_more=False
    )
    async with connect() as client:
        result = await client.call_tool("list_trained_models")
    assert size_bytes(result) <= limits.PAGE_BYTES
    content = result.structured_content
    assert content is not None
    assert content["models"] == [row.model_dump()] * 3
    assert (content["returned"], content["has_more"]) == (3, True)


def test_a_page_that_fits_is_left_alone() -> None:
    few = sample_replies.TASKS.model_copy(update={"tasks": sample_replies.TASKS.tasks[:5]})
    assert fit_page(few, "tasks", limits.PAGE_BYTES) is few


def test_one_row_stays_however_long_it_is() -> None:
    row = sample_replies.SERIES.model_copy(update={"notes": ["n" * 3_000]})
    whole = responses.DataSummary(series=[row, row], returned=2, has_more=False)
    page = fit_page(whole, "series", limits.PAGE_BYTES)
    assert (page.series, page.returned, page.has_more) == ([row], 1, True)
    assert fit_page(page, "series", limits.PAGE_BYTES) is page
