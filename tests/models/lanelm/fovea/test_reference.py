"""Reference curves pass their clicks, equal SciPy's monotone spline between them, and follow the base beyond."""

import numpy as np
import pytest
import torch
from scipy.interpolate import PchipInterpolator

from clrernetlm.models.lanelm.fovea.patches import row_reach
from clrernetlm.models.lanelm.fovea.reference import (
    Clicks,
    clicks_of_requests,
    monotone_spline,
    row_weights,
    through_clicks,
)
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import requests_from_clicks, requests_from_proposals

STEPS, WIDTH, HEIGHT = 32, 512, 192
REACH = row_reach(STEPS, WIDTH).double()
ROWS = torch.arange(STEPS, dtype=torch.float64)


def clicks_at(x, rows, slots=None):
    """Return clicks at x on fractional rows, with empty slots up to `slots`."""
    count, slots = len(x), slots or len(x)
    points = torch.zeros(1, 1, slots, 2)
    points[0, 0, :count] = torch.tensor(np.stack([x, np.asarray(rows) * HEIGHT / STEPS], -1))
    exists = torch.arange(slots)[None, None] < count
    nothing = Proposals(torch.zeros(1, 0, STEPS), torch.zeros(1, 0, STEPS).bool(), torch.zeros(1, 0))
    rows_y = torch.arange(STEPS) * HEIGHT / STEPS
    found = clicks_of_requests(requests_from_clicks(nothing, points, exists, rows_y, 0.0), HEIGHT / STEPS)
    return Clicks(found.x.double(), found.row.double(), found.exists)


@pytest.mark.parametrize("count", range(2, 8))
def test_the_spline_equals_that_of_scipy(count):
    rng = np.random.default_rng(count)
    for _ in range(20):
        rows, x = np.sort(rng.choice(np.arange(1, 310, 10), count, False)) / 10, rng.uniform(0, WIDTH, count)
        order = rng.permutation(count)
        found, first, last = monotone_spline(clicks_at(x[order], rows[order], count + 2), ROWS)
        spline = PchipInterpolator(rows, x)
        inside = (np.arange(STEPS) >= rows[0]) & (np.arange(STEPS) <= rows[-1])
        np.testing.assert_allclose(found[0, 0].numpy()[inside], spline(np.arange(STEPS)[inside]), atol=1e-3)
        slopes = spline.derivative()([rows[0], rows[-1]])
        np.testing.assert_allclose([first.item(), last.item()], slopes, atol=1e-3)


@pytest.mark.parametrize("count", range(1, 6))
def test_a_bent_curve_passes_its_clicks(count):
    rng = np.random.default_rng(count)
    rows = np.sort(rng.choice(np.arange(STEPS), count, False)).astype(float)
    base = torch.linspace(300, 100, STEPS, dtype=torch.float64)[None, None]
    x = base[0, 0].numpy()[rows.astype(int)] + rng.uniform(-15, 15, count)
    clicks = clicks_at(x, rows)
    for has_base in (True, False):
        curve, _ = through_clicks(base, torch.tensor([[has_base]]), clicks, REACH)
        np.testing.assert_allclose(curve[0, 0].numpy()[rows.astype(int)], x, atol=1e-3)


def test_beyond_the_clicks_a_curve_keeps_the_shape_of_the_base():
    base = (200 + 0.05 * (ROWS - 20) ** 2)[None, None]
    clicks = clicks_at([base[0, 0, 10] + 4, base[0, 0, 20] + 8], [10, 20])
    curve, miss = through_clicks(base, torch.tensor([[True]]), clicks, REACH)
    moved = ((curve - base) / REACH)[0, 0]
    torch.testing.assert_close(moved[:10], (4 / REACH[10]).expand(10), atol=1e-3, rtol=0)
    torch.testing.assert_close(moved[21:], (8 / REACH[20]).expand(11), atol=1e-3, rtol=0)
    assert miss.item() == pytest.approx(float((4 / REACH[10] + 8 / REACH[20]) / 2), abs=1e-4)


def test_another_lane_gives_way_to_a_straight_line_through_several_clicks():
    base = torch.full((1, 1, STEPS), 30.0, dtype=torch.float64)
    curve, miss = through_clicks(base, torch.tensor([[True]]), clicks_at([300, 310], [10, 20]), REACH)
    torch.testing.assert_close(curve[0, 0], 290 + ROWS, atol=1e-3, rtol=0)
    assert miss.item() > 5


def test_a_lane_without_clicks_is_the_base():
    proposals = Proposals(torch.rand(1, 3, STEPS) * WIDTH, torch.ones(1, 3, STEPS).bool(), torch.ones(1, 3))
    clicks = clicks_of_requests(requests_from_proposals(proposals), HEIGHT / STEPS)
    curve, miss = through_clicks(proposals.xs, torch.ones(1, 3).bool(), clicks, REACH.float())
    assert torch.equal(curve, proposals.xs)
    assert not clicks.any.any()
    assert not miss.any()


def test_of_two_clicks_less_than_half_a_row_apart_the_mean_counts():
    clicks = clicks_at([100, 110, 50], [20, 20.4, 5])
    assert clicks.exists.tolist() == [[[True, True, False]]]
    torch.testing.assert_close(clicks.x[0, 0, :2], torch.tensor([50.0, 105.0], dtype=torch.float64))
    torch.testing.assert_close(clicks.row[0, 0, :2], torch.tensor([5.0, 20.2], dtype=torch.float64), atol=1e-4, rtol=0)


def test_weights_interpolate_and_extrapolate_linearly():
    weights = row_weights(torch.tensor([0.25, 30.5, 31.75]), STEPS)
    torch.testing.assert_close(weights @ torch.arange(STEPS).float(), torch.tensor([0.25, 30.5, 31.75]))
