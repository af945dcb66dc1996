"""Writes small videos, and sets their metadata about rotation and pixel shape."""

import struct
from pathlib import Path

import cv2
import numpy as np

SIZE = (64, 48)  # width, height
CODECS = {
    ".avi": "MJPG", ".mkv": "mp4v", ".webm": "VP80", ".flv": "FLV1", ".ogv": "VP80", ".ogg": "VP80", ".ivf": "VP80",
    ".mxf": "mpg2", ".wmv": "WMV2", ".asf": "WMV2",
}  # fmt: skip


def corner_marked(number: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw a dark image with a white upper left and a red lower left quarter; `number` shades the rest."""
    image = np.full((size[1], size[0], 3), 5 * (number % 10), np.uint8)
    image[: size[1] // 2, : size[0] // 2] = 255
    image[size[1] // 2 :, : size[0] // 2] = (0, 0, 255)
    return image


def write_clip(path: Path, frames: int = 5, size: tuple[int, int] = SIZE, fps: float = 25) -> Path:
    """Write a video of `frames` corner-marked images in the container that the suffix names."""
    codec = cv2.VideoWriter.fourcc(*CODECS.get(path.suffix, "mp4v"))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, size)
    assert writer.isOpened(), path
    for number in range(frames):
        writer.write(corner_marked(number, size))
    writer.release()
    return path


def corners(image: np.ndarray) -> str:
    """Return W(hite), R(ed) or dark (.) for the upper left, upper right, lower left and lower right of an image."""
    height, width = image.shape[:2]
    found = ""
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            blue, _, red = image[y, x].astype(int)
            found += "W" if blue > 150 else "R" if red > 150 else "."
    return found


def set_matrix(path: Path, a: float, b: float, c: float, d: float, box: bytes = b"tkhd") -> Path:
    """Set the matrix of an MP4 file: pixel (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    start = data.index(box) + 4 + (40 if box == b"tkhd" else 36)
    numbers = [round(value * 65536) for value in (a, b, 0, c, d, 0, 0, 0)]
    data[start : start + 36] = struct.pack(">9i", *numbers, 1 << 30)
    path.write_bytes(data)
    return path


def set_pixel_shape(path: Path, width: int, height: int) -> Path:
    """Set the pixel aspect ratio of an MP4 file to `width` by `height`."""
    data = bytearray(path.read_bytes())
    end = data.index(b"esds") - 4
    end += int.from_bytes(data[end : end + 4], "big")
    outer = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"mp4v")
    replace_box(data, end, 0, struct.pack(">I4sII", 16, b"pasp", width, height), outer)
    path.write_bytes(data)
    return path


def replace_box(data: bytearray, start: int, size: int, box: bytes, outer: tuple[bytes, ...]) -> None:
    """Put `box` in place of `size` bytes of an MP4 file, inside of the boxes `outer`, behind the frames."""
    data[start : start + size] = box
    place = data.index(b"moov")
    for name in outer:
        place = data.index(name, place)
        length = int.from_bytes(data[place - 4 : place], "big")
        data[place - 4 : place] = (length + len(box) - size).to_bytes(4, "big")
