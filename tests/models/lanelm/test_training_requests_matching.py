"""Matching of proposals to labelled lanes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from clrernetlm.models.lanelm.training_requests import HALF_LANE_WIDTH, lane_iou, match_one_to_one


def lanes(count: int, steps: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Slanting lanes (1, L, T), relative, on some of the rows."""
    g = torch.Generator().manual_seed(seed)
    start, slope = torch.rand(1, count, 1, generator=g), 0.4 * torch.rand(1, count, 1, generator=g) - 0.2
    xs = start + slope * torch.linspace(0, 1, steps)
    return xs, torch.arange(steps) >= (torch.rand(1, count, 1, generator=g) * steps * 0.5).floor()


def test_iou_is_one_with_itself_and_zero_with_distant_lanes() -> None:
    xs, shown = lanes(6)
    iou = lane_iou(xs, shown, xs, shown)
    torch.testing.assert_close(iou[0].diagonal(), torch.ones(6))
    assert lane_iou(xs, shown, xs + 0.5, shown)[0].diagonal().abs().max() == 0
    assert ((iou >= 0) & (iou <= 1 + 1e-6)).all()


def test_iou_is_symmetric() -> None:
    (xs, shown), (other_xs, other_shown) = lanes(6), lanes(4, seed=1)
    there = lane_iou(xs, shown, other_xs, other_shown)
    assert there.max() > 0
    torch.testing.assert_close(there, lane_iou(other_xs, other_shown, xs, shown).mT)


def test_iou_of_vertical_lanes_follows_from_their_widths() -> None:
    xs, shown = torch.full((1, 1, 10), 0.5), torch.ones(1, 1, 10, dtype=torch.bool)
    for apart in (0.25, 0.5, 1.0, 1.5):
        beside = xs + apart * HALF_LANE_WIDTH
        # Two segments 2 w wide, `apart` w from each other: overlap 2 - apart, union 2 + apart.
        assert lane_iou(xs, shown, beside, shown).item() == pytest.approx((2 - apart) / (2 + apart), abs=1e-5)


def test_rows_of_only_one_lane_lower_the_iou() -> None:
    xs, shown = torch.full((1, 1, 10), 0.5), torch.ones(1, 1, 10, dtype=torch.bool)
    half = shown.clone()
    half[..., :5] = False
    assert lane_iou(xs, shown, xs, half).item() == pytest.approx(0.5, abs=1e-5)
    assert lane_iou(xs, ~half, xs, half).item() == 0
    assert lane_iou(xs, shown, xs, shown & False).item() == 0


def test_clear_cases_are_matched_as_by_the_hungarian_algorithm() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        questions, count = rng.integers(1, 9), rng.integers(1, 5)
        iou = 0.3 * rng.random((questions, count))
        pairs = min(questions, count)
        iou[rng.permutation(questions)[:pairs], rng.permutation(count)[:pairs]] = rng.uniform(0.7, 1, pairs)
        expected = np.full(questions, -1)
        rows, columns = linear_sum_assignment(-iou)
        good = iou[rows, columns] > 0.5
        expected[rows[good]] = columns[good]
        assert match_one_to_one(torch.from_numpy(iou)[None], 0.5)[0].tolist() == expected.tolist()


SHAPES = st.tuples(st.just(3), st.integers(0, 6), st.integers(0, 5))  # images, questions, lanes


@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)), st.floats(0.05, 1))
def test_matching_is_one_to_one_and_leaves_no_good_pair(iou: np.ndarray, threshold: float) -> None:
    matched = match_one_to_one(torch.from_numpy(iou), threshold).numpy()
    for pairs, found in zip(iou, matched, strict=True):
        chosen = found[found >= 0]
        assert len(set(chosen)) == len(chosen)
        questions = np.flatnonzero(found >= 0)
        assert (pairs[questions, chosen] >= np.float32(threshold)).all()
        left = np.delete(np.delete(pairs, questions, axis=0), chosen, axis=1)
        assert (left < np.float32(threshold)).all()


def test_images_are_matched_independently() -> None:
    iou = torch.rand(5, 6, 4, generator=torch.Generator().manual_seed(0))
    together = match_one_to_one(iou, 0.4)
    for image in range(5):
        assert match_one_to_one(iou[image : image + 1], 0.4)[0].equal(together[image])
