"""Makes lane labels like those that annotators click, and masks from them."""

from __future__ import annotations

import cv2
import numpy as np

from clrernetlm.core.arrays import ByteMask, Float64Array, Points
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.layout import BorderPath

ROW_STEP = 10  # pixels between two points of a label
MASK_WIDTH = 16 / 1640  # of the image's width
_MIN_POINTS = 3
_LEVEL = 8.0  # pixels sideways per row from which a line counts as level and is no longer followed


def label_points(
    camera: Camera, road: RoadGeometry, offset: float, label_range: float, path: BorderPath | None = None
) -> Points:
    """Return (N, 2) x, y in pixels of the line at `offset` metres, from the bottom up, one point every `ROW_STEP` rows.

    The line is followed behind objects, to `label_range` metres, the first crest or the side of the image (a few
    pixels beyond, as annotators do), or where it runs level. Empty if less than three points are left. A `path` leads
    it away from the offset.
    """
    z = road.visible_distances
    jump = np.flatnonzero(np.diff(z) > 0.03 * z[:-1] + 0.5)  # behind a crest the line is not followed
    z = z[: jump[0] + 1] if len(jump) else z
    z = z[z <= label_range]
    if path is not None:
        z = z[(z >= path.first) & (z <= path.last)]
    across = offset if path is None else offset + path.offset(z)
    x, y, valid = camera.project(road.world(across, z))
    x, y = x[valid], y[valid]
    back = np.flatnonzero(np.diff(y) >= 0)
    if len(back):
        x, y = x[: back[0] + 1], y[: back[0] + 1]
    if len(y) < 2:
        return np.zeros((0, 2))
    rows = np.arange(camera.height, -1, -ROW_STEP, dtype=np.float64)
    rows = rows[(rows <= y[0]) & (rows >= y[-1])]
    points = np.stack([np.interp(rows, y[::-1], x[::-1]), rows], 1)
    level = np.flatnonzero(np.abs(np.diff(points[:, 0])) > _LEVEL * ROW_STEP)
    points = points[: level[0] + 1] if len(level) else points
    margin = 20 * camera.width / 1640
    inside = (points[:, 0] >= -margin) & (points[:, 0] <= camera.width - 1 + margin)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
    if not len(edges):
        return np.zeros((0, 2))
    runs = edges.reshape(-1, 2)
    first, last = runs[np.argmax(runs[:, 1] - runs[:, 0])]
    return points[first:last] if last - first >= _MIN_POINTS else np.zeros((0, 2))


def point_distances(camera: Camera, road: RoadGeometry, points: Points) -> Float64Array:
    """Return (N,) metres ahead at which the ground is seen at the points (N, 2) of a label."""
    right, up, _ = camera.rays(points[:, 0], points[:, 1])
    slopes, _ = road.visible
    return 1 / np.interp(up - road.bank * right, slopes, 1 / road.visible_distances)


def draw_mask(lanes: list[Points], ids: list[int], size: tuple[int, int]) -> ByteMask:
    """Return a (H, W) uint8 mask: the id of each lane on a band `MASK_WIDTH` of the image wide, 0 elsewhere."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    thickness = max(1, round(MASK_WIDTH * size[0]))
    for points, number in zip(lanes, ids, strict=True):
        cv2.polylines(mask, [np.round(points * 16).astype(np.int32)], False, [number], thickness, cv2.LINE_8, 4)
    return mask
