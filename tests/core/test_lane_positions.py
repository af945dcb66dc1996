"""Lanes are numbered from the own car outwards, by where they meet the bottom of the frame."""

import numpy as np

from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_positions import with_positions

FRAME = (1640, 590)


def towards(x_bottom, y_low=590.0):
    """Return a lane from the bottom, or from `y_low`, to the vanishing point."""
    y = np.linspace(y_low, 320, 12)
    return Lane(np.stack([820 + (x_bottom - 820) * (y - 300) / 290, y], -1))


def test_lanes_are_numbered_from_the_car_outwards_in_any_order():
    lanes = [towards(x) for x in (2400.0, 500.0, -700.0, 1200.0, 830.0)]
    assert [lane.position for lane in with_positions(lanes, FRAME)] == [3, -1, -2, 2, 1]


def test_a_lane_that_begins_higher_up_continues_straight_to_the_bottom():
    lanes = [towards(1700.0, 450.0), towards(1300.0)]
    assert [lane.position for lane in with_positions(lanes, FRAME)] == [2, 1]


def test_a_lane_of_one_point_has_no_position_and_no_lane_gives_none():
    assert with_positions([Lane(np.array([[3.0, 4.0]])), towards(100.0)], FRAME)[0].position is None
    assert with_positions([], FRAME) == []
