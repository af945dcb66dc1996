"""Makes image files with EXIF orientations, and files with wrong sizes in their headers."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".jpg", ".png", ".late.png", ".tif", ".webp")


def apply_orientation(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return a stored image (H, W[, C]) as its EXIF orientation shows it."""
    sideways = image.swapaxes(0, 1)
    return [
        image,
        image[:, ::-1],
        image[::-1, ::-1],
        image[::-1],
        sideways,
        sideways[:, ::-1],
        sideways[::-1, ::-1],
        sideways[::-1],
    ][orientation - 1]


def exif(orientation: int) -> bytes:
    return b"MM" + struct.pack(">HIHHHIHHI", 42, 8, 1, 274, 3, 1, orientation, 0, 0)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def encode(suffix: str, image: NDArray[np.uint8], orientation: int) -> bytes:
    """Encode an image with the EXIF `orientation`, without rotating its pixels."""
    if suffix == ".tif":
        return tiff(image, orientation)
    block = exif(orientation)
    plain = cv2.imencode(suffix[-5:] if suffix == ".webp" else suffix[-4:], image, quality(suffix))[1].tobytes()
    if suffix == ".jpg":
        segment = b"Exif\0\0" + block
        return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    if suffix.endswith(".png"):
        at = len(plain) - 12 if suffix == ".late.png" else 33
        return plain[:at] + png_chunk(b"eXIf", block) + plain[at:]
    size = struct.pack("<I", image.shape[1] - 1)[:3] + struct.pack("<I", image.shape[0] - 1)[:3]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + size
    body = b"WEBP" + extended + plain[12:] + b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(body)) + body


def quality(suffix: str) -> list[int]:
    return [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []


def tiff(image: NDArray[np.uint8], orientation: int) -> bytes:
    """Encode an uncompressed RGB TIFF."""
    height, width = image.shape[:2]
    pixels = image[..., ::-1].tobytes()
    pixels_at = 8 + 2 + 10 * 12 + 4 + 6
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, pixels_at - 6),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, pixels_at),
        (274, 3, 1, orientation),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(pixels)),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II" + struct.pack("<HIH", 42, 8, len(entries)) + directory + struct.pack("<IHHH", 0, 8, 8, 8)
    return head + pixels


def huge_header_image(suffix: str, width: int = 60_000, height: int = 60_000) -> bytes:
    """Return a small file whose header declares a huge size."""
    small = np.zeros((64, 64, 3) if suffix not in (".pgm", ".pbm") else (64, 64), np.uint8)
    big, little = struct.pack(">II", width, height), struct.pack("<II", width, height)
    data = cv2.imencode(suffix, small)[1].tobytes() if suffix not in (".tif", ".gif") else b""
    if suffix == ".png":
        header = b"IHDR" + big + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    if suffix == ".jpg":
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]
    if suffix == ".bmp":
        return data[:18] + little + data[26:]
    if suffix in (".ppm", ".pgm", ".pbm"):
        return data[:2] + f"\n# made by hand\n{width} {height}\n255\n".encode() + b"\0" * 99
    if suffix == ".tif":
        entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
        entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height & 0xFFFFFFFF)]
        return b"II" + struct.pack("<HIH", 42, 8, len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    if suffix == ".webp":
        lossless = b"\x2f" + struct.pack("<I", (min(width, 16384) - 1) | (min(height, 16384) - 1) << 14) + b"\0" * 40
        body = b"WEBPVP8L" + struct.pack("<I", len(lossless)) + lossless
        return b"RIFF" + struct.pack("<I", len(body)) + body
    if suffix == ".jp2":
        at = data.index(b"\xff\x4f\xff\x51") + 8
        return data[:at] + big + data[at + 8 :]
    if suffix == ".ras":
        return data[:4] + big + data[12:]
    if suffix == ".hdr":
        return b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width) + b"\0" * 99
    raise ValueError(suffix)
