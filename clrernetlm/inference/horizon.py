"""Estimates the horizon from lanes, and chooses the crop that puts it where the network expects it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize, Viewport

HORIZON_RANGE = (-0.06, 0.3)  # of the horizon in a crop, in fractions of its height: nine in ten training images
TARGET_HORIZON = 0.05  # of a moved crop; measured: larger wastes rows on sky, smaller cuts far lanes off
MIN_ASPECT_RATIO = 1.6  # least width over height of a crop; taller frames are cut at the bottom too
DEFAULT_HORIZON = 0.5  # of the height of a tall frame, before lanes are known: phones are mostly held level
SAMPLED_ROWS = 16  # on which two lanes are compared


def horizon_row(lanes: Sequence[Lane], frame: FrameSize) -> float | None:
    """Estimate the row y of the horizon, in pixels of a frame (width, height), from lanes in its pixels.

    On level ground the distance of two lanes that run side by side shrinks linearly with the row, down to 0 at the
    horizon, also where the road bends. So every pair of lanes votes for a row, with a weight: the product of the
    scores times the precision of the estimate. The result is the mean around the row with the most weight. None for a
    single lane and for lanes that are parallel in the image.
    """
    found = [vote for pair in combinations(lanes, 2) if (vote := _horizon_vote(*pair, frame)) is not None]
    if not found:
        return None
    rows, weights = np.array(found).T
    near = np.abs(rows[:, None] - rows) / (0.03 * frame[1])
    support = np.exp(-0.5 * near**2) @ weights
    best = int(support.argmax())
    agree = weights * (near[best] < 2)
    return float(agree @ rows / agree.sum())


def _horizon_vote(one: Lane, other: Lane, frame: FrameSize) -> tuple[float, float] | None:
    """Extrapolate two lanes to the row where they meet; returns it with a weight, None unless they run side by side."""
    if min(len(one), len(other)) < 2:
        return None
    top = max(lane.points[:, 1].min() for lane in (one, other))
    bottom = min(lane.points[:, 1].max() for lane in (one, other))
    if bottom - top < 0.06 * min(frame):
        return None
    rows = np.linspace(top, bottom, SAMPLED_ROWS)
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
    """Interpolate x of a lane on rows that it spans."""
    order = np.argsort(lane.points[:, 1], kind="stable")
    xs: NDArray[np.float64] = np.interp(rows, lane.points[order, 1], lane.points[order, 0])
    return xs


def crop_aspect(viewport: Viewport, frame: FrameSize) -> float:
    """Return width over height, in pixels of the frame, of a viewport's crop."""
    left, top, right, bottom = viewport.crop_box(frame)
    return (right - left) / (bottom - top)


def horizon_in_crop(row: float, viewport: Viewport, frame: FrameSize) -> float:
    """Convert a row of the frame to a fraction of the crop's height, from its top; negative above the crop."""
    return (row / frame[1] - viewport.top) / (viewport.bottom - viewport.top)


def initial_viewport(base: Viewport, frame: FrameSize) -> Viewport:
    """Return the crop to begin with: the configured one, or for a taller frame one from its middle downwards."""
    if crop_aspect(base, frame) >= MIN_ASPECT_RATIO:
        return base
    return viewport_with_horizon_at(base, frame, DEFAULT_HORIZON * frame[1])


def viewport_with_horizon_at(base: Viewport, frame: FrameSize, row: float) -> Viewport:
    """Move the upper edge of the configured crop, so that row y of the frame lies at `TARGET_HORIZON` of the crop.

    The lower edge stays, unless the crop would become taller than `MIN_ASPECT_RATIO` allows.
    """
    horizon = row / frame[1]
    top = (horizon - TARGET_HORIZON * base.bottom) / (1 - TARGET_HORIZON)
    tallest = (base.right - base.left) * frame[0] / MIN_ASPECT_RATIO / frame[1]
    bottom = base.bottom
    if bottom - top > tallest:
        top = horizon - TARGET_HORIZON * tallest
        bottom = top + tallest
    top = float(np.clip(top, 0.0, base.bottom - min(0.2, base.bottom / 2)))
    return replace(base, top=top, bottom=float(np.clip(bottom, top + 0.1, base.bottom)))


def viewport_for_horizon(viewport: Viewport, base: Viewport, frame: FrameSize, row: float | None) -> Viewport:
    """Return `viewport` if the horizon at `row` lies within its `HORIZON_RANGE`, else a crop moved to the horizon."""
    if row is None or HORIZON_RANGE[0] <= horizon_in_crop(row, viewport, frame) <= HORIZON_RANGE[1]:
        return viewport
    return viewport_with_horizon_at(base, frame, row)
