"""Bonnet: the own car in the picture, its reflections, and what the recorder prints over it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.camera.sensor import LIGHT_STEP
from clrernetlm.synth.textures import fractal_tile, sensor_tile

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Hump = tuple[float, float, float]  # middle and half width in shares of the width, rise in shares of the height


@dataclass(frozen=True)
class Bonnet:
    """Shares of the picture: `height` covered in the middle, `drop` less at the sides, `middle` of the arc.

    The rim falls with the distance from the middle to the `power`, rises by `slant` from the left to the right side
    and has `humps`; `grain` roughens the surface, and it mirrors the sky in `streaks`.
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
    humps: tuple[Hump, ...] = ()

    def hidden_rows(self, height: int) -> int:
        """Rows at the bottom of a picture that show nothing but the bonnet."""
        side = max(self.middle, 1 - self.middle)
        fall = self.drop * (2 * side) ** self.power if self.drop >= 0 else 0.0
        return int(max(0.0, height * (self.height - fall - abs(self.slant) * side) - 3))


def _edge(bonnet: Bonnet, height: int, width: int) -> Floats:
    """(W,) row in which the bonnet begins."""
    x = np.linspace(0, 1, width, dtype=np.float32) - bonnet.middle
    edge = height * (1 - bonnet.height + bonnet.drop * np.abs(2 * x) ** bonnet.power)
    edge -= (height * bonnet.slant) * x
    for middle, half, rise in bonnet.humps:
        away = np.clip(np.abs(x + (bonnet.middle - middle)) / half, 0, 1)
        edge -= (height * rise) * np.square(1 - away * away)
    return edge.astype(np.float32)


def _streaks(bonnet: Bonnet, size: tuple[int, int]) -> Floats:
    """(h, w) of a `size` (w, h): bright bands that the folds of a bonnet mirror, wide and low."""
    tile = fractal_tile(9, 1.2, 128)
    start = int(1000 * bonnet.middle + 7919 * bonnet.height) % 96
    seen = cv2.resize(tile[start : start + 20, ::4], size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(bonnet.streaks * np.square(np.maximum(seen, 0)), np.float32)


def paint_bonnet(canvas: Image, gain: Floats, glow: Floats, bonnet: Bonnet, ambient: float) -> None:
    """Cover the bottom of `canvas` (H, W, 3) and darken the light maps there; the bonnet mirrors what is above it."""
    height, width = canvas.shape[:2]
    edge = _edge(bonnet, height, width)
    first = int(max(0, edge.min()))
    if first >= height - 2:
        return
    span = height - first
    small = (max(2, width // 2), max(2, span // 2))  # painted at half the size: nothing on it is sharp but its rim
    y = np.linspace(first, height, small[1], dtype=np.float32)[:, None]
    rim = edge[:: max(1, width // small[0])][: small[0]]
    depth = np.clip((y - rim) / (bonnet.height * height), 0, 1)
    source = canvas[: max(2, first * 2 // 3)][::-1]
    tiny = cv2.resize(source, (width // 8, max(2, span // 8)), interpolation=cv2.INTER_AREA)
    seen = cv2.resize(cv2.blur(tiny, (5, 3)), small).astype(np.float32)
    sheen = bonnet.gloss * (0.25 + 0.9 * np.square(1 - depth))
    gap = 1 - 0.5 * np.clip(1 - np.abs(y - rim - 4) / 3, 0, 1)  # shadow along the rim
    colour = np.asarray(bonnet.paint, np.float32) * ((0.6 + 0.5 * (1 - depth)) * gap)[..., None]
    colour += seen * (sheen * gap)[..., None]
    if bonnet.grain > 0:
        speck = cv2.resize(sensor_tile()[:, ::3], small, interpolation=cv2.INTER_NEAREST)
        colour *= (1 + bonnet.grain * speck)[..., None]
    if bonnet.streaks > 0:
        colour += seen * (bonnet.gloss * gap * _streaks(bonnet, small))[..., None]
    body = cv2.resize(np.clip(colour, 0, 255).astype(np.uint8), (width, span))
    mask = (np.clip(np.arange(first, height, dtype=np.float32)[:, None] - edge, 0, 1) > 0.5).astype(np.uint8)
    cv2.copyTo(body, mask, canvas[first:])
    if bonnet.wiper:
        _paint_wiper(canvas, bonnet)
    low = first // LIGHT_STEP
    share = cv2.resize(mask.astype(np.float32), (gain.shape[1], gain.shape[0] - low), interpolation=cv2.INTER_AREA)[
        ..., None
    ]
    gain[low:] += share * (ambient - gain[low:])
    lights = cv2.resize(glow[: max(2, low * 3 // 4)][::-1], (gain.shape[1], gain.shape[0] - low))
    glow[low:] += share * (lights * bonnet.gloss * 0.8 - glow[low:])


def _paint_wiper(canvas: Image, bonnet: Bonnet) -> None:
    """A wiper blade at rest and the black rim of the windscreen."""
    height, width = canvas.shape[:2]
    y = height * (1 - bonnet.height * 0.35)
    points = np.array([[0.16, y + 0.03 * height], [0.4, y - 0.012 * height], [0.72, y + 0.004 * height]]) * (width, 1)
    thick = max(1, round(width / 230))
    cv2.polylines(canvas, [np.round(points).astype(np.int32)], False, (20, 20, 20), thick, cv2.LINE_AA)
    cv2.polylines(canvas, [np.round(points - (0, thick)).astype(np.int32)], False, (70, 72, 70), 1, cv2.LINE_AA)


def print_time(canvas: Image, text: str, colour: tuple[int, int, int], right: bool) -> None:
    """The date that recorders print into a lower corner."""
    height, width = canvas.shape[:2]
    scale = width / 1640
    x = int(width * (0.74 if right else 0.02))
    cv2.putText(
        canvas,
        text,
        (x, height - int(12 * scale) - 2),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale * 0.8,
        colour,
        max(1, round(2 * scale)),
        cv2.LINE_AA,
    )
