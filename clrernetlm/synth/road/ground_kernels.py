"""Shades the pixels of the ground in one compiled loop."""

from __future__ import annotations

import numpy as np
from numba import float32

from clrernetlm.core.arrays import BgrImage, ByteArray, ByteMask, Float32Array, Int16Array, Int32Array, SignedByteArray
from clrernetlm.core.numba_jit import kernel

PROFILE_STEP = 0.05  # metres between two entries of a profile
PROFILE_REACH = 60.0  # metres to either side
_BLOCK = 8  # pixels between two exact ray intersections; positions between them are interpolated
_TONE = np.float32(1 / 42)  # textures are stored as 42 times their deviation


@kernel(fastmath=True)
def _coverage(distance: np.float32, half: np.float32, pixel: np.float32) -> np.float32:
    """Return the share of a pixel (`pixel` metres) that a bar of half width `half` at this distance covers."""
    share = (half + pixel * float32(0.5) - abs(distance)) / pixel
    return min(max(share, float32(0)), min(float32(1), float32(2) * half / pixel))


@kernel(fastmath=True)
def _nearest_texel(tile: SignedByteArray, v: np.float32, u: np.float32, row: int, column: int) -> np.float32:
    """Return the nearest texel of a repeated tile at v >= 0 and u > -8192 texels, shifted; in standard deviations."""
    mask = tile.shape[0] - 1
    at_row, at_column = (int(v) + row) & mask, (int(u + float32(8192)) + column) & mask
    result: np.float32 = float32(tile[np.uint32(at_row), np.uint32(at_column)]) * _TONE
    return result


@kernel(fastmath=True)
def _interpolated_texel(tile: SignedByteArray, v: np.float32, u: np.float32) -> np.float32:
    """Return a repeated tile at v, u interpolated between four texels; in standard deviations."""
    mask = tile.shape[0] - 1
    u += float32(8192)
    i, j = int(v), int(u)
    fv, fu = v - float32(i), u - float32(j)
    i0, i1, j0, j1 = i & mask, (i + 1) & mask, j & mask, (j + 1) & mask
    upper = float32(tile[i0, j0]) + fu * (float32(tile[i0, j1]) - float32(tile[i0, j0]))
    lower = float32(tile[i1, j0]) + fu * (float32(tile[i1, j1]) - float32(tile[i1, j0]))
    result: np.float32 = (upper + fv * (lower - upper)) * _TONE
    return result


@kernel(fastmath=True)
def _interpolated_map(tile: ByteArray, v: np.float32, u: np.float32) -> np.float32:
    """Return a repeated uint8 tile at v >= 0, u >= 0 interpolated between four texels."""
    mask = tile.shape[0] - 1
    i, j = int(v), int(u)
    fv, fu = v - float32(i), u - float32(j)
    i0, i1, j0, j1 = i & mask, (i + 1) & mask, j & mask, (j + 1) & mask
    upper = float32(tile[i0, j0]) + fu * (float32(tile[i0, j1]) - float32(tile[i0, j0]))
    lower = float32(tile[i1, j0]) + fu * (float32(tile[i1, j1]) - float32(tile[i1, j0]))
    result: np.float32 = upper + fv * (lower - upper)
    return result


@kernel(fastmath=True)
def _ground_at_pixel(
    x: int, y: int, rotation: Float32Array, lens: Float32Array, table: Float32Array
) -> tuple[int, np.float32, np.float32, np.float32]:
    """Return table entry (negative: sky), offset and distance of the ground at a pixel, and metres per focal length."""
    a, b = (float32(x) - lens[0]) * lens[2], (float32(y) - lens[1]) * lens[2]
    bend = float32(1) + lens[3] * (a * a + b * b)
    p, q = a * bend, -b * bend
    ahead = rotation[2, 0] * p + rotation[2, 1] * q + rotation[2, 2]
    right = (rotation[0, 0] * p + rotation[0, 1] * q + rotation[0, 2]) / ahead
    up = (rotation[1, 0] * p + rotation[1, 1] * q + rotation[1, 2]) / ahead
    at = (up - lens[4] * right - lens[5]) * lens[6]
    if at >= float32(table.shape[0] - 1) or ahead <= 0:
        return -1, float32(0), float32(0), float32(1)
    at = max(at, float32(0))
    i = int(at)
    t = at - float32(i)
    scale = table[i, 1] + t * (table[i + 1, 1] - table[i, 1])
    u = (right - table[i, 0] - t * (table[i + 1, 0] - table[i, 0])) * scale
    return i, u, table[i, 2] + t * (table[i + 1, 2] - table[i, 2]), scale


@kernel(fastmath=True)
def _leaf_shadow_at(
    u: np.float32,
    z: np.float32,
    noise: np.float32,
    leaf_shadow: Float32Array,
    leaves: SignedByteArray,
    mottle: SignedByteArray,
) -> np.float32:
    """Return the depth 0..1 of the shadow that leaves cast on the ground."""
    edge = min(u - leaf_shadow[1], leaf_shadow[2] - u) + noise * float32(1.2)
    if edge <= 0:
        return float32(0)
    size, along = leaf_shadow[4], u + leaf_shadow[3] * z
    coarse = _interpolated_texel(leaves, z * size + float32(4096), along * size * float32(2))
    fine = _interpolated_texel(mottle, z * size * float32(2), along * size * float32(3))
    cast = (coarse + fine - leaf_shadow[5]) * float32(1.4) + float32(0.5)
    result: np.float32 = min(max(cast, float32(0)), float32(1)) * min(edge * float32(0.7), float32(1)) * leaf_shadow[0]
    return result


@kernel(fastmath=True)
def shade_ground(
    canvas: BgrImage,
    paint: ByteMask,
    shade: ByteMask,
    rotation: Float32Array,
    lens: Float32Array,
    table: Float32Array,
    profiles: Float32Array,
    lines: Float32Array,
    near: Int16Array,
    tiles: SignedByteArray,
    shift: Int32Array,
    air: Float32Array,
    leaf_shadow: Float32Array,
    rows: int,
    relief: ByteArray,
    fork: Float32Array,
) -> None:
    """Draw the ground in the first `rows` rows of `canvas`; `ground_renderer.draw_ground` prepares the arguments.

    `lens`: principal point, 1 / focal length, distortion, bank, lowest slope and entries per slope of `table`. `air`:
    colours of fog and shadow, ends of the crossing street, colours of further paint and of the cover. `near`: range
    of the sorted `lines` that may lie at an entry of the profile. `relief`: tone and cover from above, or (2, 1, 1)
    for none. `fork`: fields of `RoadFork`, or a start beyond the road for none. All in one loop: each pixel needs some
    twenty intermediate values.
    """
    one, zero, full = float32(1), float32(0), float32(255)
    reach, per_step = float32(PROFILE_REACH), float32(1 / PROFILE_STEP)
    far_entry = float32(profiles.shape[1] - 2)
    grain_tile, mottle_tile, wear_tile, leaf_tile = tiles[0], tiles[1], tiles[2], tiles[3]
    along, street = profiles[0], profiles[1]
    mapped = relief.shape[1] > 1
    width = canvas.shape[1]
    for y in range(rows):
        i1, u1, z1, scale1 = _ground_at_pixel(0, y, rotation, lens, table)
        for x0 in range(0, width, _BLOCK):
            i0, u0, z0, scale0 = i1, u1, z1, scale1
            i1, u1, z1, scale1 = _ground_at_pixel(x0 + _BLOCK, y, rotation, lens, table)
            if i0 < 0 and i1 < 0:
                continue
            smooth = i0 >= 0 and i1 >= 0 and abs(z1 - z0) < float32(0.04) * z0
            du, dz = (u1 - u0) * float32(1 / _BLOCK), (z1 - z0) * float32(1 / _BLOCK)
            for x in range(x0, min(x0 + _BLOCK, width)):
                i, u, z, scale = i0, u0, z0, scale0
                if smooth:
                    u += du * float32(x - x0)
                    z += dz * float32(x - x0)
                else:
                    i, u, z, scale = _ground_at_pixel(x, y, rotation, lens, table)
                    if i < 0:
                        continue
                pixel_z, clear, fade1, fade3 = table[i, 3], table[i, 4], table[i, 5], table[i, 6]
                # Texels of 1.6 cm, of 25 cm along x 8 cm across, and of 4 cm, faded where a pixel spans many.
                grain = _nearest_texel(grain_tile, z * float32(64), u * float32(64), shift[0], shift[1]) * fade1
                mottle = _nearest_texel(mottle_tile, z * float32(4), u * float32(12), shift[2], shift[3])
                wear = _nearest_texel(wear_tile, z * float32(24), u * float32(24), shift[4], shift[5]) * fade3
                # Material: entry of the profile, displaced by noise; columns as named at `PROFILE_COLUMNS`.
                material = street if (z > air[6] and z < air[7]) else along
                f = min(max((u + reach) * per_step, zero), far_entry)
                j = int(f)
                first, last = near[j, 0], near[j, 1]
                if z > fork[3]:
                    beyond = (u - fork[0]) * fork[1]
                    if beyond > 0:
                        moved = fork[2] * (z - fork[3]) * (z - fork[3])
                        gap = moved * fork[1] - beyond
                        material_u = u - moved
                        if gap > 0:
                            material_u = fork[0] if min(beyond, gap) < fork[4] else fork[5]
                        f = min(max((material_u + reach) * per_step, zero), far_entry)
                        j = int(f)
                roughness = material[j, 7]
                if roughness > 0:
                    f += roughness * (wear + mottle * float32(0.5)) * per_step
                    f = min(max(f, zero), far_entry)
                    j = int(f)
                g = f - float32(j)
                light = one + material[j, 3] * grain + material[j, 4] * mottle + material[j, 5] * wear
                if material[j, 6] > 0:
                    light += (
                        material[j, 6]
                        * fade3
                        * _nearest_texel(leaf_tile, z * float32(8), u * float32(16), shift[6], shift[7])
                    )
                blue = (material[j, 0] + g * (material[j + 1, 0] - material[j, 0])) * light
                green = (material[j, 1] + g * (material[j + 1, 1] - material[j, 1])) * light
                red = (material[j, 2] + g * (material[j + 1, 2] - material[j, 2])) * light
                # Tone and cover of the map from above.
                hidden = zero
                if mapped and abs(u) < float32(15.9):
                    at_v = z * float32(8) + wear * float32(0.6) + float32(512)
                    at_u = (u + float32(16)) * float32(16) + wear * float32(0.6)
                    soft = one / (one + float32(0.4) * pixel_z)
                    hidden = _interpolated_map(relief[1], at_v, at_u) * float32(1 / 255)
                    ratio = one + soft * (_interpolated_map(relief[0], at_v, at_u) * float32(1 / 64) - one)
                    blue *= ratio
                    green *= ratio
                    red *= ratio
                # Lane lines; columns of `lines` as in `GroundAppearance`.
                for k in range(first, last):
                    middle, pixel_u = lines[k, 0], lens[2] * scale
                    if z > lines[k, 13]:
                        middle += lines[k, 12] * (z - lines[k, 13]) * (z - lines[k, 13])
                    away = u - middle
                    if abs(away) > lines[k, 1] + pixel_u or z < lines[k, 10] or z > lines[k, 11]:
                        continue
                    cover = _coverage(away, lines[k, 1], pixel_u)
                    dash, period = lines[k, 2], lines[k, 3]
                    if dash < period:
                        phase = z + lines[k, 4]
                        phase -= period * np.floor(phase / period)
                        off = abs(phase - dash * float32(0.5))
                        cover *= _coverage(min(off, period - off), dash * float32(0.5), min(pixel_z, period))
                    worn = wear + float32(0.8) * mottle + float32(0.5) * grain + float32(2.2) - lines[k, 9]
                    cover *= lines[k, 8] * min(max(worn * float32(0.8) + float32(0.15), float32(0.04)), one)
                    tone = one + float32(0.07) * grain + float32(0.05) * mottle
                    blue += cover * (lines[k, 5] * tone - blue)
                    green += cover * (lines[k, 6] * tone - green)
                    red += cover * (lines[k, 7] * tone - red)
                # Further paint, then the cover, then shadows.
                if paint[y, x] > 0:
                    worn = min(max(wear + float32(0.8) * mottle + float32(1.9), float32(0.1)), one)
                    cover, tone = float32(paint[y, x]) * float32(1 / 255) * worn, one + float32(0.07) * grain
                    blue += cover * (air[8] * tone - blue)
                    green += cover * (air[9] * tone - green)
                    red += cover * (air[10] * tone - red)
                if hidden > 0:
                    hidden = min(max(hidden * (one + float32(0.5) * (mottle + wear)), zero), one)
                    tone = one + material[j, 3] * grain + float32(0.06) * wear
                    blue += hidden * (air[11] * tone - blue)
                    green += hidden * (air[12] * tone - green)
                    red += hidden * (air[13] * tone - red)
                dark = float32(shade[y, x]) * float32(1 / 255)
                if leaf_shadow[0] > 0:
                    dark = max(dark, _leaf_shadow_at(u, z, mottle, leaf_shadow, leaf_tile, mottle_tile))
                if dark > 0:
                    blue *= one - dark * (one - air[3])
                    green *= one - dark * (one - air[4])
                    red *= one - dark * (one - air[5])
                # Haze.
                canvas[y, x, 0] = np.uint8(min(max(air[0] + clear * (blue - air[0]), zero), full))
                canvas[y, x, 1] = np.uint8(min(max(air[1] + clear * (green - air[1]), zero), full))
                canvas[y, x, 2] = np.uint8(min(max(air[2] + clear * (red - air[2]), zero), full))
