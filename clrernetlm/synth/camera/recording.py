"""Simulates the processing of an image after the sensor: tone curves, sharpening, blur, resizing and compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrImage, Float32Array
from clrernetlm.synth.camera.sensor import LIGHT_MAP_STEP, Sensor
from clrernetlm.synth.textures import TILE_SIZE, fractal_noise, sensor_noise


@dataclass(frozen=True)
class Recording:
    """The processing after the sensor.

    `gamma` is per channel (blue, green, red); `black` and `white` are the levels 0..1 that 0 and 1 become.
    `sideways_blur` is in pixels at a width of 1640, `sharpen` the strength of the halos, `stored_scale` the scale at
    which the image was stored, `jpeg_quality` the quality there (0: no compression), `chroma_noise` the noise of
    coloured blocks in linear light. Automatic exposure moves the brighter parts of the road towards the linear
    brightness `target`; `exposure_adaptation` (0..1, in logarithms) is the share of the way.
    """

    gamma: tuple[float, float, float] = (1.0, 1.0, 1.0)
    black: tuple[float, float, float] = (0.0, 0.0, 0.0)
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sideways_blur: float = 0.0
    sharpen: float = 0.0
    halo: float = 1.0  # pixels at a width of 1640
    stored_scale: float = 1.0
    jpeg_quality: int = 0
    chroma_noise: float = 0.0
    target: float = 0.2
    exposure_adaptation: float = 0.0


def sample_randomized_sensor(rng: np.random.Generator, night: bool, dazzle: bool) -> Sensor:
    """Sample a sensor with any colour cast, exposure, saturation and noise."""
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


def sample_recording(rng: np.random.Generator, night: bool) -> Recording:
    """Sample tone curves, blur and compression of recorders and of later resizing."""
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
    return Recording(
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
        exposure_adaptation=float(rng.uniform(0.75, 1.0) if night else rng.uniform(0.3, 0.9)),
    )


def exposure_factor(
    canvas: BgrImage, gain: Float32Array, glow: Float32Array, hidden: int, recording: Recording
) -> float:
    """Return the factor of automatic exposure for display values (H, W, 3) under the light maps.

    `hidden` rows at the bottom show the own car and are not measured.
    """
    small = canvas[::LIGHT_MAP_STEP, ::LIGHT_MAP_STEP]
    height, width = small.shape[:2]
    foot = height - hidden // LIGHT_MAP_STEP
    rows, columns = slice(foot // 2, max(foot // 2 + 2, foot * 9 // 10)), slice(width // 5, width * 4 // 5)
    lit = np.square(small[rows, columns].astype(np.float32) / 255) * gain[rows, columns] + glow[rows, columns]
    bright = float(np.quantile(lit.mean(2), 0.8))
    return float(np.clip((recording.target / max(bright, 1e-5)) ** recording.exposure_adaptation, 0.25, 16.0))


def add_chroma_noise(glow: Float32Array, strength: float, rng: np.random.Generator) -> None:
    """Add noise in coloured blocks, typical of night recordings, to a light map (h, w, 3) in place."""
    if strength <= 0:
        return
    height, width = glow.shape[:2]
    y, x = rng.integers(0, TILE_SIZE, 2)
    tile = sensor_noise().reshape(TILE_SIZE, TILE_SIZE, 3)
    coarse = fractal_noise(8, 0.6)
    rows, columns = (np.arange(height)[:, None] + y) % TILE_SIZE, (np.arange(width)[None] + x) % TILE_SIZE
    glow += strength * (tile[rows, columns] + 0.6 * coarse[rows, columns, None])


def apply_recording(image: BgrImage, recording: Recording) -> BgrImage:
    """Turn the (H, W, 3) uint8 image of the sensor into the one that is stored, of the same size."""
    height, width = image.shape[:2]
    scale = width / 1640
    if recording.sideways_blur * scale > 0.7:
        image = _blur_sideways(image, recording.sideways_blur * scale)
    small = (max(16, round(width * recording.stored_scale)), max(16, round(height * recording.stored_scale)))
    if small[0] < width:
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if recording.sharpen > 0:
        sigma = max(0.5, recording.halo * scale)
        soft = cv2.GaussianBlur(image, (5, 5) if sigma < 1.2 else (9, 9), sigma)
        image = cv2.addWeighted(image, 1 + recording.sharpen, soft, -recording.sharpen, 0).astype(np.uint8, copy=False)
    levels = np.linspace(0, 1, 256)[:, None] ** np.asarray(recording.gamma)
    low, high = np.asarray(recording.black), np.asarray(recording.white)
    table = np.clip((low + (high - low) * levels) * 255 + 0.5, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[None]).astype(np.uint8, copy=False)
    if recording.jpeg_quality > 0:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, recording.jpeg_quality])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.uint8, copy=False)
    if small[0] < width:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return image


def _blur_sideways(image: BgrImage, length: float) -> BgrImage:
    """Blur over `length` pixels sideways, symmetric to the left and right."""
    count = 2 * int(np.ceil((length - 1) / 2)) + 1
    weights = np.ones(count, np.float32)
    weights[0] = weights[-1] = (length - (count - 2)) / 2 if count > 1 else 1.0
    weights = np.clip(weights, 0.05, 1)
    kernel = (weights / weights.sum())[None]
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
