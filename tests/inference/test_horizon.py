"""The horizon from hand-made lanes, and the crop around it."""

import numpy as np
import pytest

from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import Viewport
from clrernetlm.inference.horizon import (
    HORIZON_RANGE,
    TARGET_HORIZON,
    horizon_in_crop,
    horizon_row,
    initial_viewport,
    viewport_for_horizon,
    viewport_with_horizon_at,
)

FRAME = (1280, 720)
BASE = Viewport(width=512, height=192, top=0.36)


def seen_lane(
    offset: float, horizon: float, bend: float = 0.0, near: float = 720.0, far: float = 25.0, score: float = 0.9
) -> Lane:
    """A lane `offset` camera heights right of the car on level ground, from row `near` to `far` below the horizon.

    `bend`: how far it is off the line at a distance of 10 camera heights, in camera heights.
    """
    depth = 1000 / (np.linspace(near, horizon + far, 40) - horizon)  # camera heights, for a focal length of 1000
    x = 640 + 1000 * (offset + bend * (depth / 10) ** 2) / depth
    return Lane(np.column_stack([x, horizon + 1000 / depth]), score)


@pytest.mark.parametrize("horizon", [-40.0, 150.0, 260.0, 400.0])
@pytest.mark.parametrize("bend", [0.0, 1.5, -3.0])
def test_the_horizon_of_straight_and_curved_roads_is_exact(horizon: float, bend: float) -> None:
    lanes = [seen_lane(offset, horizon, bend) for offset in (-3.5, -1.2, 1.3, 3.6)]
    assert horizon_row(lanes, FRAME) == pytest.approx(horizon, abs=0.5)
    assert horizon_row(lanes[1:3], FRAME) == pytest.approx(horizon, abs=0.5)


def test_noise_and_different_ends_move_the_horizon_little() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        lanes = []
        for offset in (-3.5, -1.2, 1.3, 3.6):
            lane = seen_lane(offset, 260, 1.0, rng.uniform(500, 720), rng.uniform(20, 90))
            lanes.append(Lane(lane.points + rng.normal(0, [2.0, 0.0], lane.points.shape), 0.8))
        assert horizon_row(lanes, FRAME) == pytest.approx(260, abs=0.03 * 720)


@pytest.mark.parametrize(
    "outlier",
    [
        Lane(np.array([[200.0, 700.0], [900.0, 300.0]]), 0.9),  # crosses the others
        Lane(np.array([[900.0, 700.0], [1000.0, 300.0]]), 0.9),  # leans outwards
        seen_lane(-0.9, 420, score=0.4),  # a kerb that rises
    ],
)
def test_one_outlier_lane_is_ignored(outlier: Lane) -> None:
    lanes = [seen_lane(offset, 260) for offset in (-3.5, -1.2, 1.3)]
    assert horizon_row([*lanes, outlier], FRAME) == pytest.approx(260, abs=8)


def test_scores_decide_between_two_horizons() -> None:
    low = [seen_lane(offset, 400, far=60, score=0.1) for offset in (-1.0, 1.4)]
    high = [seen_lane(offset, 260, score=0.9) for offset in (-1.2, 1.3)]
    assert horizon_row([*low, *high], FRAME) == pytest.approx(260, abs=10)


@pytest.mark.parametrize(
    "lanes",
    [
        [],
        [seen_lane(1.3, 260)],
        [Lane(np.zeros((0, 2))), Lane(np.array([[5.0, 5.0]]))],
        [Lane(np.array([[x, 700.0], [x, 300.0]])) for x in (400.0, 700.0)],  # parallel
        [Lane(np.array([[x, 700.0], [x + 90, 300.0]])) for x in (400.0, 408.0)],  # a double line
        [seen_lane(-1.2, 260, near=720, far=250), seen_lane(1.3, 260, near=480, far=20)],  # no common rows
        [seen_lane(1.3, 260), seen_lane(1.3, 260)],
    ],
)
def test_lanes_without_information_on_the_horizon_are_ignored(lanes: list[Lane]) -> None:
    assert horizon_row(lanes, FRAME) is None


def test_a_horizon_inside_the_range_keeps_the_crop() -> None:
    for row in (0.34 * 720, 0.45 * 720, 0.55 * 720):
        assert viewport_for_horizon(BASE, BASE, FRAME, row) == BASE
    assert viewport_for_horizon(BASE, BASE, FRAME, None) == BASE


@pytest.mark.parametrize("frame", [(1280, 720), (2560, 1440), (512, 288), (1640, 590), (960, 540), (640, 480)])
@pytest.mark.parametrize("share", [0.25, 0.3, 0.68, 0.75])
def test_a_horizon_outside_the_range_moves_the_crop(frame: tuple[int, int], share: float) -> None:
    moved = viewport_for_horizon(BASE, BASE, frame, share * frame[1])
    assert (moved.width, moved.height, moved.left, moved.right) == (512, 192, 0, 1)
    assert horizon_in_crop(share * frame[1], moved, frame) == pytest.approx(TARGET_HORIZON, abs=0.01)
    assert moved.bottom == 1 or frame == (640, 480)
    again = viewport_for_horizon(moved, BASE, frame, share * frame[1])
    assert again == moved


@pytest.mark.parametrize("row", [-0.4, 0.0, 0.9, 1.0, 1.5])
@pytest.mark.parametrize("base", [BASE, Viewport(top=0.2, bottom=0.6), Viewport(left=0.2, right=0.5)])
def test_absurd_horizons_still_give_a_crop(base: Viewport, row: float) -> None:
    moved = viewport_with_horizon_at(base, FRAME, row * 720)
    assert 0 <= moved.top < moved.bottom <= base.bottom


def test_a_portrait_frame_uses_its_middle_and_lower_part() -> None:
    first = initial_viewport(BASE, (1080, 1920))
    assert first.bottom < 1
    assert HORIZON_RANGE[0] < horizon_in_crop(0.5 * 1920, first, (1080, 1920)) < HORIZON_RANGE[1]
    assert initial_viewport(BASE, FRAME) == BASE
    assert initial_viewport(BASE, (640, 480)) == BASE
