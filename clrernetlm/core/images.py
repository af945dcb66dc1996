"""Reads image files for the whole package: decoded in their displayed orientation, broken files raise errors."""

from __future__ import annotations

import io
import math
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.errors import UserError
from clrernetlm.core.image_headers import (
    HEADER_BYTES,
    MAX_DEEP_IMAGE_PIXELS,
    MAX_IMAGE_PIXELS,
    ImageHeader,
    is_whole_jpeg,
    read_header,
    require_decodable,
    require_utf8,
)
from clrernetlm.core.viewport import FrameSize

_READS_INTO_BUFFERS = tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 11)
_LARGEST_FILE = 1 << 30  # bytes
_FIX = "restore the file or remove its line from the list"
_SENTINEL = [83, 19, 211]  # written to the last pixel before decoding; if it is unchanged, nothing was decoded


class ThreadLocalBuffers(threading.local):
    """Reusable image buffers, because first access to new memory costs as much as decoding into it.

    Every thread and process has its own; they are not pickled.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, BgrImage] = {}

    def __reduce__(self) -> tuple[type[ThreadLocalBuffers], tuple[()]]:
        return ThreadLocalBuffers, ()

    def image(self, name: str, width: int, height: int, channels: int = 3) -> BgrImage:
        """Return the (height, width, channels) uint8 buffer called `name`: zeros, or its last content."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != (height, width, channels):
            buffer = self._buffers[name] = np.zeros((height, width, channels), np.uint8)
        return buffer


def read_frame(path: str, scratch: ThreadLocalBuffers, half_above: float = math.inf) -> tuple[BgrImage, FrameSize]:
    """Read (H, W, 3) uint8 BGR of an image file, and the frame's width and height in pixels.

    A JPEG at least `half_above` pixels wide is decoded at half size, ((H + 1) // 2, (W + 1) // 2, 3), directly from its
    frequencies: each pixel is the mean of 2 x 2. One with an EXIF orientation is decoded in full size. The image is
    valid until the next call with the same `scratch`.

    Raises UserError as `read_image` does.
    """
    header = require_complete(path)
    if header is not None and header.orientation == 1 and _READS_INTO_BUFFERS and (path.isascii() or os.name != "nt"):
        width, height = header.size
        half = width >= half_above
        buffer = scratch.image("frame", *(((width + 1) // 2, (height + 1) // 2) if half else header.size))
        buffer[-1, -1] = _SENTINEL
        # If the sentinel is unchanged, the file is read again below.
        with suppress(cv2.error):
            cv2.imread(path, buffer, cv2.IMREAD_REDUCED_COLOR_2 if half else cv2.IMREAD_COLOR)
        if buffer[-1, -1].tolist() != _SENTINEL:
            return buffer, header.size
    image = read_image(path)
    return image, (image.shape[1], image.shape[0])


def read_image(path: str, flags: int = cv2.IMREAD_COLOR) -> BgrImage:
    """Read an image file in its displayed orientation as uint8, with OpenCV's `flags`, by default (H, W, 3) BGR.

    Raises UserError naming the file if it is missing, not an image, too large, or a truncated JPEG.
    """
    return decode_image(read_file(path), path, flags).astype(np.uint8, copy=False)


def read_file(path: str) -> bytes:
    """Read the bytes of an image file. Raises UserError naming the file if it is missing or cannot be read.

    Not left to OpenCV, which cannot open names that are not ASCII on Windows, and crashes on names that are not UTF-8.
    """
    require_utf8(path)
    if not os.path.isfile(path):
        what = "a folder, not an image" if os.path.isdir(path) else "no such image"
        raise UserError(f"{path}: {what}; {_FIX}")
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > _LARGEST_FILE:
                raise UserError(f"{path}: larger than 1 GB, which is no single image; {_FIX}")
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {_FIX}") from None


def decode_image(data: bytes, path: str, flags: int) -> NDArray[Any]:
    """Decode the bytes of an image file in its displayed orientation, with OpenCV's `flags`, which decide the type.

    Raises UserError naming the file `path` if the bytes are no image, a truncated JPEG, or an image too large.
    """
    header = read_header(data[:HEADER_BYTES], io.BytesIO(data))
    # OpenCV takes as much memory as a chunk says that it is long, up to 4 GB, before it notices that the file ends.
    if header is None or header.longest_chunk > len(data):
        raise UserError(f"{path}: not a readable image; {_FIX}")
    require_decodable(header, path, MAX_DEEP_IMAGE_PIXELS if flags < 0 else MAX_IMAGE_PIXELS)
    if header.is_jpeg:
        _require_whole(data[-HEADER_BYTES:], lambda: data, path)
    image = None
    with suppress(cv2.error):
        # Turned below, because OpenCV's version and the flags decide which formats it turns.
        turn_off = 0 if flags < 0 else cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | turn_off)
    if image is None:
        raise UserError(f"{path}: not a readable image; {_FIX}")
    return _apply_orientation(image, header.orientation)


def _apply_orientation(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored pixels (H, W[, C]) by EXIF's orientation, 1 to 8."""
    if orientation in (5, 7):
        image = cv2.transpose(image)
    if orientation in _MIRRORS:
        return cv2.flip(image, _MIRRORS[orientation])
    return cv2.rotate(image, _ROTATIONS[orientation]) if orientation in _ROTATIONS else image


_MIRRORS = {2: 1, 4: 0, 7: -1}  # EXIF orientation -> axis of cv2.flip
_ROTATIONS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}


def require_complete(path: str) -> ImageHeader | None:
    """Read the header of a JPEG; None for other formats. A few small reads, no decoding.

    Raises UserError naming the file if it is missing, or a JPEG without its end-of-image marker (decoders would fill
    the missing part with grey without an error).
    """
    require_utf8(path)
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(HEADER_BYTES)
            if not head.startswith(b"\xff\xd8"):
                return None
            header = read_header(head, file)
            if header is None:
                raise UserError(f"{path}: not a readable image; {_FIX}")
            require_decodable(header, path)
            file.seek(max(0, file.seek(0, os.SEEK_END) - HEADER_BYTES))
            _require_whole(file.read(HEADER_BYTES), lambda: read_file(path), path)
            return header
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); restore it or remove its line from the list") from None


def _require_whole(tail: bytes, read_all: Callable[[], bytes], path: str) -> None:
    """Raise UserError for a truncated JPEG; `tail` is the end of the file, `read_all` reads the whole file."""
    if b"\xff\xd9" not in tail and not is_whole_jpeg(read_all()):
        raise UserError(f"{path}: the JPEG is cut off; copy it again or remove its line from the list")
