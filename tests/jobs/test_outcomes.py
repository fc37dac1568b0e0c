"""What the end of a run means for its task."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.context import Cancelled, NullContext, Progress
from ktrdr_mcp.errors import Diverged, KtrdrError, NotEnoughData, StorageFull
from ktrdr_mcp.jobs.executors.base import Ended, decode, encode
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.model import Outcome, outcome_of
from ktrdr_mcp.jobs.worker import how_it_ends
from ktrdr_mcp.limits import MAX_ERROR_CHARACTERS
from tests.support.sample_results import merged, run_result

LIVE = Live().with_epoch(Progress(40, 100, 0.7, 0.8, 0.5, 0.4), 1.0)


def raised(error: BaseException) -> Ended:
    """How a run ends that raises this, as the server hears of it."""

    def run(*_: Any) -> dict[str, Any]:
        raise error

    return decode(encode(how_it_ends(run, {}, Path(), NullContext())))  # type: ignore[return-value]


def outcome(ended: Ended, stop_requested: bool = False) -> Outcome:
    """The outcome of a run that had finished 40 of 100 epochs."""
    found = outcome_of(ended, LIVE, stop_requested)
    assert found is not None
    return found


def failure(error: BaseException, stop_requested: bool = False) -> tuple[object, object]:
    """The status and the error code of a run that raised."""
    found = outcome(raised(error), stop_requested)
    return found.status, found.columns["error_code"]


def test_a_result_completes_the_task_with_its_metrics_and_columns() -> None:
    result = run_result()
    columns = outcome(Ended(result=result.to_json())).columns
    assert columns.pop("completed_at")
    assert json.loads(str(columns.pop("result"))) == result.metrics.to_json()
    assert json.loads(str(columns.pop("scores"))) == result.scores.to_json()
    assert columns == {
        "current_epoch": result.metrics.training_metrics.epochs_completed,
        "data_fingerprint": result.data_fingerprint,
        "test_start": "2025-01-02T00:00:00Z",
        "test_end": "2025-07-01T00:00:00Z",
        "progress": 100,
        "resumed_from": None,
    }


def test_the_tested_window_of_the_start_stays_where_a_bundle_does_not_say_it() -> None:
    older = {**run_result().to_json(), "tested_window": None}
    assert not {"test_start", "test_end"} & outcome(Ended(result=older)).columns.keys()


def test_a_result_that_came_after_a_request_to_stop_still_counts() -> None:
    assert outcome(Ended(result=run_result().to_json()), stop_requested=True).status == "completed"


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        {"metrics": {}},
        {**run_result().to_json(), "metrics": None},
        {**run_result().to_json(), "tested_window": ["only one"]},
        run_result(validation_majority=0.0).to_json() | {"data_fingerprint": ["list"]},
        merged(run_result().to_json(), {"metrics": {"validation_majority": float("nan")}}),
    ],
)
def test_a_result_of_the_wrong_form_is_a_defect(result: object) -> None:
    found = outcome(Ended(result=result))  # type: ignore[arg-type]
    assert (found.status, found.columns["error_code"]) == ("failed", "internal_error")


def test_our_errors_are_kept_with_the_stage_they_came_from() -> None:
    error = Diverged("The loss became NaN in epoch 3.", hint="Lower learning_rate.")
    error.stage = "train"  # type: ignore[attr-defined]
    columns = outcome(raised(error)).columns
    assert columns.pop("completed_at")
    assert columns == {
        "error_code": "diverged",
        "error_message": "The loss became NaN in epoch 3.",
        "error_hint": "Lower learning_rate.",
        "error_stage": "train",
        "progress": 40,
        "current_epoch": 40,
        "resumed_from": None,
    }


def test_memory_that_ran_out_is_said_as_such() -> None:
    torch_text = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
    assert failure(MemoryError()) == ("failed", "out_of_memory")
    assert failure(RuntimeError(torch_text)) == ("failed", "out_of_memory")
    assert failure(RuntimeError("shapes do not match")) == ("failed", "internal_error")


@pytest.mark.parametrize(
    "error",
    [ValueError("/secret/path"), SystemExit(1), KeyboardInterrupt(), StopIteration(), Cancelled()],
)
def test_anything_else_is_a_defect_whose_text_goes_only_to_the_log(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        columns = outcome(raised(error)).columns
    assert columns["error_code"] == "internal_error"
    assert type(error).__name__ in str(columns["error_message"])
    assert "secret" not in str(columns)
    assert caplog.records[0].exc_info is not None


def test_only_a_run_that_was_asked_may_stop_without_an_outcome() -> None:
    assert outcome_of(raised(Cancelled()), LIVE, stop_requested=True) is None
    assert failure(Cancelled()) == ("failed", "internal_error")
    error = NotEnoughData("Too few bars.", hint="Widen the range.")
    assert failure(error, stop_requested=True) == ("failed", "not_enough_data")


def test_long_texts_are_cut_to_what_a_status_may_hold() -> None:
    error = Diverged("m" * 1000, hint="h" * 1000)
    columns = outcome(raised(error)).columns
    assert len(str(columns["error_message"])) == MAX_ERROR_CHARACTERS
    assert len(str(columns["error_hint"])) == MAX_ERROR_CHARACTERS


@pytest.mark.parametrize(
    ("live", "error", "stage"),
    [
        (Live(), NotEnoughData("Too few bars.", hint="Widen the range."), "preparing"),
        (LIVE, Diverged("NaN.", hint="Lower it."), "training"),
        (LIVE, StorageFull("No space left.", hint="Free some."), "publishing"),
        (Live().with_start(3, None), ValueError(), "training"),
    ],
)
def test_every_failure_says_how_far_the_run_had_come(
    live: Live, error: Exception, stage: str
) -> None:
    found = outcome_of(raised(error), live, stop_requested=False)
    assert found is not None
    assert found.columns["error_stage"] == stage


@pytest.mark.parametrize(
    "error",
    [
        Diverged("NaN in epoch 3.", hint="Lower it.", field="config.learning_rate"),
        StorageFull("No space left.", hint="Free some."),
    ],
)
def test_an_error_crosses_with_all_that_a_client_reads(error: KtrdrError) -> None:
    failure = raised(error).failure
    assert failure is not None
    crossed = {name: getattr(failure, name) for name in ("code", "message", "hint", "field")}
    assert crossed == error.to_dict()["error"]
