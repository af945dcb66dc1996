"""Both implementations of the metric: golden matrices, lanes drawn with OpenCV, odd lanes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import splev, splprep

from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_files import read_lines
from clrernetlm.metrics import lane_ious, match_lanes
from tests.helpers.golden_weights import GOLDEN

STRAIGHT = [[600.0, 590.0], [600.0, 400.0]]
# Later releases draw long lines that end outside the image differently; the metric's own drawing does not change.
OPENCV_DRAWS_ALIKE = tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 13)


@pytest.mark.parametrize(("implementation", "file"), [("clrernet", "g_iou_python.npz"), ("official", "g_iou_cpp.npz")])
def test_ious_equal_the_golden_matrices(tree: Path, golden: dict, implementation: str, file: str) -> None:
    expected = np.load(GOLDEN / file)
    for i, entry in enumerate(golden["per_image"]):
        name = entry["image"].lstrip("/").replace(".jpg", ".lines.txt")
        ious = lane_ious(read_lines(tree / "pred" / name), read_lines(tree / "gt" / name), implementation)
        if f"iou_{i}" not in expected:  # the original fails on two lanes that are both off the image
            assert not ious.any()
            continue
        np.testing.assert_array_equal(ious, np.nan_to_num(expected[f"iou_{i}"]), err_msg=entry["image"])


def plain_mask(lane: np.ndarray, width: int, size: tuple[int, int]) -> np.ndarray:
    """Draw one lane as the `clrernet` implementation does, with scipy and OpenCV on a whole image."""
    spline, u = splprep(lane.T, s=0, k=min(3, len(lane) - 1))
    curve = np.array(splev(np.linspace(0, 1, (len(u) - 1) * 5 + 1), spline)).T.astype(np.int32).tolist()
    mask = np.zeros(size[::-1], np.uint8)
    for start, end in pairwise(curve):
        cv2.line(mask, start, end, (255,), width)
    return mask > 0


def plain_ious(pred: list[np.ndarray], gt: list[np.ndarray], width: int, size: tuple[int, int]) -> np.ndarray:
    masks = [[plain_mask(lane, width, size) for lane in lanes] for lanes in (pred, gt)]
    return np.array([[(a & b).sum() / max((a | b).sum(), 1) for b in masks[1]] for a in masks[0]])


def wild_lane(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Rising, flat, looping, zigzag and far-away lanes, inside the image and across its borders."""
    rng = np.random.default_rng(seed)
    width, height = size
    count = int(rng.integers(2, 25))
    match rng.integers(6):
        case 0:
            return rng.uniform(-100, (width + 100, height + 100), (count, 2))
        case 1:
            x = rng.uniform(0, width) + np.cumsum(rng.normal(0, 20, count))
            return np.column_stack([x, height - np.arange(count) * height / count])
        case 2:
            x = np.linspace(rng.uniform(-200, width), rng.uniform(0, width + 200), count)
            return np.column_stack([x, np.linspace(height + 20, rng.uniform(0, height), count)])
        case 3:
            angle, radii = np.linspace(0, rng.uniform(2, 7), count), rng.uniform(10, height / 2 + 30, 2)
            return np.column_stack([width / 2 + radii[0] * np.cos(angle), height / 2 + radii[1] * np.sin(angle)])
        case 4:
            return np.column_stack([np.full(count, float(rng.integers(width))), height - 7.0 * np.arange(count)])
        case _:
            return np.round(rng.uniform(-3000, 3000, (count, 2)))


@pytest.mark.skipif(not OPENCV_DRAWS_ALIKE, reason="this OpenCV draws off-image lines differently")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 1 << 30), min_size=1, max_size=3),
    st.lists(st.integers(0, 1 << 30), min_size=1, max_size=3),
    st.sampled_from([30, 2, 7, 16, 61]),
    st.sampled_from([(1640, 590), (200, 150), (37, 41)]),
)
def test_ious_of_random_lanes_equal_plain_drawing(
    pred_seeds: list[int], gt_seeds: list[int], width: int, size: tuple[int, int]
) -> None:
    pred = [wild_lane(seed, size) for seed in pred_seeds]
    gt = [wild_lane(seed, size) for seed in gt_seeds]
    np.testing.assert_array_equal(lane_ious(pred, gt, "clrernet", width, size), plain_ious(pred, gt, width, size))


numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
near = st.integers(-50, 700).map(float)
any_lane = st.lists(st.tuples(numbers | near, numbers | near), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(any_lane, max_size=3), st.lists(any_lane, max_size=3), st.sampled_from(["clrernet", "official"]))
def test_any_finite_lanes_give_ious(pred: list, gt: list, implementation: str) -> None:
    ious = lane_ious(pred, gt, implementation)
    drawn = [sum(len(lane) >= 2 for lane in lanes) for lanes in (pred, gt)]
    assert ious.shape == (tuple(drawn) if implementation == "clrernet" else (len(pred), len(gt)))
    assert ious.dtype == np.float64
    assert ((ious >= 0) & (ious <= 1)).all()


@pytest.mark.parametrize("implementation", ["clrernet", "official"])
def test_iou_with_itself_is_one_and_pairs_are_symmetric(implementation: str) -> None:
    lanes = [wild_lane(seed, (1640, 590)) for seed in range(6)]
    ious = lane_ious(lanes, lanes, implementation)
    visible = np.diag(ious) > 0
    assert visible.sum() >= 4
    assert (np.diag(ious)[visible] == 1).all()
    np.testing.assert_array_equal(ious, ious.T)


@pytest.mark.parametrize("implementation", ["clrernet", "official"])
def test_repeated_points_change_nothing(implementation: str) -> None:
    lane = [[300.0, 590.0], [350.0, 500.0], [420.0, 420.0], [520.0, 350.0]]
    repeated = [lane[0], lane[0], lane[1], lane[2], lane[2], lane[2], lane[3], lane[3]]
    assert lane_ious([repeated], [lane], implementation)[0, 0] == 1


def test_a_repeated_point_is_drawn_as_a_disc() -> None:
    mask = np.zeros((590, 1640), np.uint8)
    cv2.line(mask, (500, 300), (500, 300), (255,), 30)
    line = cv2.line(np.zeros_like(mask), (500, 300), (500, 200), (255,), 30)
    expected = (mask & line > 0).sum() / (mask | line > 0).sum()
    for implementation in ("clrernet", "official"):
        ious = lane_ious([[[500.0, 300.0]] * 3], [[[500.0, 300.0], [500.0, 200.0]]], implementation)
        assert ious.tolist() == [[expected]]


def test_lanes_of_fewer_than_two_points() -> None:
    pred, gt = [[], [[5.0, 5.0]], STRAIGHT], [STRAIGHT, [[600.0, 500.0]]]
    assert lane_ious(pred, gt, "clrernet").tolist() == [[1.0]]
    assert lane_ious(pred, gt, "official").tolist() == [[0, 0], [0, 0], [1, 0]]


def test_lanes_off_the_image_never_match() -> None:
    off = [[-900.0, 590.0], [-800.0, 500.0], [-700.0, 400.0]]
    for implementation in ("clrernet", "official"):
        assert lane_ious([off], [off], implementation).tolist() == [[0.0]]
        assert lane_ious([], [off], implementation).shape == (0, 1)
        assert lane_ious([], [], implementation).shape == (0, 0)


@pytest.mark.parametrize(
    ("lane", "message"),
    [
        ([1.0, 2.0, 3.0], "pred lane 0: an array of shape (3,)"),
        ([[1.0, 2.0, 3.0]], "pred lane 0: an array of shape (1, 3)"),
        ([[1.0, float("nan")], [2.0, 3.0]], "pred lane 0: NaN or infinite"),
        ([[1.0, "a"]], "pred lane 0: not an array of numbers"),
        ([[1.0, 2.0], [3.0]], "pred lane 0: not an array of numbers"),
    ],
)
def test_malformed_lanes_are_refused(lane: list, message: str) -> None:
    with pytest.raises(UserError) as error:
        lane_ious([lane], [STRAIGHT])
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "wrong",
    [{"implementation": "python"}, {"width": 1}, {"width": 0}, {"image_size": (0, 590)}, {"image_size": (1640,)}],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="; use "):
        lane_ious([STRAIGHT], [STRAIGHT], **wrong)


def test_matching_maximises_the_sum_of_ious() -> None:
    ious = np.array([[0.9, 0.8], [0.85, 0.1]])  # greedy would take 0.9 + 0.1
    for implementation in ("clrernet", "official"):
        rows, columns = match_lanes(ious, implementation)
        assert ious[rows, columns].sum() == pytest.approx(1.65)
