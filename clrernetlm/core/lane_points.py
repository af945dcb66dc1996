"""Cleans the points of labelled lanes, orders them bottom first, and concatenates lanes for kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import Float64Array, Int64Array
from clrernetlm.core.errors import UserError

_COORDINATE_LIMIT = 1e6  # pixels; larger coordinates are mistakes, and splines would overflow
SAME_ROW = 1e-6  # pixels; points closer than this along y are on one row
_ROUNDING_MARGIN = 2.0  # pixels; steps back of up to this come from rounding
_SAME_PLACE_DISTANCE = 20.0  # pixels along a row; points of one row farther apart are different parts of the lane


def concatenate_lanes(lanes: Sequence[ArrayLike]) -> tuple[Float64Array, Int64Array]:
    """Concatenate L lanes, (N_i, 2) x, y in pixels, to points (M, 2) and the starts of the lanes, (L + 1,).

    In the result y is strictly descending in every lane. NaN and infinite points are dropped, coordinates are clipped
    to a million pixels, of several points on one row the first is kept, and of a lane that turns back its longest part
    (`bottom_first`). Raises UserError for a lane of another shape.
    """
    arrays = [np.asarray(lane, np.float64) for lane in lanes]
    if {points.shape[1:] for points in arrays} - {(2,)}:
        arrays = [_as_points(points) for points in arrays]
    starts = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([*map(len, arrays)], out=starts[1:])
    if not arrays:
        return np.empty((0, 2)), starts
    points = np.concatenate(arrays)
    if _is_clean(points, starts):
        return points, starts
    turned = np.concatenate([points[:: -1 if _is_top_first(points) else 1] for points in arrays])
    if _is_clean(turned, starts):
        return turned, starts
    arrays = [points[np.isfinite(points).all(axis=1)].clip(-_COORDINATE_LIMIT, _COORDINATE_LIMIT) for points in arrays]
    arrays = [bottom_first(points)[0] for points in arrays]
    points, owner = np.concatenate(arrays), np.repeat(np.arange(len(arrays)), [*map(len, arrays)])
    order = np.lexsort((-points[:, 1], owner))  # stable
    points, owner = points[order], owner[order]
    first_of_row = np.diff(points[:, 1], prepend=np.inf) < -SAME_ROW
    first_of_row |= np.diff(owner, prepend=-1) > 0
    np.cumsum(np.bincount(owner[first_of_row], minlength=len(arrays)), out=starts[1:])
    return points[first_of_row], starts


def bottom_first(points: Float64Array) -> tuple[Float64Array, bool]:
    """Order the points of a label (N, 2) by descending y; returns them, and whether the lane turns back.

    In network targets a lane has one x per row. Points in any order are sorted, and of several points on one row the
    first is kept. A lane that turns back, with several distant x on one row, would become a zig-zag; its longest
    monotone part is returned instead, with True. Steps back of up to two pixels, which come from rounding, are ignored.
    """
    if (points[1:, 1] < points[:-1, 1]).all():
        return points, False
    ordered = points[np.argsort(-points[:, 1], kind="stable")]
    ordered = ordered[np.diff(ordered[:, 1], prepend=np.inf) < 0]
    curve = _without_spikes(points)
    for candidate in (ordered, _rising_points(curve)):
        if _runs_along(candidate, curve):
            return candidate, False
    return _rising_points(max(_monotone_parts(curve), key=lambda part: np.ptp(part[:, 1]))), True


def _without_spikes(points: Float64Array) -> Float64Array:
    """Remove from (N, 2) second points of a row from which the lane returns to the first, or at which it ends."""
    xs = points[:, 0]
    level = np.abs(np.diff(points[:, 1])) <= SAME_ROW
    returns = np.append(np.abs(xs[2:] - xs[:-2]) < np.abs(xs[2:] - xs[1:-1]), True)
    return points[np.concatenate(([True], ~(level & returns)))]


def _rising_points(points: Float64Array) -> Float64Array:
    """Keep the points of (N, 2) that are higher in the image than all points before them, from the lower end on."""
    points = points[::-1] if _is_top_first(points) else points
    highest = np.minimum.accumulate(points[:, 1])
    return points[np.concatenate(([True], points[1:, 1] < highest[:-1]))]


def _runs_along(candidate: Float64Array, points: Float64Array) -> bool:
    """Check that a candidate (M, 2), y descending, runs along the points (N, 2) of the file without zig-zags.

    Sorting shortens a lane whose points were shuffled, and lengthens one that turns back.
    """
    extra = np.abs(np.diff(candidate[:, 0])).sum() - np.abs(np.diff(points[:, 0])).sum()
    if extra > 2 * _SAME_PLACE_DISTANCE:
        return False
    xs, ys = candidate[::-1].T
    around = np.stack([np.interp(points[:, 1] + offset, ys, xs) for offset in (-_ROUNDING_MARGIN, 0, _ROUNDING_MARGIN)])
    beside = (points[:, 0] >= around.min(axis=0) - _SAME_PLACE_DISTANCE) & (
        points[:, 0] <= around.max(axis=0) + _SAME_PLACE_DISTANCE
    )
    return bool((beside & (points[:, 1] <= ys[-1] + _ROUNDING_MARGIN)).all())


def _monotone_parts(points: Float64Array) -> list[Float64Array]:
    """Split a lane (N, 2) at turns back by more than rounding, and at horizontal parts along one row."""
    parts = []
    start = turn = direction = 0  # `turn`: index of the last point reached in the present direction
    for i, (aside, step) in enumerate(np.abs(np.diff(points, axis=0)).tolist(), start=1):
        if step <= SAME_ROW and aside > _SAME_PLACE_DISTANCE:
            parts.append(points[start:i])
            start, turn, direction = i, i, 0
            continue
        reached = points[i, 1] - points[turn, 1]
        if direction * reached < -_ROUNDING_MARGIN:
            parts.append(points[start : turn + 1])
            start, turn, direction = turn, i, -direction
        elif direction * reached > 0 or (direction == 0 and abs(reached) > _ROUNDING_MARGIN):
            turn, direction = i, 1 if reached > 0 else -1
    return [*parts, points[start:]]


def _is_clean(points: Float64Array, starts: Int64Array) -> bool:
    """Check whether all coordinates are finite and within the limit, and y is strictly descending in every lane."""
    descends = points[1:, 1] < points[:-1, 1] - SAME_ROW  # False for NaN
    descends[starts[(starts > 0) & (starts < len(points))] - 1] = True  # from one lane to the next
    return bool(descends.all()) and bool(np.abs(points).max(initial=0) <= _COORDINATE_LIMIT)


def _is_top_first(points: Float64Array) -> bool:
    """Check whether a lane of two points or more starts at its upper end."""
    return len(points) > 1 and bool(points[0, 1] < points[-1, 1])


def _as_points(points: Float64Array) -> Float64Array:
    """Return points (N, 2) unchanged, and an empty array of any shape as (0, 2). Raises UserError for other shapes."""
    if points.shape[1:] == (2,):
        return points
    if points.size == 0:
        return np.empty((0, 2))
    raise UserError(f"lane: an array of shape {points.shape}; x, y points have shape (N, 2)")
