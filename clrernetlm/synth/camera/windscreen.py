"""Adds reflections, haze, dirt and tint of the windscreen."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrImage, Float32Array
from clrernetlm.synth.textures import TILE_SIZE, fractal_noise


@dataclass(frozen=True)
class Windscreen:
    """The linear light that the glass adds, and the shares of light that it absorbs.

    `veil` is the strength of the reflected dashboard, `haze` of a low contrast all over, `dirt` the number of spots,
    `band` the height of the tinted top in shares of the image and `band_tint` its transmission. `drops` is the number
    of rain drops. The lens lights a `circle` of this radius in shares of the width, or everything if it is 0.
    """

    veil: float = 0.0
    haze: float = 0.0
    dirt: int = 0
    band: float = 0.0
    band_tint: tuple[float, float, float] = (0.5, 0.6, 0.5)
    drops: int = 0
    circle: float = 0.0


def sample_windscreen(rng: np.random.Generator, wet: bool, wide: bool) -> Windscreen:
    """Sample a windscreen; most are clean. `wet`: in rain, some have drops; `wide`: some wide lenses light a circle."""
    drops = int(np.exp(rng.uniform(np.log(10), np.log(300)))) if wet and rng.random() < 0.5 else 0
    circle = float(rng.uniform(0.5, 0.6)) if wide and rng.random() < 0.2 else 0.0
    return Windscreen(
        veil=float(rng.gamma(1.2, 0.02)) if rng.random() < 0.45 else 0.0,
        haze=float(rng.gamma(1.5, 0.015)) if rng.random() < 0.3 else 0.0,
        dirt=int(rng.integers(1, 25)) if rng.random() < 0.25 else 0,
        band=float(rng.uniform(0.04, 0.18)) if rng.random() < 0.12 else 0.0,
        band_tint=(float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.25, 0.7))),
        drops=drops,
        circle=circle,
    )


def apply_windscreen(
    gain: Float32Array, glow: Float32Array, glass: Windscreen, light: float, rng: np.random.Generator
) -> None:
    """Add the light of the `glass` to the light maps (h, w, 3) in place, and subtract what it absorbs.

    `light` is the strength of the daylight on the glass.
    """
    height, width = gain.shape[:2]
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    if glass.haze > 0:
        slope = np.float32(rng.uniform(-0.4, 0.8))
        glow += np.float32(glass.haze * light) * (np.float32(0.6) + slope * rows)[..., None]
    if glass.veil > 0:
        glow += (glass.veil * light) * _dashboard_reflection(rng, height, width)[..., None] * rng.uniform(0.85, 1.1, 3)
    if glass.dirt > 0:
        mask = np.zeros((height, width), np.float32)
        for _ in range(glass.dirt):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (int(rng.uniform(0.003, 0.02) * width) + 1, int(rng.uniform(0.003, 0.02) * width) + 1)
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, [float(rng.uniform(0.1, 0.6))], -1)
        soft = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.006, 0.02)) * width).astype(np.float32)[..., None]
        gain *= 1 - soft
        glow += np.float32(0.12 * light * rng.random()) * soft
    if glass.band > 0:
        share = np.clip((glass.band - rows) / (0.5 * glass.band) + 0.5, 0, 1)[..., None]
        tint = 1 - share * (1 - np.asarray(glass.band_tint, np.float32))
        gain *= tint
        glow *= tint
    if glass.circle > 0:
        columns = np.linspace(-0.5, 0.5, width, dtype=np.float32)
        radius = np.hypot(columns[None], (rows - np.float32(0.5)) * np.float32(height / width))
        lit = np.clip((np.float32(glass.circle) - radius) * np.float32(60), 0, 1)[..., None]
        gain *= lit
        glow *= lit


def draw_drops(canvas: BgrImage, glass: Windscreen, rng: np.random.Generator) -> None:
    """Draw rain drops onto `canvas` (H, W, 3) in place: each shows the blurred scene upside down."""
    if glass.drops == 0:
        return
    height, width = canvas.shape[:2]
    mask = np.zeros((height // 2, width // 2), np.uint8)
    size = float(rng.uniform(0.0015, 0.005)) * width
    centres = rng.integers(0, (width // 2, height // 2), (glass.drops, 2))
    radii = np.maximum(1, size * np.exp(rng.normal(0, 0.5, glass.drops)) / 2).astype(int)
    for (x, y), radius in zip(centres.tolist(), radii.tolist(), strict=True):
        cv2.ellipse(mask, (x, y), (radius, radius + radius // 3), 0, 0, 360, [255], -1)
    small = cv2.resize(canvas, (max(1, width // 16), max(1, height // 16)), interpolation=cv2.INTER_AREA)
    drops = cv2.resize(small[::-1], (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.copyTo(drops, cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), canvas)


def _dashboard_reflection(rng: np.random.Generator, height: int, width: int) -> Float32Array:
    """Return (h, w) values of about 0..1: the reflected dashboard, stronger towards the bottom."""
    top, power = float(rng.uniform(0.0, 0.7)), float(rng.uniform(0.5, 2.0))
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    fade = np.clip((rows - top) / (1.05 - top), 0, 1) ** power
    tile, start = fractal_noise(5, 1.9), rng.integers(0, TILE_SIZE, 2)
    y = (np.arange(height)[:, None] * 2 + start[0]) % TILE_SIZE
    columns = (np.arange(width)[None] + start[1]) % TILE_SIZE
    shapes = 0.5 + 0.2 * tile[y, columns]
    lit = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(0, 7))):
        y0 = float(rng.uniform(top, 1)) * height
        kind = rng.random()
        if kind < 0.15:  # the slats of a vent
            x0, slat_width = float(rng.uniform(-0.05, 0.9)) * width, float(rng.uniform(0.08, 0.4)) * width
            gap, value = float(rng.uniform(0.008, 0.03)) * height, float(rng.uniform(0.3, 1.2))
            for k in range(int(rng.integers(2, 8))):
                y1, y2 = y0 + k * gap, y0 + k * gap + float(rng.normal(0, 0.01)) * height
                cv2.line(lit, (round(x0), round(y1)), (round(x0 + slat_width), round(y2)), [value], 1)
        elif kind < 0.5:  # a fold or rim across the dashboard
            x = np.linspace(-0.05, 1.05, 12)
            bow = float(rng.normal(0, 0.15)) * (x - rng.uniform(0.3, 0.7)) ** 2 * height
            line = np.stack([x * width, y0 + bow + rng.normal(0, 0.06) * height * x], 1)
            thickness, value = int(rng.integers(1, max(2, width // 60))), float(rng.uniform(-0.5, 1.2))
            for a, b in pairwise(np.round(line).astype(int)):
                cv2.line(lit, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), [value], thickness)
        else:
            corners = np.array([[0, 0], [1, 0], [1.2, 1], [-0.1, 1]]) * rng.uniform(0.05, 0.4, 2) * (width, height)
            corners += (rng.uniform(-0.1, 0.9) * width, y0)
            cv2.fillConvexPoly(lit, np.round(corners).astype(np.int32), [float(rng.uniform(-0.4, 1.0))])
    soft = cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.001, 0.012)) * width + 0.5)
    return np.asarray(np.maximum(shapes + soft, 0) * fade, np.float32)
