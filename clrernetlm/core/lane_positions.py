"""Numbers the lanes of an image from the own car outwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clrernetlm.core.lane import Lane

END_POINTS = 3  # lowest points that give the direction in which a lane continues to the bottom of the image


def with_positions(lanes: Sequence[Lane], frame: tuple[int, int]) -> list[Lane]:
    """Return the lanes of a frame (width, height) with `position`: -1 left of the own car, 1 right of it, -2, 2 beyond.

    The order is that on the bottom row of the frame, to which lanes continue straight; the car is in the middle. Lanes
    of fewer than two points keep no position.
    """
    width, height = frame
    at_bottom = np.array([_x_at_bottom(lane, height) for lane in lanes], np.float64)
    order = np.argsort(at_bottom, kind="stable")
    left = [int(i) for i in order[::-1] if at_bottom[i] < width / 2]
    right = [int(i) for i in order if at_bottom[i] >= width / 2]
    positions = {i: -1 - n for n, i in enumerate(left)} | {i: 1 + n for n, i in enumerate(right)}
    return [replace(lane, position=positions.get(i)) for i, lane in enumerate(lanes)]


def _x_at_bottom(lane: Lane, height: float) -> float:
    points = lane.points[: END_POINTS + 1]
    if len(points) < 2:
        return np.nan
    (x, y), (x_far, y_far) = points[0], points[-1]
    return float(x + (height - y) * (x - x_far) / max(y - y_far, 1e-6))
