"""Where the horizon is, seen from the lanes, and the crop that puts it where the network expects it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize, Viewport

BAND = (-0.06, 0.3)  # where the horizon may lie in a crop, in fractions of its height: nine in ten training images
AIM = 0.05  # where a crop that had to move puts it; measured: lower wastes rows on sky, higher cuts far lanes off
TALLEST = 1.6  # least width over height of a crop; taller frames are cut at the bottom too
MIDDLE = 0.5  # the horizon of a tall frame before anything is known: people hold a phone level
SAMPLES = 16  # rows on which two lanes are compared


def horizon_row(lanes: Sequence[Lane], frame: FrameSize) -> float | None:
    """Lanes in pixels of a frame (width, height) -> the row y of the horizon in pixels; None where they do not say.

    On level ground the distance of two lanes that run side by side shrinks linearly with the row, down to 0 at the
    horizon, also where the road bends. So every pair of lanes points at a row, with a weight: the product of the
    scores, and how exactly it points. The row that most weight agrees on is the answer; one lane says nothing, nor do
    lanes that are parallel in the picture.
    """
    found = [vote for pair in combinations(lanes, 2) if (vote := _vote(*pair, frame)) is not None]
    if not found:
        return None
    rows, weights = np.array(found).T
    near = np.abs(rows[:, None] - rows) / (0.03 * frame[1])
    support = np.exp(-0.5 * near**2) @ weights
    best = int(support.argmax())
    agree = weights * (near[best] < 2)
    return float(agree @ rows / agree.sum())


def _vote(one: Lane, other: Lane, frame: FrameSize) -> tuple[float, float] | None:
    """The row at which two lanes meet, and the weight of that; None for lanes that do not run side by side."""
    if min(len(one), len(other)) < 2:
        return None
    top = max(lane.points[:, 1].min() for lane in (one, other))
    bottom = min(lane.points[:, 1].max() for lane in (one, other))
    if bottom - top < 0.06 * min(frame):
        return None
    rows = np.linspace(top, bottom, SAMPLES)
    apart = _x_on(other, rows) - _x_on(one, rows)
    opening, at_middle = np.polyfit(rows - rows.mean(), apart, 1)
    # Lanes 2.5 to 4 m apart under a camera 1 to 2 m high open by 1 to 4 pixels a row; twice the line by much less.
    if abs(opening) < 0.4:
        return None
    meet, span = float(rows.mean() - at_middle / opening), float(bottom - top)
    if not -0.5 * frame[1] < meet < top + 0.25 * span:
        return None  # they meet far off, or cross
    reach = ((top + bottom) / 2 - meet) / span
    return meet, one.score * other.score * min(abs(float(opening)), 2.0) ** 2 / (1 + 12 * float(reach) ** 2)


def _x_on(lane: Lane, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """x of a lane on rows that it spans."""
    order = np.argsort(lane.points[:, 1], kind="stable")
    xs: NDArray[np.float64] = np.interp(rows, lane.points[order, 1], lane.points[order, 0])
    return xs


def crop_aspect(viewport: Viewport, frame: FrameSize) -> float:
    """Width over height, in pixels of the frame, of what a viewport shows."""
    left, top, right, bottom = viewport.crop_box(frame)
    return (right - left) / (bottom - top)


def horizon_in_crop(row: float, viewport: Viewport, frame: FrameSize) -> float:
    """A row of the frame -> the fraction of the crop's height that is above it; below 0 where it is over the crop."""
    return (row / frame[1] - viewport.top) / (viewport.bottom - viewport.top)


def first_viewport(base: Viewport, frame: FrameSize) -> Viewport:
    """The crop to begin with: the configured one, or a part from the middle downwards of a frame too tall for that."""
    return base if crop_aspect(base, frame) >= TALLEST else viewport_at(base, frame, MIDDLE * frame[1])


def viewport_at(base: Viewport, frame: FrameSize, row: float) -> Viewport:
    """The configured crop with its upper edge moved so that row y of the frame (width, height) is at `AIM` of it.

    The lower edge stays, unless the crop would be taller than `TALLEST`.
    """
    horizon = row / frame[1]
    top = (horizon - AIM * base.bottom) / (1 - AIM)
    tallest = (base.right - base.left) * frame[0] / TALLEST / frame[1]
    bottom = base.bottom
    if bottom - top > tallest:
        top = horizon - AIM * tallest
        bottom = top + tallest
    top = float(np.clip(top, 0.0, base.bottom - min(0.2, base.bottom / 2)))
    return replace(base, top=top, bottom=float(np.clip(bottom, top + 0.1, base.bottom)))


def aimed_viewport(viewport: Viewport, base: Viewport, frame: FrameSize, row: float | None) -> Viewport:
    """The crop for a frame whose horizon is at `row`: `viewport` where that is inside `BAND`, else one that moved."""
    if row is None or BAND[0] <= horizon_in_crop(row, viewport, frame) <= BAND[1]:
        return viewport
    return viewport_at(base, frame, row)
