"""Computes the 3-D geometry of the road and the part of it that is visible from the camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import BoolArray, Float32Array, Float64Array
from clrernetlm.synth.camera.camera import Camera

TABLE_SIZE = 8192
_AHEAD = np.geomspace(1.2, 700.0, 1600)  # metres ahead at which the road is tabulated


def _integral(z: Float64Array, knots: tuple[tuple[float, float], ...]) -> Float64Array:
    """Return (N,) integrals from z[0] to each of the ascending `z` (N,) of the polyline through the `knots`."""
    value = np.interp(z, [at for at, _ in knots], [v for _, v in knots])
    return np.concatenate([[0.0], np.cumsum((value[1:] + value[:-1]) / 2 * np.diff(z))])


@dataclass(frozen=True)
class RoadGeometry:
    """The road in front of a camera `camera_height` metres above it.

    `distance` Z is metres ahead, `offset` u metres to the right of the line that passes under the camera,
    perpendicular to the road. Curvature follows a clothoid: `curvature` + `curvature_rate` Z (1/m), between
    `curve_start` and `curve_end`. Height follows a sine of `hill_height` m and `hill_length` m. `bank` is the slope
    to the right. `bends` are further pairs of metres ahead and curvature, `grades` of metres ahead and slope; both
    are interpolated linearly and constant beyond the last. `max_heading` (radians) limits how far the road turns.
    """

    camera_height: float = 1.4
    curvature: float = 0.0
    curvature_rate: float = 0.0
    curve_start: float = 0.0
    curve_end: float = 1000.0
    hill_height: float = 0.0
    hill_length: float = 400.0
    hill_phase: float = 0.0
    bank: float = 0.0
    bends: tuple[tuple[float, float], ...] = ()
    grades: tuple[tuple[float, float], ...] = ()
    max_heading: float = 0.85

    @cached_property
    def _course(self) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Return shift of the centre line to the right (m), cosine of its heading and height (m) at `_AHEAD`."""
        z = np.concatenate([[0.0], _AHEAD])
        inside = np.clip(z - self.curve_start, 0, max(self.curve_end - self.curve_start, 0))
        heading = self.curvature * inside + self.curvature_rate * inside**2 / 2
        if self.bends:
            heading = heading + _integral(z, self.bends)
        heading = self.max_heading * np.tanh(heading / self.max_heading)  # the road never turns back towards the camera
        slope = np.tan(heading)
        shift = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(z))])[1:]
        wave = 2 * np.pi * _AHEAD / self.hill_length
        rise = np.sin(wave + self.hill_phase) - np.sin(self.hill_phase) - wave * np.cos(self.hill_phase)
        level = self.hill_height * rise - self.camera_height
        if self.grades:
            level = level + _integral(z, self.grades)[1:]
        return shift, np.cos(heading[1:]), level

    @property
    def course(self) -> Float64Array:
        """Return (4, M) metres ahead, shift to the right, cosine of the heading and height of the road."""
        return np.stack([_AHEAD, *self._course])

    def shift(self, distance: ArrayLike) -> Float64Array:
        """Return how many metres to the right the centre line lies at `distance`."""
        return np.interp(np.asarray(distance, np.float64), _AHEAD, self._course[0])

    def world(self, offset: ArrayLike, distance: ArrayLike, height: ArrayLike = 0.0) -> Float64Array:
        """Convert offset u, distance Z and height above the ground (m) to (..., 3) X, Y, Z relative to the camera."""
        z = np.asarray(distance, np.float64)
        shift, cosine, level = (np.interp(z, _AHEAD, values) for values in self._course)
        right = shift + np.asarray(offset, np.float64) / cosine
        up = level + self.bank * right + np.asarray(height, np.float64)
        return np.stack(np.broadcast_arrays(right, up, z), -1)

    @cached_property
    def visible(self) -> tuple[Float64Array, BoolArray]:
        """Return (M,) ascending slopes Y/Z at which ground is visible, and which of `_AHEAD` they belong to.

        Ground is hidden if something nearer is seen under a higher slope. The bank tilts all slopes of a column alike
        and hides nothing.
        """
        slope = self._course[2] / _AHEAD
        visible = np.concatenate([[True], slope[1:] > np.maximum.accumulate(slope)[:-1]])
        return slope[visible], visible

    @cached_property
    def visible_distances(self) -> Float64Array:
        """Return (M,) ascending metres ahead at which ground is visible."""
        return _AHEAD[self.visible[1]]

    @property
    def horizon(self) -> float:
        """Return the slope Y/Z of the highest visible ground."""
        return float(self.visible[0][-1])

    def table(self, camera: Camera, visibility: float = np.inf) -> tuple[Float32Array, float, float]:
        """Tabulate by slope where a ray meets the ground: (T, 7) float32, lowest slope, and entries per unit of slope.

        Columns: shift / Z, Z cos heading, Z, metres of Z per pixel row, the transmission of the air over Z for a
        `visibility` in metres (5 % are left there), and how much of fine and of coarse texture a pixel resolves.
        """
        slopes, visible = self.visible
        grid = np.linspace(slopes[0], slopes[-1], TABLE_SIZE)
        per_slope = (TABLE_SIZE - 1) / (slopes[-1] - slopes[0])
        shift, cosine, _ = (values[visible] for values in self._course)
        z = self.visible_distances
        inverse = np.interp(grid, slopes, 1 / z)  # linear in the slope on a plane
        table = np.empty((TABLE_SIZE, 7), np.float32)
        table[:, 0] = np.interp(grid, slopes, shift / z)
        table[:, 1] = np.interp(grid, slopes, cosine) / inverse
        table[:, 2] = 1 / inverse
        step = np.clip(np.gradient(1 / inverse) * per_slope / camera.focal, 1e-3, 50)
        table[:, 3] = step
        table[:, 4] = np.exp(-3 / inverse / visibility)
        table[:, 5], table[:, 6] = 1 / (1 + 20 * step), 1 / (1 + 4 * step)
        return table, float(slopes[0]), float(per_slope)
