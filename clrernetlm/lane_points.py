"""Points of many lanes, cleaned and laid end to end for kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clrernetlm.errors import UserError

_FAR = 1e6  # pixels; beyond this a coordinate is a mistake, and splines would overflow
SAME_ROW = 1e-6  # pixels; points closer than this along y are one point


def join_lanes(lanes: Sequence[ArrayLike]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """L lanes of any (N_i, 2) x, y in pixels -> (M, 2) points, lane after lane, and (L + 1,) where each one starts.

    In every lane y is strictly descending. NaN and infinite points are dropped, coordinates beyond a million pixels
    are cut off there, and of several points on one row the first counts. Raises UserError for a lane of another shape.
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
    turned = np.concatenate([points[:: -1 if _climbs(points) else 1] for points in arrays])
    if _in_order(turned, starts):
        return turned, starts
    owner = np.repeat(np.arange(len(arrays)), np.diff(starts))
    finite = np.isfinite(points).all(axis=1)
    points, owner = points[finite].clip(-_FAR, _FAR), owner[finite]
    order = np.lexsort((-points[:, 1], owner))  # stable
    points, owner = points[order], owner[order]
    first_of_row = np.diff(points[:, 1], prepend=np.inf) < -SAME_ROW
    first_of_row |= np.diff(owner, prepend=-1) > 0
    np.cumsum(np.bincount(owner[first_of_row], minlength=len(arrays)), out=starts[1:])
    return points[first_of_row], starts


def _in_order(points: NDArray[np.float64], starts: NDArray[np.int64]) -> bool:
    """Whether every lane is finite, near, and strictly descending in y."""
    descends = points[1:, 1] < points[:-1, 1] - SAME_ROW  # False for NaN
    descends[starts[(starts > 0) & (starts < len(points))] - 1] = True  # from one lane to the next
    return bool(descends.all()) and bool(np.abs(points).max(initial=0) <= _FAR)


def _climbs(points: NDArray[np.float64]) -> bool:
    """Whether a lane of two points or more starts at its upper end."""
    return len(points) > 1 and bool(points[0, 1] < points[-1, 1])


def _pairs(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) as it is, and anything empty as (0, 2)."""
    if points.shape[1:] == (2,):
        return points
    if points.size == 0:
        return np.empty((0, 2))
    raise UserError(f"lane: an array of shape {points.shape}; x, y points have shape (N, 2)")
