"""Stage: the picture while it is painted, with its light, and the strokes that objects are made of."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from clrernetlm.data.synth.camera import Camera
from clrernetlm.data.synth.light import Light, gain_map, light_at
from clrernetlm.data.synth.road import Road
from clrernetlm.data.synth.sensor import LIGHT_STEP

Array = NDArray[np.float64]
Colour = tuple[float, float, float]


@dataclass
class Stage:
    """Canvas (H, W, 3) uint8 display values, and at light-map resolution: `gain` and `emission`, float32.

    Objects are painted far to near; each covers the light of what it hides.
    """

    canvas: NDArray[np.uint8]
    camera: Camera
    road: Road
    light: Light
    fog: Colour
    visibility: float

    def __post_init__(self) -> None:
        self.gain = gain_map(self.light, self.camera, self.road)
        self.emission = np.zeros_like(self.gain)
        self.limit = 8.0 * self.camera.width

    def project(self, offset: ArrayLike, distance: ArrayLike, height: ArrayLike = 0.0) -> Array:
        """Offsets, distances, heights above ground (m) -> (..., 2) x, y in pixels; far outside when behind."""
        x, y, valid = self.camera.project(self.road.world(offset, distance, height))
        x, y = np.where(valid, x, -self.limit), np.where(valid, y, self.limit)
        return np.clip(np.stack([x, y], -1), -self.limit, self.limit)

    def air(self, colour: ArrayLike, distance: float) -> tuple[float, float, float]:
        """A colour as seen through `distance` metres of air."""
        clear = float(np.exp(-3 * distance / self.visibility))
        b, g, r = (f + clear * (c - f) for c, f in zip(np.asarray(colour, np.float64), self.fog, strict=True))
        return float(b), float(g), float(r)

    def fill(self, outline: Array, colour: ArrayLike, distance: float) -> None:
        """Fill an outline (N, 2) in pixels with a colour at `distance` metres."""
        fixed = np.round(outline * 16).astype(np.int32)
        cv2.fillPoly(self.canvas, [fixed], self.air(colour, distance), cv2.LINE_AA, 4)

    def cover(self, outline: Array, offset: float, distance: float, share: float = 0.6) -> None:
        """Light an outline (N, 2) in pixels like the ground at its foot, times `share`, and hide lights behind it."""
        if not self.light.night:
            return
        hull = np.round(outline * (16 / LIGHT_STEP)).astype(np.int32)
        level = light_at(self.light, offset, distance) * share
        cv2.fillPoly(self.gain, [hull], [float(v) for v in level], cv2.LINE_8, 4)
        cv2.fillPoly(self.emission, [hull], (0.0, 0.0, 0.0), cv2.LINE_8, 4)

    def shine(self, point: Array, radius: float, colour: ArrayLike) -> None:
        """Add a light of `radius` pixels at a point (2,) in pixels; `colour` is linear and may exceed 1."""
        x, y = point / LIGHT_STEP
        reach = max(radius / LIGHT_STEP, 0.3)
        if not (-9 < x < self.emission.shape[1] + 9 and -9 < y < self.emission.shape[0] + 9):
            return
        # A light smaller than a pixel of the map keeps its energy and loses brightness.
        share = min(1.0, (radius / LIGHT_STEP) ** 2 * 4)
        centre = (round(float(x) * 16), round(float(y) * 16))
        cv2.circle(
            self.emission, centre, round(reach * 16), [float(v) * share for v in np.asarray(colour)], -1, cv2.LINE_8, 4
        )
