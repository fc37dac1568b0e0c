"""A model that KTRDR wrote is backtested as it is predicted with: what came before it is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.data.bars import LoadedBars
from ktrdr_mcp.interop.ktrdr.model_format import MODEL_FORMAT
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.requests import BacktestModel
from ktrdr_mcp.service import backtesting
from ktrdr_mcp.service.model_cache import ModelCache
from tests.support import ktrdr_writer
from tests.support.saved_models import hourly_bars

CREATED = "2025-06-10T12:00:00"


class Series:
    """A source of the built-in bars, whatever the symbol."""

    def load(self, symbol: str, timeframe: str, *_: object) -> LoadedBars:
        return LoadedBars(hourly_bars(), "built-in sample", [])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ktrdr_writer.write(tmp_path, created_at=CREATED)
    return tmp_path


def traded(root: Path, **changes: Any) -> tuple[responses.ModelBacktest, backtesting.Traded]:
    workspace = Workspace(root)
    loaded = ModelCache(workspace).load(MODEL_FORMAT.newest(workspace, "theirs"))
    request = parse(BacktestModel, {"model_name": "theirs", **changes})
    found = backtesting.trade(loaded, request, Series())  # type: ignore[arg-type]
    reply = backtesting.reply(loaded, request, found)
    return backtesting.judge_fresh(
        reply, backtesting.fresh_of(loaded, found), [], recorded=True
    ), found


def times() -> np.ndarray:
    return np.array([np.datetime64(timestamp.rstrip("Z")) for timestamp in hourly_bars().times()])


def test_bars_before_the_model_was_made_are_in_sample_with_a_warning(root) -> None:
    told, found = traded(root)
    later = times() >= np.datetime64(CREATED)
    assert told.out_of_sample is not None
    assert told.out_of_sample.bars == later.sum() - 2  # the last two have no return
    assert told.in_sample is not None
    warm_up = len(later) - len(found.run.parts.in_sample) - later.sum()
    assert told.in_sample.bars == (~later).sum() - warm_up
    assert 0 < warm_up < 100
    assert "every bar before it was made counts as in-sample" in told.summary


def test_a_range_before_the_model_was_made_says_nothing_of_the_future(root) -> None:
    told, _ = traded(root, end_date="2025-06-09")
    assert told.out_of_sample is None
    assert told.summary.startswith("Every bar of the range was seen")


def test_a_range_after_the_model_was_made_needs_no_warning(root) -> None:
    told, _ = traded(root, start_date="2025-06-11")
    assert told.in_sample is None
    assert told.summary.startswith("Fresh bars (after the training)")
    assert "KTRDR does not keep" not in told.summary


def test_positions_are_held_as_long_as_the_default_labels_look_ahead_and_it_is_said(root) -> None:
    told, found = traded(root)
    assert (found.rule.horizon, found.rule.holding_bars) == (8, 8)
    assert "at most 8 bars after its signal" in told.summary


def test_signals_are_filtered_as_ktrdrs_decision_engine_filters_them(tmp_path) -> None:
    made = ktrdr_writer.config(decisions={"confidence_threshold": 0.4})
    ktrdr_writer.write(tmp_path, created_at=CREATED, made=made)
    told, found = traded(tmp_path)
    assert (found.rule.confidence_threshold, found.rule.min_separation_hours) == (0.4, 4.0)
    assert "A signal less probable than 0.4 is a hold." in told.summary
    assert "Signals within 4 h of the last that was traded" in told.summary
