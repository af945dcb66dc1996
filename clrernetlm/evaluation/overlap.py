"""How much drawn lanes overlap: a lane as one interval of columns per row, and the pixels two lanes share.

Most steps of a lane's curve are a few pixels long and far from the image's border, where a segment looks the same
wherever it lies. Its intervals are kept in a table of stencils, one per step, and moved into place.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from clrernetlm.evaluation.jit import kernel
from clrernetlm.evaluation.raster import (
    EMPTY_LEFT,
    EMPTY_RIGHT,
    disc_profile,
    disc_radius,
    merge_runs,
    paint_runs,
    run_capacity,
    segment_runs,
)
from clrernetlm.evaluation.splines import POINT_LIMIT, distinct_points, natural_curve, parametric_curve

IntArray = NDArray[np.int64]
REACH = 20  # steps of up to this many pixels along x and y have a stencil
UNKNOWN, READY, BROKEN = 0, 1, 2  # BROKEN: a row of the segment has a hole, an interval cannot hold it


@lru_cache(maxsize=8)
def stencil_table(width: int) -> tuple[IntArray, NDArray[np.uint8], NDArray[np.int32]]:
    """Disc profile (2r + 1,), states (41, 41) and intervals (41, 41, 2, rows) for lines `width` pixels wide.

    Stencils are filled in when they are first needed; one table serves the whole process.
    """
    profile = disc_profile(disc_radius(width))
    side = 2 * REACH + 1
    return profile, np.zeros((side, side), np.uint8), np.zeros((side, side, 2, len(profile) + REACH), np.int32)


@kernel
def _make_stencil(states, intervals, dx, dy, width, profile):
    """Draw the step (dx, dy) once, in an image large enough, and keep its rows relative to its first point."""
    radius = len(profile) // 2
    origin = radius + REACH + 2
    size = 2 * origin + 1
    mask = np.zeros((size, size), np.bool_)
    runs = np.empty((run_capacity(radius, size, size), 3), np.int64)
    paint_runs(mask, runs, segment_runs(runs, origin, origin, origin + dx, origin + dy, width, profile, size, size))
    joined = True
    for row in range(2 * radius + 1 + abs(dy)):
        columns = np.flatnonzero(mask[origin + min(dy, 0) - radius + row])
        joined &= columns[-1] - columns[0] + 1 == len(columns)
        intervals[dx + REACH, dy + REACH, 0, row] = columns[0] - origin
        intervals[dx + REACH, dy + REACH, 1, row] = columns[-1] - origin
    states[dx + REACH, dy + REACH] = READY if joined else BROKEN


@kernel
def _stencil_state(x0, y0, x1, y1, width, profile, states, intervals, image_width, image_height):
    """Whether a segment may be drawn with its stencil: READY or BROKEN, UNKNOWN when it has none."""
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
    state = states[x1 - x0 + REACH, y1 - y0 + REACH]
    if state == UNKNOWN:
        _make_stencil(states, intervals, x1 - x0, y1 - y0, width, profile)
        state = states[x1 - x0 + REACH, y1 - y0 + REACH]
    return state


@kernel
def _merge_stencil(left, right, stencil, x, top, rows):
    """Join a stencil's intervals, moved by x columns and `top` rows, into a lane's; False when a row falls apart."""
    shift = np.int32(x)
    first, last = stencil[0, :rows], stencil[1, :rows]
    left, right = left[top : top + rows], right[top : top + rows]
    gaps = np.int32(0)
    for row in range(rows):
        a, b = first[row] + shift, last[row] + shift
        known_left, known_right = left[row], right[row]
        apart = (a - np.int32(1) > known_right) | (b + np.int32(1) < known_left)
        gaps |= np.int32((known_left <= known_right) & apart)
        left[row] = min(known_left, a)
        right[row] = max(known_right, b)
    return gaps == 0


@kernel
def draw_rows(curve, left, right, width, profile, states, intervals, runs, image_width):
    """Draw a curve (n, 2) of pixels, neighbours different unless n = 2, as one interval per row into left, right (H,).

    Returns False when some row is not one interval: then the lane has to be painted, inside these intervals.
    """
    radius = len(profile) // 2
    joined = True
    for i in range(1, len(curve)):
        x0, y0, x1, y1 = curve[i - 1, 0], curve[i - 1, 1], curve[i, 0], curve[i, 1]
        state = _stencil_state(x0, y0, x1, y1, width, profile, states, intervals, image_width, len(left))
        if state == UNKNOWN:
            count = segment_runs(runs, x0, y0, x1, y1, width, profile, image_width, len(left))
            joined &= merge_runs(left, right, runs, count)
        else:
            stencil = intervals[x1 - x0 + REACH, y1 - y0 + REACH]
            rows = 2 * radius + 1 + abs(y1 - y0)
            joined &= _merge_stencil(left, right, stencil, x0, min(y0, y1) - radius, rows)
            joined &= state == READY
    return joined


@kernel
def paint_mask(curve, mask, width, profile, states, intervals, runs):
    """Draw a curve as for `draw_rows` into mask (H, W) bool, segment by segment."""
    radius = len(profile) // 2
    image_height, image_width = mask.shape
    for i in range(1, len(curve)):
        x0, y0, x1, y1 = curve[i - 1, 0], curve[i - 1, 1], curve[i, 0], curve[i, 1]
        state = _stencil_state(x0, y0, x1, y1, width, profile, states, intervals, image_width, image_height)
        if state == READY:
            stencil = intervals[x1 - x0 + REACH, y1 - y0 + REACH]
            top = min(y0, y1) - radius
            for row in range(2 * radius + 1 + abs(y1 - y0)):
                mask[top + row, x0 + stencil[0, row] : x0 + stencil[1, row] + 1] = True
        else:
            count = segment_runs(runs, x0, y0, x1, y1, width, profile, image_width, image_height)
            paint_runs(mask, runs, count)


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
            pixels[count, axis] = np.int64(np.rint(value)) if official else np.int64(value)
        if count == 0 or pixels[count, 0] != pixels[count - 1, 0] or pixels[count, 1] != pixels[count - 1, 1]:
            count += 1
    if count == 1:
        pixels[1] = pixels[0]
        count = 2
    return pixels[:count]


@kernel
def shared_by_rows(left_a, right_a, left_b, right_b):
    """Pixels two lanes share, both held as one interval per row."""
    shared = 0
    for row in range(len(left_a)):
        shared += max(min(right_a[row], right_b[row]) - max(left_a[row], left_b[row]) + 1, 0)
    return shared


@kernel
def shared_by_masks(left_a, right_a, left_b, right_b, mask_a, mask_b):
    """Pixels of both masks (H, W) inside the intervals of both lanes."""
    shared = 0
    for row in range(len(left_a)):
        start, stop = max(left_a[row], left_b[row]), min(right_a[row], right_b[row]) + 1
        if start < stop:
            pixels_a, pixels_b = mask_a[row, start:stop], mask_b[row, start:stop]
            for column in range(stop - start):
                shared += pixels_a[column] & pixels_b[column]
    return shared


@kernel
def image_ious(points, stops, predictions, official, width, profile, states, intervals, image_width, image_height):
    """(n_pred, n_gt) IoU of one image's lanes; lane i is points[stops[i]:stops[i + 1]], predictions first."""
    lengths = stops[1:] - stops[:-1]
    lanes = np.arange(len(lengths)) if official else np.flatnonzero(lengths >= 2)
    rows = np.count_nonzero(lanes < predictions)
    left = np.full((len(lanes), image_height), EMPTY_LEFT, np.int32)
    right = np.full((len(lanes), image_height), EMPTY_RIGHT, np.int32)
    areas = np.zeros(len(lanes), np.int64)
    masks = []  # only of lanes that one interval per row cannot hold
    mask_of = np.full(len(lanes), -1)
    runs = np.empty((run_capacity(len(profile) // 2, image_width, image_height), 3), np.int64)
    for i, lane in enumerate(lanes):
        if lengths[lane] < 2:
            continue
        curve = whole_pixel_curve(points[stops[lane] : stops[lane + 1]], official)
        if draw_rows(curve, left[i], right[i], width, profile, states, intervals, runs, image_width):
            areas[i] = shared_by_rows(left[i], right[i], left[i], right[i])
        else:
            mask = np.zeros((image_height, image_width), np.bool_)
            paint_mask(curve, mask, width, profile, states, intervals, runs)
            areas[i] = shared_by_masks(left[i], right[i], left[i], right[i], mask, mask)
            mask_of[i] = len(masks)
            masks.append(mask)
    ious = np.zeros((rows, len(lanes) - rows))
    for i in range(rows):
        for j in range(rows, len(lanes)):
            if mask_of[i] < 0 and mask_of[j] < 0:
                shared = shared_by_rows(left[i], right[i], left[j], right[j])
            else:
                # A lane held as intervals has no mask of its own: the other lane's stands in for it.
                mask_a = masks[mask_of[i] if mask_of[i] >= 0 else mask_of[j]]
                mask_b = masks[mask_of[j] if mask_of[j] >= 0 else mask_of[i]]
                shared = shared_by_masks(left[i], right[i], left[j], right[j], mask_a, mask_b)
            union = areas[i] + areas[j] - shared
            if union > 0:
                ious[i, j - rows] = shared / union
    return ious
