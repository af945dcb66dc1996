"""How large an image is, from the first bytes of its file."""

from __future__ import annotations

import os
from typing import BinaryIO

import cv2

from clrernetlm.errors import UserError
from clrernetlm.files import PathLike
from clrernetlm.geometry import FrameSize

HEAD = 1024  # bytes read at once
_PNG = b"\x89PNG\r\n\x1a\n"


def image_size(path: PathLike) -> FrameSize:
    """(width, height) of an image file as decoders show it: from the header of a JPEG or PNG, else by decoding it.

    A JPEG with EXIF data, which may turn it, is decoded too. Raises UserError naming the file when it is missing or no
    image.
    """
    require_utf8(path)
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(HEAD)
            size = None
            if head.startswith(b"\xff\xd8") and b"Exif\0" not in head:
                size = jpeg_size(head, file)
            elif head.startswith(_PNG) and len(head) >= 24:
                size = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); its size is needed, restore the image") from None
    if size is None:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        size = (0, 0) if image is None else (image.shape[1], image.shape[0])
    if 0 in size:
        raise UserError(f"{path}: not a readable image; its size is needed, restore the image")
    return size


def require_utf8(path: PathLike) -> None:
    """Raise UserError for a file name that is not UTF-8: OpenCV crashes on it, and takes the process along."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="replace")
        raise UserError(f"{shown}: this name is not UTF-8, which OpenCV wants; rename the file") from None


def jpeg_size(head: bytes, file: BinaryIO) -> FrameSize | None:
    """Walk a JPEG's segments to its frame header (SOF0..SOF15 without DHT, JPG and DAC); `head` is how it begins."""
    position = 2
    while True:
        if position + 9 > len(head):  # behind the part already read: large EXIF blocks
            file.seek(position)
            segment = file.read(9)
        else:
            segment = head[position : position + 9]
        if len(segment) < 9 or segment[0] != 0xFF:
            return None
        marker = segment[1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(segment[7:9], "big"), int.from_bytes(segment[5:7], "big")
        position += 2 + int.from_bytes(segment[2:4], "big")
