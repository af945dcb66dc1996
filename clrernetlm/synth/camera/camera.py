"""Camera: pixels to rays and back, with a mild lens distortion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole at the origin; X right, Y up, Z ahead, in metres; pixel centres at whole coordinates.

    Angles in radians: `pitch` looks down, `yaw` looks right, `roll` turns the picture clockwise about the axis. `k1`
    bends the lens: an ideal point is the seen one times 1 + k1 r^2, r in focal lengths; k1 >= 0 is a barrel.
    """

    width: int
    height: int
    focal: float  # pixels
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0
    k1: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)  # pixels of the principal point off the middle, right and down

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the principal point in pixels."""
        return (self.width - 1) / 2 + self.shift[0], (self.height - 1) / 2 + self.shift[1]

    @cached_property
    def rotation(self) -> Array:
        """(3, 3): directions seen by the camera -> directions of the world."""
        (cp, cy, cr), (sp, sy, sr) = (
            np.cos([self.pitch, self.yaw, self.roll]),
            np.sin([self.pitch, self.yaw, self.roll]),
        )
        tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        lean = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
        return turn @ tilt @ lean

    def rays(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array, Array]:
        """Pixels x, y -> X/Z, Y/Z of the rays through them, and Z > 0 (looking ahead)."""
        a = (np.asarray(x, np.float64) - self.centre[0]) / self.focal
        b = (np.asarray(y, np.float64) - self.centre[1]) / self.focal
        bend = 1 + self.k1 * (a * a + b * b)
        seen = np.stack(np.broadcast_arrays(a * bend, -b * bend, np.ones_like(a * b)))
        right, up, ahead = np.tensordot(self.rotation, seen, 1)
        safe = np.where(ahead > 1e-6, ahead, 1e-6)
        return right / safe, up / safe, ahead > 1e-6

    def project(self, points: ArrayLike) -> tuple[Array, Array, Array]:
        """(..., 3) X, Y, Z in metres -> x, y in pixels and which points lie ahead of the camera."""
        right, up, ahead = np.moveaxis(np.asarray(points, np.float64) @ self.rotation, -1, 0)
        valid = ahead > 0.05
        safe = np.where(valid, ahead, 0.05)
        a, b = right / safe, -up / safe
        ideal = np.hypot(a, b)
        seen = ideal.copy()
        for _ in range(8 if self.k1 else 0):  # Newton on r (1 + k1 r^2) = ideal
            seen -= (seen * (1 + self.k1 * seen**2) - ideal) / (1 + 3 * self.k1 * seen**2)
        shrink = np.where(ideal > 1e-12, seen / np.maximum(ideal, 1e-12), 1.0)
        return a * shrink * self.focal + self.centre[0], b * shrink * self.focal + self.centre[1], valid
