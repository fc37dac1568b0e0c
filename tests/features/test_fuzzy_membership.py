"""Memberships against scikit-fuzzy, and sets placed by quantiles."""

from __future__ import annotations

import numpy as np
import pytest
import skfuzzy
from hypothesis import given
from hypothesis import strategies as st

from ktrdr_mcp.errors import NotEnoughData
from ktrdr_mcp.features.fuzzy import auto_sets, membership

CORNER = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
POINTS = np.linspace(-1_100, 1_100, 501)


def around(parameters):
    """Points all over, and the corners themselves."""
    return np.sort(np.concatenate((POINTS, np.array(parameters, dtype=float))))


@given(st.tuples(CORNER, CORNER, CORNER).map(sorted).filter(lambda p: p[0] < p[2]))
def test_triangles_equal_scikit_fuzzys(parameters):
    x = around(parameters)
    expected = skfuzzy.trimf(x, parameters)
    np.testing.assert_allclose(membership("triangular", parameters, x), expected, atol=1e-12)


@given(st.tuples(CORNER, CORNER, CORNER, CORNER).map(sorted).filter(lambda p: p[0] < p[3]))
def test_trapezoids_equal_scikit_fuzzys(parameters):
    x = around(parameters)
    expected = skfuzzy.trapmf(x, np.array(parameters))
    np.testing.assert_allclose(membership("trapezoidal", parameters, x), expected, atol=1e-12)


@given(CORNER, st.floats(0.01, 1e3))
def test_gaussians_equal_scikit_fuzzys(mean, deviation):
    x = around([mean])
    expected = skfuzzy.gaussmf(x, mean, deviation)
    np.testing.assert_allclose(membership("gaussian", (mean, deviation), x), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("triangular", (0, 1, 2)),
        ("triangular", (0, 0, 2)),
        ("triangular", (0, 2, 2)),
        ("trapezoidal", (0, 0, 2, 2)),
        ("gaussian", (1, 2)),
    ],
)
def test_a_missing_value_has_no_membership(kind, parameters):
    x = np.array([np.nan, 1.0])
    degrees = membership(kind, parameters, x)
    assert np.isnan(degrees[0])
    assert degrees[1] > 0
    assert np.isnan(x[0])


def test_automatic_sets_have_their_peaks_at_the_quantiles():
    values = np.random.default_rng(0).normal(size=5_000)
    low, medium, high = auto_sets(values)
    q05, q50, q95 = (float(np.sort(values)[round(q * 4_999)]) for q in (0.05, 0.5, 0.95))
    assert [each.name for each in (low, medium, high)] == ["low", "medium", "high"]
    peaks = [each.parameters[1] for each in (low, medium, high)]
    np.testing.assert_allclose(peaks, (q05, q50, q95), atol=0.01)
    width = peaks[2] - peaks[0]
    np.testing.assert_allclose(peaks[0] - low.parameters[0], 50 * width)
    np.testing.assert_allclose(high.parameters[2] - peaks[2], 50 * width)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e6), st.floats(-1e6, 1e6))
def test_automatic_memberships_sum_to_one_inside_and_never_all_vanish(seed, spread, centre):
    values = centre + spread * np.random.default_rng(seed).normal(size=200)
    sets = auto_sets(values)
    inside = np.linspace(sets[0].parameters[1], sets[2].parameters[1], 300)
    total = sum(membership(each.kind, each.parameters, inside) for each in sets)
    np.testing.assert_allclose(total, 1, atol=1e-6)
    everywhere = sum(membership(each.kind, each.parameters, values) for each in sets)
    assert everywhere.min() > 0.9


@pytest.mark.parametrize(
    "values",
    [
        np.array([]),
        np.full(100, 7.0),
        np.r_[np.zeros(90), np.arange(10.0)],
        1e6 + 1e-5 * np.arange(100.0),
    ],
    ids=["none", "constant", "mostly zero", "equal up to rounding"],
)
def test_values_too_much_alike_are_refused_with_what_to_do(values):
    with pytest.raises(NotEnoughData, match="automatic fuzzy sets") as caught:
        auto_sets(values)
    assert caught.value.hint
