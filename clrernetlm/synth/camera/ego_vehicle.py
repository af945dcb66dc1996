"""Draws the visible part of the own car, with its reflections."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrImage, Float32Array
from clrernetlm.synth.camera.sensor import LIGHT_MAP_STEP
from clrernetlm.synth.textures import fractal_noise, sensor_noise

Bump = tuple[float, float, float]  # middle and half width in shares of the width, rise in shares of the height


@dataclass(frozen=True)
class EgoVehicle:
    """The bonnet or dashboard in shares of the image.

    `height` is covered in the middle, `drop` less at the sides; `middle` is the centre of the arc. The rim falls with
    the distance from the middle to the `power`, rises by `slant` from the left to the right side and has `bumps`;
    `grain` roughens the surface, `streaks` are reflections of the sky.
    """

    height: float = 0.2
    drop: float = 0.15
    middle: float = 0.5
    paint: tuple[float, float, float] = (30.0, 30.0, 30.0)
    gloss: float = 0.3
    wiper: bool = False
    power: float = 2.0
    slant: float = 0.0
    grain: float = 0.0
    streaks: float = 0.0
    bumps: tuple[Bump, ...] = ()

    def hidden_rows(self, height: int) -> int:
        """Return how many rows at the bottom of an image show nothing but the own car."""
        side = max(self.middle, 1 - self.middle)
        fall = self.drop * (2 * side) ** self.power if self.drop >= 0 else 0.0
        return int(max(0.0, height * (self.height - fall - abs(self.slant) * side) - 3))


def bonnet_edge(ego: EgoVehicle, height: int, width: int) -> Float32Array:
    """Return (W,) rows at which the own car begins."""
    x = np.linspace(0, 1, width, dtype=np.float32) - ego.middle
    edge = height * (1 - ego.height + ego.drop * np.abs(2 * x) ** ego.power)
    edge -= (height * ego.slant) * x
    for middle, half, rise in ego.bumps:
        away = np.clip(np.abs(x + (ego.middle - middle)) / half, 0, 1)
        edge -= (height * rise) * np.square(1 - away * away)
    profile: Float32Array = edge.astype(np.float32)
    return profile


def _streaks(ego: EgoVehicle, size: tuple[int, int]) -> Float32Array:
    """Return (h, w) for `size` (w, h): bright, wide and low reflections in the folds of a bonnet."""
    tile = fractal_noise(9, 1.2, 128)
    start = int(1000 * ego.middle + 7919 * ego.height) % 96
    reflected = cv2.resize(tile[start : start + 20, ::4], size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(ego.streaks * np.square(np.maximum(reflected, 0)), np.float32)


def draw_ego_vehicle(canvas: BgrImage, gain: Float32Array, glow: Float32Array, ego: EgoVehicle, ambient: float) -> None:
    """Draw the own car over the bottom of `canvas` (H, W, 3), with reflections, and darken the light maps there."""
    height, width = canvas.shape[:2]
    edge = bonnet_edge(ego, height, width)
    first = int(max(0, edge.min()))
    if first >= height - 2:
        return
    span = height - first
    small = (max(2, width // 2), max(2, span // 2))  # drawn at half the size: only its rim is sharp
    y = np.linspace(first, height, small[1], dtype=np.float32)[:, None]
    rim = edge[:: max(1, width // small[0])][: small[0]]
    depth = np.clip((y - rim) / (ego.height * height), 0, 1)
    source = canvas[: max(2, first * 2 // 3)][::-1]
    tiny = cv2.resize(source, (width // 8, max(2, span // 8)), interpolation=cv2.INTER_AREA)
    reflected = cv2.resize(cv2.blur(tiny, (5, 3)), small).astype(np.float32)
    sheen = ego.gloss * (0.25 + 0.9 * np.square(1 - depth))
    gap = 1 - 0.5 * np.clip(1 - np.abs(y - rim - 4) / 3, 0, 1)  # shadow along the rim
    colour = np.asarray(ego.paint, np.float32) * ((0.6 + 0.5 * (1 - depth)) * gap)[..., None]
    colour += reflected * (sheen * gap)[..., None]
    if ego.grain > 0:
        speck = cv2.resize(sensor_noise()[:, ::3], small, interpolation=cv2.INTER_NEAREST)
        colour *= (1 + ego.grain * speck)[..., None]
    if ego.streaks > 0:
        colour += reflected * (ego.gloss * gap * _streaks(ego, small))[..., None]
    body = cv2.resize(np.clip(colour, 0, 255).astype(np.uint8), (width, span))
    mask = (np.clip(np.arange(first, height, dtype=np.float32)[:, None] - edge, 0, 1) > 0.5).astype(np.uint8)
    cv2.copyTo(body, mask, canvas[first:])
    if ego.wiper:
        _draw_wiper(canvas, ego)
    low = first // LIGHT_MAP_STEP
    share = cv2.resize(mask.astype(np.float32), (gain.shape[1], gain.shape[0] - low), interpolation=cv2.INTER_AREA)[
        ..., None
    ]
    gain[low:] += share * (ambient - gain[low:])
    lights = cv2.resize(glow[: max(2, low * 3 // 4)][::-1], (gain.shape[1], gain.shape[0] - low))
    glow[low:] += share * (lights * ego.gloss * 0.8 - glow[low:])


def _draw_wiper(canvas: BgrImage, ego: EgoVehicle) -> None:
    """Draw a wiper blade at rest and the black rim of the windscreen."""
    height, width = canvas.shape[:2]
    y = height * (1 - ego.height * 0.35)
    points = np.array([[0.16, y + 0.03 * height], [0.4, y - 0.012 * height], [0.72, y + 0.004 * height]]) * (width, 1)
    thickness = max(1, round(width / 230))
    cv2.polylines(canvas, [np.round(points).astype(np.int32)], False, (20, 20, 20), thickness, cv2.LINE_AA)
    cv2.polylines(canvas, [np.round(points - (0, thickness)).astype(np.int32)], False, (70, 72, 70), 1, cv2.LINE_AA)
