"""The curve of the `clrernet` implementation equals scipy's bit for bit; otherwise truncation would move pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline, splev, splprep

from clrernetlm.metrics.splines import distinct_points, natural_curve, parametric_curve


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 31, 160])
@pytest.mark.parametrize("kind", ["wild", "vertical", "smooth", "straight"])
def test_the_parametric_curve_equals_splprep_bit_for_bit(count: int, kind: str) -> None:
    rng = np.random.default_rng(count)
    rows = 590 - 10.0 * np.arange(count)
    x = {
        "wild": rng.uniform(-500, 2000, count),
        "vertical": np.full(count, 600.0),
        "smooth": np.round(300 + np.cumsum(rng.normal(3, 2, count)), 4),
        "straight": np.linspace(0, 700, count).round(3),
    }[kind]
    points = np.column_stack([x, rows])
    spline, u = splprep(points.T, s=0, k=min(3, count - 1))
    expected = np.array(splev(np.linspace(0, 1, (len(u) - 1) * 5 + 1), spline)).T
    np.testing.assert_array_equal(parametric_curve(points, 5), expected)


def test_natural_curve_is_the_natural_cubic_over_chord_length() -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([np.cumsum(rng.uniform(-20, 40, 12)), 590 - 30.0 * np.arange(12)])
    points = points.astype(np.float32).astype(np.float64)
    chords = np.hypot(*np.diff(points, axis=0).T)
    at = np.concatenate([[0], np.cumsum(chords)])
    steps = np.concatenate([at[i] + chords[i] * np.arange(50) / 50 for i in range(11)] + [at[-1:]])
    expected = CubicSpline(at, points, bc_type="natural")(steps)
    np.testing.assert_allclose(natural_curve(points, 50), expected, atol=1e-3)


def test_consecutive_duplicates_are_removed() -> None:
    assert distinct_points(np.array([[1.0, 2], [1, 2], [3, 4], [3, 4], [1, 2]])).tolist() == [[1, 2], [3, 4], [1, 2]]
    assert distinct_points(np.array([[1.0, 2]] * 3)).tolist() == [[1, 2], [1, 2]]
    assert distinct_points(np.array([[1e300, -1e300], [5, 5]])).max() == 2.0**30
