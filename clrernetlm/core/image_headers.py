"""Reads the size and the orientation of image files from their first bytes, without decoding them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, has_utf8_name
from clrernetlm.core.viewport import FrameSize

HEADER_BYTES = 1024  # bytes read at once
MAX_IMAGE_PIXELS = 200_000_000  # of a decoded image: 600 MB; no camera takes larger images
MAX_DEEP_IMAGE_PIXELS = MAX_IMAGE_PIXELS // 3  # of an image decoded in its stored depth, up to 8 bytes per pixel
_MAX_JPEG_SEGMENTS = 10_000  # that are read; 255 segments hold the largest colour profile, 1600 hold 100 MB
_MAX_PNG_CHUNKS = 200_000  # that are read; libpng stores pixels in chunks of 8 kB
_UPRIGHT = 1
_SIDEWAYS = 5  # EXIF orientations 5 to 8 swap width and height
_ORIENTATION_TAG, _WIDTH_TAG, _HEIGHT_TAG = 274, 256, 257


@dataclass(frozen=True)
class ImageHeader:
    """Width and height in pixels of an image as it is displayed, and the orientation of its stored pixels.

    `orientation` is EXIF's number, 1 to 8, of a JPEG or PNG; `clrernetlm.core.images` turns the decoded pixels. It is 1
    for other formats: OpenCV turns TIFF files itself, and WebP files are displayed as stored, as by OpenCV.
    `longest_chunk`: bytes of the longest chunk of a PNG, as that chunk itself says.
    """

    size: FrameSize
    orientation: int = _UPRIGHT
    is_jpeg: bool = False
    longest_chunk: int = 0


def image_size(path: PathLike) -> FrameSize:
    """Read (width, height) in pixels of an image file as it is displayed, from its header alone.

    Raises UserError naming the file if it is missing or no image.
    """
    require_utf8(path)
    try:
        with open(path, "rb", buffering=0) as file:
            header = read_header(file.read(HEADER_BYTES), file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); its size is needed, restore the image") from None
    if header is None:
        raise UserError(f"{path}: not a readable image; its size is needed, restore the image")
    require_decodable(header, path)
    return header.size


def require_decodable(header: ImageHeader, path: PathLike, most: int = MAX_IMAGE_PIXELS) -> None:
    """Raise UserError for an image of more than `most` pixels, before decoding allocates memory for it."""
    width, height = header.size
    if width * height > most:
        raise UserError(
            f"{path}: the header says {width}x{height}, more than {most // 1_000_000} million pixels; "
            "scale the image down, or restore it"
        )


def require_utf8(path: PathLike) -> None:
    """Raise UserError for a file name that is not UTF-8, on which OpenCV crashes, or that holds a NUL byte."""
    if not has_utf8_name(path):
        readable = os.fsencode(path).decode(errors="replace")
        raise UserError(f"{readable}: this name is not UTF-8, which OpenCV wants; rename the file")
    if "\0" in os.fspath(path):
        raise UserError(f"{path}: a name with a NUL byte, which no file has; correct the name or its line in the list")


def read_header(head: bytes, file: BinaryIO) -> ImageHeader | None:
    """Read the header of an image in any format that OpenCV decodes; None if it is no image.

    `head`: the first `HEADER_BYTES` of `file`, or all of a shorter one; more is read only if the size is further on.
    """
    for pattern, reader in _FORMATS:
        if pattern.match(head):
            header = reader(head, file)
            return header if min(header.size) > 0 else None
    return None


def oriented_size(size: FrameSize, orientation: int) -> FrameSize:
    """Swap width and height if the EXIF orientation does."""
    return (size[1], size[0]) if orientation >= _SIDEWAYS else size


def exif_orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, from an EXIF block (a TIFF header and its first directory); 1 if it has none."""
    order = _byte_order(exif)
    if order is None or _number(exif[2:4], order) != 42:
        return _UPRIGHT
    start = _number(exif[4:8], order)
    for entry in range(start + 2, start + 2 + 12 * _number(exif[start : start + 2], order), 12):
        if _number(exif[entry : entry + 2], order) == _ORIENTATION_TAG:
            orientation = _number(exif[entry + 8 : entry + 10], order)
            return orientation if 1 <= orientation <= 8 else _UPRIGHT
    return _UPRIGHT


def is_whole_jpeg(data: bytes) -> bool:
    """Check that a JPEG has its end-of-image marker anywhere in the file: some cameras append previews or a film."""
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        if data[position : position + 1] != b"\xff":
            return False
        marker = int.from_bytes(data[position + 1 : position + 2], "big")
        if marker == 0xD9:
            return True
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        alone = 0xD0 <= marker <= 0xD8 or marker == 1
        position += 2 if alone else 2 + _number(data[position + 2 : position + 4])
        if marker == 0xDA:  # compressed pixels follow, up to the next marker that is no restart
            found = _END_OF_SCAN.search(data, position)
            if found is None:
                return False
            position = found.start()
    return False


_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


def _jpeg(head: bytes, file: BinaryIO) -> ImageHeader:
    """Read a JPEG's segments up to its frame header (SOF0..SOF15 without DHT, JPG and DAC), with the EXIF block."""
    position, orientation = 2, 0
    for _ in range(_MAX_JPEG_SEGMENTS):
        segment = _part(head, file, position, 10)
        if len(segment) < 9 or segment[0] != 0xFF:
            break
        marker, length = segment[1], _number(segment[2:4])
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            orientation = orientation or _UPRIGHT
            return ImageHeader(
                oriented_size((_number(segment[7:9]), _number(segment[5:7])), orientation), orientation, True
            )
        if marker == 0xE1 and segment[4:] == b"Exif\0\0" and not orientation:
            orientation = exif_orientation(_part(head, file, position + 10, max(0, length - 8)))
        position += 2 + length
    return ImageHeader((0, 0))


def _png(head: bytes, file: BinaryIO) -> ImageHeader:
    """Read a PNG's header, the lengths of its chunks, and its EXIF block, which may stand behind the pixels."""
    size, orientation, longest = (_number(head[16:20]), _number(head[20:24])), 0, 0
    position = 8
    for _ in range(_MAX_PNG_CHUNKS):
        chunk = _part(head, file, position, 8)
        if len(chunk) < 8 or chunk[4:] == b"IEND":
            break
        length = _number(chunk[:4])
        longest = max(longest, length)
        if chunk[4:] == b"eXIf" and not orientation:
            orientation = exif_orientation(_part(head, file, position + 8, min(length, 1 << 16)))
        position += 12 + length
    return ImageHeader(oriented_size(size, orientation), orientation or _UPRIGHT, longest_chunk=longest)


def _bmp(head: bytes, file: BinaryIO) -> ImageHeader:
    if _number(head[14:18], "little") == 12:  # OS/2
        return ImageHeader((_number(head[18:20], "little"), _number(head[20:22], "little")))
    sides = (int.from_bytes(head[start : start + 4], "little", signed=True) for start in (18, 22))
    width, height = map(abs, sides)  # a negative height: stored from the top down
    return ImageHeader((width, height))


def _tiff(head: bytes, file: BinaryIO) -> ImageHeader:
    """Read the first directory of a TIFF or BigTIFF; OpenCV applies its orientation."""
    order = _byte_order(head)
    assert order is not None, "the signature says it"
    big = _number(head[2:4], order) == 43
    start = _number(head[8:16] if big else head[4:8], order)
    count_size, entry_size, value_at = (8, 20, 12) if big else (2, 12, 8)
    count = min(_number(_part(head, file, start, count_size), order), 1 << 12)
    entries = _part(head, file, start + count_size, count * entry_size)
    tags: dict[int, int] = {}
    for at in range(0, len(entries), entry_size):
        width = {1: 1, 3: 2, 4: 4, 16: 8}.get(_number(entries[at + 2 : at + 4], order), 0)
        value = entries[at + value_at : at + value_at + width]
        tags.setdefault(_number(entries[at : at + 2], order), _number(value, order))
    size = tags.get(_WIDTH_TAG, 0), tags.get(_HEIGHT_TAG, 0)
    return ImageHeader(
        oriented_size(size, orientation if (orientation := tags.get(_ORIENTATION_TAG, 1)) <= 8 else _UPRIGHT)
    )


def _webp(head: bytes, file: BinaryIO) -> ImageHeader:
    kind = head[12:16]
    if kind == b"VP8X":
        return ImageHeader((1 + _number(head[24:27], "little"), 1 + _number(head[27:30], "little")))
    if kind == b"VP8L":
        bits = _number(head[21:25], "little")
        return ImageHeader((1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)))
    return ImageHeader((_number(head[26:28], "little") & 0x3FFF, _number(head[28:30], "little") & 0x3FFF))


def _text_header(pattern: bytes) -> Callable[[bytes, BinaryIO], ImageHeader]:
    """Make a reader of text headers; `pattern` has the groups `width` and `height`."""
    compiled = re.compile(pattern, re.DOTALL)

    def read(head: bytes, file: BinaryIO) -> ImageHeader:
        found = compiled.match(head)
        return ImageHeader((int(found["width"]), int(found["height"])) if found else (0, 0))

    return read


def _jpeg2000(head: bytes, file: BinaryIO) -> ImageHeader:
    """Read the size of a JPEG 2000 codestream (SIZ marker), within a JP2 file or alone."""
    start = head.find(b"\xff\x4f\xff\x51")
    if start < 0:
        start = head.find(b"ihdr") + 4
        return ImageHeader((_number(head[start + 4 : start + 8]), _number(head[start : start + 4])))
    right, bottom, left, top = (_number(head[start + at : start + at + 4]) for at in (8, 12, 16, 20))
    return ImageHeader((right - left, bottom - top))


def _sun_raster(head: bytes, file: BinaryIO) -> ImageHeader:
    return ImageHeader((_number(head[4:8]), _number(head[8:12])))


def _gif(head: bytes, file: BinaryIO) -> ImageHeader:
    return ImageHeader((_number(head[6:8], "little"), _number(head[8:10], "little")))


_GAP = rb"(?:\s|#[^\n]*\n)+"
_NUMBERS = rb"(?P<width>\d{1,9})" + _GAP + rb"(?P<height>\d{1,9})"
_FORMATS: tuple[tuple[re.Pattern[bytes], Callable[[bytes, BinaryIO], ImageHeader]], ...] = tuple(
    (re.compile(signature, re.DOTALL), reader)
    for signature, reader in (
        (rb"\xff\xd8", _jpeg),
        (rb"\x89PNG\r\n\x1a\n", _png),
        (rb"BM", _bmp),
        (rb"II[*+]\0|MM\0[*+]", _tiff),
        (rb"RIFF.{4}WEBP", _webp),
        (rb"P[1-6][\s#]", _text_header(rb"P[1-6]" + _GAP + _NUMBERS)),
        (rb"P7\s", _text_header(rb"P7\s.*?WIDTH\s+(?P<width>\d{1,9})\s.*?HEIGHT\s+(?P<height>\d{1,9})\s")),
        (rb"P[fF]\s", _text_header(rb"P[fF]\s+" + _NUMBERS)),
        (rb"#\?(?:RGBE|RADIANCE)", _text_header(rb".*?[-+]Y\s+(?P<height>\d{1,9})\s+[-+]X\s+(?P<width>\d{1,9})")),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", _jpeg2000),
        (rb"\x59\xa6\x6a\x95", _sun_raster),
        (rb"GIF8", _gif),
    )
)


def _part(head: bytes, file: BinaryIO, start: int, length: int) -> bytes:
    """Read up to `length` bytes of a file from `start` on; from `head` if that contains them."""
    if start + length <= len(head):
        return head[start : start + length]
    file.seek(start)
    return file.read(length)


def _number(data: bytes, order: str = "big") -> int:
    return int.from_bytes(data, "little" if order == "little" else "big")


def _byte_order(data: bytes) -> str | None:
    return {b"II": "little", b"MM": "big"}.get(data[:2])
