"""Holds the image while it is drawn, with its light maps, and the drawing operations of objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import BgrColour, BgrImage, Float64Array
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.sensor import LIGHT_MAP_STEP
from clrernetlm.synth.environment.light import Light, gain_map, light_at
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.projection import RoadProjector


@dataclass
class RenderContext:
    """The canvas (H, W, 3) of uint8 display values and the light maps `gain` and `emission`, float32.

    Objects are drawn from far to near; each hides the light of what is behind it.
    """

    canvas: BgrImage
    camera: Camera
    road: RoadGeometry
    light: Light
    fog: BgrColour
    visibility: float

    def __post_init__(self) -> None:
        self.gain = gain_map(self.light, self.camera, self.road)
        self.emission = np.zeros_like(self.gain)
        self.project = RoadProjector(self.camera, self.road)

    def through_haze(self, colour: Sequence[float] | Float64Array, distance: float) -> tuple[float, float, float]:
        """Return a colour as seen through `distance` metres of air."""
        clear = math.exp(-3 * distance / self.visibility)
        b, g, r = self.fog
        return b + clear * (colour[0] - b), g + clear * (colour[1] - g), r + clear * (colour[2] - r)

    def fill_polygon(
        self, outline: Float64Array, colour: Sequence[float] | Float64Array, distance: float, shade: float = 1.0
    ) -> None:
        """Fill an outline (N, 2) in pixels with `shade` times a colour at `distance` metres."""
        fixed = (outline * 16).astype(np.int32)
        tone = (min(colour[0] * shade, 255.0), min(colour[1] * shade, 255.0), min(colour[2] * shade, 255.0))
        cv2.fillPoly(self.canvas, [fixed], self.through_haze(tone, distance), cv2.LINE_AA, 4)

    def shade_polygon(self, outline: Float64Array, offset: float, distance: float, share: float = 0.6) -> None:
        """Light an outline (N, 2) in pixels like the ground at its foot, times `share`, and hide lights behind it."""
        if not self.light.night:
            return
        hull = np.round(outline * (16 / LIGHT_MAP_STEP)).astype(np.int32)
        level = light_at(self.light, offset, distance) * share
        cv2.fillPoly(self.gain, [hull], [float(v) for v in level], cv2.LINE_8, 4)
        cv2.fillPoly(self.emission, [hull], (0.0, 0.0, 0.0), cv2.LINE_8, 4)

    def mark_emissive(self, outline: Float64Array, colour: Float64Array) -> None:
        """Let an outline (N, 2) in pixels emit light of a linear colour."""
        hull = np.round(outline * (16 / LIGHT_MAP_STEP)).astype(np.int32)
        cv2.fillPoly(self.emission, [hull], [float(v) for v in colour], cv2.LINE_8, 4)

    def add_light(self, point: Float64Array, radius: float, colour: ArrayLike) -> None:
        """Add a light of `radius` pixels at a point (2,) in pixels; `colour` is linear and may exceed 1."""
        x, y = point / LIGHT_MAP_STEP
        reach = max(radius / LIGHT_MAP_STEP, 0.3)
        if not (-9 < x < self.emission.shape[1] + 9 and -9 < y < self.emission.shape[0] + 9):
            return
        # A light smaller than a pixel of the map is drawn larger and darker, with the same energy.
        share = min(1.0, (radius / LIGHT_MAP_STEP) ** 2 * 4)
        centre = (round(float(x) * 16), round(float(y) * 16))
        cv2.circle(
            self.emission, centre, round(reach * 16), [float(v) * share for v in np.asarray(colour)], -1, cv2.LINE_8, 4
        )

    def draw_texture(self, texture: BgrImage, corners: Float64Array, distance: float, tint: float = 1.0) -> None:
        """Draw a texture (h, w, 3) into four corners (4, 2) in pixels, clockwise from the upper left."""
        height, width = self.canvas.shape[:2]
        low = np.clip(np.floor(corners.min(0)), 0, (width - 1, height - 1)).astype(int)
        high = np.clip(np.ceil(corners.max(0)) + 1, 0, (width, height)).astype(int)
        if (high - low < 1).any():
            return
        if corners[:, 1].max() - corners[:, 1].min() < 14:
            self.fill_polygon(corners, texture.mean((0, 1)), distance, tint)
            return
        clear = math.exp(-3 * distance / self.visibility)
        tones = np.arange(256.0)[:, None] * (clear * tint) + np.asarray(self.fog) * (1 - clear)
        texture = cv2.LUT(texture, np.clip(tones, 0, 255).astype(np.uint8)[None]).astype(np.uint8, copy=False)
        h, w = texture.shape[:2]
        source = np.array([[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]], np.float32)
        target = (corners - low).astype(np.float32)
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        matrix = cv2.getPerspectiveTransform(source, target)
        warped = cv2.warpPerspective(
            texture,
            matrix,
            size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        mask = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillConvexPoly(mask, np.round(target * 16).astype(np.int32), [255], cv2.LINE_8, 4)
        view = self.canvas[low[1] : high[1], low[0] : high[0]]
        cv2.copyTo(warped, mask, view)
