"""The sign-flip test against plain enumeration."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr_mcp.evaluation.direction import sign_flip_p, sign_vectors, statistic

sums_lists = st.lists(
    st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 3)), min_size=1, max_size=9
)


def enumerated(sums: list[float]) -> tuple[float, float]:
    """T and p by all sign vectors, one after the other."""
    size = math.sqrt(math.fsum(b * b for b in sums))
    if size == 0:
        return 0.0, 1.0
    observed = math.fsum(sums) / size
    reached = [
        math.fsum(sign * b for sign, b in zip(signs, sums, strict=True)) / size >= observed - 1e-9
        for signs in product((1, -1), repeat=len(sums))
    ]
    return observed, sum(reached) / len(reached)


@given(sums_lists)
@settings(max_examples=60, deadline=None)
def test_up_to_twelve_blocks_p_is_that_of_all_sign_vectors(sums: list[float]) -> None:
    expected_t, expected_p = enumerated(sums)
    assert statistic(np.array(sums)) == pytest.approx(expected_t, abs=1e-10)
    assert sign_flip_p(np.array(sums), seed=0) == pytest.approx(expected_p, abs=1e-12)


def test_twelve_blocks_are_still_enumerated() -> None:
    sums = np.random.default_rng(4).normal(0.4, 1, 12)
    assert sign_flip_p(sums, seed=0) == enumerated(sums.tolist())[1]
    assert sign_vectors(12, seed=0).shape == (12, 4_096)


def test_random_signs_come_close_to_enumeration() -> None:
    sums = np.random.default_rng(5).normal(0.4, 1, 14)
    expected = enumerated(sums.tolist())[1]
    error = math.sqrt(expected * (1 - expected) / 4_999)
    assert sign_flip_p(sums, seed=0) == pytest.approx(expected, abs=4 * error)


def test_random_p_is_never_zero_and_the_same_for_the_same_seed() -> None:
    sums = np.ones(40)
    assert sign_flip_p(sums, seed=0) == 1 / 5_000
    noisy = np.random.default_rng(1).normal(size=40)
    assert sign_flip_p(noisy, seed=3) == sign_flip_p(noisy, seed=3)


def test_more_blocks_leave_the_first_blocks_signs_alone() -> None:
    assert np.array_equal(sign_vectors(20, seed=7), sign_vectors(33, seed=7)[:20])


def test_random_signs_are_balanced_and_uncorrelated() -> None:
    signs = sign_vectors(50, seed=0).astype(float)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert signs.shape == (50, 4_999)
    correlation = signs @ signs.T / signs.shape[1]
    assert np.abs(correlation - np.eye(50)).max() < 0.07
    assert np.abs(signs.mean(axis=1)).max() < 0.06


def test_nothing_to_flip_is_no_evidence() -> None:
    assert sign_flip_p(np.empty(0), seed=0) == 1.0
    assert sign_flip_p(np.zeros(30), seed=0) == 1.0
    assert statistic(np.empty(0)) == 0.0


def test_p_is_uniform_on_symmetric_noise() -> None:
    generator = np.random.default_rng(11)
    found = np.array([sign_flip_p(generator.standard_t(3, 30), seed=0) for _ in range(400)])
    for level in (0.02, 0.1, 0.25, 0.5):
        assert np.mean(found <= level) == pytest.approx(level, abs=3.5 * (level / 400) ** 0.5)
