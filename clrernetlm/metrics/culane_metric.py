"""Computes the CULane metric in both implementations: the IoU of lanes drawn as thick lines, and their matching.

`clrernet` is the implementation behind the published CLRerNet numbers, `official` that of the data set's own tool:

|                     | clrernet                                  | official                                    |
|---------------------|-------------------------------------------|---------------------------------------------|
| curve               | B-spline, 5 uniform samples per segment   | natural cubic, 50 samples per segment       |
| two points          | the same                                  | straight                                    |
| to whole pixels     | truncated                                 | rounded, half to even                       |
| fewer than 2 points | not a lane: no row, no column             | a lane with IoU 0 to every other            |

In both, a point equal to the one before it is skipped, and two lanes without any pixel in the image have IoU 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from clrernetlm.core.argument_checks import require_sequence, require_size, require_whole_number, short_repr
from clrernetlm.core.arrays import Float64Array, Int64Array
from clrernetlm.core.errors import UserError

MetricImplementation = Literal["clrernet", "official"]
MAX_WIDTH, MAX_SIDE = 1000, 32000  # pixels


def lane_ious(
    pred: Sequence[ArrayLike],
    gt: Sequence[ArrayLike],
    implementation: MetricImplementation = "clrernet",
    width: int = 30,
    image_size: tuple[int, int] = (1640, 590),
) -> Float64Array:
    """Compute the IoU of lanes (n, 2) x, y in pixels of `image_size`, drawn `width` pixels wide -> (n_pred, n_gt).

    With `implementation="clrernet"` lanes of fewer than two points are left out: the matrix has rows and columns for
    the others only, in their order. With `"official"` every lane has its row or column.

    Raises UserError for a lane that is not an (n, 2) array of finite numbers, and for settings out of range. Equal to
    both published tools in every bit (drawing as in OpenCV 4.10 to 4.12).
    """
    check_settings(implementation, width, image_size)
    require_sequence(pred, "pred", "lanes")
    require_sequence(gt, "gt", "lanes")
    lanes = [_as_points(lane, f"pred lane {i}") for i, lane in enumerate(pred)]
    predictions = len(lanes)
    lanes += [_as_points(lane, f"gt lane {i}") for i, lane in enumerate(gt)]
    stops = np.cumsum([0, *(len(lane) for lane in lanes)])
    points = np.concatenate(lanes) if lanes else np.zeros((0, 2))
    return ious_of_points(points, stops, predictions, implementation, width, image_size)


def ious_of_points(
    points: Float64Array,
    stops: Int64Array,
    predictions: int,
    implementation: MetricImplementation,
    width: int,
    image_size: tuple[int, int],
) -> Float64Array:
    """Compute `lane_ious` without checks; lane i is points[stops[i]:stops[i + 1]], predictions first, then labels."""
    from clrernetlm.metrics import overlap  # here, because numba is slow to import

    line = overlap.line_stencils(int(width))
    size = (int(image_size[0]), int(image_size[1]))
    return overlap.image_ious(points, stops, predictions, implementation == "official", line, size)


def match_lanes(ious: Float64Array, implementation: MetricImplementation = "clrernet") -> tuple[Int64Array, Int64Array]:
    """Match lanes one to one with the largest sum of IoU, (n_pred, n_gt) -> rows and columns of the pairs.

    A pair is a hit at a threshold if its IoU is larger. There is one matching for all thresholds, as in both tools.
    """
    try:
        pairs: tuple[Int64Array, Int64Array]
        if implementation == "official":
            pairs = linear_sum_assignment(ious, maximize=True)
        else:
            pairs = linear_sum_assignment(1 - ious)
        return pairs
    except (TypeError, ValueError):
        raise UserError(
            f"ious: {short_repr(ious)} is not a table of finite numbers; use the (n_pred, n_gt) array of lane_ious"
        ) from None


def check_settings(implementation: str, width: int, image_size: tuple[int, int]) -> None:
    """Raise UserError for settings with which lanes cannot be compared."""
    if not isinstance(implementation, str) or implementation not in get_args(MetricImplementation):
        raise UserError(
            f"implementation: {short_repr(implementation)} is unknown; "
            f"use {' or '.join(get_args(MetricImplementation))}"
        )
    require_whole_number(width, "width", 2, MAX_WIDTH)
    require_size(image_size, "image_size", 1, MAX_SIDE)


def _as_points(lane: ArrayLike, name: str) -> Float64Array:
    try:
        points = np.asarray(lane, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{name}: not an array of numbers; expected (n, 2) x, y") from None
    if points.size == 0:
        return np.zeros((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise UserError(f"{name}: an array of shape {points.shape}; expected (n, 2) x, y")
    if not np.isfinite(points).all():
        raise UserError(f"{name}: NaN or infinite coordinate; remove that point")
    return points
