"""Reads the headers of video files: the container format, and the orientation of the frames."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import BinaryIO

from clrernetlm.core.files import PathLike

CONTAINER_HEADER_BYTES = 1 << 16  # bytes that a container must be recognised in
_BOXES = 1000  # limit of an MP4 file's boxes on one level; real files have a handful
_QUARTER = 1.0  # degrees by which a rotation may differ from a quarter turn

# (name, offset, signatures) of containers. FFmpeg gives these the same confidence as playlists, so that it does not
# mistake a file with such a beginning for a playlist.
_SIGNATURES = (
    ("mp4", 4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    ("matroska", 0, (b"\x1a\x45\xdf\xa3",)),
    ("avi", 8, (b"AVI ", b"AVIX", b"AMV ")),
    ("asf", 0, (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",)),
    ("flv", 0, (b"FLV\x01",)),
    ("ogg", 0, (b"OggS",)),
    ("gif", 0, (b"GIF87a", b"GIF89a")),
    ("mpeg", 0, (b"\x00\x00\x01", b"\x00\x00\x00\x01")),  # program streams, MPEG-1 and -2, H.264 and H.265 alone
    ("mxf", 0, (b"\x06\x0e\x2b\x34",)),
    ("ivf", 0, (b"DKIF",)),
    ("dv", 0, (b"\x1f\x07\x00",)),
    ("realmedia", 0, (b".RMF",)),
    ("wtv", 0, (b"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d",)),
    ("nut", 0, (b"nut/multimedia container\x00",)),
    ("y4m", 0, (b"YUV4MPEG2 ",)),
    ("dhav", 0, (b"DHAV", b"DAHUA")),
)
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"BM", b"II*\x00", b"MM\x00*", b"\x00\x00\x00\x0cjP  ", b"P5\n", b"P6\n")
_IMAGE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")  # of images in MP4's boxes
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"<ASX", b"[playlist]", b"[Reference]", b"# VobSub")
# FFmpeg reads files with these anywhere in their first bytes as lists of other files.
_MANIFESTS = (b"<mpd", b"<compositionplaylist")
# Containers that store the number of frames; that of others is an estimate.
CONTAINERS_WITH_LENGTH = ("mp4", "matroska", "avi", "asf", "flv")


def container_of(head: bytes) -> str | None:
    """Recognise the container of a video by the first bytes of its file; None for anything that is not a video."""
    if is_image(head) or any(manifest in head.lower() for manifest in _MANIFESTS):
        return None
    for name, offset, beginnings in _SIGNATURES:
        if head[offset:].startswith(beginnings) and (name != "avi" or head.startswith(b"RIFF")):
            return name
    return "mpegts" if any(_is_transport_stream(head, *shape) for shape in ((0, 188), (4, 192), (0, 204))) else None


def is_image(head: bytes) -> bool:
    """Check whether a file that begins with `head` is an image."""
    boxed = head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS
    return head.startswith(_IMAGES) or boxed or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")


def is_playlist(head: bytes) -> bool:
    """Check whether a file that begins with `head` lists other files or addresses, which must not be opened."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return text.startswith(_PLAYLISTS) or any(manifest in head.lower() for manifest in _MANIFESTS)


def read_media_header(path: PathLike, size: int = CONTAINER_HEADER_BYTES) -> bytes:
    """Read the first bytes of a regular file. Raises OSError, also for a pipe, which could block for ever."""
    if not os.path.isfile(path):
        raise OSError(f"{path}: not a file")
    with open(path, "rb") as file:
        return file.read(size)


def _is_transport_stream(head: bytes, offset: int, packet: int) -> bool:
    """Check that packets of `packet` bytes begin with an MPEG transport stream's sync byte; 3 to 10 are tested."""
    marks = head[offset::packet][:10]
    return len(marks) >= 3 and set(marks) == {0x47}


def orientation_of_angle(degrees: float) -> tuple[int, int, int, int]:
    """Convert clockwise degrees to (a, b, c, d), with which pixel (x, y) is displayed at (a x + c y, b x + d y).

    Other angles than quarter turns are ignored; players ignore them, too, or add black corners.
    """
    quarters = round(degrees / 90)
    if not math.isfinite(degrees) or abs(degrees - 90 * quarters) > _QUARTER:
        quarters = 0
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters % 4]
    return cos, sin, -sin, cos


def orientation_of_mp4(path: PathLike) -> tuple[int, int, int, int] | None:
    """Read the orientation of the first video track of an MP4 or MOV file, as (a, b, c, d) of `orientation_of_angle`.

    Unlike FFmpeg's angle it includes mirroring. None if the file has no orientation, or none of quarter turns.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for movie in _boxes(file, 0, size, b"moov"):
                whole = next((_matrix(file, *box, b"mvhd") for box in _boxes(file, *movie, b"mvhd")), None)
                for track in _boxes(file, *movie, b"trak"):
                    if _is_video(file, *track):
                        own = next((_matrix(file, *box, b"tkhd") for box in _boxes(file, *track, b"tkhd")), None)
                        return None if own is None else _quarter_turn(own, whole or (1, 0, 0, 1))
    except (OSError, IndexError):
        return None
    return None


def _boxes(file: BinaryIO, start: int, end: int, wanted: bytes) -> Iterator[tuple[int, int]]:
    """Find boxes of one type between two offsets of an MP4 file; yields the (start, end) offsets of their contents."""
    for _ in range(_BOXES):
        file.seek(start)
        header = file.read(16)
        if start + 8 > end or len(header) < 8:
            return
        size, content = int.from_bytes(header[:4], "big"), 8
        if size == 1 and len(header) == 16:
            size, content = int.from_bytes(header[8:], "big"), 16
        elif size == 0:
            size = end - start
        if size < content:
            return
        if header[4:8] == wanted:
            yield start + content, min(start + size, end)
        start += size


def _is_video(file: BinaryIO, start: int, end: int) -> bool:
    for media in _boxes(file, start, end, b"mdia"):
        for handler, _ in _boxes(file, *media, b"hdlr"):
            file.seek(handler + 8)
            return file.read(4) == b"vide"
    return False


def _matrix(file: BinaryIO, start: int, end: int, kind: bytes) -> tuple[float, float, float, float]:
    """Read (a, b, c, d) of the 3 x 3 matrix in a movie's (mvhd) or track's (tkhd) header box."""
    file.seek(start)
    header = file.read(min(end - start, 128))
    long = header[0] == 1  # times of 8 bytes instead of 4
    position = (48 if long else 36) if kind == b"mvhd" else (52 if long else 40)
    numbers = [int.from_bytes(header[position + 4 * i : position + 4 * i + 4], "big", signed=True) for i in range(5)]
    if len(header) < position + 36:
        raise IndexError
    return numbers[0], numbers[1], numbers[3], numbers[4]


def _quarter_turn(
    track: tuple[float, float, float, float], movie: tuple[float, float, float, float]
) -> tuple[int, int, int, int] | None:
    """Combine a track's matrix with its movie's and take signs; None unless it only turns, mirrors and stretches."""
    a, b, c, d = track
    e, f, g, h = movie
    a, b, c, d = a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h
    small = math.radians(_QUARTER) * max(map(abs, (a, b, c, d)))
    signs = tuple(0 if abs(value) <= small else int(math.copysign(1, value)) for value in (a, b, c, d))
    straight, crossed = signs[0] and signs[3], signs[1] and signs[2]
    return signs if bool(straight) != bool(crossed) and signs.count(0) == 2 else None  # type: ignore[return-value]
