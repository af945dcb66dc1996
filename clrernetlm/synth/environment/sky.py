"""Draws the sky and the skyline at the horizon."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrColour, BgrImage, Float32Array, Int64Array
from clrernetlm.core.numba_jit import kernel
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.environment.weather_sampling import Weather
from clrernetlm.synth.road.layout import RoadType
from clrernetlm.synth.textures import TILE_SIZE, cloud_tile, fractal_noise


def draw_sky(
    canvas: BgrImage,
    camera: Camera,
    bottom: int,
    zenith: tuple[float, float, float],
    haze: tuple[float, float, float],
    clouds: float,
    cloud_colour: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Fill the rows above `bottom` of `canvas` (H, W, 3) with sky, computed at a sixth of the size.

    A gradient runs from `haze` at the horizon up to `zenith`, with `clouds` (0..1) on a flat layer overhead.
    """
    width = canvas.shape[1]
    bottom = max(8, min(bottom, canvas.shape[0]))
    shape = (max(2, bottom // 6), max(2, width // 6))
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    right, up, _ = camera.rays(x * 6 + 2.5, y * 6 + 2.5)
    height = np.clip(up, 0, 1).astype(np.float32)
    mix = 1 - np.exp(-height * 4.0)
    sky = np.asarray(haze, np.float32) + mix[..., None] * (
        np.asarray(zenith, np.float32) - np.asarray(haze, np.float32)
    )
    if clouds > 0:
        tile = cloud_tile()
        far = 1 / (height + 0.06)
        shift = rng.uniform(0, TILE_SIZE, 2)
        stretch = float(rng.uniform(14, 40))
        u = ((right * far * stretch + shift[0]) % TILE_SIZE).astype(np.float32)
        v = ((far * stretch * 1.2 + shift[1]) % TILE_SIZE).astype(np.float32)
        noise = cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        noise = noise + 0.35 * cv2.remap(
            tile, (u * 3) % TILE_SIZE, (v * 3) % TILE_SIZE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        cover = np.clip((noise - 1.6 + 3.0 * clouds) * 0.8, 0, 1) * np.clip(height * 9, 0.15, 1)
        shaded = np.asarray(cloud_colour, np.float32) * (1 - 0.16 * np.clip(noise - 0.5, 0, 1.5))[..., None]
        sky += cover[..., None] * (shaded - sky)
    small = np.clip(sky, 0, 255).astype(np.uint8)
    cv2.resize(small, (width, bottom), dst=canvas[:bottom], interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Skyline:
    """A ragged band of `height` pixels (at a width of 1640) at the horizon.

    `blocks` > 0 makes it houses instead of trees; `colour` is already that seen through the air.
    """

    height: float
    colour: tuple[float, float, float]
    blocks: float = 0.0
    rough: float = 1.0
    texture: float = 0.12


def draw_skyline(canvas: BgrImage, skyline: Skyline, rows: tuple[float, float], rng: np.random.Generator) -> None:
    """Draw a band that stands on the horizon, which runs from `rows[0]` at the left to `rows[1]` at the right."""
    height, width = canvas.shape[:2]
    scale = width / 1640
    foot = np.linspace(rows[0], rows[1], width, dtype=np.float32)
    if skyline.blocks > 0:
        count = int(rng.integers(14, 60))
        heights = rng.gamma(1.5, 0.45, count) * (rng.random(count) < 0.85)
        edges = np.sort(rng.uniform(0, width, count - 1))
        profile = heights[np.searchsorted(edges, np.arange(width))].astype(np.float32)
    else:
        start = int(rng.integers(0, TILE_SIZE))
        tile = fractal_noise(6, 1.1)
        x = (np.arange(width) / scale).astype(int)
        waves = tile[start, (x // 4 + start) % TILE_SIZE] * 0.25 + tile[(start + 9) % TILE_SIZE, x % TILE_SIZE] * 0.16
        profile = np.clip(0.75 + skyline.rough * waves, 0.1, 2).astype(np.float32)
    top = foot - profile * skyline.height * scale
    first, last = int(max(0, top.min())), int(min(height, foot.max() + 3))
    if last - first < 2:
        return
    texture = fractal_noise(7, 0.8, 256)
    shift = rng.integers(0, 256, 2)
    shades = rng.uniform(-1.7, 1.7, 97).astype(np.float32)
    style = np.array([*skyline.colour, skyline.texture, 1 / max(scale, 0.5), skyline.blocks > 0], np.float32)
    _draw_band(canvas, first, last, top.astype(np.float32), foot, texture, shift, shades, style)


@kernel(fastmath=True)
def _draw_band(
    canvas: BgrImage,
    first: int,
    last: int,
    top: Float32Array,
    foot: Float32Array,
    texture: Float32Array,
    shift: Int64Array,
    shades: Float32Array,
    style: Float32Array,
) -> None:
    """Draw the band row by row; `style` is colour, texture, texels per pixel and whether it shows houses."""
    for y in range(first, last):
        row = texture[(int(y * style[4]) + shift[0]) & 255]
        for x in range(canvas.shape[1]):
            alpha = min(np.float32(y) - top[x] + np.float32(0.5), np.float32(1))
            if alpha <= 0 or y > foot[x] + 3:
                continue
            noise = row[(int(x * style[4]) + shift[1]) & 255]
            tone = 1 + style[3] * noise
            if style[5] > 0:
                tone = (1 + style[3] * np.float32(0.3) * noise) * (
                    1 + style[3] * shades[int((foot[x] - top[x]) * 37) % 97]
                )
                if int(y * style[4]) % 5 < 2 and int(x * style[4]) % 6 < 3:
                    tone *= 1 - style[3]
            for c in range(3):
                old = np.float32(canvas[y, x, c])
                new = min(max(style[c] * tone, np.float32(0)), np.float32(255))
                canvas[y, x, c] = np.uint8(old + alpha * (new - old))


def sample_skylines(
    rng: np.random.Generator, road_type: RoadType, weather: Weather, season: BgrColour
) -> list[Skyline]:
    """Sample hills, houses and trees at the horizon, far ones first and paler."""

    def pale(colour: tuple[float, ...], share: float) -> BgrColour:
        b, g, r = (float(c + share * (h - c)) for c, h in zip(colour, weather.haze, strict=True))
        return b, g, r

    clear = float(np.exp(-3 * 350 / weather.visibility))
    lines = []
    if rng.random() < 0.3:
        lines.append(
            Skyline(float(rng.uniform(15, 70)), pale((120, 100, 80), max(0.55, 1 - 0.4 * clear)), 0, 0.5, 0.02 * clear)
        )
    if rng.random() < (0.75 if road_type == "urban" else 0.3):
        lines.append(
            Skyline(float(rng.uniform(15, 90)), pale((140, 132, 125), max(0.35, 1 - 0.7 * clear)), 1, 1, 0.15 * clear)
        )
    if rng.random() < 0.9:
        leaf = tuple(0.75 * c for c in season)
        lines.append(
            Skyline(
                float(rng.uniform(6, 34)), pale(leaf, 1 - 0.85 * clear), 0, float(rng.uniform(0.5, 1.4)), 0.16 * clear
            )
        )
    return lines
