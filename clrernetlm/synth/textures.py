"""Textures: tileable noise and sprites made once per process from fixed seeds."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

TILE = 512  # pixels a side; a power of two, so that the shader wraps by a bit mask


@lru_cache(32)
def fractal_tile(seed: int, slope: float, size: int = TILE) -> NDArray[np.float32]:
    """(size, size) float32 tileable noise of mean 0 and deviation 1 whose amplitude falls as frequency^-slope."""
    rng = np.random.default_rng([20240, seed])
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    phase = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
    tile = np.fft.irfft2(phase * frequency**-slope, (size, size))
    return (tile / tile.std()).astype(np.float32)


def _to_bytes(tile: NDArray[np.float32], spread: float = 42.0) -> NDArray[np.int8]:
    return np.clip(np.round(spread * tile), -127, 127).astype(np.int8)


@lru_cache(1)
def ground_tiles() -> NDArray[np.int8]:
    """(4, TILE, TILE) int8, 42 a deviation: grain, mottling, wear and foliage."""
    grain = fractal_tile(1, 0.35)
    grain = np.where(grain > 1.4, grain * 1.5, grain)  # bright stones
    foliage = cv2.GaussianBlur(np.tile(fractal_tile(4, 1.0), (3, 3)), (0, 0), 1.5)[TILE : 2 * TILE, TILE : 2 * TILE]
    foliage = foliage / foliage.std()
    return np.stack([_to_bytes(t) for t in (grain, fractal_tile(2, 1.5), fractal_tile(3, 1.0), foliage)])


@lru_cache(1)
def cloud_tile() -> NDArray[np.float32]:
    """(TILE, TILE) float32 noise for clouds."""
    return fractal_tile(5, 1.9)


@lru_cache(1)
def sensor_tile() -> NDArray[np.float32]:
    """(TILE, 3 TILE) float32 noise of deviation 1: interleaved BGR, slightly soft as after demosaicing."""
    rng = np.random.default_rng(20241)
    luma = rng.standard_normal((TILE, TILE, 1))
    noise = cv2.GaussianBlur(
        (0.75 * luma + 0.65 * rng.standard_normal((TILE, TILE, 3))).astype(np.float32), (0, 0), 0.6
    )
    return np.ascontiguousarray((noise / noise.std()).reshape(TILE, 3 * TILE))
