"""Targets: the golden ones, those of off_image="geometry", and those of unusual label files."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.datasets import PackCLRNetInputs
from tests.helpers.golden_weights import GOLDEN

TARGETS = np.load(GOLDEN / "f_targets.npz")
CASES = [str(name) for name in TARGETS["names"]]
RNG = np.random.default_rng(0)


def golden_points(case: str) -> list[np.ndarray]:
    return [np.array(points).reshape(-1, 2) for points in json.loads(str(TARGETS[f"{case}_points"]))]


@pytest.mark.parametrize("case", CASES)
def test_targets_equal_the_golden_ones(case: str) -> None:
    targets = PackCLRNetInputs().lane_targets(golden_points(case))
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, TARGETS[f"{case}_lanes"])


@pytest.mark.parametrize("case", [case for case in CASES if case != "topexit"])
def test_both_off_image_modes_agree_for_lanes_that_leave_at_the_bottom(case: str) -> None:
    targets = PackCLRNetInputs(off_image="geometry").lane_targets(golden_points(case))
    np.testing.assert_array_equal(targets, TARGETS[f"{case}_lanes"])


def test_geometry_keeps_the_rows_of_a_lane_that_leaves_at_the_side() -> None:
    points = np.array([[600.0, 320.0], [700.0, 160.0], [800.0, 0.0], [900.0, -160.0]])  # off the image above y = 0
    points[:, 0] += 100  # ... now above y = 160
    target = PackCLRNetInputs(off_image="geometry").lane_targets([points])[0]
    rows = 320 - np.arange(72) * 320 / 71
    truth = 900 - rows * 100 / 160
    inside = truth < 800
    assert target[2] == 1
    assert target[5] == inside.sum()
    np.testing.assert_allclose(target[6:][inside], truth[inside], rtol=1e-5)


def test_geometry_spans_from_the_first_to_the_last_visible_row() -> None:
    ys = np.linspace(320, 0, 41)
    points = np.stack([750 + 100 * np.sin((320 - ys) / 320 * 2 * np.pi), ys], axis=1)  # out to the right and back in
    target = PackCLRNetInputs(off_image="geometry").lane_targets([points])[0]
    visible = np.flatnonzero((target[6:] >= 0) & (target[6:] < 800))
    assert target[2] == pytest.approx(1 - visible[0] / 71)
    assert target[5] == visible[-1] - visible[0] + 1 > len(visible)


def test_order_and_repeated_points_do_not_matter() -> None:
    points = golden_points("normal4")[1]
    shuffled = np.concatenate([points, points])[RNG.permutation(2 * len(points))]
    pack = PackCLRNetInputs()
    np.testing.assert_array_equal(pack.lane_targets([shuffled]), pack.lane_targets([points]))


def test_nan_points_are_dropped() -> None:
    points = golden_points("normal4")[1]
    broken = np.insert(points, [3, 7], [[np.nan, 100.0], [50.0, np.inf]], axis=0)
    pack = PackCLRNetInputs()
    np.testing.assert_array_equal(pack.lane_targets([broken]), pack.lane_targets([points]))


def test_one_point_lanes_use_no_slot_but_invisible_lanes_do() -> None:
    lane = golden_points("normal4")[1]
    above = np.array([[400.0, -20.0], [410.0, -60.0]])
    targets = PackCLRNetInputs().lane_targets([lane[:1], np.empty((0, 2)), above, lane])
    assert targets[:, 1].tolist() == [0, 1, 0, 0]


def test_of_too_many_lanes_the_longest_are_kept_in_order() -> None:
    lanes = [np.array([[100.0 * i, 320.0], [100.0 * i, top]]) for i, top in enumerate([200, 10, 300, 20, 30, 40], 1)]
    targets = PackCLRNetInputs().lane_targets(lanes)
    np.testing.assert_allclose(targets[:, 3], [200, 400, 500, 600])
    sixteen = PackCLRNetInputs(max_lanes=16).lane_targets([lanes[0] + np.array([i, 0]) for i in range(16)])
    assert sixteen.shape == (16, 78)
    assert sixteen[:, 1].all()


def test_other_image_sizes_scale_the_targets() -> None:
    pack = PackCLRNetInputs(max_lanes=2, width=400, height=160, num_points=36)
    target = pack.lane_targets([np.array([[200.0, 160.0], [200.0, 1.0]])])
    assert target.shape == (2, 42)
    assert target[0, 5] == 35  # all but the top row


wild = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.floats(-400, 1200) | st.integers(-5, 5).map(float)
wild_lane = st.lists(st.tuples(wild, wild), max_size=12).map(lambda points: np.array(points, float).reshape(-1, 2))


@settings(max_examples=200, deadline=None)
@given(st.lists(wild_lane, max_size=8), st.sampled_from(["official", "geometry"]))
def test_random_labels_give_finite_targets(lanes: list[np.ndarray], off_image: str) -> None:
    targets = PackCLRNetInputs(off_image=off_image).lane_targets(lanes)
    assert targets.shape == (4, 78)
    assert targets.dtype == np.float32
    assert (targets[:, 0] == 1 - targets[:, 1]).all()
    for target in targets:
        xs, (_, valid, y0, x0, theta, length) = target[6:], target[:6]
        at_edge = (np.abs(xs) < 1e-3) | (np.abs(xs - 800) < 1e-3)  # float32 may round these to the other side
        inside = (xs >= 0) & (xs < 800) & ~at_edge
        if not valid:
            assert (target[2:] == -1e5).all()
            continue
        assert np.isfinite(target).all()
        assert 0 <= y0 <= 1
        assert 0 <= x0 <= 800
        assert 0 <= theta <= 1
        first = round((1 - y0) * 71)
        assert 2 <= length <= 72 - first
        if off_image == "official":
            assert inside.sum() <= length <= (inside | at_edge).sum()
        else:
            assert inside.sum() <= length
            assert not inside[:first].any()


def test_pack_makes_the_tensors_of_a_sample() -> None:
    image = RNG.integers(0, 256, (320, 800, 3), dtype=np.uint8)
    mask = RNG.integers(0, 7, (320, 800), dtype=np.uint8)
    sample = {"image": image, "lanes": golden_points("normal4"), "mask": mask, "metainfo": {"path": "/a.jpg"}}
    with pytest.warns(UserWarning, match=r"masks: lane numbers 5, 6 are beyond model.max_lanes \(4\)"):
        packed = PackCLRNetInputs()(sample, RNG)
    assert packed is not None
    assert torch.equal(packed["inputs"], torch.from_numpy(image.transpose(2, 0, 1).copy()))
    assert packed["lanes"].shape == (4, 78)
    assert packed["metainfo"] == {"path": "/a.jpg"}
    expected = np.where(mask > 4, 255, mask)  # numbers beyond max_lanes are not learned from
    assert torch.equal(packed["masks"], torch.from_numpy(expected.astype(np.uint8)))


def test_pixels_to_ignore_are_no_lane_numbers() -> None:
    mask = np.array([[0, 1, 4, 255]], np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(PackCLRNetInputs().mask_targets(mask), mask)


def test_a_sample_that_lost_its_lanes_is_dropped_but_an_empty_road_is_kept() -> None:
    image = np.zeros((320, 800, 3), np.uint8)
    outside = np.array([[900.0, 320.0], [950.0, 0.0]])
    assert PackCLRNetInputs()({"image": image, "lanes": [outside], "metainfo": {}}, RNG) is None
    empty = PackCLRNetInputs()({"image": image, "lanes": [], "metainfo": {}}, RNG)
    assert empty is not None
    assert not empty["lanes"][:, 1].any()
