"""Compiled loops of the augmentation: warp and colours of images packed as one 32-bit number per pixel.

A packed pixel is B | G << 8 | R << 16. Every kernel works row by row with row buffers that stay in the processor's
first cache, in loops short and plain enough for the compiler to vectorise; that is why they are split as they are.
All arithmetic is the same on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.arrays import ByteArray, Float32Array, Float64Array
from clrernetlm.core.numba_jit import kernel

Packed = NDArray[np.uint32]  # (H, W)
Plane = ByteArray  # (H, W)
Row = Float32Array  # (W,)

_U, _F = np.uint32, np.float32
_ONE = 1 << 16  # coordinates have 16 fraction bits; interpolation weights 4 per axis
_HALF_WEIGHT = 1 << 11
_RED_BLUE = np.uint32(0xFF00FF)  # two colours in one multiplication, 16 bits each
_GREEN = np.uint32(0xFF00FF00)
_ROUND = np.uint32(0x800080)


def warp_packed(source: Packed, inverse: Float64Array, target: Packed) -> None:
    """Fill `target` (h, w): its pixel x, y is source pixel `inverse` (2, 3) @ (x, y, 1), bilinear in 1/16 pixel.

    Where the four source pixels around a point are not all in the source (H, W), the target is 0. The source must be
    contiguous.
    """
    # Element k holds pixels k and k + 1: one load takes both. They overlap, which only a view can say.
    pairs = np.ndarray((max(source.size - 1, 0),), np.uint64, source, strides=(source.itemsize,))
    _warp(pairs, source.shape[0], source.shape[1], inverse, target)


@kernel
def unpack_planes(packed: Packed, blue: Plane, green: Plane, red: Plane) -> None:
    """(H, W) packed pixels -> its three colours, (H, W) each; all of them contiguous."""
    pixels, b, g, r = packed.reshape(-1), blue.reshape(-1), green.reshape(-1), red.reshape(-1)
    for i in range(len(pixels)):
        b[i] = np.uint8(pixels[i] & _U(255))
        g[i] = np.uint8(_U(pixels[i] >> _U(8)) & _U(255))
        r[i] = np.uint8(_U(pixels[i] >> _U(16)) & _U(255))


@kernel
def _warp(pairs: Any, height: int, width: int, inverse: Float64Array, target: Packed) -> None:
    columns = target.shape[1]
    upper, lower = np.empty(columns, np.uint64), np.empty(columns, np.uint64)
    taps = np.empty((4, columns), np.uint32)
    where, fx, fy = np.empty(columns, np.uint32), np.empty(columns, np.uint32), np.empty(columns, np.uint32)
    step_x, step_y = round(inverse[0, 0] * _ONE), round(inverse[1, 0] * _ONE)
    for y in range(target.shape[0]):
        start_x = round((inverse[0, 1] * y + inverse[0, 2]) * _ONE) + _HALF_WEIGHT
        start_y = round((inverse[1, 1] * y + inverse[1, 2]) * _ONE) + _HALF_WEIGHT
        first, end = _span(start_x, step_x, (width - 1) * _ONE, 0, columns)
        first, end = _span(start_y, step_y, (height - 1) * _ONE, first, end)
        target[y, :first] = 0
        target[y, end:] = 0
        _coordinates(
            _U(start_x + first * step_x), _U(start_y + first * step_y), _U(step_x), _U(step_y), _U(width),
            where, fx, fy, end - first,
        )  # fmt: skip
        _gather(pairs, where, np.uint64(width), upper, lower, end - first)
        _split(upper.view(np.uint32), taps[0], taps[1], end - first)
        _split(lower.view(np.uint32), taps[2], taps[3], end - first)
        _blend(taps[0], taps[1], taps[2], taps[3], fx, fy, target[y, first:end])


@kernel
def recolour_packed(
    image: Packed, order: Any, factor: float, offset: float, hue: float, saturation: float, value: float, shifts: bool
) -> None:
    """In place: channel c becomes channel `order[c]` * factor + offset, clipped; then, if `shifts`, HSV is shifted.

    `hue` in sixths of the circle, -1 to 1; `saturation` and `value` of 255; both are clipped after the shift.
    """
    rows = np.empty((3, image.shape[1]), np.float32)
    for y in range(image.shape[0]):
        for c in range(3):
            _load(image[y], _U(8 * order[c]), rows[c])
        if factor != 1 or offset != 0:
            for c in range(3):
                _scale(rows[c], _F(factor), _F(offset))
        if shifts:
            _shift_hsv(rows[0], rows[1], rows[2], _F(hue), _F(saturation), _F(value))
        _store(rows[0], rows[1], rows[2], image[y])


@kernel
def _span(start: int, step: int, limit: int, first: int, end: int) -> tuple[int, int]:
    """The part of `first..end` in which 0 <= start + x * step < limit."""
    if step == 0:
        return (first, end) if 0 <= start < limit else (first, first)
    if step > 0:
        first, end = max(first, -(start // step)), min(end, (limit - 1 - start) // step + 1)
    else:
        first, end = max(first, -((limit - 1 - start) // -step)), min(end, start // -step + 1)
    return first, max(first, end)


@kernel
def _coordinates(x: Any, y: Any, step_x: Any, step_y: Any, width: Any, where: Any, fx: Any, fy: Any, n: int) -> None:
    """Index of the upper left source pixel, and the weights of its neighbours in 1/16."""
    for i in range(n):
        at_x, at_y = _U(x + _U(_U(i) * step_x)), _U(y + _U(_U(i) * step_y))
        where[i] = _U(_U(at_y >> _U(16)) * width) + _U(at_x >> _U(16))
        fx[i] = _U(at_x >> _U(12)) & _U(15)
        fy[i] = _U(at_y >> _U(12)) & _U(15)


@kernel
def _gather(pairs: Any, where: Any, width: Any, upper: Any, lower: Any, n: int) -> None:
    """The four source pixels around each point. Unsigned indices spare the test for negative ones."""
    for i in range(n):
        k = np.uint64(where[i])
        upper[i], lower[i] = pairs[k], pairs[k + width]


@kernel
def _split(pairs: Packed, left: Packed, right: Packed, n: int) -> None:
    for i in range(n):
        k = np.uint64(i) * np.uint64(2)
        left[i], right[i] = pairs[k], pairs[k + np.uint64(1)]


@kernel
def _blend(a: Packed, b: Packed, c: Packed, d: Packed, fx: Packed, fy: Packed, target: Packed) -> None:
    """Between the columns, then between the rows. Differences may wrap; 16 times the left or upper one undoes it."""
    for i in range(len(target)):
        x, y = fx[i], fy[i]
        left, lower_left = a[i] & _RED_BLUE, c[i] & _RED_BLUE
        upper = _U(_U(left << _U(4)) + _U(x * _U((b[i] & _RED_BLUE) - left)))
        lower = _U(_U(lower_left << _U(4)) + _U(x * _U((d[i] & _RED_BLUE) - lower_left)))
        level = _U(_U(upper << _U(4)) + _U(y * _U(lower - upper)))
        red_blue = _U(_U(level + _ROUND) >> _U(8)) & _RED_BLUE
        left, lower_left = _U(a[i] >> _U(8)) & _RED_BLUE, _U(c[i] >> _U(8)) & _RED_BLUE
        upper = _U(_U(left << _U(4)) + _U(x * _U((_U(b[i] >> _U(8)) & _RED_BLUE) - left)))
        lower = _U(_U(lower_left << _U(4)) + _U(x * _U((_U(d[i] >> _U(8)) & _RED_BLUE) - lower_left)))
        level = _U(_U(upper << _U(4)) + _U(y * _U(lower - upper)))
        target[i] = _U(red_blue | _U(_U(level + _ROUND) & _GREEN))


@kernel
def _load(pixels: Packed, shift: Any, row: Row) -> None:
    for i in range(len(row)):
        row[i] = _F(np.int32(_U(pixels[i] >> shift) & _U(255)))


@kernel
def _scale(row: Row, factor: Any, offset: Any) -> None:
    for i in range(len(row)):
        level = row[i] * factor + offset
        level = _F(0) if level < _F(0) else level
        row[i] = _F(255) if level > _F(255) else level


@kernel
def _shift_hsv(blue: Row, green: Row, red: Row, hue: Any, saturation: Any, value: Any) -> None:
    zero, one, full = _F(0), _F(1), _F(255)
    for i in range(len(red)):
        b, g, r = blue[i], green[i], red[i]
        high = g if g > b else b
        high = r if r > high else high
        low = g if g < b else b
        low = r if r < low else low
        chroma = high - low
        inverse = one / (chroma if chroma > _F(1e-6) else _F(1e-6))
        h = _F(2) + (b - r) * inverse if high == g else _F(4) + (r - g) * inverse
        h = (g - b) * inverse if high == r else h
        h = h + hue
        h = h + _F(6) if h < zero else h
        h = h - _F(6) if h >= _F(6) else h
        s = chroma * full / (high if high > one else one) + saturation
        s = zero if s < zero else s
        s = full if s > full else s
        v = high + value
        v = zero if v < zero else v
        v = full if v > full else v
        chroma = v * s * _F(1 / 255)
        low = v - chroma
        part = abs(h - _F(3)) - one
        part = zero if part < zero else part
        red[i] = low + chroma * (one if part > one else part)
        part = _F(2) - abs(h - _F(2))
        part = zero if part < zero else part
        green[i] = low + chroma * (one if part > one else part)
        part = _F(2) - abs(h - _F(4))
        part = zero if part < zero else part
        blue[i] = low + chroma * (one if part > one else part)


@kernel
def _store(blue: Row, green: Row, red: Row, pixels: Packed) -> None:
    half = _F(0.5)
    for i in range(len(pixels)):
        b, g, r = np.int32(blue[i] + half), np.int32(green[i] + half), np.int32(red[i] + half)
        pixels[i] = _U(b) | _U(_U(g) << _U(8)) | _U(_U(r) << _U(16))
