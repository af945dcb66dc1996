"""Makes small images of trees and facades, and blends them into the canvas."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from clrernetlm.core.arrays import BgraImage, BgrImage, Float32Array
from clrernetlm.core.numba_jit import kernel
from clrernetlm.synth.textures import fractal_noise

TREE_KINDS = 14
FACADE_KINDS, FACADE_ROWS, FACADE_COLUMNS = 16, 24, 16
FACADE_CELL = (18, 22)  # pixels per window
_TREE_SIZE = 192


def _tree_sprite(rng: np.random.Generator) -> BgraImage:
    """Return (S, S, 4) one tree: trunk, clumps of leaves lit from above, ragged edges. Colours are shares of 128."""
    size = _TREE_SIZE
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    style = rng.random()
    bare = style > 0.88
    density = np.zeros((size, size), np.float32)
    light = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(34, 70))):
        if style < 0.22:  # conifer: narrow at the top
            cy = rng.uniform(0.05, 0.88)
            spread = 0.05 + 0.3 * cy
            cx = 0.5 + rng.uniform(-1, 1) * spread * 0.6
            radius = 0.04 + 0.09 * cy
        else:
            angle, away = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
            cx, cy = 0.5 + 0.34 * away * np.cos(angle), 0.38 + 0.3 * away * np.sin(angle)
            radius = rng.uniform(0.045, 0.12)
        r2 = ((x - cx) ** 2 + (y - cy) ** 2 * 1.3) / radius**2
        clump = np.clip(1.15 - r2, 0, 1)
        shade = (
            0.72 + 0.5 * np.clip((cy - y) / radius + 0.2 - (x - cx) / radius * 0.3, -1, 1) + rng.uniform(-0.12, 0.12)
        )
        light = np.where(clump > 0, light + (shade - light) * clump, light)
        density = np.maximum(density, clump)
    noise = np.roll(fractal_noise(7, 0.8, 256), int(rng.integers(256)), 0)[:size, :size]
    fine = np.roll(fractal_noise(8, 0.3, 256), int(rng.integers(256)), 1)[:size, :size]
    alpha = np.clip(
        (density * 1.7 + (0.3 * noise + 0.16 * fine) * (density > 0.02) - (0.95 if bare else 0.62)) * 4, 0, 1
    )
    leaf = np.clip(light + 0.2 * noise + 0.2 * fine, 0.12, 1.6)
    trunk = np.abs(x - 0.5 - 0.03 * np.sin(7 * y)) < 0.012 + 0.014 * y
    trunk &= y > 0.45
    colour = np.repeat(leaf[..., None] * 128, 3, 2)
    under = trunk & (alpha < 0.5)
    colour[under] = (72, 76, 82)
    alpha = np.maximum(alpha, trunk)
    return np.dstack([np.clip(colour, 0, 255), alpha * 255]).astype(np.uint8)


def _hedge_sprite(rng: np.random.Generator) -> BgraImage:
    """Return (64, 256, 4) a hedge."""
    noise, fine = fractal_noise(9, 1.0, 256)[:64], fractal_noise(10, 0.4, 256)[:64]
    y = np.linspace(1, 0, 64, dtype=np.float32)[:, None]
    alpha = np.clip((1 - y + 0.12 * noise - 0.28 + rng.uniform(-0.1, 0)) * 10, 0, 1) * np.clip((1 - y) * 8, 0, 1)
    leaf = np.clip(0.55 + 0.5 * y + 0.2 * noise + 0.2 * fine, 0.1, 1.6) * 128
    alpha = np.where(y > 0.96, 0, np.clip((0.78 - y + 0.1 * noise) * 10, 0, 1))
    return np.dstack([np.repeat(np.clip(leaf, 0, 255)[..., None], 3, 2), alpha * 255]).astype(np.uint8)


@lru_cache(1)
def tree_sprites() -> tuple[tuple[BgraImage, ...], ...]:
    """Return per kind a pyramid of (S, S, 4) sprites, each level half as large; the last kinds are hedges."""
    rng = np.random.default_rng(20242)
    sprites = [_tree_sprite(rng) for _ in range(TREE_KINDS)] + [_hedge_sprite(rng) for _ in range(2)]
    return tuple(_sprite_pyramid(sprite) for sprite in sprites)


def _sprite_pyramid(sprite: BgraImage) -> tuple[BgraImage, ...]:
    """Halve a sprite until about 8 pixels are left, with colours weighted by opacity so that edges do not darken."""
    levels = [sprite]
    while min(levels[-1].shape[:2]) > 12:
        big = levels[-1].astype(np.float32)
        weighted = np.dstack([big[..., :3] * big[..., 3:] / 255, big[..., 3]])
        small = cv2.resize(weighted, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        small[..., :3] = small[..., :3] * 255 / np.maximum(small[..., 3:], 1)
        levels.append(np.clip(small, 0, 255).astype(np.uint8))
    return tuple(levels)


def _facade_sprite(rng: np.random.Generator, lit: float) -> BgrImage:
    """Return (H, W, 3) a wall of windows, ground floor last; the share `lit` of the windows glows.

    It has FACADE_COLUMNS x FACADE_ROWS windows.
    """
    (cell_w, cell_h), columns, rows = FACADE_CELL, FACADE_COLUMNS, FACADE_ROWS
    warmth = rng.uniform(-0.3, 1.2)
    wall = rng.uniform(80, 215) + rng.normal(0, 4, 3) + np.array([-14, -2, 12]) * warmth
    cells = np.empty((rows, cell_h, columns, cell_w, 3), np.float32)
    cells[:] = wall * rng.uniform(0.96, 1.04, (rows, 1, 1, 1, 1))
    glass = rng.uniform(45, 105) + np.array([8, 2, -5])
    tone = glass * rng.gamma(18, 1 / 18, (rows, columns, 1))
    glow = rng.random((rows, columns, 1)) < lit
    tone = np.where(glow, np.array([120, 195, 245]) * rng.uniform(0.4, 1.0, (rows, columns, 1)), tone)
    x0, x1 = int(rng.integers(1, 7)), int(rng.integers(11, 17))
    y0, y1 = int(rng.integers(3, 8)), int(rng.integers(13, 20))
    if rng.random() < 0.3:  # bands of glass
        x0, x1 = 0, cell_w
    cells[:, y0:y1, :, x0:x1] = tone[:, None, :, None]
    cells[:, y0 : y0 + 1, :, x0:x1] *= 0.65  # the lintel's shadow
    cells[:, y0:y1, :, (x0 + x1) // 2 : (x0 + x1) // 2 + 1] *= 1.3
    cells[:, y1 : y1 + 1, :, x0:x1] = wall * 1.1
    if rng.random() < 0.4:  # balconies
        every = int(rng.integers(2, 5))
        cells[:, y1 - 3 : y1 + 2, ::every] = wall * rng.uniform(0.7, 1.1)
        cells[:, y1 + 2 : y1 + 4, ::every] *= 0.6
    if rng.random() < 0.6:
        cells[:, :1] *= 0.82
    cells[-1] = np.array([86, 84, 82]) * rng.uniform(0.6, 1.5, (1, columns, 1, 1))
    cells[-1, :, :, ::6] = wall * 0.7
    cells[-1, 12:, :, 8:14] *= rng.uniform(0.5, 1.0, (1, columns, 1, 1))
    cells[-1, :6] = np.clip(
        wall + rng.normal(0, 9, (1, columns, 1, 3)) + rng.normal(0, 22, (1, columns, 1, 1)), 20, 230
    )
    image = cells.reshape(rows * cell_h, columns * cell_w, 3)
    dirt = np.tile(fractal_noise(9, 1.2, 256), (4, 4))[: image.shape[0], : image.shape[1], None]
    image *= 1 + 0.05 * dirt + rng.normal(0, 0.03, image.shape[:2]).astype(np.float32)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


@lru_cache(2)
def facade_sprites(lit: bool) -> tuple[tuple[BgrImage, ...], ...]:
    """Return `FACADE_KINDS` walls by day, or by night with some windows lit, each halved three times."""
    rng = np.random.default_rng([20243, lit])
    kinds = []
    for _ in range(FACADE_KINDS):
        levels = [_facade_sprite(rng, rng.uniform(0.04, 0.35) if lit else 0.0)]
        for _ in range(3):
            size = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
            levels.append(cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False))
        kinds.append(tuple(levels))
    return tuple(kinds)


def draw_sprite(
    canvas: BgrImage,
    pyramid: tuple[BgraImage, ...],
    box: tuple[float, float, float, float],
    tint: tuple[float, float, float],
    fog: tuple[float, float, float],
    clear: float,
    flip: bool = False,
) -> None:
    """Blend a sprite into the box (left, top, right, bottom) in pixels.

    Colours are multiplied by `tint` / 128 and fade into `fog` as `clear` falls from 1 to 0.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    if width < 1 or height < 1:
        return
    level = int(np.clip(np.floor(np.log2(pyramid[0].shape[0] / height) + 0.4), 0, len(pyramid) - 1))
    colours = np.array([*tint, *fog, clear], np.float32)
    _draw_sprite(canvas, pyramid[level], np.array(box, np.float32), colours, flip)


@kernel(fastmath=True)
def _draw_sprite(canvas: BgrImage, sprite: BgraImage, box: Float32Array, colours: Float32Array, flip: bool) -> None:
    """Blend one level of a sprite; `colours` is tint, fog and transmission of the air."""
    rows, columns = sprite.shape[:2]
    step_x = np.float32(columns) / (box[2] - box[0])
    step_y = np.float32(rows) / (box[3] - box[1])
    clear = colours[6]
    for y in range(max(0, int(np.ceil(box[1]))), min(canvas.shape[0], int(box[3]) + 1)):
        v = (np.float32(y) - box[1]) * step_y - np.float32(0.5)
        v = min(max(v, np.float32(0)), np.float32(rows) - np.float32(1.001))
        i = int(v)
        fv = v - np.float32(i)
        for x in range(max(0, int(np.ceil(box[0]))), min(canvas.shape[1], int(box[2]) + 1)):
            u = (np.float32(x) - box[0]) * step_x - np.float32(0.5)
            u = min(max(u, np.float32(0)), np.float32(columns) - np.float32(1.001))
            if flip:
                u = np.float32(columns) - np.float32(1.002) - u
                u = max(u, np.float32(0))
            j = int(u)
            fu = u - np.float32(j)
            w00, w01 = (1 - fu) * (1 - fv), fu * (1 - fv)
            w10, w11 = (1 - fu) * fv, fu * fv
            alpha = (
                w00 * np.float32(sprite[i, j, 3])
                + w01 * np.float32(sprite[i, j + 1, 3])
                + w10 * np.float32(sprite[i + 1, j, 3])
                + w11 * np.float32(sprite[i + 1, j + 1, 3])
            ) * np.float32(1 / 255)
            if alpha < np.float32(0.01):
                continue
            tone = (
                w00 * np.float32(sprite[i, j, 0])
                + w01 * np.float32(sprite[i, j + 1, 0])
                + w10 * np.float32(sprite[i + 1, j, 0])
                + w11 * np.float32(sprite[i + 1, j + 1, 0])
            ) * np.float32(1 / 128)
            for c in range(3):
                value = colours[3 + c] + clear * (tone * colours[c] - colours[3 + c])
                old = np.float32(canvas[y, x, c])
                canvas[y, x, c] = np.uint8(min(max(old + alpha * (value - old), np.float32(0)), np.float32(255)))
