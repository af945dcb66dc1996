"""Grading: casts, exposure, blur, resizing and compression that real recordings have gone through."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.camera.sensor import LIGHT_STEP, Sensor
from clrernetlm.synth.textures import TILE, fractal_tile, sensor_tile

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Grading:
    """What happens to a picture after the sensor.

    `curve` is the gamma per channel (blue, green, red) and `black`, `white` the levels 0..1 that 0 and 1 become.
    `pan` is a blur of pixels sideways at a width of 1640, `sharpen` the strength of the halos, `resized` the share of
    the size the picture was stored at, `quality` the JPEG quality there (0: none), `blotches` the noise of coloured
    blocks in linear light. The sensor is exposed so that the brighter parts of the road come `adapt` of the way
    (0..1, in logarithms) to the linear brightness `target`.
    """

    curve: tuple[float, float, float] = (1.0, 1.0, 1.0)
    black: tuple[float, float, float] = (0.0, 0.0, 0.0)
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pan: float = 0.0
    sharpen: float = 0.0
    halo: float = 1.0  # pixels at a width of 1640
    resized: float = 1.0
    quality: int = 0
    blotches: float = 0.0
    target: float = 0.2
    adapt: float = 0.0


def sample_taken(rng: np.random.Generator, night: bool, dazzle: bool) -> Sensor:
    """A sensor with any cast, exposure, saturation and noise."""
    if night:
        cast = int(rng.choice(4, p=[0.42, 0.24, 0.22, 0.12]))
        casts = (
            (
                float(np.exp(rng.normal(-0.15, 0.3))),
                float(np.exp(rng.normal(0, 0.06))),
                float(np.exp(rng.normal(0, 0.2))),
            ),
            (float(rng.uniform(0.15, 0.6)), float(rng.uniform(0.7, 1.0)), float(rng.uniform(0.9, 1.3))),  # amber
            (
                float(rng.uniform(0.02, 0.35)),
                float(rng.uniform(0.9, 1.2)),
                float(rng.uniform(0.85, 1.2)),
            ),  # yellow-green
            (float(rng.uniform(0.9, 1.5)), float(rng.uniform(0.85, 1.1)), float(rng.uniform(0.6, 0.95))),  # blue
        )
        balance = casts[cast]
        exposure = float(np.exp(np.clip(rng.normal(-0.1, 0.5), -1.0, 1.2)))
    else:
        warm, green = float(rng.normal(0, 0.13)), float(np.exp(rng.normal(0, 0.04)))
        balance = (float(np.exp(-warm)), green, float(np.exp(warm)))
        exposure = float(np.exp(rng.normal(-0.1, 0.35))) * (0.85 if dazzle else 1.0)
    saturation = float(rng.gamma(6, 0.16))
    if rng.random() < 0.06:
        saturation = float(rng.uniform(0.0, 0.25)) * (rng.random() < 0.5)  # grey, or nearly
    noise = float(rng.gamma(1.2, 0.006)) * (1.8 if night else 1.0)
    return Sensor(
        exposure,
        balance,
        float(rng.normal(0.75, 0.7)),
        min(saturation, 1.9),
        float(rng.uniform(0, 0.3) if rng.random() < 0.75 else rng.uniform(0.3, 0.9)),
        noise,
        float(rng.gamma(1.5, 0.0007)) * (2.0 if night else 1.0),
        float(rng.gamma(1.6, 0.45)) + 0.1,
        float(rng.uniform(0.003, 0.03)) if rng.random() < (0.35 if night else 0.15) else 0.0,
    )


def sample_grading(rng: np.random.Generator, night: bool) -> Grading:
    """Curves, blur and compression of a recorder and of whoever resized its pictures."""
    gamma = float(np.exp(rng.normal(0.0, 0.12) if night else rng.normal(0.08, 0.2)))
    split = np.exp(rng.normal(0, 0.05, 3) * (rng.random() < 0.5))
    lift = float(rng.gamma(1.2, 0.02)) if rng.random() < 0.25 else 0.0
    if rng.random() < 0.45:
        lift = -float(rng.uniform(0.0, 0.05 if night else 0.12))  # blacks are crushed
    dim = float(rng.uniform(0.75, 1.0)) if rng.random() < 0.3 else 1.0
    tint = rng.uniform(0.6, 1.0, 3)
    resized, quality = 1.0, 0
    if rng.random() < 0.5:
        resized = float(rng.uniform(0.38, 0.85))
    if rng.random() < (0.55 if resized < 1 else 0.15):
        quality = int(rng.integers(25, 90))
    b, g, r = (gamma * float(s) for s in split)
    return Grading(
        (b, g, r),
        (lift * float(tint[0]), lift * float(tint[1]), lift * float(tint[2])),
        (dim, dim, dim),
        float(rng.gamma(1.5, 2.0)) if rng.random() < (0.25 if night else 0.1) else 0.0,
        float(rng.uniform(0.2, 1.5)) if rng.random() < 0.35 else 0.0,
        float(rng.uniform(0.7, 2.5)),
        resized,
        quality,
        float(rng.gamma(1.2, 0.0009)) if night or rng.random() < 0.1 else 0.0,
        target=0.1 if night else 0.28,
        adapt=float(rng.uniform(0.75, 1.0) if night else rng.uniform(0.3, 0.9)),
    )


def exposure(canvas: Image, gain: Floats, glow: Floats, hidden: int, grading: Grading) -> float:
    """Factor of the exposure for display values (H, W, 3) under the light maps; `hidden` rows show the own car."""
    small = canvas[::LIGHT_STEP, ::LIGHT_STEP]
    height, width = small.shape[:2]
    foot = height - hidden // LIGHT_STEP
    rows, columns = slice(foot // 2, max(foot // 2 + 2, foot * 9 // 10)), slice(width // 5, width * 4 // 5)
    lit = np.square(small[rows, columns].astype(np.float32) / 255) * gain[rows, columns] + glow[rows, columns]
    bright = float(np.quantile(lit.mean(2), 0.8))
    return float(np.clip((grading.target / max(bright, 1e-5)) ** grading.adapt, 0.25, 16.0))


def speckle(glow: Floats, strength: float, rng: np.random.Generator) -> None:
    """Add noise in coloured blocks, as night recordings have, to a light map (h, w, 3)."""
    if strength <= 0:
        return
    height, width = glow.shape[:2]
    y, x = rng.integers(0, TILE, 2)
    tile = sensor_tile().reshape(TILE, TILE, 3)
    coarse = fractal_tile(8, 0.6)
    rows, columns = (np.arange(height)[:, None] + y) % TILE, (np.arange(width)[None] + x) % TILE
    glow += strength * (tile[rows, columns] + 0.6 * coarse[rows, columns, None])


def grade(picture: Image, grading: Grading) -> Image:
    """(H, W, 3) uint8 picture of the sensor -> the one that reaches the data set, of the same size."""
    height, width = picture.shape[:2]
    scale = width / 1640
    if grading.pan * scale > 0.7:
        picture = _pan(picture, grading.pan * scale)
    small = (max(16, round(width * grading.resized)), max(16, round(height * grading.resized)))
    if small[0] < width:
        picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if grading.sharpen > 0:
        sigma = max(0.5, grading.halo * scale)
        soft = cv2.GaussianBlur(picture, (5, 5) if sigma < 1.2 else (9, 9), sigma)
        picture = cv2.addWeighted(picture, 1 + grading.sharpen, soft, -grading.sharpen, 0).astype(np.uint8, copy=False)
    levels = np.linspace(0, 1, 256)[:, None] ** np.asarray(grading.curve)
    low, high = np.asarray(grading.black), np.asarray(grading.white)
    table = np.clip((low + (high - low) * levels) * 255 + 0.5, 0, 255).astype(np.uint8)
    picture = cv2.LUT(picture, table[None]).astype(np.uint8, copy=False)
    if grading.quality > 0:
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, grading.quality])
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.uint8, copy=False)
    if small[0] < width:
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return picture


def _pan(picture: Image, length: float) -> Image:
    """Blur over `length` pixels sideways, as much to the left as to the right."""
    count = 2 * int(np.ceil((length - 1) / 2)) + 1
    weights = np.ones(count, np.float32)
    weights[0] = weights[-1] = (length - (count - 2)) / 2 if count > 1 else 1.0
    weights = np.clip(weights, 0.05, 1)
    kernel = (weights / weights.sum())[None]
    return cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
