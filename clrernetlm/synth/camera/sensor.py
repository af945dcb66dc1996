"""Simulates the sensor and lens: motion blur, defocus, exposure, noise and tone curve."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrImage, ByteArray, Float32Array
from clrernetlm.core.numba_jit import kernel
from clrernetlm.synth.textures import TILE_SIZE, sensor_noise

LIGHT_MAP_STEP = 4  # image pixels per pixel of the light maps


@dataclass(frozen=True)
class Sensor:
    """The response of the camera: colours as gains in blue, green, red; noise in shares of full scale."""

    exposure: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 0.2
    saturation: float = 1.0
    vignette: float = 0.2
    shot_noise: float = 0.008
    read_noise: float = 0.001
    defocus: float = 0.5  # pixels at a width of 1640
    motion: float = 0.0  # motion blur, as a share of the distance from the vanishing point
    jpeg_quality: int = 90


def light_map_shape(height: int, width: int) -> tuple[int, int]:
    """Return (rows, columns) of the light maps of an image: one more than the image needs, for interpolation."""
    return -(-height // LIGHT_MAP_STEP) + 1, -(-width // LIGHT_MAP_STEP) + 1


def motion_blur(canvas: BgrImage, share: float, vanishing: tuple[float, float]) -> BgrImage:
    """Blur an image (H, W, 3) as forward motion does: along the rays from the `vanishing` point (x, y).

    Each point is spread over `share` of its distance from there, as far inwards as outwards, so that labels stay in
    the middle.
    """
    size = (canvas.shape[1], canvas.shape[0])

    def zoomed(image: BgrImage, by: float) -> BgrImage:
        zoom = np.array([[1 + by, 0, -by * vanishing[0]], [0, 1 + by, -by * vanishing[1]]])
        moved = cv2.warpAffine(image, zoom, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return moved.astype(np.uint8, copy=False)

    # Averaging with a shifted copy three times gives eight instants, evenly spaced.
    canvas = zoomed(canvas, -share / 2)
    for step in (share * 4 / 7, share * 2 / 7, share / 7):
        canvas = cv2.addWeighted(canvas, 0.5, zoomed(canvas, step), 0.5, 0).astype(np.uint8, copy=False)
    return canvas


def defocus_blur(canvas: BgrImage, sigma: float) -> BgrImage:
    """Blur an image (H, W, 3) by a lens out of focus; `sigma` in pixels at a width of 1640."""
    sigma *= canvas.shape[1] / 1640
    if sigma <= 0.25:
        return canvas
    return cv2.GaussianBlur(canvas, (0, 0) if sigma > 1 else (5, 5), sigma).astype(np.uint8, copy=False)


def simulate_sensor(
    canvas: BgrImage, gain: Float32Array, glow: Float32Array, sensor: Sensor, rng: np.random.Generator
) -> BgrImage:
    """Convert (H, W, 3) display values of the lit scene to the (H, W, 3) uint8 image of the sensor.

    `gain` and `glow` (`light_map_shape`, 3) float32 multiply and add to the linear light (display value squared);
    `gain` 1 and `glow` 0 leave the scene as drawn.
    """
    height, width = canvas.shape[:2]
    rows, columns = light_map_shape(height, width)
    y = (np.arange(rows, dtype=np.float32)[:, None] * LIGHT_MAP_STEP / height - 0.5) * 2 * height / width
    x = (np.arange(columns, dtype=np.float32)[None] * LIGHT_MAP_STEP / width - 0.5) * 2
    fall = sensor.exposure / (1 + sensor.vignette * (x * x + y * y)) ** 2
    balance = np.asarray(sensor.white_balance, np.float32)
    gain = gain * (fall[..., None] * balance)
    glow = glow * (fall[..., None] * balance)
    shift = rng.integers(0, TILE_SIZE, 2)
    out = np.empty_like(canvas)
    noise = sensor_noise()
    _simulate_sensor(
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
def _stretch_row(row: Float32Array, out: Float32Array) -> None:
    """Interpolate one row of a light map to the width of the image."""
    for j in range(row.shape[0] // 3 - 1):
        for c in range(3):
            left, right = row[3 * j + c], row[3 * j + 3 + c]
            for k in range(LIGHT_MAP_STEP):
                out[(j * LIGHT_MAP_STEP + k) * 3 + c] = left + np.float32(k / LIGHT_MAP_STEP) * (right - left)


@kernel(fastmath=True)
def _simulate_sensor(
    canvas: ByteArray,
    gain: Float32Array,
    glow: Float32Array,
    noise: Float32Array,
    shift_x: int,
    shift_y: int,
    response: Float32Array,
    out: ByteArray,
) -> None:
    """Light, expose and add noise row by row; `response` is contrast, shot noise, read noise and saturation."""
    height, width3 = canvas.shape
    step = LIGHT_MAP_STEP
    padded_width = (gain.shape[1] // 3 - 1) * step * 3
    gain0, gain1 = np.empty(padded_width, np.float32), np.empty(padded_width, np.float32)
    glow0, glow1 = np.empty(padded_width, np.float32), np.empty(padded_width, np.float32)
    row = np.empty(padded_width, np.float32)
    contrast, shot, read, saturation = response[0], response[1], response[2], response[3]
    one, half = np.float32(1), np.float32(0.5)
    tile_width = noise.shape[1]
    for y in range(height):
        i = y // step
        t = np.float32(y - i * step) / np.float32(step)
        if y == i * step:
            _stretch_row(gain[i], gain0)
            _stretch_row(gain[i + 1], gain1)
            _stretch_row(glow[i], glow0)
            _stretch_row(glow[i + 1], glow1)
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


def encode_jpeg(image: BgrImage, quality: int) -> bytes:
    """Return an image as JPEG bytes."""
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
