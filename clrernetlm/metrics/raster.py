"""Draws thick lines, pixel for pixel as OpenCV 4.10 to 4.12, independent of the installed OpenCV.

OpenCV draws a segment of width `width` between two whole pixels as the filled quadrilateral around it, the outline of
that quadrilateral, and a disc on either end. Geometry is in 16.16 fixed point (`ONE` is one pixel). Only the outline
depends on the image's border: its four lines are clipped first and drawn with the slope of the clipped line.

All results are runs (row, first column, last column) inside the image.
"""

from __future__ import annotations

import math

import numpy as np

from clrernetlm.core.arrays import Int64Array
from clrernetlm.core.numba_jit import kernel

Size = tuple[int, int]  # width, height of the image in pixels
SHIFT = 16
ONE = 1 << SHIFT
HALF = ONE >> 1


@kernel
def disc_radius(width: int) -> int:
    """Compute the radius in pixels of the discs on the ends of a line."""
    return ((width << (SHIFT - 1)) + HALF) >> SHIFT


@kernel
def disc_profile(radius: int) -> Int64Array:
    """Compute the half width of a disc on each of its rows, (2 * radius + 1,), by the midpoint circle algorithm."""
    profile = np.zeros(2 * radius + 1, np.int64)
    x, y, error, plus, minus = radius, 0, 0, 1, 2 * radius - 1
    while x >= y:
        for row, half in ((y, x), (x, y)):
            profile[radius - row] = max(profile[radius - row], half)
            profile[radius + row] = max(profile[radius + row], half)
        y += 1
        error += plus
        plus += 2
        if error > 0:
            error -= minus
            x -= 1
            minus -= 2
    return profile


@kernel
def run_capacity(radius: int, size: Size) -> int:
    """Bound the number of runs of a segment: two discs, a fill and four outlines."""
    return 2 * (2 * radius + 1) + size[1] + 4 * (max(size[0], size[1]) + 3)


@kernel
def _quotient(a: int, b: int) -> int:
    """Divide integers, rounding towards zero."""
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


@kernel
def _add_run(runs: Int64Array, count: int, row: int, left: int, right: int, size: Size) -> int:
    """Append a run clipped to the image's columns; `row` is inside. Returns the new count."""
    left, right = max(left, 0), min(right, size[0] - 1)
    if left > right:
        return count
    runs[count, 0], runs[count, 1], runs[count, 2] = row, left, right
    return count + 1


@kernel
def _add_disc(runs: Int64Array, count: int, x: int, y: int, profile: Int64Array, size: Size) -> int:
    radius = len(profile) // 2
    for row in range(max(y - radius, 0), min(y + radius, size[1] - 1) + 1):
        half = profile[row - y + radius]
        count = _add_run(runs, count, row, x - half, x + half, size)
    return count


@kernel
def _next_edge(
    corners: Int64Array, corner: int, direction: int, row: int, edges_left: int
) -> tuple[int, int, int, int, int]:
    """Find the first edge from `corner` on, in steps of `direction` corners, that ends below `row`.

    Returns (the corner at its end, the row of that end, x of its start, its step in x per row, edges left); -1 edges
    left if there is none.
    """
    while edges_left > 0:
        edges_left -= 1
        end = (corner + direction) % 4
        reached = (corners[end, 1] + HALF) >> SHIFT
        if reached > row:
            rows = reached - row
            step = _quotient((corners[end, 0] - corners[corner, 0]) * 2 + rows, 2 * rows)
            return end, reached, corners[corner, 0], step, edges_left
        corner = end
    return corner, row, 0, 0, -1


@kernel
def _add_fill(runs: Int64Array, count: int, corners: Int64Array, size: Size) -> int:
    """Append the inside of a convex quadrilateral, corners (4, 2) in fixed point, in order around it.

    Its two sides are followed from the topmost corner downwards, each by a constant step in x per row.
    """
    top_corner = 0
    lowest = corners[0, 1]
    for i in range(1, 4):
        lowest = max(lowest, corners[i, 1])
        if corners[i, 1] < corners[top_corner, 1]:
            top_corner = i
    row = (corners[top_corner, 1] + HALF) >> SHIFT
    bottom = min((lowest + HALF) >> SHIFT, size[1] - 1)
    corner_a = corner_b = top_corner
    until_a = until_b = row
    x_a = x_b = step_a = step_b = 0
    edges_left = 4
    while row <= bottom:
        if row >= until_a:
            corner_a, until_a, x_a, step_a, edges_left = _next_edge(corners, corner_a, 1, row, edges_left)
        if row >= until_b and edges_left >= 0:
            corner_b, until_b, x_b, step_b, edges_left = _next_edge(corners, corner_b, 3, row, edges_left)
        if edges_left < 0:
            break
        rows = 1
        if row >= 0:
            left, right = min(x_a, x_b), max(x_a, x_b)
            count = _add_run(runs, count, row, (left + HALF) >> SHIFT, (right + HALF) >> SHIFT, size)
        else:  # above the image: skip to the next corner, or to row 0
            rows = min(until_a, until_b, 0) - row
        x_a += step_a * rows
        x_b += step_b * rows
        row += rows
    return count


@kernel
def _outside(x: int, y: int, right: int, bottom: int) -> int:
    """Compute Cohen-Sutherland's outcode: bits 1 left of, 2 right of, 4 above, 8 below the image."""
    return (x < 0) + (x > right) * 2 + (y < 0) * 4 + (y > bottom) * 8


@kernel
def _clip(x0: int, y0: int, x1: int, y1: int, right: int, bottom: int) -> tuple[bool, int, int, int, int]:
    """Clip a line to 0..right, 0..bottom in fixed point: (whether any of it is inside, x0, y0, x1, y1).

    Cohen-Sutherland, rows before columns. The second end is clipped along the line as the first clip left it.
    """
    code0, code1 = _outside(x0, y0, right, bottom), _outside(x1, y1, right, bottom)
    if not code0 | code1 or code0 & code1:
        return not code0 & code1, x0, y0, x1, y1
    if code0 & 12:
        border = bottom if code0 & 8 else 0
        x0, y0 = x0 + int(float(border - y0) * float(x1 - x0) / float(y1 - y0)), border
        code0 = _outside(x0, y0, right, bottom)
    if code1 & 12:
        border = bottom if code1 & 8 else 0
        x1, y1 = x1 + int(float(border - y1) * float(x1 - x0) / float(y1 - y0)), border
        code1 = _outside(x1, y1, right, bottom)
    if code0 & code1:
        return False, x0, y0, x1, y1
    if code0:
        border = right if code0 & 2 else 0
        x0, y0 = border, y0 + int(float(border - x0) * float(y1 - y0) / float(x1 - x0))
    if code1:
        border = right if code1 & 2 else 0
        x1, y1 = border, y1 + int(float(border - x1) * float(y1 - y0) / float(x1 - x0))
    return True, x0, y0, x1, y1


@kernel
def _add_outline(runs: Int64Array, count: int, x0: int, y0: int, x1: int, y1: int, size: Size) -> int:
    """Append a one-pixel line between two fixed-point positions: one pixel per column if flat, per row if steep."""
    visible, x0, y0, x1, y1 = _clip(x0, y0, x1, y1, (size[0] << SHIFT) - 1, (size[1] << SHIFT) - 1)
    if not visible:
        return count
    flat = abs(x1 - x0) > abs(y1 - y0)
    start, start_across, end, end_across = (x0, y0, x1, y1) if flat else (y0, x0, y1, x1)
    if end < start:  # draw towards larger coordinates
        start, start_across, end, end_across = end, end_across, start, start_across
    step = _quotient((end_across - start_across) << SHIFT, (end - start) | 1)
    steps = (end - start) >> SHIFT
    for i in range(steps + 2):
        if i <= steps:
            along, across = ((start + HALF) >> SHIFT) + i, (start_across + HALF + i * step) >> SHIFT
        else:  # the end is always drawn
            along, across = (end + HALF) >> SHIFT, (end_across + HALF) >> SHIFT
        x, y = (along, across) if flat else (across, along)
        if 0 <= y < size[1]:
            count = _add_run(runs, count, y, x, x, size)
    return count


@kernel
def segment_runs(
    runs: Int64Array, x0: int, y0: int, x1: int, y1: int, width: int, profile: Int64Array, size: Size
) -> int:
    """Fill `runs` (n, 3) with row, first column, last column of all pixels of one segment; returns their number.

    `x0, y0, x1, y1` are whole pixels. In this order, fill, discs, outline, every run touches earlier ones.
    """
    reach = len(profile) // 2 + 1
    if max(x0, x1) + reach < 0 or min(x0, x1) - reach >= size[0]:
        return 0
    if max(y0, y1) + reach < 0 or min(y0, y1) - reach >= size[1]:
        return 0
    if x0 == x1 and y0 == y1:
        return _add_disc(runs, 0, x0, y0, profile, size)
    dx, dy = float(x0 - x1), float(y1 - y0)
    scale = ((width << (SHIFT - 1)) + (width & 1) * ONE * 0.5) / math.sqrt(dx * dx + dy * dy)
    offset_x, offset_y = np.int64(np.rint(dy * scale)), np.int64(np.rint(dx * scale))
    corners = np.empty((4, 2), np.int64)
    corners[0, 0], corners[0, 1] = (x0 << SHIFT) + offset_x, (y0 << SHIFT) + offset_y
    corners[1, 0], corners[1, 1] = (x0 << SHIFT) - offset_x, (y0 << SHIFT) - offset_y
    corners[2, 0], corners[2, 1] = (x1 << SHIFT) - offset_x, (y1 << SHIFT) - offset_y
    corners[3, 0], corners[3, 1] = (x1 << SHIFT) + offset_x, (y1 << SHIFT) + offset_y
    count = _add_fill(runs, 0, corners, size)
    count = _add_disc(runs, count, x0, y0, profile, size)
    count = _add_disc(runs, count, x1, y1, profile, size)
    for i in range(4):
        x0, y0, x1, y1 = corners[i - 1, 0], corners[i - 1, 1], corners[i, 0], corners[i, 1]
        count = _add_outline(runs, count, x0, y0, x1, y1, size)
    return count
