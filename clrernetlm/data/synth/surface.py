"""Surface: the one loop over the pixels of the ground, compiled by numba."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clrernetlm.data.synth.camera import Camera
from clrernetlm.data.synth.road import Road
from clrernetlm.data.synth.textures import ground_tiles

PROFILE_STEP = 0.05  # metres between two entries of a profile
PROFILE_REACH = 60.0  # metres to either side
PROFILE_COLUMNS = 8  # blue, green, red, grain, mottling, wear, foliage, edge roughness (m)

Floats = NDArray[np.float32]


def profile_offsets() -> NDArray[np.float64]:
    """(N,) offsets u in metres at which a profile is given."""
    return np.arange(-PROFILE_REACH, PROFILE_REACH + PROFILE_STEP / 2, PROFILE_STEP)


@dataclass
class Surface:
    """What the ground looks like; colours are display values 0..255.

    `profiles` is (2, N, PROFILE_COLUMNS): the cross-section of the road by offset, and the one between `cross`
    metres ahead (a crossing street). `lines` is (L, 14): offset, half width, dash, period, phase, blue, green, red,
    strength, wear, first and last metre ahead, bend (1/m) and where the bend starts.
    """

    profiles: Floats
    lines: Floats
    cross: tuple[float, float] = (1e9, 1e9)
    fog: tuple[float, float, float] = (200.0, 200.0, 200.0)
    visibility: float = 1e9  # metres
    dapple: float = 0.0  # strength of the shadows of leaves, 0..1
    dapple_from: float = 0.0  # offsets between which they fall
    dapple_to: float = 0.0
    dapple_slant: float = 0.4
    dapple_size: float = 1.0
    dapple_threshold: float = 0.0
    shadow_colour: tuple[float, float, float] = (0.55, 0.47, 0.42)
    paint_colour: tuple[float, float, float] = (222.0, 226.0, 228.0)
    texture_shift: NDArray[np.int32] = field(default_factory=lambda: np.zeros(8, np.int32))


def paint_ground(
    canvas: NDArray[np.uint8],
    paint: NDArray[np.uint8],
    shade: NDArray[np.uint8],
    camera: Camera,
    road: Road,
    s: Surface,
    rows: int | None = None,
) -> None:
    """Paint every pixel of the first `rows` (default all) of `canvas` (H, W, 3) that sees the ground.

    `paint` (H, W) is further road paint in `paint_colour`, `shade` (H, W) the cast shadows, both 0..255.
    """
    table, lowest, per_slope = road.table(camera, s.visibility)
    cx, cy = camera.centre
    lens = np.array([cx, cy, 1 / camera.focal, camera.k1, road.bank, lowest, per_slope], np.float32)
    dapple = np.array([s.dapple, s.dapple_from, s.dapple_to, s.dapple_slant, s.dapple_size, s.dapple_threshold])
    air = np.array([*s.fog, *s.shadow_colour, *s.cross, *s.paint_colour])
    lines = s.lines[np.argsort(s.lines[:, 0])].astype(np.float32)
    _shade(
        canvas,
        paint,
        shade,
        camera.rotation.astype(np.float32),
        lens,
        table,
        s.profiles.astype(np.float32),
        lines,
        _lines_near(lines),
        ground_tiles(),
        s.texture_shift.astype(np.int32),
        air.astype(np.float32),
        dapple.astype(np.float32),
        canvas.shape[0] if rows is None else rows,
    )


def _lines_near(lines: Floats) -> NDArray[np.int16]:
    """(N, 2) per profile entry: first and one past the last of the sorted lines that may be painted there."""
    offsets = profile_offsets()[:, None]
    bent = lines[:, 12] * np.square(np.maximum(700 - lines[:, 13], 0))
    left, right = lines[:, 0] + np.minimum(bent, 0), lines[:, 0] + np.maximum(bent, 0)
    close = (offsets > left - lines[:, 1] - 0.5) & (offsets < right + lines[:, 1] + 0.5)
    first = np.argmax(close, 1)
    last = lines.shape[0] - np.argmax(close[:, ::-1], 1)
    return np.stack([first, np.where(close.any(1), last, first)], 1).astype(np.int16)


@njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _cover(distance, half, pixel):  # type: ignore[no-untyped-def]
    """Share of a pixel (metres) that a bar of half width `half` covers, `distance` from its middle."""
    share = (half + pixel * np.float32(0.5) - abs(distance)) / pixel
    return min(max(share, np.float32(0)), min(np.float32(1), np.float32(2) * half / pixel))


@njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _shade(  # type: ignore[no-untyped-def]
    canvas, paint, shade, rotation, lens, table, profiles, lines, near, tiles, shift, air, dapple, rows
) -> None:
    height, width = rows, canvas.shape[1]
    one, zero, byte = np.float32(1), np.float32(0), np.float32(1 / 42)
    cx, cy, inverse, k1, bank, lowest, per_slope = lens[0], lens[1], lens[2], lens[3], lens[4], lens[5], lens[6]
    reach, per_step = np.float32(PROFILE_REACH), np.float32(1 / PROFILE_STEP)
    last = np.float32(table.shape[0] - 1)
    far_entry = profiles.shape[1] - 2
    mask = tiles.shape[1] - 1
    grain_tile, mottle_tile, wear_tile, leaf_tile = tiles[0], tiles[1], tiles[2], tiles[3]
    for y in range(height):
        b = (np.float32(y) - cy) * inverse
        for x in range(width):
            a = (np.float32(x) - cx) * inverse
            bend = one + k1 * (a * a + b * b)
            p, q = a * bend, -b * bend
            ahead = rotation[2, 0] * p + rotation[2, 1] * q + rotation[2, 2]
            right = (rotation[0, 0] * p + rotation[0, 1] * q + rotation[0, 2]) / ahead
            up = (rotation[1, 0] * p + rotation[1, 1] * q + rotation[1, 2]) / ahead
            at = (up - bank * right - lowest) * per_slope
            if at >= last or ahead <= 0:
                continue
            at = max(at, zero)
            i = int(at)
            t = at - np.float32(i)
            reach_u = table[i, 1] + t * (table[i + 1, 1] - table[i, 1])
            u = (right - table[i, 0] - t * (table[i + 1, 0] - table[i, 0])) * reach_u
            z = table[i, 2] + t * (table[i + 1, 2] - table[i, 2])
            pixel_z, clear = table[i, 3], table[i, 4]
            pixel_u = inverse * reach_u
            # Textures: repeated tiles at 1.6 cm, 4 cm and 0.25 m x 0.08 m per texel, faded where a pixel spans them.
            n1 = (
                np.float32(
                    grain_tile[
                        np.uint32((int(z * np.float32(64)) + shift[0]) & mask),
                        np.uint32(int(u * np.float32(64) + np.float32(8192)) + shift[1] & mask),
                    ]
                )
                * byte
            )
            n2 = (
                np.float32(
                    mottle_tile[
                        np.uint32((int(z * np.float32(4)) + shift[2]) & mask),
                        np.uint32(int(u * np.float32(12) + np.float32(8192)) + shift[3] & mask),
                    ]
                )
                * byte
            )
            n3 = (
                np.float32(
                    wear_tile[
                        np.uint32((int(z * np.float32(24)) + shift[4]) & mask),
                        np.uint32(int(u * np.float32(24) + np.float32(8192)) + shift[5] & mask),
                    ]
                )
                * byte
            )
            fade1, fade3 = table[i, 5], table[i, 6]
            which = 1 if (z > air[6] and z < air[7]) else 0
            f = (u + reach) * per_step
            f = min(max(f, zero), np.float32(far_entry))
            rough = profiles[which, int(f), 7]
            if rough > 0:
                f += rough * (n3 * fade3 + n2 * np.float32(0.5)) * per_step
                f = min(max(f, zero), np.float32(far_entry))
            j = int(f)
            g = f - np.float32(j)
            n4 = zero
            leaf = profiles[which, j, 6]
            if leaf > 0:
                n4 = (
                    np.float32(
                        leaf_tile[
                            np.uint32((int(z * np.float32(8)) + shift[6]) & mask),
                            np.uint32(int(u * np.float32(16) + np.float32(8192)) + shift[7] & mask),
                        ]
                    )
                    * byte
                )
            light = (
                one
                + profiles[which, j, 3] * n1 * fade1
                + profiles[which, j, 4] * n2
                + profiles[which, j, 5] * n3 * fade3
                + leaf * n4 * fade3
            )
            blue = (profiles[which, j, 0] + g * (profiles[which, j + 1, 0] - profiles[which, j, 0])) * light
            green = (profiles[which, j, 1] + g * (profiles[which, j + 1, 1] - profiles[which, j, 1])) * light
            red = (profiles[which, j, 2] + g * (profiles[which, j + 1, 2] - profiles[which, j, 2])) * light
            j = int(min(max((u + reach) * per_step, zero), np.float32(far_entry)))
            for k in range(near[j, 0], near[j, 1]):
                middle = lines[k, 0]
                if z > lines[k, 13]:
                    middle += lines[k, 12] * (z - lines[k, 13]) * (z - lines[k, 13])
                away = u - middle
                if abs(away) > lines[k, 1] + pixel_u or z < lines[k, 10] or z > lines[k, 11]:
                    continue
                cover = _cover(away, lines[k, 1], pixel_u)
                dash, period = lines[k, 2], lines[k, 3]
                if dash < period:
                    phase = z + lines[k, 4]
                    phase -= period * np.floor(phase / period)
                    off = abs(phase - dash * np.float32(0.5))
                    off = min(off, period - off)
                    cover *= _cover(off, dash * np.float32(0.5), min(pixel_z, period))
                worn = (n3 * fade3 + np.float32(0.8) * n2 + np.float32(0.5) * n1 * fade1 + np.float32(2.2)) - lines[
                    k, 9
                ]
                cover *= lines[k, 8] * min(max(worn * np.float32(0.8) + np.float32(0.15), np.float32(0.04)), one)
                tone = one + np.float32(0.07) * n1 * fade1 + np.float32(0.05) * n2
                blue += cover * (lines[k, 5] * tone - blue)
                green += cover * (lines[k, 6] * tone - green)
                red += cover * (lines[k, 7] * tone - red)
            extra = paint[y, x]
            if extra > 0:
                worn = n3 * fade3 + np.float32(0.8) * n2 + np.float32(1.9)
                cover = np.float32(extra) * np.float32(1 / 255) * min(max(worn, np.float32(0.1)), one)
                tone = one + np.float32(0.07) * n1 * fade1
                blue += cover * (air[8] * tone - blue)
                green += cover * (air[9] * tone - green)
                red += cover * (air[10] * tone - red)
            dark = np.float32(shade[y, x]) * np.float32(1 / 255)
            if dapple[0] > 0:
                edge = min(u - dapple[1], dapple[2] - u) + n2 * np.float32(1.2)
                if edge > 0:
                    size = dapple[4]
                    m = leaf_tile[int(z * size + 4096) & mask, int((u + dapple[3] * z) * size * 2 + 8192) & mask]
                    m2 = mottle_tile[int(z * size * 2 + 99) & mask, int((u + dapple[3] * z) * size * 3 + 8192) & mask]
                    cast = (np.float32(m) * byte + np.float32(m2) * byte - dapple[5]) * np.float32(1.4) + np.float32(
                        0.5
                    )
                    cast = min(max(cast, zero), one) * min(edge * np.float32(0.7), one) * dapple[0]
                    dark = max(dark, cast)
            if dark > 0:
                blue *= one - dark * (one - air[3])
                green *= one - dark * (one - air[4])
                red *= one - dark * (one - air[5])
            blue = air[0] + clear * (blue - air[0])
            green = air[1] + clear * (green - air[1])
            red = air[2] + clear * (red - air[2])
            canvas[y, x, 0] = np.uint8(min(max(blue, zero), np.float32(255)))
            canvas[y, x, 1] = np.uint8(min(max(green, zero), np.float32(255)))
            canvas[y, x, 2] = np.uint8(min(max(red, zero), np.float32(255)))
