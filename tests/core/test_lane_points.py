"""Labels become lanes with one x per row: unordered points are sorted, lanes that turn back are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clrernetlm.core.lane_points import bottom_first, concatenate_lanes
from clrernetlm.datasets import PackCLRNetInputs, PackLaneLMInputs
from tests.helpers.timing import cpu_time_ratio

UP = [(100, 590), (120, 500), (140, 400)]  # the longer branch of the hairpin below, bottom first


def ordered(points: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], bool]:
    found, turns_back = bottom_first(np.array(points, float))
    return [(x, y) for x, y in found.tolist()], turns_back


@pytest.mark.parametrize("back", [0, 5, -5])
def test_the_longest_branch_of_a_hairpin_is_kept(back: int) -> None:
    """Also where both branches have points on the same rows (`back` 0)."""
    down = [(400, 405 + back), (450, 500 + back), (500, 550 + back)]
    assert ordered(UP + down) == (UP, True)
    assert ordered(down[::-1] + UP[::-1]) == (UP, True)


def test_a_lane_that_runs_sideways_along_one_row_is_cut_there() -> None:
    assert ordered([(10, 500), (600, 500), (610, 400)]) == ([(600, 500), (610, 400)], True)
    assert ordered([(10, 590), (20, 400), (600, 400), (610, 390)]) == ([(10, 590), (20, 400)], True)


def test_only_a_hook_at_the_end_is_removed() -> None:
    ys = np.arange(590.0, 299, -5)
    lane = np.stack([(590 - ys) * 2, ys], axis=1)
    hook = np.array([[620.0, 310], [650, 330], [700, 350]])
    found, turns_back = bottom_first(np.concatenate([lane, hook]))
    assert turns_back
    np.testing.assert_array_equal(found, lane)


def test_unordered_points_are_sorted() -> None:
    ys = np.arange(590.0, 250, -10)
    lane = np.stack([100 + (590 - ys) * 2, ys], axis=1)
    for seed in range(5):
        found, turns_back = bottom_first(np.random.default_rng(seed).permutation(lane))
        assert not turns_back
        np.testing.assert_array_equal(found, lane)


def test_the_first_of_several_points_on_one_row_is_kept() -> None:
    assert ordered([(10, 500), (7, 500), (9, 400)]) == ([(10, 500), (9, 400)], False)
    spike = [UP[0], UP[1], (200, 500), UP[2]]
    assert ordered(spike) == (UP, False)


@pytest.mark.parametrize("step", [(0.5, 0.5), (3, 2), (20, 0.3)], ids=["dense", "steep", "flat"])
def test_small_backward_steps_from_rounding_are_kept(step: tuple[float, float]) -> None:
    steps = np.arange(120)
    noise = np.random.default_rng(1).uniform(-1, 1, len(steps))
    lane = np.stack([steps * step[0], np.rint(590 - steps * step[1] + noise)], axis=1)
    found, turns_back = bottom_first(lane)
    assert not turns_back
    assert abs(found[0, 1] - lane[0, 1]) <= 2
    assert abs(found[-1, 1] - lane[-1, 1]) <= 2
    assert (np.diff(found[:, 1]) < 0).all()


def test_targets_of_both_models_follow_one_branch() -> None:
    """Sorted by y, this arc swings by hundreds of pixels from row to row."""
    angle = np.linspace(0.1, np.pi - 0.1, 41)
    arc = np.stack([400 - 350 * np.cos(angle), 300 - 250 * np.sin(angle)], axis=1)
    for targets in (
        PackCLRNetInputs(off_image="geometry").lane_targets([arc])[0, 6:],
        PackLaneLMInputs().lane_targets([arc])[0],
    ):
        xs = targets[(targets > 0) & (targets < 800)]
        assert len(xs) > 10
        assert np.abs(np.diff(xs)).max() < 120


wild = st.lists(st.tuples(st.integers(-900, 900), st.integers(-30, 600)), min_size=2, max_size=20)


@given(wild)
def test_y_of_the_result_always_descends(points: list[tuple[float, float]]) -> None:
    found, _ = bottom_first(np.array(points, float))
    assert len(found)
    assert (np.diff(found[:, 1]) < 0).all()
    assert {tuple(point) for point in found.tolist()} <= {tuple(point) for point in points}
    np.testing.assert_array_equal(concatenate_lanes([np.array(points, float)])[0], found)


def test_the_time_grows_linearly_with_the_points() -> None:
    """Comparing every point with every other takes thousands of times as long."""
    points = np.random.default_rng(0).uniform(0, 590, (30_000, 2))
    assert cpu_time_ratio(lambda: bottom_first(points), lambda: sorted(points.tolist())) < 30
