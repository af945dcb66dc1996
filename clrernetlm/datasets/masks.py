"""Reads segmentation masks: images whose pixels are lane numbers, in any of the formats in which they are stored."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.arrays import ByteArray, ByteMask
from clrernetlm.core.errors import UserError
from clrernetlm.core.images import decode_image, read_file
from clrernetlm.models.clrernet.targets import IGNORED_LABEL

MAX_LANE_NUMBER = 32  # larger values are brightness levels, not lane numbers
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3  # colour types of PNG
_LEVELS = {2: 85, 4: 17}  # bits of a grey PNG -> 8-bit level per number; decoders stretch numbers to 0..255
_FIX = "write a grey PNG with 0 for no lane, 1, 2, ... for the lanes and 255 for pixels to ignore, or use no masks"


def read_mask(path: str, labelled: bool = True) -> ByteMask:
    """Read the (H, W) uint8 lane numbers of a mask: 0 no lane, 1, 2, ... lanes, 255 pixels to ignore.

    Accepts grey images of any depth, colour images whose channels are equal or of which only one holds small numbers,
    and palettes: their numbers are the indices, or the colours if those are near-black greys, as image optimisers write
    them. `labelled`: the image is labelled with lanes; then a mask of only 0 and 255 is refused, because it does not
    distinguish them.

    Raises UserError naming the file if it cannot be read, or if its numbers are ambiguous.
    """
    data = read_file(path)
    palette = _palette(data)
    if palette is not None:
        mask = _from_palette(_indices(data, path), palette, path)
    else:
        mask = _eight_bits(_one_channel(decode_image(data, path, cv2.IMREAD_UNCHANGED), path), path)
        if (bits := _grey_bits(data)) in _LEVELS:
            mask = mask // np.uint8(_LEVELS[bits])
    if mask.max(initial=0) > MAX_LANE_NUMBER:
        _require_numbers(mask, path, labelled)
    elif data.startswith(b"\xff\xd8"):
        raise UserError(f"{path}: a mask stored as JPEG, which blurs lane numbers; {_FIX}")
    return mask


def used_values(mask: ByteArray) -> NDArray[np.int64]:
    """List the values that a mask (H, W) holds, ascending."""
    # np.bincount would make 8 bytes of every pixel.
    return np.flatnonzero(cv2.calcHist([mask], [0], None, [256], [0, 256]))


def _one_channel(image: NDArray[Any], path: str) -> NDArray[Any]:
    """Reduce (H, W) or (H, W, channels) of any type to the (H, W) channel that holds the numbers."""
    if image.ndim == 2:
        return image
    colours = image[..., :3]
    if image.shape[2] == 4:
        alpha, opaque = image[..., 3], np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
        if not ((alpha == opaque) | ((alpha == 0) & (colours == 0).all(axis=2))).all():
            raise UserError(f"{path}: the mask is partly transparent; {_FIX}")
    used = [i for i in range(colours.shape[2]) if colours[..., i].any()]
    if len(used) < 2:  # such as the red channel of simulators; colours for display are brighter
        numbers = np.ascontiguousarray(colours[..., used[0] if used else 0])
        if numbers.max(initial=0) <= MAX_LANE_NUMBER:
            return numbers
    elif all(np.array_equal(colours[..., 0], colours[..., i]) for i in used[1:]) and len(used) == colours.shape[2]:
        return np.ascontiguousarray(colours[..., 0])
    raise UserError(f"{path}: the mask is in colours, which do not tell the lanes' numbers; {_FIX}")


def _eight_bits(mask: NDArray[Any], path: str) -> ByteMask:
    """Turn numbers of another depth into uint8: as they are, or scaled down where all are stretched to 16 bits."""
    if mask.dtype == np.uint8:
        return mask
    if mask.dtype == np.uint16:
        if mask.max(initial=0) <= IGNORED_LABEL:
            return mask.astype(np.uint8)
        if not (mask % 257).any():
            return (mask // 257).astype(np.uint8)
    raise UserError(f"{path}: the mask holds {mask.dtype} values up to {mask.max()}; {_FIX}")


def _require_numbers(mask: ByteMask, path: str, labelled: bool) -> None:
    """Raise UserError for brightness levels in place of lane numbers, and for 0 and 255 alone."""
    values = used_values(mask)
    levels = values[(values > MAX_LANE_NUMBER) & (values < IGNORED_LABEL)]
    if len(levels):
        raise UserError(f"{path}: the mask holds the value {levels[0]}, which is no lane number; {_FIX}")
    if labelled and values.tolist() == [0, IGNORED_LABEL]:
        raise UserError(f"{path}: the mask holds 0 and 255 alone, which do not tell the lanes' numbers; {_FIX}")


def _palette(data: bytes) -> ByteArray | None:
    """Read the (n, 3) colours, red first, of a PNG with a palette; None for every other file."""
    if not data.startswith(_PNG) or data[25:26] != bytes([_PALETTE]):
        return None
    colours = dict(_chunks(data)).get(b"PLTE", b"")[8:-4]
    return np.frombuffer(colours[: len(colours) // 3 * 3], np.uint8).reshape(-1, 3)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and all bytes of every complete chunk of a PNG."""
    start = len(_PNG)
    while (end := start + 12 + int.from_bytes(data[start : start + 4], "big")) <= len(data):
        yield data[start + 4 : start + 8], data[start:end]
        start = end


def _grey_bits(data: bytes) -> int:
    """Read the bits per pixel of a grey PNG; 0 for every other file."""
    return data[24] if data.startswith(_PNG) and data[25:26] == bytes([_GREY]) else 0


def _indices(data: bytes, path: str) -> ByteMask:
    """Decode the (H, W) palette indices of a PNG.

    Decoders return the palette's colours instead. Palette and grey PNG store pixels alike, so the file is decoded with
    a header that says grey.
    """
    bits = data[24]
    header = b"IHDR" + data[16:25] + bytes([_GREY]) + data[26:29]
    pixels = b"".join(chunk for name, chunk in _chunks(data) if name in (b"eXIf", b"IDAT", b"IEND"))
    grey = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + pixels
    indices = decode_image(grey, path, cv2.IMREAD_UNCHANGED)
    return indices if bits == 8 else indices // np.uint8(255 // (2**bits - 1))


def _from_palette(indices: ByteMask, palette: ByteArray, path: str) -> ByteMask:
    """Choose between indices (H, W) and colours (n, 3) of a palette as lane numbers."""
    used = used_values(indices)
    if used[-1:].max(initial=0) >= len(palette):
        raise UserError(f"{path}: the mask's palette lacks the colour {used[-1]}; {_FIX}")
    colours = palette[used]
    if (colours == colours[:, :1]).all():
        greys = colours[:, 0].astype(int)
        lanes = greys[(greys > 0) & (greys < IGNORED_LABEL)]
        if len(lanes) and lanes.max() <= MAX_LANE_NUMBER:
            return palette[:, 0][indices]
        if len(palette) == 2 and set(greys.tolist()) == {0, IGNORED_LABEL}:
            return palette[:, 0][indices]  # black and white: a mask of 0 and 255
    return indices
