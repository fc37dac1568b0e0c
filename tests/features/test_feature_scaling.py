"""Scaling against scikit-learn's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from ktrdr_mcp.errors import DataInvalid
from ktrdr_mcp.features.inputs import Scaler, fit, fit_in_blocks


@pytest.fixture
def values():
    random = np.random.default_rng(0)
    return np.c_[random.normal(5, 2, 400), random.random(400), np.full(400, 0.1), np.zeros(400)]


@pytest.mark.parametrize(
    ("kind", "reference"), [("standard", StandardScaler), ("minmax", MinMaxScaler)]
)
def test_scaling_equals_scikit_learns(values, kind, reference):
    scaler = fit(values[:300], kind)
    expected = reference().fit(values[:300]).transform(values)
    np.testing.assert_allclose(scaler.transform(values), expected, atol=1e-12)


def test_none_changes_nothing(values):
    np.testing.assert_array_equal(fit(values, "none").transform(values), values)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_a_constant_column_becomes_zero_and_stays_finite(values, kind):
    scaled = fit(values, kind).transform(values)
    np.testing.assert_allclose(scaled[:, 2:], 0, atol=1e-12)


@pytest.mark.parametrize("kind", ["standard", "minmax", "none"])
def test_the_stored_form_scales_alike(values, kind):
    scaler = fit(values, kind)
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    np.testing.assert_array_equal(again.transform(values), scaler.transform(values))
    assert again.kind == kind


def test_values_too_large_to_scale_are_refused():
    with pytest.raises(DataInvalid, match="too large"):
        fit(np.array([[1e300], [-1e300]]), "standard")


@pytest.mark.parametrize("columns", [1, 2, 3, 9, 17, 90])
@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_rows_in_blocks_fit_to_the_bits_of_all_rows_at_once(kind, columns):
    generator = np.random.default_rng(columns)
    values = generator.standard_normal((5_003, columns)) * 10.0 ** generator.integers(
        -6, 6, columns
    )
    values[:, columns // 2] += 1e6
    whole = fit(values, kind)
    step = 777 if columns > 1 else len(values)
    blocks = [values[start : start + step] for start in range(0, len(values), step)]
    scaler, same = fit_in_blocks(lambda: blocks, kind)
    expected = (values.mean(axis=0), values.std(axis=0))
    if kind == "minmax":
        expected = (values.min(axis=0), np.ptp(values, axis=0))
    for found in (whole, scaler):
        assert np.array_equal(found.shift, expected[0])
        assert np.array_equal(found.scale, expected[1])
    assert not same.any()
