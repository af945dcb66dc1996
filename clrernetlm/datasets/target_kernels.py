"""Encodes lanes as training targets, compiled."""

from __future__ import annotations

import numpy as np

from clrernetlm.core.arrays import Float64Array
from clrernetlm.core.lane_kernels import x_on_rows
from clrernetlm.core.numba_jit import kernel
from clrernetlm.models.clrernet.targets import EMPTY, LENGTH, ROWS, THETA, VALID, X0, Y0


@kernel
def encode_lane(points: Float64Array, rows: Float64Array, width: float, official: bool, target: Float64Array) -> int:
    """Encode points (N, 2), y strictly descending, on `rows` (R,) into `target` (6 + R,); returns the visible rows.

    The target is only defined if the lane is visible on two rows or more. `official` stores x off the image first.
    """
    xs = np.empty(len(rows))
    x_on_rows(points, rows, xs)
    first, last, visible, off = -1, -1, 0, 0
    for i in range(len(rows)):
        if 0 <= xs[i] < width:
            first = i if visible == 0 else first
            last = i
            visible += 1
        elif np.isfinite(xs[i]):
            off += 1
    if visible < 2:
        return visible
    x0, spacing, theta, step = xs[first], rows[0] - rows[1], 0.0, 0
    for i in range(first + 1, last + 1):
        if 0 <= xs[i] < width:
            step = step + 1 if official else i - first
            angle = np.arctan(step * spacing / (xs[i] - x0 + 1e-5)) / np.pi
            theta += angle if angle > 0 else 1 - abs(angle)
    start, length = (off, visible) if official else (first, last - first + 1)
    target[0], target[VALID], target[Y0] = 0.0, 1.0, 1 - start / (len(rows) - 1)
    target[X0], target[THETA], target[LENGTH] = x0, theta / (visible - 1), length
    target[ROWS:] = EMPTY
    before, inside = ROWS, ROWS + off
    for i in range(len(rows)):
        if not official:
            target[ROWS + i] = xs[i] if np.isfinite(xs[i]) else EMPTY
        elif 0 <= xs[i] < width:
            target[inside] = xs[i]
            inside += 1
        elif np.isfinite(xs[i]):
            target[before] = xs[i]
            before += 1
    return visible
