"""Computes the IoU of drawn lanes: counts the pixels of each lane, and those shared by a prediction and a label.

A lane is stored as one interval of columns per row. Rows with several intervals (of a lane that turns back, or a gap in
a flat segment's outline) are called *torn*: their pixels are stored individually, too.

Most steps of a lane's curve are a few pixels long and far from the image's border, where the pixels of a segment depend
on the step alone. Their intervals are stored in a table of stencils, one per step, and shifted into place.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from clrernetlm.core.arrays import BoolArray, ByteArray, Float64Array, Int32Array, Int64Array
from clrernetlm.core.numba_jit import kernel
from clrernetlm.metrics.raster import Size, disc_profile, disc_radius, run_capacity, segment_runs
from clrernetlm.metrics.splines import POINT_LIMIT, distinct_points, natural_curve, parametric_curve

MAX_STENCIL_STEP = 20  # steps of up to this many pixels along x and y have a stencil
UNKNOWN, DRAWN, UNSUPPORTED = 0, 1, 2  # states of a stencil; UNSUPPORTED: with a row of more than two intervals
FIRST, LAST, TORN, GAP, AFTER_GAP = range(5)  # columns of a stencil's row: see `LineStencils`
EMPTY_LEFT, EMPTY_RIGHT = 1 << 24, -(1 << 24)  # interval of a row without pixels


class LineStencils(NamedTuple):
    """The pixels of short line segments of one width, by their step (dx, dy).

    `profile` (2 * radius + 1,): half widths of the disc on a line's end. `stencils` (41, 41, 5, rows): for every row of
    the step (dx, dy) its first and last column (relative to the step's first point), 1 if there is a gap between them,
    and the first columns in and after that gap. Stencils are drawn at their first use; `states` (41, 41) marks them.
    """

    width: int
    profile: Int64Array
    states: ByteArray
    stencils: Int32Array


class LaneIntervals(NamedTuple):
    """A drawn lane: first and last column of every row (H,); `slots` (H,): 0, or 1 + index of the torn row's pixels."""

    left: Int32Array
    right: Int32Array
    slots: Int32Array


@lru_cache(maxsize=8)
def line_stencils(width: int) -> LineStencils:
    """Return the stencils of lines `width` pixels wide, shared by the whole process."""
    profile = disc_profile(disc_radius(width))
    side = 2 * MAX_STENCIL_STEP + 1
    stencils = np.zeros((side, side, 5, len(profile) + MAX_STENCIL_STEP), np.int32)
    return LineStencils(width, profile, np.zeros((side, side), np.uint8), stencils)


@kernel
def _make_stencil(line: LineStencils, dx: int, dy: int) -> None:
    """Draw the step (dx, dy) in an image that is large enough, and store its rows relative to its first point."""
    radius = len(line.profile) // 2
    origin = radius + MAX_STENCIL_STEP + 2
    side = 2 * origin + 1
    size = (side, side)
    pixels = np.zeros(size, np.bool_)
    runs = np.empty((run_capacity(radius, size), 3), np.int64)
    count = segment_runs(runs, origin, origin, origin + dx, origin + dy, line.width, line.profile, size)
    for i in range(count):
        pixels[runs[i, 0], runs[i, 1] : runs[i, 2] + 1] = True
    state = DRAWN
    for row in range(2 * radius + 1 + abs(dy)):
        stencil = line.stencils[dx + MAX_STENCIL_STEP, dy + MAX_STENCIL_STEP, :, row]
        pixel_row = pixels[origin + min(dy, 0) - radius + row]
        parts = 0
        for column in range(1, side):
            if pixel_row[column] and not pixel_row[column - 1]:
                parts += 1
                if parts == 1:
                    stencil[FIRST] = column - origin
                stencil[AFTER_GAP] = column - origin
            elif pixel_row[column - 1] and not pixel_row[column]:
                if parts == 1:
                    stencil[GAP] = column - origin
                stencil[LAST] = column - 1 - origin
        stencil[TORN] = parts > 1
        if parts > 2:
            state = UNSUPPORTED
    line.states[dx + MAX_STENCIL_STEP, dy + MAX_STENCIL_STEP] = state


@kernel
def _has_stencil(line: LineStencils, x0: int, y0: int, x1: int, y1: int, size: Size) -> bool:
    """Check whether a segment can be drawn with a stencil: a short step, not near the border."""
    margin = len(line.profile) // 2 + 1
    if (
        abs(x1 - x0) > MAX_STENCIL_STEP
        or abs(y1 - y0) > MAX_STENCIL_STEP
        or min(x0, x1) < margin
        or max(x0, x1) >= size[0] - margin
        or min(y0, y1) < margin
        or max(y0, y1) >= size[1] - margin
    ):
        return False
    if line.states[x1 - x0 + MAX_STENCIL_STEP, y1 - y0 + MAX_STENCIL_STEP] == UNKNOWN:
        _make_stencil(line, x1 - x0, y1 - y0)
    drawn: bool = line.states[x1 - x0 + MAX_STENCIL_STEP, y1 - y0 + MAX_STENCIL_STEP] == DRAWN
    return drawn


@kernel
def _merge_runs(lane: LaneIntervals, runs: Int64Array, count: int) -> None:
    """Merge runs (row, first column, last column) into a lane's intervals; rows with a gap get slot 1."""
    for i in range(count):
        row, a, b = runs[i, 0], runs[i, 1], runs[i, 2]
        left, right = lane.left[row], lane.right[row]
        if left <= right and (a > right + 1 or b < left - 1):
            lane.slots[row] = 1
        lane.left[row], lane.right[row] = min(left, a), max(right, b)


@kernel
def _merge_stencil(lane: LaneIntervals, stencils: Int32Array, dx: int, dy: int, x: int, top: int, rows: int) -> None:
    """Merge a stencil's intervals, shifted by x columns and `top` rows, into a lane's; slots as in `_merge_runs`.

    With unsigned indices (no negative ones to test for) and plain int32 the compiler vectorises the loop.
    """
    shift, one = np.int32(x), np.int32(1)
    i, j, first_row = np.uint64(dx + MAX_STENCIL_STEP), np.uint64(dy + MAX_STENCIL_STEP), np.uint64(top)
    for k in range(np.uint64(rows)):
        row = first_row + k
        a, b = stencils[i, j, FIRST, k] + shift, stencils[i, j, LAST, k] + shift
        left, right = lane.left[row], lane.right[row]
        apart = (left <= right) & ((a - one > right) | (b + one < left))
        lane.slots[row] |= stencils[i, j, TORN, k] | np.int32(apart)
        lane.left[row] = min(left, a)
        lane.right[row] = max(right, b)


@kernel
def draw_intervals(line: LineStencils, curve: Int64Array, lane: LaneIntervals, runs: Int64Array, size: Size) -> None:
    """Draw a curve (n, 2) of pixels into an empty lane, as one interval per row; torn rows get slot 1."""
    radius = len(line.profile) // 2
    for i in range(1, len(curve)):
        x0, y0, x1, y1 = curve[i - 1, 0], curve[i - 1, 1], curve[i, 0], curve[i, 1]
        if _has_stencil(line, x0, y0, x1, y1, size):
            dx, dy = x1 - x0, y1 - y0
            _merge_stencil(lane, line.stencils, dx, dy, x0, min(y0, y1) - radius, 2 * radius + 1 + abs(dy))
        else:
            _merge_runs(lane, runs, segment_runs(runs, x0, y0, x1, y1, line.width, line.profile, size))


@kernel
def paint_torn_rows(
    line: LineStencils, curve: Int64Array, slots: Int32Array, pixels: BoolArray, runs: Int64Array, size: Size
) -> None:
    """Draw the torn rows of a curve, those with slots[row] > 0, pixel by pixel into pixels[slots[row] - 1] (W,)."""
    radius = len(line.profile) // 2
    for i in range(1, len(curve)):
        x0, y0, x1, y1 = curve[i - 1, 0], curve[i - 1, 1], curve[i, 0], curve[i, 1]
        if _has_stencil(line, x0, y0, x1, y1, size):
            for k in range(2 * radius + 1 + abs(y1 - y0)):
                slot = slots[min(y0, y1) - radius + k]
                if slot > 0:
                    stencil = line.stencils[x1 - x0 + MAX_STENCIL_STEP, y1 - y0 + MAX_STENCIL_STEP, :, k]
                    pixels[slot - 1, x0 + stencil[FIRST] : x0 + stencil[GAP]] = True
                    pixels[slot - 1, x0 + stencil[AFTER_GAP] : x0 + stencil[LAST] + 1] = True
        else:
            for k in range(segment_runs(runs, x0, y0, x1, y1, line.width, line.profile, size)):
                slot = slots[runs[k, 0]]
                if slot > 0:
                    pixels[slot - 1, runs[k, 1] : runs[k, 2] + 1] = True


@kernel
def whole_pixel_curve(points: Float64Array, official: bool) -> Int64Array:
    """Convert points (n, 2) of a lane, n >= 2, to the curve of its thick line in whole pixels, (m, 2) int64, m >= 2.

    Pixels equal to their predecessor are left out; they would draw the same disc again.
    """
    if official:
        curve = natural_curve(distinct_points(points.astype(np.float32).astype(np.float64)), 50)
    else:
        curve = parametric_curve(distinct_points(points), 5)
    pixels = np.empty(curve.shape, np.int64)
    count = 0
    for i in range(len(curve)):
        for axis in range(2):
            value = min(max(curve[i, axis], -POINT_LIMIT), POINT_LIMIT)
            if math.isnan(value):  # from points so close that the spline's system is singular
                value = 0.0
            pixels[count, axis] = np.int64(np.rint(value)) if official else np.int64(value)
        if count == 0 or pixels[count, 0] != pixels[count - 1, 0] or pixels[count, 1] != pixels[count - 1, 1]:
            count += 1
    if count == 1:
        pixels[1, 0], pixels[1, 1] = pixels[0, 0], pixels[0, 1]
        count = 2
    return pixels[:count]


@kernel
def shared_pixels(a: LaneIntervals, a_pixels: BoolArray, b: LaneIntervals, b_pixels: BoolArray) -> int:
    """Count the common pixels of two lanes; `a_pixels`, `b_pixels` are the pixels of their torn rows."""
    shared = 0
    for row in range(len(a.left)):
        shared += max(min(a.right[row], b.right[row]) - max(a.left[row], b.left[row]) + 1, 0)
    if len(a_pixels) + len(b_pixels) == 0:
        return shared
    for row in range(len(a.left)):
        a_slot, b_slot = a.slots[row], b.slots[row]
        if a_slot == 0 and b_slot == 0:
            continue
        for column in range(max(a.left[row], b.left[row]), min(a.right[row], b.right[row]) + 1):
            in_a = a_slot == 0 or a_pixels[a_slot - 1, column]
            in_b = b_slot == 0 or b_pixels[b_slot - 1, column]
            if not (in_a and in_b):
                shared -= 1
    return shared


@kernel
def image_ious(
    points: Float64Array, stops: Int64Array, predictions: int, official: bool, line: LineStencils, size: Size
) -> Float64Array:
    """Compute the (n_pred, n_gt) IoU of an image; lane i is points[stops[i]:stops[i + 1]], predictions first."""
    lengths = stops[1:] - stops[:-1]
    compared = np.arange(len(lengths)) if official else np.flatnonzero(lengths >= 2)
    rows = np.count_nonzero(compared < predictions)
    runs = np.empty((run_capacity(len(line.profile) // 2, size), 3), np.int64)
    lanes, pixels = [], []
    areas = np.zeros(len(compared), np.int64)
    for i, index in enumerate(compared):
        left, right = np.full(size[1], EMPTY_LEFT, np.int32), np.full(size[1], EMPTY_RIGHT, np.int32)
        lane = LaneIntervals(left, right, np.zeros(size[1], np.int32))
        torn = np.zeros(0, np.int64)
        if lengths[index] >= 2:
            curve = whole_pixel_curve(points[stops[index] : stops[index + 1]], official)
            draw_intervals(line, curve, lane, runs, size)
            torn = np.flatnonzero(lane.slots)
        lane_pixels = np.zeros((len(torn), size[0]), np.bool_)
        if len(torn):
            for slot in range(len(torn)):
                lane.slots[torn[slot]] = slot + 1
            paint_torn_rows(line, curve, lane.slots, lane_pixels, runs, size)
        lanes.append(lane)
        pixels.append(lane_pixels)
        areas[i] = shared_pixels(lane, lane_pixels, lane, lane_pixels)
    ious = np.zeros((rows, len(compared) - rows))
    for i in range(rows):
        for j in range(rows, len(compared)):
            shared = shared_pixels(lanes[i], pixels[i], lanes[j], pixels[j])
            union = areas[i] + areas[j] - shared
            if union > 0:
                ious[i, j - rows] = shared / union
    return ious
