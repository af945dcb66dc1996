"""Compiled interpolation of lanes: their x on given rows."""

from __future__ import annotations

import numpy as np

from clrernetlm.core.arrays import Float64Array, Int64Array
from clrernetlm.core.numba_jit import kernel


@kernel
def lanes_on_rows(
    points: Float64Array, starts: Int64Array, rows: Float64Array, margin: float, extend: bool, found: Float64Array
) -> None:
    """Interpolate lanes of `concatenate_lanes`, (M, 2) and (L + 1,), on descending `rows` (R,): x into `found` (L, R).

    NaN where a lane has no x. Lanes are extended by `margin` pixels at both ends, so that rounding does not cost a row.
    Below its lowest point a lane continues only with `extend`, as in `x_on_rows`. A lane with a single point is NaN
    everywhere.
    """
    found[:] = np.nan
    snapped = np.empty(len(rows))
    for lane in range(len(starts) - 1):
        own = points[starts[lane] : starts[lane + 1]]
        if len(own) < 2:
            continue
        lowest, highest = own[0, 1], own[-1, 1]
        for i in range(len(rows)):
            snapped[i] = rows[i]
            if highest - margin <= rows[i] < highest:
                snapped[i] = highest
            elif lowest < rows[i] <= lowest + margin:
                snapped[i] = lowest
        x_on_rows(own, snapped, found[lane])
        if not extend:
            for i in range(len(rows)):
                if snapped[i] > lowest:
                    found[lane, i] = np.nan


@kernel
def x_on_rows(points: Float64Array, rows: Float64Array, found: Float64Array) -> None:
    """Interpolate points (N, 2), y strictly descending, on descending `rows` (R,): x into `found` (R,).

    Between the points by a spline of degree min(3, N - 1) in y, whose third derivative is continuous at the second and
    the last but one point; below them by the straight line through the two lowest; NaN above them, and everywhere if no
    row lies between them.
    """
    n, lowest, highest = len(points), points[0, 1], points[-1, 1]
    found[:] = np.nan
    crossed = False
    for y in rows:
        crossed |= highest <= y <= lowest
    if not crossed:
        return
    slopes = _slopes(points)
    span = 0
    for i in range(len(rows)):
        y = rows[i]
        if y < highest:
            break
        if y > lowest:
            steepness = (points[1, 0] - points[0, 0]) / (points[1, 1] - lowest)
            found[i] = points[0, 0] + steepness * (y - lowest)
            continue
        while span < n - 2 and y < points[span + 1, 1]:
            span += 1
        h = points[span + 1, 1] - points[span, 1]
        secant = (points[span + 1, 0] - points[span, 0]) / h
        bend = (slopes[span] + slopes[span + 1] - 2 * secant) / h
        t = y - points[span, 1]
        found[i] = points[span, 0] + t * (slopes[span] + t * ((secant - slopes[span]) / h - bend + t * bend / h))


@kernel
def _slopes(points: Float64Array) -> Float64Array:
    """Compute dx/dy of the spline at its points (N, 2), N > 1."""
    n = len(points)
    h = np.empty(n - 1)
    secant = np.empty(n - 1)
    for i in range(n - 1):
        h[i] = points[i + 1, 1] - points[i, 1]
        secant[i] = (points[i + 1, 0] - points[i, 0]) / h[i]
    slopes = np.empty(n)
    if n == 2:
        slopes[:] = secant[0]
        return slopes
    if n == 3:
        curvature = (secant[1] - secant[0]) / (h[0] + h[1])
        slopes[0], slopes[1] = secant[0] - curvature * h[0], secant[0] + curvature * h[0]
        slopes[2] = secant[1] + curvature * h[1]
        return slopes
    # Tridiagonal system, eliminated downwards: pivot[i] * slopes[i] + above[i] * slopes[i + 1] = right[i].
    pivot, above, right = np.empty(n), np.empty(n), slopes
    wide = h[0] + h[1]
    pivot[0], above[0] = h[1], wide
    right[0] = ((h[0] + 2 * wide) * h[1] * secant[0] + h[0] * h[0] * secant[1]) / wide
    for i in range(1, n - 1):
        factor = h[i] / pivot[i - 1]
        pivot[i] = 2 * (h[i - 1] + h[i]) - factor * above[i - 1]
        above[i] = h[i - 1]
        right[i] = 3 * (h[i] * secant[i - 1] + h[i - 1] * secant[i]) - factor * right[i - 1]
    wide = h[n - 3] + h[n - 2]
    factor = wide / pivot[n - 2]
    last = (h[n - 2] * h[n - 2] * secant[n - 3] + (2 * wide + h[n - 2]) * h[n - 3] * secant[n - 2]) / wide
    slopes[n - 1] = (last - factor * right[n - 2]) / (h[n - 3] - factor * above[n - 2])
    for i in range(n - 2, -1, -1):
        slopes[i] = (right[i] - above[i] * slopes[i + 1]) / pivot[i]
    return slopes
