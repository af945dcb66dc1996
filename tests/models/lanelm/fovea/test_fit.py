"""Fitted curves follow the image where it shows something, pass every click, and end where rows do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.models.lanelm.fovea.fit import MAX_MISS, fit_offsets, lane_ends
from clrernetlm.models.lanelm.fovea.patches import row_reach
from clrernetlm.models.lanelm.fovea.reference import Clicks, row_weights

STEPS, WIDTH = 32, 512
REACH = row_reach(STEPS, WIDTH)
SIGMA = 3 / 1640 * WIDTH
CLICKS = st.lists(st.tuples(st.floats(0, 31.9), st.floats(-0.9, 0.9)), min_size=1, max_size=6)
NOTHING = Clicks(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1, 1).bool())


def smooth_offset(strength):
    return strength * torch.sin(torch.linspace(0, 3, STEPS))[None, None]


def test_a_curve_follows_what_the_image_shows_on_every_row():
    reference, offset = torch.full((1, 1, STEPS), 200.0), smooth_offset(0.4)
    curve = fit_offsets(offset, torch.full_like(offset, 0.02), reference, NOTHING, REACH, SIGMA)
    assert ((curve - reference) / REACH - offset).abs().max() < 0.01


def test_rows_that_show_nothing_are_bridged():
    reference, offset = torch.full((1, 1, STEPS), 200.0), torch.full((1, 1, STEPS), 0.3)
    wrong, spread = offset.clone(), torch.full_like(offset, 0.02)
    wrong[..., 12:18], spread[..., 12:18] = -0.8, 3.0
    curve = fit_offsets(wrong, spread, reference, NOTHING, REACH, SIGMA)
    assert ((curve - reference) / REACH - offset).abs().max() < 0.03


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 31.9), st.floats(-0.9, 0.9)), min_size=1, max_size=6),
    st.sampled_from([0.01, 0.1, 1.0]),
)
def test_every_click_is_passed_within_two_sigmas(places, spread):
    rows = sorted({round(2 * row) / 2 for row, _ in places})
    rows = [row for i, row in enumerate(rows) if i == 0 or row - rows[i - 1] >= 3]
    row = torch.tensor(rows)[None, None]
    reach_at = row_weights(row, STEPS) @ REACH
    x = 200 + reach_at * torch.tensor([offset for _, offset in places][: len(rows)])
    clicks = Clicks(x, row, torch.ones_like(x).bool())
    reference = torch.full((1, 1, STEPS), 200.0)
    paint = torch.zeros(1, 1, STEPS)  # the image says: stay
    curve = fit_offsets(paint, torch.full_like(paint, spread), reference, clicks, REACH, SIGMA)
    missed = ((row_weights(row, STEPS) @ curve[..., None]).squeeze(-1) - x).abs()
    assert missed.max() <= MAX_MISS * SIGMA


def test_the_batch_changes_nothing():
    torch.manual_seed(0)
    mean, spread = torch.randn(2, 5, STEPS) * 0.2, torch.rand(2, 5, STEPS) * 0.3 + 0.01
    reference = torch.rand(2, 5, STEPS) * WIDTH
    clicks = Clicks(torch.rand(2, 5, 3) * WIDTH, torch.rand(2, 5, 3).cumsum(-1) * 10, torch.rand(2, 5, 3) < 0.5)
    together = fit_offsets(mean, spread, reference, clicks, REACH, SIGMA)
    one = Clicks(clicks.x[1:, 4:], clicks.row[1:, 4:], clicks.exists[1:, 4:])
    alone = fit_offsets(mean[1:, 4:], spread[1:, 4:], reference[1:, 4:], one, REACH, SIGMA)
    torch.testing.assert_close(together[1:, 4:], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("logits", "ends"),
    [
        ([-2, -1, 3, 4, 4, 4], [1.25, 6]),  # reaches the bottom
        ([5, 5, 1, -1, -5, -5], [0, 2.5]),
        ([-1, 1, -1, 1, 1, -3], [2.5, 4.25]),  # the longest run counts
        ([1, 1, 1, 1, 1, 1], [0, 6]),
    ],
)
def test_a_lane_ends_where_its_rows_cross_zero(logits, ends):
    found, exists = lane_ends(torch.tensor([logits, logits], dtype=torch.float32))
    assert found.tolist() == [ends, ends]
    assert exists.all()


def test_a_lane_on_no_row_is_empty():
    found, exists = lane_ends(torch.full((1, 8), -1.0))
    assert not exists.any()
    assert found[0, 1] <= found[0, 0]


def test_clicks_beside_the_paint_move_the_whole_curve_and_keep_the_shape_of_the_paint():
    offset = smooth_offset(0.3)
    reference, spread = torch.full((1, 1, STEPS), 200.0), torch.full((1, 1, STEPS), 0.03)
    row = torch.tensor([[[8.0, 16.0, 24.0]]])
    beside = 0.15  # reaches
    x = 200 + (row_weights(row, STEPS) @ ((offset[0, 0] + beside) * REACH))
    clicks = Clicks(x, row, torch.ones_like(x).bool())
    curve = fit_offsets(offset, spread, reference, clicks, REACH, SIGMA)
    moved = ((curve - reference) / REACH - offset)[0, 0]
    assert (moved[6:27] - beside).abs().max() < 0.03
    assert moved[0] > 0.08  # and beyond the clicks it stays nearly as far beside
    assert moved[-1] > 0.08
