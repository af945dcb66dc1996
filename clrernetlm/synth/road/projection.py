"""Projects points given along the road to pixels, compiled for the thousands of corners of a scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import Float64Array
from clrernetlm.core.numba_jit import kernel
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.road.geometry import RoadGeometry


class RoadProjector:
    """Project offsets, distances and heights above the ground (m) to pixels.

    The geometry is that of `RoadGeometry` and `Camera`.
    """

    def __init__(self, camera: Camera, road: RoadGeometry) -> None:
        self._course = road.course
        cx, cy = camera.centre
        self._lens = np.array([cx, cy, camera.focal, camera.k1, road.bank, 8.0 * camera.width])
        self._rotation = np.ascontiguousarray(camera.rotation)

    def __call__(self, offset: ArrayLike, distance: ArrayLike, height: ArrayLike = 0.0) -> Float64Array:
        """Broadcast to (N,) and return (N, 2) x, y in pixels, limited to a few image widths around the image."""
        if isinstance(distance, np.ndarray):
            shape = distance.shape
        else:
            shape = np.broadcast_shapes(np.shape(offset), np.shape(height))
        points = np.empty((3, *shape))
        points[0], points[1], points[2] = offset, distance, height
        return _project(points.reshape(3, -1), self._course, self._rotation, self._lens)


@kernel
def _project(points: Float64Array, course: Float64Array, rotation: Float64Array, lens: Float64Array) -> Float64Array:
    """Project points (3, N) of offset, distance and height to (N, 2) pixels.

    `lens`: principal point, focal length, distortion, bank and limit of the result in pixels.
    """
    cx, cy, focal, k1, bank, limit = lens[0], lens[1], lens[2], lens[3], lens[4], lens[5]
    pixels = np.empty((points.shape[1], 2))
    last = course.shape[1] - 1
    for n in range(points.shape[1]):
        z = points[1, n]
        i = np.searchsorted(course[0], z, side="right") - 1
        i = min(max(i, 0), last - 1)
        t = min(max((z - course[0, i]) / (course[0, i + 1] - course[0, i]), 0.0), 1.0)
        shift = course[1, i] + t * (course[1, i + 1] - course[1, i])
        cosine = course[2, i] + t * (course[2, i + 1] - course[2, i])
        level = course[3, i] + t * (course[3, i + 1] - course[3, i])
        x = shift + points[0, n] / cosine
        y = level + bank * x + points[2, n]
        right = rotation[0, 0] * x + rotation[1, 0] * y + rotation[2, 0] * z
        up = rotation[0, 1] * x + rotation[1, 1] * y + rotation[2, 1] * z
        ahead = rotation[0, 2] * x + rotation[1, 2] * y + rotation[2, 2] * z
        ahead = max(ahead, 0.05)
        a, b = right / ahead, -up / ahead
        if k1 != 0:
            undistorted = np.sqrt(a * a + b * b)
            distorted = undistorted
            for _ in range(8):
                distorted -= (distorted * (1 + k1 * distorted * distorted) - undistorted) / (
                    1 + 3 * k1 * distorted * distorted
                )
            if undistorted > 1e-12:
                a *= distorted / undistorted
                b *= distorted / undistorted
        pixels[n, 0] = min(max(a * focal + cx, -limit), limit)
        pixels[n, 1] = min(max(b * focal + cy, -limit), limit)
    return pixels
