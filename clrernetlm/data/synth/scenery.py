"""Scenery: the sky and what stands beside the road."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.data.synth.camera import Camera
from clrernetlm.data.synth.textures import TILE, cloud_tile


def paint_sky(
    canvas: NDArray[np.uint8],
    camera: Camera,
    bottom: int,
    zenith: tuple[float, float, float],
    haze: tuple[float, float, float],
    clouds: float,
    cloud_colour: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Fill the rows above `bottom` of `canvas` (H, W, 3): a gradient from `haze` at the horizon up to `zenith`, with
    `clouds` (0..1) on a flat layer overhead. Drawn at a quarter of the size."""
    width = canvas.shape[1]
    bottom = max(8, min(bottom, canvas.shape[0]))
    shape = (max(2, bottom // 4), max(2, width // 4))
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    right, up, _ = camera.rays(x * 4 + 1.5, y * 4 + 1.5)
    height = np.clip(up, 0, 1).astype(np.float32)
    mix = 1 - np.exp(-height * 4.0)
    sky = np.asarray(haze, np.float32) + mix[..., None] * (
        np.asarray(zenith, np.float32) - np.asarray(haze, np.float32)
    )
    if clouds > 0:
        tile = cloud_tile()
        far = 1 / (height + 0.06)
        shift = rng.uniform(0, TILE, 2)
        stretch = float(rng.uniform(14, 40))
        u = ((right * far * stretch + shift[0]) % TILE).astype(np.float32)
        v = ((far * stretch * 1.2 + shift[1]) % TILE).astype(np.float32)
        noise = cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        noise += 0.35 * cv2.remap(tile, (u * 3) % TILE, (v * 3) % TILE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        cover = np.clip((noise - 1.6 + 3.0 * clouds) * 0.8, 0, 1) * np.clip(height * 9, 0.15, 1)
        shaded = np.asarray(cloud_colour, np.float32) * (1 - 0.16 * np.clip(noise - 0.5, 0, 1.5))[..., None]
        sky += cover[..., None] * (shaded - sky)
    full = cv2.resize(sky, (width, bottom), interpolation=cv2.INTER_LINEAR)
    canvas[:bottom] = np.clip(full, 0, 255)
