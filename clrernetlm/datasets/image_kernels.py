"""Warps images and changes their colours in compiled loops, on images packed as one 32-bit integer per pixel.

A packed pixel is B | G << 8 | R << 16. Kernels process row by row, with row buffers that stay in the L1 cache, and are
split into loops that are short and simple enough for the compiler to vectorise. The arithmetic is the same on every
machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.arrays import ByteArray, Float32Array, Float64Array
from clrernetlm.core.numba_jit import kernel

PackedImage = NDArray[np.uint32]  # (H, W)
Plane = ByteArray  # (H, W)
Row = Float32Array  # (W,)

_U32, _F32 = np.uint32, np.float32
_ONE = 1 << 16  # coordinates have 16 fraction bits; interpolation weights 4 per axis
_HALF_WEIGHT = 1 << 11
_RED_BLUE = np.uint32(0xFF00FF)  # two colours in one multiplication, 16 bits each
_GREEN = np.uint32(0xFF00FF00)
_ROUND = np.uint32(0x800080)


def warp_packed(source: PackedImage, inverse: Float64Array, target: PackedImage) -> None:
    """Warp into `target` (h, w): its pixel x, y is source pixel `inverse` (2, 3) @ (x, y, 1), bilinear in 1/16 pixel.

    The target is 0 unless all four source pixels around a point are in the source (H, W). The source must be
    contiguous.
    """
    # Element k holds pixels k and k + 1, so that one load reads both; the elements overlap.
    pairs = np.ndarray((max(source.size - 1, 0),), np.uint64, source, strides=(source.itemsize,))
    _warp(pairs, source.shape[0], source.shape[1], inverse, target)


@kernel
def unpack_planes(packed: PackedImage, blue: Plane, green: Plane, red: Plane) -> None:
    """Split packed pixels (H, W) into three colours, (H, W) each; all arrays are contiguous."""
    pixels, b, g, r = packed.reshape(-1), blue.reshape(-1), green.reshape(-1), red.reshape(-1)
    for i in range(len(pixels)):
        b[i] = np.uint8(pixels[i] & _U32(255))
        g[i] = np.uint8(_U32(pixels[i] >> _U32(8)) & _U32(255))
        r[i] = np.uint8(_U32(pixels[i] >> _U32(16)) & _U32(255))


@kernel
def _warp(pairs: Any, height: int, width: int, inverse: Float64Array, target: PackedImage) -> None:
    columns = target.shape[1]
    upper, lower = np.empty(columns, np.uint64), np.empty(columns, np.uint64)
    taps = np.empty((4, columns), np.uint32)
    index, fx, fy = np.empty(columns, np.uint32), np.empty(columns, np.uint32), np.empty(columns, np.uint32)
    step_x, step_y = round(inverse[0, 0] * _ONE), round(inverse[1, 0] * _ONE)
    for y in range(target.shape[0]):
        start_x = round((inverse[0, 1] * y + inverse[0, 2]) * _ONE) + _HALF_WEIGHT
        start_y = round((inverse[1, 1] * y + inverse[1, 2]) * _ONE) + _HALF_WEIGHT
        first, end = _span(start_x, step_x, (width - 1) * _ONE, 0, columns)
        first, end = _span(start_y, step_y, (height - 1) * _ONE, first, end)
        target[y, :first] = 0
        target[y, end:] = 0
        _coordinates(
            _U32(start_x + first * step_x), _U32(start_y + first * step_y), _U32(step_x), _U32(step_y), _U32(width),
            index, fx, fy, end - first,
        )  # fmt: skip
        _gather(pairs, index, np.uint64(width), upper, lower, end - first)
        _split(upper.view(np.uint32), taps[0], taps[1], end - first)
        _split(lower.view(np.uint32), taps[2], taps[3], end - first)
        _blend(taps[0], taps[1], taps[2], taps[3], fx, fy, target[y, first:end])


@kernel
def change_colours(
    image: PackedImage,
    order: Any,
    factor: float,
    offset: float,
    hue: float,
    saturation: float,
    value: float,
    shifts: bool,
) -> None:
    """Change colours in place: channel c = channel `order[c]` * factor + offset, clipped; then, if `shifts`, shift HSV.

    `hue` in sixths of the circle, -1 to 1; `saturation` and `value` of 255; both are clipped after the shift.
    """
    rows = np.empty((3, image.shape[1]), np.float32)
    for y in range(image.shape[0]):
        for c in range(3):
            _load(image[y], _U32(8 * order[c]), rows[c])
        if factor != 1 or offset != 0:
            for c in range(3):
                _scale(rows[c], _F32(factor), _F32(offset))
        if shifts:
            _shift_hsv(rows[0], rows[1], rows[2], _F32(hue), _F32(saturation), _F32(value))
        _store(rows[0], rows[1], rows[2], image[y])


@kernel
def _span(start: int, step: int, limit: int, first: int, end: int) -> tuple[int, int]:
    """Find the part of `first..end` in which 0 <= start + x * step < limit."""
    if step == 0:
        return (first, end) if 0 <= start < limit else (first, first)
    if step > 0:
        first, end = max(first, -(start // step)), min(end, (limit - 1 - start) // step + 1)
    else:
        first, end = max(first, -((limit - 1 - start) // -step)), min(end, start // -step + 1)
    return first, max(first, end)


@kernel
def _coordinates(x: Any, y: Any, step_x: Any, step_y: Any, width: Any, index: Any, fx: Any, fy: Any, n: int) -> None:
    """Compute the index of each upper left source pixel, and the weights of its neighbours in 1/16."""
    for i in range(n):
        source_x, source_y = _U32(x + _U32(_U32(i) * step_x)), _U32(y + _U32(_U32(i) * step_y))
        index[i] = _U32(_U32(source_y >> _U32(16)) * width) + _U32(source_x >> _U32(16))
        fx[i] = _U32(source_x >> _U32(12)) & _U32(15)
        fy[i] = _U32(source_y >> _U32(12)) & _U32(15)


@kernel
def _gather(pairs: Any, index: Any, width: Any, upper: Any, lower: Any, n: int) -> None:
    """Load the four source pixels around each point. With unsigned indices there is no test for negative ones."""
    for i in range(n):
        k = np.uint64(index[i])
        upper[i], lower[i] = pairs[k], pairs[k + width]


@kernel
def _split(pairs: PackedImage, left: PackedImage, right: PackedImage, n: int) -> None:
    for i in range(n):
        k = np.uint64(i) * np.uint64(2)
        left[i], right[i] = pairs[k], pairs[k + np.uint64(1)]


@kernel
def _blend(
    a: PackedImage,
    b: PackedImage,
    c: PackedImage,
    d: PackedImage,
    fx: PackedImage,
    fy: PackedImage,
    target: PackedImage,
) -> None:
    """Interpolate along x, then along y. Differences may wrap; adding 16 times the left or upper pixel corrects it."""
    for i in range(len(target)):
        x, y = fx[i], fy[i]
        left, lower_left = a[i] & _RED_BLUE, c[i] & _RED_BLUE
        upper = _U32(_U32(left << _U32(4)) + _U32(x * _U32((b[i] & _RED_BLUE) - left)))
        lower = _U32(_U32(lower_left << _U32(4)) + _U32(x * _U32((d[i] & _RED_BLUE) - lower_left)))
        level = _U32(_U32(upper << _U32(4)) + _U32(y * _U32(lower - upper)))
        red_blue = _U32(_U32(level + _ROUND) >> _U32(8)) & _RED_BLUE
        left, lower_left = _U32(a[i] >> _U32(8)) & _RED_BLUE, _U32(c[i] >> _U32(8)) & _RED_BLUE
        upper = _U32(_U32(left << _U32(4)) + _U32(x * _U32((_U32(b[i] >> _U32(8)) & _RED_BLUE) - left)))
        lower = _U32(_U32(lower_left << _U32(4)) + _U32(x * _U32((_U32(d[i] >> _U32(8)) & _RED_BLUE) - lower_left)))
        level = _U32(_U32(upper << _U32(4)) + _U32(y * _U32(lower - upper)))
        target[i] = _U32(red_blue | _U32(_U32(level + _ROUND) & _GREEN))


@kernel
def _load(pixels: PackedImage, shift: Any, row: Row) -> None:
    for i in range(len(row)):
        row[i] = _F32(np.int32(_U32(pixels[i] >> shift) & _U32(255)))


@kernel
def _scale(row: Row, factor: Any, offset: Any) -> None:
    for i in range(len(row)):
        level = row[i] * factor + offset
        level = _F32(0) if level < _F32(0) else level
        row[i] = _F32(255) if level > _F32(255) else level


@kernel
def _shift_hsv(blue: Row, green: Row, red: Row, hue: Any, saturation: Any, value: Any) -> None:
    zero, one, full = _F32(0), _F32(1), _F32(255)
    for i in range(len(red)):
        b, g, r = blue[i], green[i], red[i]
        high = g if g > b else b
        high = r if r > high else high
        low = g if g < b else b
        low = r if r < low else low
        chroma = high - low
        inverse = one / (chroma if chroma > _F32(1e-6) else _F32(1e-6))
        h = _F32(2) + (b - r) * inverse if high == g else _F32(4) + (r - g) * inverse
        h = (g - b) * inverse if high == r else h
        h = h + hue
        h = h + _F32(6) if h < zero else h
        h = h - _F32(6) if h >= _F32(6) else h
        s = chroma * full / (high if high > one else one) + saturation
        s = zero if s < zero else s
        s = full if s > full else s
        v = high + value
        v = zero if v < zero else v
        v = full if v > full else v
        chroma = v * s * _F32(1 / 255)
        low = v - chroma
        part = abs(h - _F32(3)) - one
        part = zero if part < zero else part
        red[i] = low + chroma * (one if part > one else part)
        part = _F32(2) - abs(h - _F32(2))
        part = zero if part < zero else part
        green[i] = low + chroma * (one if part > one else part)
        part = _F32(2) - abs(h - _F32(4))
        part = zero if part < zero else part
        blue[i] = low + chroma * (one if part > one else part)


@kernel
def _store(blue: Row, green: Row, red: Row, pixels: PackedImage) -> None:
    half = _F32(0.5)
    for i in range(len(pixels)):
        b, g, r = np.int32(blue[i] + half), np.int32(green[i] + half), np.int32(red[i] + half)
        pixels[i] = _U32(b) | _U32(_U32(g) << _U32(8)) | _U32(_U32(r) << _U32(16))
