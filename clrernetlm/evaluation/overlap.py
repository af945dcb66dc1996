"""How much drawn lanes overlap: the pixels of each lane, and of every pair of a prediction and a label.

A lane is held as one interval of columns per row. Rows on which that is not the whole truth (a lane that turns back, a
gap in a flat segment's outline) are *torn*: their pixels are kept one by one as well.

Most steps of a lane's curve are a few pixels long and far from the image's border, where a segment looks the same
wherever it lies. Its intervals are kept in a table of stencils, one per step, and moved into place.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from clrernetlm.evaluation.jit import kernel
from clrernetlm.evaluation.raster import disc_profile, disc_radius, run_capacity, segment_runs
from clrernetlm.evaluation.splines import POINT_LIMIT, distinct_points, natural_curve, parametric_curve

IntArray = NDArray[np.int64]
REACH = 20  # steps of up to this many pixels along x and y have a stencil
UNKNOWN, WHOLE, TORN = 0, 1, 2  # of a stencil: not drawn yet, one interval on every row, holes on some row
EMPTY_LEFT, EMPTY_RIGHT = 1 << 24, -(1 << 24)  # interval of a row without pixels


@lru_cache(maxsize=8)
def stencil_table(width: int) -> tuple[IntArray, NDArray[np.uint8], NDArray[np.int32]]:
    """Disc profile (2r + 1,), states (41, 41) and stencils (41, 41, 3, rows) for lines `width` pixels wide.

    A stencil's rows are first column, last column (relative to the segment's first point) and whether there is a hole
    between them. Stencils are drawn when they are first needed; one table serves the whole process.
    """
    profile = disc_profile(disc_radius(width))
    side = 2 * REACH + 1
    return profile, np.zeros((side, side), np.uint8), np.zeros((side, side, 3, len(profile) + REACH), np.int32)


@kernel
def _make_stencil(states, stencils, dx, dy, width, profile):
    """Draw the step (dx, dy) once, in an image large enough, and keep its rows relative to its first point."""
    radius = len(profile) // 2
    origin = radius + REACH + 2
    size = 2 * origin + 1
    pixels = np.zeros((size, size), np.bool_)
    runs = np.empty((run_capacity(radius, size, size), 3), np.int64)
    count = segment_runs(runs, origin, origin, origin + dx, origin + dy, width, profile, size, size)
    for i in range(count):
        pixels[runs[i, 0], runs[i, 1] : runs[i, 2] + 1] = True
    state = WHOLE
    for row in range(2 * radius + 1 + abs(dy)):
        columns = np.flatnonzero(pixels[origin + min(dy, 0) - radius + row])
        hole = columns[-1] - columns[0] + 1 != len(columns)
        stencils[dx + REACH, dy + REACH, 0, row] = columns[0] - origin
        stencils[dx + REACH, dy + REACH, 1, row] = columns[-1] - origin
        stencils[dx + REACH, dy + REACH, 2, row] = hole
        if hole:
            state = TORN
    states[dx + REACH, dy + REACH] = state


@kernel
def _stencil_state(x0, y0, x1, y1, width, profile, states, stencils, image_width, image_height):
    """State of the stencil a segment may be drawn with; UNKNOWN when it has none or comes near the border."""
    margin = len(profile) // 2 + 1
    if (
        abs(x1 - x0) > REACH
        or abs(y1 - y0) > REACH
        or min(x0, x1) < margin
        or max(x0, x1) >= image_width - margin
        or min(y0, y1) < margin
        or max(y0, y1) >= image_height - margin
    ):
        return UNKNOWN
    if states[x1 - x0 + REACH, y1 - y0 + REACH] == UNKNOWN:
        _make_stencil(states, stencils, x1 - x0, y1 - y0, width, profile)
    return states[x1 - x0 + REACH, y1 - y0 + REACH]


@kernel
def _merge_runs(left, right, torn, runs, count):
    """Join runs (row, first column, last column) into a lane's intervals; rows that fall apart are marked torn."""
    for i in range(count):
        row, a, b = runs[i, 0], runs[i, 1], runs[i, 2]
        if left[row] <= right[row] and (a > right[row] + 1 or b < left[row] - 1):
            torn[row] = 1
        left[row], right[row] = min(left[row], a), max(right[row], b)


@kernel
def _merge_stencil(left, right, torn, stencil, x, top, rows):
    """Join a stencil's intervals, moved by x columns and `top` rows, into a lane's; written to become SIMD code."""
    shift, one = np.int32(x), np.int32(1)
    first, last, hole = stencil[0, :rows], stencil[1, :rows], stencil[2, :rows]
    left, right, torn = left[top : top + rows], right[top : top + rows], torn[top : top + rows]
    for row in range(rows):
        a, b = first[row] + shift, last[row] + shift
        known_left, known_right = left[row], right[row]
        apart = (known_left <= known_right) & ((a - one > known_right) | (b + one < known_left))
        torn[row] |= hole[row] | np.int32(apart)
        left[row] = min(known_left, a)
        right[row] = max(known_right, b)


@kernel
def draw_intervals(curve, left, right, torn, width, profile, states, stencils, runs, image_width):
    """Draw a curve (n, 2) of pixels as one interval per row into left, right (H,); mark torn rows (H,) with 1."""
    radius = len(profile) // 2
    for i in range(1, len(curve)):
        x0, y0, x1, y1 = curve[i - 1, 0], curve[i - 1, 1], curve[i, 0], curve[i, 1]
        if _stencil_state(x0, y0, x1, y1, width, profile, states, stencils, image_width, len(left)) == UNKNOWN:
            count = segment_runs(runs, x0, y0, x1, y1, width, profile, image_width, len(left))
            _merge_runs(left, right, torn, runs, count)
        else:
            stencil = stencils[x1 - x0 + REACH, y1 - y0 + REACH]
            _merge_stencil(left, right, torn, stencil, x0, min(y0, y1) - radius, 2 * radius + 1 + abs(y1 - y0))


@kernel
def paint_torn_rows(curve, slots, pixels, width, profile, states, stencils, runs):
    """Draw a curve again, only the rows with slots[row] > 0, pixel by pixel into pixels[slots[row] - 1]."""
    radius = len(profile) // 2
    image_height, image_width = len(slots), pixels.shape[1]
    for i in range(1, len(curve)):
        x0, y0, x1, y1 = curve[i - 1, 0], curve[i - 1, 1], curve[i, 0], curve[i, 1]
        if _stencil_state(x0, y0, x1, y1, width, profile, states, stencils, image_width, image_height) == WHOLE:
            stencil = stencils[x1 - x0 + REACH, y1 - y0 + REACH]
            top = min(y0, y1) - radius
            for row in range(2 * radius + 1 + abs(y1 - y0)):
                slot = slots[top + row]
                if slot > 0:
                    pixels[slot - 1, x0 + stencil[0, row] : x0 + stencil[1, row] + 1] = True
        else:
            count = segment_runs(runs, x0, y0, x1, y1, width, profile, image_width, image_height)
            for k in range(count):
                slot = slots[runs[k, 0]]
                if slot > 0:
                    pixels[slot - 1, runs[k, 1] : runs[k, 2] + 1] = True


@kernel
def whole_pixel_curve(points, official):
    """(n, 2) float64 points of a lane, n >= 2 -> (m, 2) int64 pixels its thick line runs through, m >= 2.

    Pixels equal to the one before them are left out: they would draw the same disc again.
    """
    distinct = distinct_points(points)
    curve = natural_curve(distinct, 50) if official else parametric_curve(distinct, 5)
    pixels = np.empty(curve.shape, np.int64)
    count = 0
    for i in range(len(curve)):
        for axis in range(2):
            value = min(max(curve[i, axis], -POINT_LIMIT), POINT_LIMIT)
            if math.isnan(value):  # points so close together that the spline's system has no solution
                value = 0.0
            pixels[count, axis] = np.int64(np.rint(value)) if official else np.int64(value)
        if count == 0 or pixels[count, 0] != pixels[count - 1, 0] or pixels[count, 1] != pixels[count - 1, 1]:
            count += 1
    if count == 1:
        pixels[1] = pixels[0]
        count = 2
    return pixels[:count]


@kernel
def shared_pixels(left_a, right_a, slots_a, pixels_a, left_b, right_b, slots_b, pixels_b):
    """Number of pixels that two lanes have in common."""
    shared = 0
    for row in range(len(left_a)):
        shared += max(min(right_a[row], right_b[row]) - max(left_a[row], left_b[row]) + 1, 0)
    if len(pixels_a) + len(pixels_b) == 0:
        return shared
    for row in range(len(left_a)):
        slot_a, slot_b = slots_a[row], slots_b[row]
        if slot_a == 0 and slot_b == 0:
            continue
        for column in range(max(left_a[row], left_b[row]), min(right_a[row], right_b[row]) + 1):
            in_a = slot_a == 0 or pixels_a[slot_a - 1, column]
            in_b = slot_b == 0 or pixels_b[slot_b - 1, column]
            if not (in_a and in_b):
                shared -= 1
    return shared


@kernel
def image_ious(points, stops, predictions, official, width, profile, states, stencils, image_width, image_height):
    """(n_pred, n_gt) IoU of one image's lanes; lane i is points[stops[i]:stops[i + 1]], predictions first."""
    lengths = stops[1:] - stops[:-1]
    lanes = np.arange(len(lengths)) if official else np.flatnonzero(lengths >= 2)
    rows = np.count_nonzero(lanes < predictions)
    left = np.full((len(lanes), image_height), EMPTY_LEFT, np.int32)
    right = np.full((len(lanes), image_height), EMPTY_RIGHT, np.int32)
    slots = np.zeros((len(lanes), image_height), np.int32)  # per row: 0, or 1 + index into the lane's torn pixels
    pixels = []
    areas = np.zeros(len(lanes), np.int64)
    runs = np.empty((run_capacity(len(profile) // 2, image_width, image_height), 3), np.int64)
    for i, lane in enumerate(lanes):
        torn_rows = np.zeros(0, np.int64)
        if lengths[lane] >= 2:
            curve = whole_pixel_curve(points[stops[lane] : stops[lane + 1]], official)
            draw_intervals(curve, left[i], right[i], slots[i], width, profile, states, stencils, runs, image_width)
            torn_rows = np.flatnonzero(slots[i])
        pixels.append(np.zeros((len(torn_rows), image_width), np.bool_))
        if len(torn_rows):
            slots[i, torn_rows] = np.arange(1, len(torn_rows) + 1)
            paint_torn_rows(curve, slots[i], pixels[i], width, profile, states, stencils, runs)
        areas[i] = shared_pixels(left[i], right[i], slots[i], pixels[i], left[i], right[i], slots[i], pixels[i])
    ious = np.zeros((rows, len(lanes) - rows))
    for i in range(rows):
        for j in range(rows, len(lanes)):
            shared = shared_pixels(left[i], right[i], slots[i], pixels[i], left[j], right[j], slots[j], pixels[j])
            union = areas[i] + areas[j] - shared
            if union > 0:
                ious[i, j - rows] = shared / union
    return ious
