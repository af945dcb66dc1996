"""Sensor: from the painted scene and its light to the picture a dashboard camera writes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.arrays import ByteArray, Float32Array
from clrernetlm.core.numba_jit import kernel
from clrernetlm.synth.textures import TILE, sensor_tile

LIGHT_STEP = 4  # pixels of the picture per pixel of the light maps

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sensor:
    """How the camera sees: colours as gains in blue, green, red; noise in shares of full scale."""

    exposure: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 0.2
    saturation: float = 1.0
    vignette: float = 0.2
    shot_noise: float = 0.008
    read_noise: float = 0.001
    defocus: float = 0.5  # pixels at a width of 1640
    motion: float = 0.0  # share of the way from the vanishing point that the picture smears over
    jpeg_quality: int = 90


def light_map_shape(height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the light maps of a picture: one more than the picture needs, for interpolation."""
    return -(-height // LIGHT_STEP) + 1, -(-width // LIGHT_STEP) + 1


def smear(canvas: NDArray[np.uint8], share: float, vanishing: tuple[float, float]) -> NDArray[np.uint8]:
    """(H, W, 3): the blur of moving ahead: each point smears along the ray from the `vanishing` point (x, y), over
    `share` of its distance from there, as far inwards as outwards, so that labels stay in the middle."""
    size = (canvas.shape[1], canvas.shape[0])

    def zoomed(picture: NDArray[np.uint8], by: float) -> NDArray[np.uint8]:
        zoom = np.array([[1 + by, 0, -by * vanishing[0]], [0, 1 + by, -by * vanishing[1]]])
        moved = cv2.warpAffine(picture, zoom, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return moved.astype(np.uint8, copy=False)

    # Eight instants, evenly spaced, by three times averaging with a shifted copy.
    canvas = zoomed(canvas, -share / 2)
    for step in (share * 4 / 7, share * 2 / 7, share / 7):
        canvas = cv2.addWeighted(canvas, 0.5, zoomed(canvas, step), 0.5, 0).astype(np.uint8, copy=False)
    return canvas


def defocus(canvas: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """(H, W, 3): a lens out of focus by `sigma` pixels at a width of 1640."""
    sigma *= canvas.shape[1] / 1640
    if sigma <= 0.25:
        return canvas
    return cv2.GaussianBlur(canvas, (0, 0) if sigma > 1 else (5, 5), sigma).astype(np.uint8, copy=False)


def develop(
    canvas: NDArray[np.uint8], gain: Floats, glow: Floats, sensor: Sensor, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(H, W, 3) display values of the lit scene -> (H, W, 3) uint8 picture.

    `gain` and `glow` (`light_map_shape`, 3) float32 multiply and add to the linear light (display value squared);
    `gain` 1 and `glow` 0 leave the scene as painted.
    """
    height, width = canvas.shape[:2]
    rows, columns = light_map_shape(height, width)
    y = (np.arange(rows, dtype=np.float32)[:, None] * LIGHT_STEP / height - 0.5) * 2 * height / width
    x = (np.arange(columns, dtype=np.float32)[None] * LIGHT_STEP / width - 0.5) * 2
    fall = sensor.exposure / (1 + sensor.vignette * (x * x + y * y)) ** 2
    balance = np.asarray(sensor.white_balance, np.float32)
    gain = gain * (fall[..., None] * balance)
    glow = glow * (fall[..., None] * balance)
    shift = rng.integers(0, TILE, 2)
    out = np.empty_like(canvas)
    noise = sensor_tile()
    _develop(
        np.ascontiguousarray(canvas).reshape(height, width * 3),
        gain.astype(np.float32).reshape(rows, columns * 3),
        glow.astype(np.float32).reshape(rows, columns * 3),
        noise,
        int(shift[0]),
        int(shift[1]),
        np.array([sensor.contrast, sensor.shot_noise, sensor.read_noise, sensor.saturation], np.float32),
        out.reshape(height, width * 3),
    )
    return out


@kernel(fastmath=True)
def _widen(row: Float32Array, out: Float32Array) -> None:
    """Stretch one row of a light map to the width of the picture."""
    for j in range(row.shape[0] // 3 - 1):
        for c in range(3):
            left, right = row[3 * j + c], row[3 * j + 3 + c]
            for k in range(LIGHT_STEP):
                out[(j * LIGHT_STEP + k) * 3 + c] = left + np.float32(k / LIGHT_STEP) * (right - left)


@kernel(fastmath=True)
def _develop(
    canvas: ByteArray,
    gain: Float32Array,
    glow: Float32Array,
    noise: Float32Array,
    shift_x: int,
    shift_y: int,
    look: Float32Array,
    out: ByteArray,
) -> None:
    height, width3 = canvas.shape
    step = LIGHT_STEP
    wide = (gain.shape[1] // 3 - 1) * step * 3
    gain0, gain1 = np.empty(wide, np.float32), np.empty(wide, np.float32)
    glow0, glow1 = np.empty(wide, np.float32), np.empty(wide, np.float32)
    row = np.empty(wide, np.float32)
    contrast, shot, read, saturation = look[0], look[1], look[2], look[3]
    one, half = np.float32(1), np.float32(0.5)
    tile_width = noise.shape[1]
    for y in range(height):
        i = y // step
        t = np.float32(y - i * step) / np.float32(step)
        if y == i * step:
            _widen(gain[i], gain0)
            _widen(gain[i + 1], gain1)
            _widen(glow[i], glow0)
            _widen(glow[i + 1], glow1)
        for x in range(width3):
            v = np.float32(canvas[y, x]) * np.float32(1 / 255)
            light = gain0[x] + t * (gain1[x] - gain0[x])
            added = glow0[x] + t * (glow1[x] - glow0[x])
            row[x] = np.sqrt(max(v * v * light + added, np.float32(0)))
        if saturation != one:
            for x in range(0, width3, 3):
                grey = row[x] * np.float32(0.15) + row[x + 1] * np.float32(0.55) + row[x + 2] * np.float32(0.3)
                for c in range(3):
                    row[x + c] = max(grey + saturation * (row[x + c] - grey), np.float32(0))
        grain = noise[(y + shift_y) % noise.shape[0]]
        first, start = 0, 3 * shift_x
        while first < width3:
            count = min(tile_width - start, width3 - first)
            for k in range(count):
                o = row[first + k]
                over = max(o - np.float32(0.75), np.float32(0)) * np.float32(2.5)
                o = min(o, np.float32(0.75)) + np.float32(0.27) * over / (one + over)
                o += contrast * o * (one - o) * (o - half)
                o += grain[start + k] * (shot + read / (o + np.float32(0.08)))
                out[y, first + k] = np.uint8(min(max(o, np.float32(0)), one) * np.float32(255) + half)
            first, start = first + count, 0


def encode(picture: NDArray[np.uint8], quality: int) -> bytes:
    """JPEG bytes of a picture."""
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
