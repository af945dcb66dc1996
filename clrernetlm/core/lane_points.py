"""Points of labelled lanes: put in order from the bottom up, cleaned, and laid end to end for kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import Float64Array, Int64Array
from clrernetlm.core.errors import UserError

_FAR = 1e6  # pixels; beyond this a coordinate is a mistake, and splines would overflow
SAME_ROW = 1e-6  # pixels; points closer than this along y are one point
_ROUNDING = 2.0  # pixels by which rounding may turn a lane back
_ASIDE = 20.0  # pixels along a row; points of one row that are farther apart are several places of the lane


def join_lanes(lanes: Sequence[ArrayLike]) -> tuple[Float64Array, Int64Array]:
    """L lanes of any (N_i, 2) x, y in pixels -> (M, 2) points, lane after lane, and (L + 1,) where each one starts.

    In every lane y is strictly descending. NaN and infinite points are dropped, coordinates beyond a million pixels
    are cut off there, of several points on one row the first counts, and of a lane that turns back its longest part
    (`bottom_first`). Raises UserError for a lane of another shape.
    """
    arrays = [np.asarray(lane, np.float64) for lane in lanes]
    if {points.shape[1:] for points in arrays} - {(2,)}:
        arrays = [_pairs(points) for points in arrays]
    starts = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([*map(len, arrays)], out=starts[1:])
    if not arrays:
        return np.empty((0, 2)), starts
    points = np.concatenate(arrays)
    if _in_order(points, starts):
        return points, starts
    turned = np.concatenate([points[:: -1 if _starts_above(points) else 1] for points in arrays])
    if _in_order(turned, starts):
        return turned, starts
    arrays = [points[np.isfinite(points).all(axis=1)].clip(-_FAR, _FAR) for points in arrays]
    arrays = [bottom_first(points)[0] for points in arrays]
    points, owner = np.concatenate(arrays), np.repeat(np.arange(len(arrays)), [*map(len, arrays)])
    order = np.lexsort((-points[:, 1], owner))  # stable
    points, owner = points[order], owner[order]
    first_of_row = np.diff(points[:, 1], prepend=np.inf) < -SAME_ROW
    first_of_row |= np.diff(owner, prepend=-1) > 0
    np.cumsum(np.bincount(owner[first_of_row], minlength=len(arrays)), out=starts[1:])
    return points[first_of_row], starts


def bottom_first(points: Float64Array) -> tuple[Float64Array, bool]:
    """Order the points of a label (N, 2) by y, descending; also tells whether the lane turns back.

    Network targets give a lane one x per row. Points in any order are sorted, and of several points on one row the
    first counts. A lane that turns back, so that one row has several x in different places, would become a zig-zag;
    its longest monotone part is returned instead, with True. Steps back of up to two pixels, which come from rounding,
    are no turn.
    """
    if (points[1:, 1] < points[:-1, 1]).all():
        return points, False
    ordered = points[np.argsort(-points[:, 1], kind="stable")]
    ordered = ordered[np.diff(ordered[:, 1], prepend=np.inf) < 0]
    curve = _without_spikes(points)
    for candidate in (ordered, _climbing(curve)):
        if _follows(candidate, curve):
            return candidate, False
    return _climbing(max(_monotone_parts(curve), key=lambda part: np.ptp(part[:, 1]))), True


def _without_spikes(points: Float64Array) -> Float64Array:
    """Leave out second points of a row (N, 2) from which the lane returns to the first, and at its end."""
    xs = points[:, 0]
    level = np.abs(np.diff(points[:, 1])) <= SAME_ROW
    returns = np.append(np.abs(xs[2:] - xs[:-2]) < np.abs(xs[2:] - xs[1:-1]), True)
    return points[np.concatenate(([True], ~(level & returns)))]


def _climbing(points: Float64Array) -> Float64Array:
    """Keep the points (N, 2) that are higher in the image than all points before them, from the lower end on."""
    points = points[::-1] if _starts_above(points) else points
    highest = np.minimum.accumulate(points[:, 1])
    return points[np.concatenate(([True], points[1:, 1] < highest[:-1]))]


def _follows(candidate: Float64Array, points: Float64Array) -> bool:
    """Check that a candidate (M, 2), y descending, runs where the points (N, 2) of the file do, not from side to side.

    Sorting shortens the way along a lane whose points were shuffled, and lengthens it along one that turns back.
    """
    extra = np.abs(np.diff(candidate[:, 0])).sum() - np.abs(np.diff(points[:, 0])).sum()
    if extra > 2 * _ASIDE:
        return False
    xs, ys = candidate[::-1].T
    around = np.stack([np.interp(points[:, 1] + offset, ys, xs) for offset in (-_ROUNDING, 0, _ROUNDING)])
    beside = (points[:, 0] >= around.min(axis=0) - _ASIDE) & (points[:, 0] <= around.max(axis=0) + _ASIDE)
    return bool((beside & (points[:, 1] <= ys[-1] + _ROUNDING)).all())


def _monotone_parts(points: Float64Array) -> list[Float64Array]:
    """Cut a lane (N, 2) where it turns back by more than rounding, and where it runs sideways along one row."""
    parts = []
    start = turn = direction = 0  # `turn`: index of the last point reached in the present direction
    for i, (aside, step) in enumerate(np.abs(np.diff(points, axis=0)).tolist(), start=1):
        if step <= SAME_ROW and aside > _ASIDE:
            parts.append(points[start:i])
            start, turn, direction = i, i, 0
            continue
        reached = points[i, 1] - points[turn, 1]
        if direction * reached < -_ROUNDING:
            parts.append(points[start : turn + 1])
            start, turn, direction = turn, i, -direction
        elif direction * reached > 0 or (direction == 0 and abs(reached) > _ROUNDING):
            turn, direction = i, 1 if reached > 0 else -1
    return [*parts, points[start:]]


def _in_order(points: Float64Array, starts: Int64Array) -> bool:
    """Whether every lane is finite, near, and strictly descending in y."""
    descends = points[1:, 1] < points[:-1, 1] - SAME_ROW  # False for NaN
    descends[starts[(starts > 0) & (starts < len(points))] - 1] = True  # from one lane to the next
    return bool(descends.all()) and bool(np.abs(points).max(initial=0) <= _FAR)


def _starts_above(points: Float64Array) -> bool:
    """Whether a lane of two points or more starts at its upper end."""
    return len(points) > 1 and bool(points[0, 1] < points[-1, 1])


def _pairs(points: Float64Array) -> Float64Array:
    """(N, 2) as it is, and anything empty as (0, 2)."""
    if points.shape[1:] == (2,):
        return points
    if points.size == 0:
        return np.empty((0, 2))
    raise UserError(f"lane: an array of shape {points.shape}; x, y points have shape (N, 2)")
