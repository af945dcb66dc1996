"""Makes tileable noise from fixed seeds, once per process."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from clrernetlm.core.arrays import Float32Array, SignedByteArray

TILE_SIZE = 512  # pixels per side; a power of two, so that the shader wraps indices with a bit mask


@lru_cache(32)
def fractal_noise(seed: int, slope: float, size: int = TILE_SIZE) -> Float32Array:
    """Return (size, size) float32 tileable noise of mean 0 and deviation 1; its amplitude falls as frequency^-slope."""
    rng = np.random.default_rng([20240, seed])
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    phase = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
    tile = np.fft.irfft2(phase * frequency**-slope, (size, size))
    normalised: Float32Array = (tile / tile.std()).astype(np.float32)
    return normalised


def _to_bytes(tile: Float32Array, spread: float = 42.0) -> SignedByteArray:
    """Quantize a tile of standard deviation 1 to int8, `spread` per standard deviation."""
    return np.clip(np.round(spread * tile), -127, 127).astype(np.int8)


@lru_cache(1)
def ground_tiles() -> SignedByteArray:
    """Return (4, TILE_SIZE, TILE_SIZE) int8, 42 per standard deviation: grain, mottling, wear and foliage."""
    grain = fractal_noise(1, 0.35)
    grain = np.where(grain > 1.4, grain * 1.5, grain)  # bright stones
    foliage = cv2.GaussianBlur(np.tile(fractal_noise(4, 1.0), (3, 3)), (0, 0), 1.5)[
        TILE_SIZE : 2 * TILE_SIZE, TILE_SIZE : 2 * TILE_SIZE
    ]
    foliage = foliage / foliage.std()
    return np.stack([_to_bytes(t) for t in (grain, fractal_noise(2, 1.5), fractal_noise(3, 1.0), foliage)])


@lru_cache(1)
def cloud_tile() -> Float32Array:
    """Return (TILE_SIZE, TILE_SIZE) float32 noise for clouds."""
    return fractal_noise(5, 1.9)


@lru_cache(1)
def sensor_noise() -> Float32Array:
    """Return (TILE_SIZE, 3 TILE_SIZE) float32 noise of deviation 1: interleaved BGR, soft as after demosaicing."""
    rng = np.random.default_rng(20241)
    luma = rng.standard_normal((TILE_SIZE, TILE_SIZE, 1))
    noise = cv2.GaussianBlur(
        (0.75 * luma + 0.65 * rng.standard_normal((TILE_SIZE, TILE_SIZE, 3))).astype(np.float32), (0, 0), 0.6
    )
    return np.ascontiguousarray((noise / noise.std()).reshape(TILE_SIZE, 3 * TILE_SIZE))
