"""Walk-forward folds leak nothing, whatever the labels look ahead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr_mcp.evaluation.walk_forward import Timeline, WalkForward, chronological, walk_forward


def one_series(bars: int, ahead: int = 0) -> Timeline:
    """A series whose labels look a fixed number of bars ahead."""
    return Timeline.of_one_series(np.arange(bars) + ahead)


@given(
    st.integers(200, 1_500),
    st.integers(1, 6),
    st.floats(0.2, 0.8),
    st.sampled_from(["expanding", "rolling"]),
    st.floats(0.1, 0.4),
    st.integers(0, 1_000),
)
@settings(max_examples=80, deadline=None)
def test_no_label_of_a_fold_reaches_what_it_is_judged_on(
    count: int, folds: int, span: float, window: str, share: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    rows = np.arange(50, 50 + count)
    end = np.arange(count + 100) + generator.integers(0, 40, count + 100)
    how = WalkForward(folds, span, window)  # type: ignore[arg-type]
    found = walk_forward(rows, Timeline.of_one_series(end), share, how)
    for fold in found:
        assert end[fold.train].max() < fold.validation[0]
        assert max(end[fold.train].max(), end[fold.validation].max()) < fold.test[0]
        assert fold.is_large_enough
        assert fold.train[0] == 50 or window == "rolling"
        before_test = int(fold.test[0]) - 50
        used = len(fold.train) + len(fold.validation) + fold.purged_rows
        assert used == (before_test if window == "expanding" else count - int(count * span))
    tested = np.concatenate([np.empty(0, np.int64), *(fold.test for fold in found)])
    assert np.all(np.diff(tested) > 0)
    if len(found) == folds:
        assert np.array_equal(tested, np.arange(50 + count - int(count * span), 50 + count))


def test_the_default_predicts_the_last_sixty_percent_in_four_parts() -> None:
    found = walk_forward(np.arange(1_000), one_series(1_000, 8), 0.2)
    assert [(fold.test[0], fold.test[-1]) for fold in found] == [
        (400, 549),
        (550, 699),
        (700, 849),
        (850, 999),
    ]
    assert (found[0].train[-1], found[0].validation[0], found[0].validation[-1]) == (311, 320, 391)
    assert found[0].purged_rows == 16


def test_rolling_folds_train_on_as_much_as_the_first() -> None:
    found = walk_forward(np.arange(1_000), one_series(1_000), 0.2, WalkForward(4, 0.6, "rolling"))
    assert {len(fold.train) for fold in found} == {320}
    assert [fold.train[0] for fold in found] == [0, 150, 300, 450]


def test_folds_that_are_too_small_are_left_out() -> None:
    assert walk_forward(np.arange(90), one_series(90), 0.2) == []
    few = walk_forward(np.arange(240), one_series(240), 0.2)
    assert [fold.test[0] for fold in few] == [132, 168, 204]


@pytest.mark.parametrize("window", ["expanding", "rolling"])
def test_gaps_between_rows_are_kept_apart_by_bars_not_by_rows(window: str) -> None:
    rows = np.arange(1_000)[np.arange(1_000) % 10 < 5]
    end = np.arange(1_000) + 7
    timeline = Timeline.of_one_series(end)
    for fold in walk_forward(rows, timeline, 0.2, WalkForward(3, 0.5, window)):  # type: ignore[arg-type]
        assert end[fold.train].max() < fold.validation[0]
        assert end[fold.validation].max() < fold.test[0]


def two_series(seed: int) -> tuple[np.ndarray, Timeline]:
    """Rows of two series that have most timestamps in common, in the order of time."""
    generator = np.random.default_rng(seed)
    stamps = [np.flatnonzero(generator.random(900) < share) for share in (0.9, 0.7)]
    at = np.concatenate(stamps)
    until = at + generator.integers(0, 30, len(at))
    return np.argsort(at, kind="stable"), Timeline(at, until)


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_two_series_at_one_time_are_never_in_two_parts(seed: int) -> None:
    rows, timeline = two_series(seed)
    main = chronological(rows, timeline, 0.2, 0.15)
    folds = walk_forward(rows, timeline, 0.2)
    assert len(folds) == 4
    for split in (main, *folds):
        parts = (split.train, split.validation, split.test)
        times = [set(timeline.at[part].tolist()) for part in parts]
        assert not (times[0] & times[1])
        assert not (times[0] & times[2])
        assert not (times[1] & times[2])
        assert timeline.until[split.train].max() < timeline.at[split.validation].min()
        kept = np.concatenate(parts[:2])
        assert timeline.until[kept].max() < timeline.at[split.test].min()


def test_shares_are_of_timestamps_and_not_of_rows() -> None:
    # the second series exists only in the last tenth of the time, with three rows for one
    early, late = np.arange(900), np.repeat(np.arange(900, 1_000), 4)
    at = np.concatenate([early, late])
    split = chronological(np.arange(len(at)), Timeline(at, at), 0.2, 0.1)
    assert set(at[split.test].tolist()) == set(range(900, 1_000))
    assert (len(split.train), len(split.validation), len(split.test)) == (700, 200, 400)
