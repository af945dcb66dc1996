"""Converts pixels to rays and back, with a mild radial lens distortion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import Float64Array


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at the origin; X right, Y up, Z ahead, in metres; pixel centres at whole coordinates.

    Angles in radians: positive `pitch` tilts down, `yaw` turns right, `roll` rotates the image clockwise. `k1` is the
    radial distortion: an undistorted point is the distorted one times 1 + k1 r^2, r in focal lengths; k1 >= 0 is a
    barrel.
    """

    width: int
    height: int
    focal: float  # pixels
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0
    k1: float = 0.0
    principal_offset: tuple[float, float] = (0.0, 0.0)  # principal point minus image centre in pixels, right and down

    @property
    def centre(self) -> tuple[float, float]:
        """Return (x, y) of the principal point in pixels."""
        return (self.width - 1) / 2 + self.principal_offset[0], (self.height - 1) / 2 + self.principal_offset[1]

    @cached_property
    def rotation(self) -> Float64Array:
        """Return the (3, 3) matrix from directions in the camera to directions in the world."""
        (cp, cy, cr), (sp, sy, sr) = (
            np.cos([self.pitch, self.yaw, self.roll]),
            np.sin([self.pitch, self.yaw, self.roll]),
        )
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        roll = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
        rotation: Float64Array = yaw @ pitch @ roll
        return rotation

    def rays(self, x: ArrayLike, y: ArrayLike) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Return X/Z, Y/Z of the rays through pixels x, y, and whether they point ahead (Z > 0)."""
        a = (np.asarray(x, np.float64) - self.centre[0]) / self.focal
        b = (np.asarray(y, np.float64) - self.centre[1]) / self.focal
        bend = 1 + self.k1 * (a * a + b * b)
        distorted = np.stack(np.broadcast_arrays(a * bend, -b * bend, np.ones_like(a * b)))
        right, up, ahead = np.tensordot(self.rotation, distorted, 1)
        safe = np.where(ahead > 1e-6, ahead, 1e-6)
        return right / safe, up / safe, ahead > 1e-6

    def project(self, points: ArrayLike) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Project (..., 3) X, Y, Z in metres to x, y in pixels; return also which points lie ahead of the camera."""
        right, up, ahead = np.moveaxis(np.asarray(points, np.float64) @ self.rotation, -1, 0)
        valid = ahead > 0.05
        safe = np.where(valid, ahead, 0.05)
        a, b = right / safe, -up / safe
        undistorted = np.hypot(a, b)
        distorted = undistorted.copy()
        for _ in range(8 if self.k1 else 0):  # Newton on r (1 + k1 r^2) = undistorted
            distorted -= (distorted * (1 + self.k1 * distorted**2) - undistorted) / (1 + 3 * self.k1 * distorted**2)
        shrink = np.where(undistorted > 1e-12, distorted / np.maximum(undistorted, 1e-12), 1.0)
        return a * shrink * self.focal + self.centre[0], b * shrink * self.focal + self.centre[1], valid
