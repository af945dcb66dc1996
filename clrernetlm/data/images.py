"""Image files: reading them fast, and noticing the broken ones."""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.errors import UserError
from clrernetlm.geometry import FrameSize
from clrernetlm.image_headers import jpeg_size, require_utf8

Image = NDArray[np.uint8]

_REUSES_BUFFERS = tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 11)
_TAIL = 1024  # bytes searched for the end-of-image marker; some cameras pad their files
_SENTINEL = [83, 19, 211]  # written to the last pixel before decoding; still there afterwards: nothing was decoded


class Scratch(threading.local):
    """Image buffers that are used again and again, because touching fresh memory costs as much as decoding into it.

    Every thread and process has its own; pickling carries none along.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Image] = {}

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()

    def image(self, name: str, width: int, height: int, channels: int = 3) -> Image:
        """The (height, width, channels) uint8 buffer called `name`: zeros, then what was written to it."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != (height, width, channels):
            buffer = self._buffers[name] = np.zeros((height, width, channels), np.uint8)
        return buffer


def read_frame(path: str, scratch: Scratch, half_above: float = math.inf) -> tuple[Image, FrameSize]:
    """(H, W, 3) uint8 BGR of an image file, and the frame's width and height in pixels.

    A JPEG at least `half_above` pixels wide is decoded at half size, ((H + 1) // 2, (W + 1) // 2, 3), straight from its
    frequencies: each pixel is the mean of 2 x 2. The image is valid until the next call with the same `scratch`.

    Raises UserError naming the file when it is missing, not an image, or a JPEG that was cut off.
    """
    require_utf8(path)
    size = require_complete(path)
    if size is not None and _REUSES_BUFFERS:
        width, height = size
        half = width >= half_above
        buffer = scratch.image("frame", (width + 1) // 2, (height + 1) // 2) if half else scratch.image("frame", *size)
        buffer[-1, -1] = _SENTINEL
        # An image that EXIF turns does not fit the buffer; anything that leaves the sentinel is read again below.
        with suppress(cv2.error):
            cv2.imread(path, buffer, cv2.IMREAD_REDUCED_COLOR_2 if half else cv2.IMREAD_COLOR)
        if buffer[-1, -1].tolist() != _SENTINEL:
            return buffer, size
    image = read_image(path, cv2.IMREAD_COLOR)
    return image, (image.shape[1], image.shape[0])


def read_image(path: str, flags: int = cv2.IMREAD_COLOR) -> Image:
    """Decode an image file to uint8 with OpenCV's `flags`, by default to (H, W, 3) BGR.

    Raises UserError naming the file when it is missing or not an image.
    """
    return decode_image(read_file(path), path, flags).astype(np.uint8, copy=False)


def read_file(path: str) -> bytes:
    """Read an image file. Raises UserError naming the file when it is missing, no file, or cannot be read.

    OpenCV itself opens no file whose name is not ASCII on Windows, and crashes on names that are not UTF-8.
    """
    require_utf8(path)
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such image; restore the file or remove its line from the list")
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); restore it or remove its line from the list") from None


def decode_image(data: bytes, path: str, flags: int) -> NDArray[Any]:
    """Decode the bytes of an image file with OpenCV's `flags`, to the type that those say.

    Raises UserError naming the file `path` when the bytes are no image.
    """
    image = None
    with suppress(cv2.error):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise UserError(f"{path}: not a readable image; restore the file or remove its line from the list")
    return image


def require_complete(path: str) -> tuple[int, int] | None:
    """(width, height) of a JPEG from its header; None for other formats. A few small reads, no decoding.

    Raises UserError naming the file when it is missing, or a JPEG without its end-of-image marker (decoders would
    fill the missing part with grey and say nothing).
    """
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_TAIL)
            if not head.startswith(b"\xff\xd8"):
                return None
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _TAIL))
            if b"\xff\xd9" not in file.read(_TAIL):
                raise UserError(f"{path}: the JPEG is cut off; copy it again or remove its line from the list")
            return jpeg_size(head, file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); restore it or remove its line from the list") from None
