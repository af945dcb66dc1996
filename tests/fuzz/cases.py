# ruff: noqa: E501
"""Hand-made hostile inputs, which random damage seldom gives."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clrernetlm.weights.safetensors_file import KEY
from tests.fuzz.command_lines import write_line
from tests.fuzz.kinds import KINDS, attributes_text, link_data, write_features, write_item
from tests.fuzz.seeds import SIZE, content, metadata_of_xml

Make = Callable[[Path, Path], None]
Expectation = Literal["any", "refuse"]
CASES: dict[str, dict[str, Make]] = {name: {} for name in KINDS}
SLOW: set[tuple[str, str]] = set()  # filled at the end of this file
EXPECTATIONS: dict[tuple[str, str], Expectation] = {}


def expectation(kind: str, case: str) -> Expectation:
    """Return whether a case must be refused, or may also be accepted."""
    return EXPECTATIONS[kind, case]


def is_slow(kind: str, case: str) -> bool:
    """Return whether a case takes about a second or more without any fault."""
    return (kind, case) in SLOW


def add(kind: str, name: str, make: Make, expected: Expectation = "any") -> None:
    """Register a case: `make(seeds, folder)` writes it."""
    assert name not in CASES[kind], name
    CASES[kind][name] = make
    EXPECTATIONS[kind, name] = expected


def one(path: str, data: bytes | Callable[[], bytes]) -> Make:
    """A case of one file of these bytes, or of those that a function makes when they are needed: bombs take a while."""

    def make(seeds: Path, folder: Path) -> None:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data() if callable(data) else data)

    return make


def nothing_there(path: str, what: str) -> Make:
    """Register a case with something other than a file in a file's place."""

    def make(seeds: Path, folder: Path) -> None:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if what == "folder":
            target.mkdir()
        elif what == "pipe":
            os.mkfifo(target)
        elif what == "loop":
            target.symlink_to(target.name)
        elif what == "dangling link":
            target.symlink_to("/nowhere/at/all")
        elif what == "zeros without end":
            target.symlink_to("/dev/zero")
        elif what == "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as made:
                made.bind(os.path.relpath(target))

    return make


SPECIAL = ("folder", "pipe", "loop", "dangling link", "zeros without end", "socket")


def special(kind: str, path: str, before: Make = lambda seeds, folder: None) -> None:
    """Register cases with every other kind of path in a file's place, an empty file and one of zeros."""

    def after(make: Make) -> Make:
        def both(seeds: Path, folder: Path) -> None:
            before(seeds, folder)
            target = folder / path
            if target.is_symlink() or target.exists():
                target.unlink()
            make(seeds, folder)

        return both

    for what in SPECIAL:
        add(kind, f"{what} instead of a file".replace(" ", "-"), after(nothing_there(path, what)))
    for name, data in (("empty", b""), ("zeros", bytes(5000)), ("one-byte", b"x"), ("no-text", bytes(range(256)) * 20)):
        add(kind, name, after(one(path, data)))


# --- lists


def item(seeds: Path, folder: Path) -> None:
    """A data set of one image, one label and one mask."""
    write_item(link_data(seeds, folder), seeds)


def listed(data: bytes) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        item(seeds, folder)
        (folder / "data" / "list" / "list.txt").write_bytes(data)

    return make


LIST = "data/list/list.txt"
special("lists", LIST, item)
for name, text in {
    "up": "/../../../etc/passwd\n",
    "up-escaped": "/../../escaped.jpg\n",
    "absolute": "/etc/passwd\n",
    "dot": "./a.jpg\n",
    "folder": "/\n",
    "backslash": "\\a.jpg\n",
    "space": "/a b.jpg\n",
    "many-columns": "/a.jpg" + " 1" * 100_000 + "\n",
    "long-name": "/" + "a" * 100_000 + ".jpg\n",
    "long-part": "/" + "a" * 300 + ".jpg\n",
    "deep-name": "/a" * 3000 + ".jpg\n",
    "nul": "/a\0.jpg\n",
    "nul-line": "\0\n",
    "bell": "/a\a\x1b[31m.jpg\n",
    "markup": "/[bold]a[/bold].jpg\n/[/].jpg\n",
    "flags-no-digit": "/a.jpg ² ² ² ²\n",
    "flags-huge": "/a.jpg 1 1 1 " + "1" * 500 + "\n",
    "unicode-spaces": "/a.jpg\u2003/a.png\u20281\n",
    "only-blanks": " \n\t\n\r\n\x0c\n",
    "no-end": "/a.jpg /a.png 1 1 1 1",
    "twice": "/a.jpg\n" * 1000,
    "a-label": "/a.lines.txt\n",
    "surrogate": "/\udc80\udcff.jpg\n",
    "device": "/dev/zero\n/../../../../dev/zero\n",
    "dev-stdin": "/dev/stdin\n",
}.items():
    add("lists", name, listed(text.encode(errors="surrogateescape")))
for codec in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7", "cp500"):
    add("lists", f"in-{codec}", listed("/a.jpg /a.png\n".encode(codec)))
add("lists", "mixed-ends", listed(b"/a.jpg\r/a.jpg\r\n/a.jpg\n\r/a.jpg\x85/a.jpg\x1c/a.jpg"))

# --- labels


def beside_image(name: str, data: bytes) -> Make:
    """A case of one image with these bytes in the file `name` beside it."""

    def make(seeds: Path, folder: Path) -> None:
        item(seeds, folder)
        (folder / "data" / name).write_bytes(data)

    return make


def label(data: bytes) -> Make:
    return beside_image("a.lines.txt", data)


special("labels", "data/a.lines.txt", item)
for name, text in {
    "huge": "1e300 1e300 -1e300 -1e300 1e300 5\n",
    "huge-integers": "9223372036854775808 118 -9223372036854775808 0\n" * 3,
    "a-billion-wide": "0 118 1000000000 60 -1000000000 10\n",
    "a-billion-high": "100 1000000000 120 -1000000000\n",
    "nan": "nan 10 20 nan\n",
    "infinite": "inf 10 20 -inf\n",
    "tiny": "1e-320 1e-320 2e-320 2e-320\n",
    "same-points": "5 5 " * 2000 + "\n",
    "one-row": " ".join(f"{x} 60" for x in range(500)) + "\n",
    "zigzag": " ".join(f"{x % 7 * 40} {60 + x % 3}" for x in range(2000)) + "\n",
    "many-points": " ".join(f"{x % 328} {118 - x / 1000}" for x in range(100_000)) + "\n",
    "many-lanes": "10 100 20 50\n" * 3000,
    "many-blank-lines": "\n" * 50_000,
    "odd": "1 2 3\n",
    "one-point": "1 2\n",
    "commas": "1,2 3,4\n",
    "hexadecimal": "0x1p3 0x10 3 4\n",
    "underscores": "1_0 2_0 3 4\n",
    "arabic-digits": "١٢ ٣٤ 5 6\n",
    "superscript": "² ³ 5 6\n",
    "minus": "−1 2 3 4\n",
    "400-digits": "9" * 400 + " 2 3 4\n",
    "exponents": "1e400 1e-400 3 4\n1e99999999999 1 2 3\n",
    "nul": "1 2\0 3 4\n",
    "json": '{"lanes": [[1, 2], [3, 4]]}\n',
    "form-feed": "1 2 3 4\x0c5 6 7 8\n",
    "file-separator": "1 2 3 4\x1c5 6 7 8\n",
    "next-line": "1 2 3 4\x855 6 7 8\n",
    "returns": "10 100 20 50\r60 100 70 50\r",
    "spaces": " " * 200_000 + "10 100 20 50\n",
    "markup": "[bold] [/]\n",
    "outside": "-5000 118 -4000 60\n9000 118 8000 60\n",
    "upside-down": "10 -118 20 -50\n",
}.items():
    add("labels", name, label(text.encode()))
for codec in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp500"):
    add("labels", f"in-{codec}", label("10 100 20 50\n60 100 70 50\n".encode(codec)))

# --- attributes of labels


def attributes(change: Callable[[dict[str, Any]], object]) -> Make:
    """A case whose `.lanes.json` is right but for what `change` does to it."""

    def make(seeds: Path, folder: Path) -> None:
        item(seeds, folder)
        tree = json.loads(attributes_text(folder / "data"))
        change(tree)
        (folder / "data" / "a.lanes.json").write_text(json.dumps(tree))

    return make


def attributes_bytes(data: bytes) -> Make:
    return beside_image("a.lanes.json", data)


special("attributes", "data/a.lanes.json", item)
for name, value in {
    "more-points-than-labels": 10**6,
    "huge-number": 10**400,
    "negative": -1,
    "fraction": 1.5,
    "text": "3",
}.items():
    add(
        "attributes",
        f"points-{name}",
        attributes(lambda tree, value=value: tree["lanes"][0].update(points=value)),
        "refuse",
    )
add("attributes", "no-lanes", attributes(lambda tree: tree.update(lanes=[])), "refuse")
add("attributes", "many-lanes", attributes(lambda tree: tree.update(lanes=tree["lanes"] * 5000)), "refuse")
add(
    "attributes",
    "many-ranges",
    attributes(lambda tree: tree["lanes"][0].update(hidden=[{"from": 0, "to": 0, "by": "vehicle"}] * 50_000)),
    "refuse",
)
add(
    "attributes",
    "range-beyond",
    attributes(lambda tree: tree["lanes"][0].update(hidden=[{"from": 0, "to": 10**9}])),
    "refuse",
)
add("attributes", "size-of-billions", attributes(lambda tree: tree.update(size=[10**12, 10**12])))
add("attributes", "nested", attributes_bytes(b"[" * 100_000 + b"]" * 100_000), "refuse")
add("attributes", "nan", attributes_bytes(b'{"version": NaN, "size": [Infinity, 1], "lanes": []}'), "refuse")
add(
    "attributes",
    "same-keys",
    attributes_bytes(b'{"lanes": [], ' + b'"lanes": 3, ' * 100_000 + b'"version": 1}'),
    "refuse",
)
add("attributes", "digits", attributes_bytes(b'{"version": ' + b"9" * 3_000_000 + b"}"), "refuse")
add("attributes", "too-large", attributes_bytes(b'{"version": 1, "x": "' + b" " * 5_000_000 + b'"}'), "refuse")

# --- images and masks


def png(width: int, height: int, depth: int = 8, colour: int = 0, rows: bytes | None = None, **chunks: bytes) -> bytes:
    """Return a PNG with any values in its header, independent of the data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    more = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    data = zlib.compress(rows if rows is not None else b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bmp(width: int, height: int, bits: int = 24) -> bytes:
    head = b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0) + bytes(100)


def jpeg_segments(*segments: tuple[int, bytes]) -> bytes:
    parts = [b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments]
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"


def frame_header(width: int, height: int) -> bytes:
    return struct.pack(">BHHB", 8, height, width, 3) + b"\x01\x22\0\x02\x11\x01\x03\x11\x01"


def tiff(width: int, height: int, next_directory: int = 0) -> bytes:
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 4, height),
        (279, 4, 99),
    ]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + struct.pack("<I", next_directory)


def exif(orientation: int, *, endless: bool = False) -> bytes:
    directory = (
        struct.pack("<H", 1) + struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + struct.pack("<I", 8 * endless)
    )
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory


def picture(suffix: str, make_data: Callable[[Path], bytes]) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        item(seeds, folder)
        (folder / "data" / "a.jpg").unlink()
        (folder / "data" / f"a{suffix}").write_bytes(make_data(seeds))
        (folder / LIST).write_text(f"/a{suffix}\n")

    return make


def with_exif(orientation: int, endless: bool = False) -> Callable[[Path], bytes]:
    def make(seeds: Path) -> bytes:
        data = content(seeds / "images" / "image.jpg")
        block = exif(orientation, endless=endless)
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]

    return make


def jpeg_of(change: Callable[[bytes], bytes]) -> Callable[[Path], bytes]:
    return lambda seeds: change(content(seeds / "images" / "image.jpg"))


def fixed(data: bytes) -> Callable[[Path], bytes]:
    return lambda seeds: data


special("images", "data/a.jpg", item)
for suffix, data in {
    ".png": png(2**31 - 1, 2**31 - 1),
    ".bmp": bmp(2**31 - 1, 2**31 - 1),
    ".ppm": b"P6\n2147483647 2147483647\n255\n" + bytes(100),
    ".jpg": jpeg_segments((0xC0, frame_header(65535, 65535))),
    ".tiff": tiff(2**31 - 1, 2**31 - 1),
    ".webp": b"RIFF\x64\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff" + bytes(80),
}.items():
    add("images", f"billions-of-pixels{suffix}", picture(suffix, fixed(data)), "refuse")
for suffix, data in {
    ".png": lambda seeds: png(30000, 30000, rows=b"\0" * 30001 * 300),
    ".bmp": lambda seeds: bmp(30000, 30000),
    ".ppm": lambda seeds: b"P6\n30000 30000\n255\n" + bytes(100),
    ".tiff": lambda seeds: tiff(30000, 30000),
}.items():
    add("images", f"900-million-pixels{suffix}", picture(suffix, data), "refuse")
add("images", "bomb.png", picture(".png", lambda seeds: png(20000, 20000, 1, 0, bytes(2501 * 20000))))
add("images", "negative.bmp", picture(".bmp", fixed(bmp(-5, -(2**31)))), "refuse")
add("images", "zero.png", picture(".png", fixed(png(0, 0))), "refuse")
add("images", "zero.ppm", picture(".ppm", fixed(b"P6\n0 0\n255\n")), "refuse")
add("images", "many-digits.ppm", picture(".ppm", fixed(b"P6\n" + b"9" * 5000 + b" 1\n255\n")), "refuse")
add("images", "p3-huge.ppm", picture(".ppm", fixed(b"P3\n3 3\n255\n" + b"9999999999999 " * 27)))
add("images", "endless-directories.tiff", picture(".tiff", fixed(tiff(10, 10, 8))))
for turned in range(10):
    add("images", f"exif-{turned}", picture(".jpg", with_exif(turned)))
add("images", "exif-endless", picture(".jpg", with_exif(6, endless=True)))
add(
    "images",
    "exif-cut",
    picture(".jpg", jpeg_of(lambda data: data[:2] + b"\xff\xe1\0\x10Exif\0\0II*\0\xff\xff\xff\xff" + data[2:])),
)
add("images", "cut-in-half", picture(".jpg", jpeg_of(lambda data: data[: len(data) // 2])), "refuse")
add("images", "cut-last-byte", picture(".jpg", jpeg_of(lambda data: data[:-1])))
add("images", "trailing-zeros", picture(".jpg", jpeg_of(lambda data: data + bytes(100_000))))
add("images", "second-jpeg-behind", picture(".jpg", jpeg_of(lambda data: data + data)))
add("images", "zip-behind", picture(".jpg", jpeg_of(lambda data: data + b"PK\x03\x04" + bytes(3000))))
add("images", "only-markers", picture(".jpg", fixed(b"\xff\xd8\xff\xd9")), "refuse")
add(
    "images",
    "endless-segments",
    picture(".jpg", fixed(b"\xff\xd8" + b"\xff\xfe\0\x02" * 200_000 + b"\xff\xd9")),
    "refuse",
)
add(
    "images",
    "segment-of-length-0",
    picture(".jpg", fixed(b"\xff\xd8" + b"\xff\xfe\0\0" * 2000 + b"\xff\xd9")),
    "refuse",
)
add(
    "images",
    "size-lies.jpg",
    picture(".jpg", jpeg_of(lambda data: data.replace(b"\x00\x76\x01\x48", b"\x40\x00\x40\x00", 1))),
)
add("images", "html.jpg", picture(".jpg", fixed(b"<html>404 not found</html>")), "refuse")
add(
    "images",
    "svg.png",
    picture(".png", fixed(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')),
    "refuse",
)
add(
    "images",
    "pointer-of-lfs.jpg",
    picture(".jpg", fixed(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")),
    "refuse",
)
add("images", "png-called.jpg", picture(".jpg", lambda seeds: content(seeds / "images" / "image.png")))
add("images", "sixteen-bits.png", picture(".png", fixed(png(4, 4, 16, 2, bytes(25) * 4))))
add("images", "palette.png", picture(".png", fixed(png(4, 4, 8, 3, b"\0\1\2\3\1" * 4, PLTE=bytes(range(12))))))
add("images", "palette-missing.png", picture(".png", fixed(png(4, 4, 8, 3, b"\0\1\2\3\1" * 4))))
add(
    "images",
    "text-bomb.png",
    picture(".png", lambda seeds: png(4, 4, 8, 0, bytes(20), zTXt=b"x\0\0" + zlib.compress(bytes(60 << 20)))),
)


def odd_image_name(name: bytes) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        item(seeds, folder)
        target = os.fsencode(folder) + b"/data/" + name
        with open(target, "wb") as file:
            file.write(content(seeds / "images" / "image.jpg"))
        (folder / LIST).write_bytes(b"/" + name + b"\n")

    return make


add("images", "name-not-utf8", odd_image_name(b"\xff\xfe.jpg"))
add("images", "name-with-markup", odd_image_name(b"[bold]x[.jpg"))
add("images", "name-with-escape", odd_image_name(b"a\x1b[31m.jpg"))
add("images", "name-hidden", odd_image_name(b"._a.jpg"))
add("images", "name-of-255-bytes", odd_image_name(b"x" * 251 + b".jpg"))


def mask(make_data: Callable[[], bytes]) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        item(seeds, folder)
        (folder / "data" / "a.png").write_bytes(make_data())

    return make


def encoded(array: Any) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", array)[1])


add(
    "images",
    "chunk-of-2-GB.png",
    picture(".png", lambda seeds: b"\x89PNG\r\n\x1a\n" + b"\x7f\xff\xff\xffIHDR" + png(9, 9)[16:]),
)
special("masks", "data/a.png", item)
plain = np.zeros((SIZE[1], SIZE[0]), np.uint8)
plain[60:, 100:110], plain[60:, 200:210] = 1, 2
add("masks", "billions-of-pixels", mask(lambda: png(2**31 - 1, 2**31 - 1)), "refuse")
add("masks", "900-million-pixels", mask(lambda: png(30000, 30000, rows=bytes(30001 * 300))), "refuse")
add("masks", "rgb", mask(lambda: encoded(np.dstack([plain * 90, plain * 30, plain]))))
add("masks", "rgba", mask(lambda: encoded(np.dstack([plain, plain, plain, 255 - plain]))))
add("masks", "sixteen-bits", mask(lambda: encoded(plain.astype(np.uint16) * 300)))
add("masks", "black-and-white", mask(lambda: encoded((plain > 0).astype(np.uint8) * 255)))
add("masks", "all-ignored", mask(lambda: encoded(plain * 0 + 255)))
add("masks", "all-values", mask(lambda: encoded(np.resize(np.arange(256, dtype=np.uint8), plain.shape))))
add("masks", "palette", mask(lambda: png(4, 4, 8, 3, b"\0\0\1\2\1" * 4, PLTE=bytes([0, 0, 0, 255, 0, 0, 0, 255, 0]))))
add("masks", "palette-one-bit", mask(lambda: png(8, 2, 1, 3, b"\0\x55" * 2, PLTE=bytes([0, 0, 0, 255, 255, 255]))))
add("masks", "other-size", mask(lambda: encoded(plain[:20, :20])))
add("masks", "one-pixel", mask(lambda: encoded(plain[:1, :1])))
add("masks", "gamma", mask(lambda: png(4, 4, 8, 0, b"\0\0\1\2\1" * 4, gAMA=struct.pack(">I", 1))))

# --- videos


def clip(suffix: str, make_data: Callable[[Path], bytes]) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        (folder / f"clip{suffix}").write_bytes(make_data(seeds))

    return make


def with_address(text: str) -> Callable[[Path], bytes]:
    """A text with the address of the listening socket, and the path of a video that it must not fetch."""

    def make(seeds: Path) -> bytes:
        port, local = (seeds / "port").read_text(), seeds / "videos" / "clip.mp4"
        return text.replace("ADDRESS", f"127.0.0.1:{port}").replace("LOCAL", str(local)).encode()

    return make


special("videos", "clip.mp4")
PLAYLISTS = {
    "m3u8-http": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://ADDRESS/a.ts\n#EXT-X-ENDLIST\n",
    "m3u8-file": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://LOCAL\n#EXT-X-ENDLIST\n",
    "m3u8-path": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nLOCAL\n#EXT-X-ENDLIST\n",
    "m3u8-tcp": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ntcp://ADDRESS\n#EXT-X-ENDLIST\n",
    "m3u8-variants": '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://ADDRESS/b.m3u8\n#EXT-X-MEDIA:TYPE=AUDIO,URI="http://ADDRESS/c",GROUP-ID="a",NAME="a"\n',
    "m3u8-key": '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI="http://ADDRESS/k"\n#EXTINF:1,\nLOCAL\n#EXT-X-ENDLIST\n',
    "concat": "ffconcat version 1.0\nfile 'LOCAL'\n",
    "concat-http": "ffconcat version 1.0\nfile 'http://ADDRESS/a.mp4'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet><Representation id="a" bandwidth="1"><BaseURL>http://ADDRESS/a.mp4</BaseURL><SegmentList><SegmentURL media="http://ADDRESS/a"/></SegmentList></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "rtsp-reference": "[Reference]\nRef1=http://ADDRESS/a\n",
    "asx": '<asx version="3.0"><entry><ref href="http://ADDRESS/a.mp4"/></entry></asx>',
}
for name, text in PLAYLISTS.items():
    for suffix in (".mp4", ".mkv") if name.startswith("m3u8") else (".mp4",):
        add("videos", f"playlist-{name}{suffix}", clip(suffix, with_address(text)), "refuse")
add("videos", "a-text.avi", clip(".avi", fixed(b"RIFF")), "refuse")
add("videos", "an-image.mp4", clip(".mp4", lambda seeds: content(seeds / "images" / "image.jpg")))
add("videos", "cut.mp4", clip(".mp4", lambda seeds: content(seeds / "videos" / "clip.mp4")[:20_000]))
add("videos", "cut.avi", clip(".avi", lambda seeds: content(seeds / "videos" / "clip.avi")[:20_000]))
add(
    "videos",
    "huge-frames.avi",
    clip(
        ".avi",
        lambda seeds: content(seeds / "videos" / "clip.avi").replace(
            struct.pack("<II", *SIZE), struct.pack("<II", 60000, 60000)
        ),
    ),
)
add(
    "videos",
    "huge-frames.mp4",
    clip(
        ".mp4",
        lambda seeds: content(seeds / "videos" / "clip.mp4").replace(
            struct.pack(">HH", *SIZE), struct.pack(">HH", 65000, 65000)
        ),
    ),
)
add(
    "videos",
    "huge-picture.gif",
    clip(".avi", fixed(b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;")),
)
add("videos", "y4m-huge", clip(".avi", fixed(b"YUV4MPEG2 W60000 H60000 F25:1 C420\nFRAME\n" + bytes(1000))))
add("videos", "y4m-endless-rate", clip(".avi", fixed(b"YUV4MPEG2 W16 H16 F1000000000:1 C420\nFRAME\n" + bytes(384))))


def odd_video_name(name: bytes) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(content(seeds / "videos" / "clip.mp4"))

    return make


add("videos", "name-not-utf8", odd_video_name(b"\xff\xfe.mp4"))
add("videos", "name-with-percent", odd_video_name(b"clip%05d.mp4"))
add("videos", "name-with-colon", odd_video_name(b"concat:clip.mp4"))
add("videos", "name-with-pipe", odd_video_name(b"a|b.mp4"))

# --- arrays


def npy(shape: str, kind: str = "<f4", data: bytes = b"", version: int = 1) -> bytes:
    """Return an .npy file with any header."""
    head = (
        f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"
        if kind[0] in "'["
        else (f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}")
    )
    text = head.encode()
    text += b" " * ((-len(text) - 11) % 16) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str = "touch escaped ../escaped ../../escaped") -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def object_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Hostile()], object), allow_pickle=True)
    return buffer.getvalue()


def npz_bomb() -> bytes:
    return zipped({"data.npy": npy("(1073741824,)", "|u1", bytes(1 << 20)) + bytes(200 << 20)}, zipfile.ZIP_DEFLATED)


special("npz", "diffs.npz")
for name, data in {
    "petabytes": zipped({"data.npy": npy("(200000000000000,)")}),
    "negative": zipped({"data.npy": npy("(-4,)", data=bytes(16))}),
    "overflow": zipped({"data.npy": npy("(4611686018427387904, 4)")}),
    "objects": zipped({"data.npy": object_array()}),
    "a-pickle": pickle.dumps(Hostile()),
    "a-pickle-in-a-zip": zipped({"data.npy": pickle.dumps(Hostile())}),
    "header-is-code": zipped({"data.npy": npy("__import__('os').system('touch ../../escaped')")}),
    "header-nested": zipped({"data.npy": npy("(" * 5000 + ")" * 5000)}),
    "header-of-4-GB": zipped({"data.npy": b"\x93NUMPY\x02\0\xff\xff\xff\xff{"}),
    "structured": zipped({"data.npy": npy("(1,)", "[('a', '<f4'), ('b', '<f4')]", bytes(8))}),
    "complex": zipped({"data.npy": npy("(4,)", "<c16", bytes(64))}),
    "texts": zipped({"data.npy": npy("(4,)", "<U3", bytes(48))}),
    "dates": zipped({"data.npy": npy("(4,)", "<M8[s]", bytes(32))}),
    "void": zipped({"data.npy": npy("(4,)", "|V100000000", b"")}),
    "two-arrays": zipped({"a.npy": npy("(4,)", data=bytes(16)), "b.npy": npy("(4,)", data=bytes(16))}),
    "none": zipped({}),
    "no-array": zipped({"readme.txt": b"x"}),
    "name-up": zipped({"../../escaped.npy": npy("(4,)", data=bytes(16))}),
    "plain-npy": npy("(4,)", data=bytes(16)),
    "zlib-broken": zipped({"data.npy": npy("(4,)", data=bytes(16))}, zipfile.ZIP_DEFLATED)[:60] + bytes(120),
    "bzip2": zipped({"data.npy": npy("(4,)", data=bytes(16))}, zipfile.ZIP_BZIP2),
    "lzma": zipped({"data.npy": npy("(4,)", data=bytes(16))}, zipfile.ZIP_LZMA),
    "gzip": gzip.compress(npy("(4,)", data=bytes(16))),
    "200-MB-of-zeros": npz_bomb,
}.items():
    add("npz", name, one("diffs.npz", data))
add("npz", "nan", one("diffs.npz", zipped({"data.npy": npy("(4,)", data=np.full(4, np.nan, np.float32).tobytes())})))


def features(data: bytes) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        write_features(folder)
        one("features/level_0.npy", data)(seeds, folder)

    return make


special("features", "features/level_0.npy", lambda seeds, folder: write_features(folder))
for name, data in {
    "objects": object_array(),
    "petabytes": npy("(200000000000000, 3)"),
    "no-axes": npy("()", data=bytes(4)),
    "too-few": npy("(1, 3)", data=bytes(12)),
    "a-pickle": pickle.dumps(Hostile()),
    "texts": npy("(4,)", "<U3", bytes(48)),
}.items():
    add("features", name, features(data))
add("features", "no-files", lambda seeds, folder: (folder / "features").mkdir())

# --- configs


def ours(text: str) -> Make:
    return one("tiny.py", text.encode(errors="surrogateescape"))


HEAD = "from clrernetlm.config import *\n"
special("configs", "tiny.py")
for name, text in {
    "exits": "import sys\nsys.exit(3)\n",
    "exits-with-text": "raise SystemExit('bye')\n",
    "raises": "raise ValueError('a\\nb')\n",
    "raises-without-words": "raise Exception\n",
    "raises-an-odd-error": "class Odd(BaseException): pass\nraise Odd('x')\n",
    "error-without-text": "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd\n",
    "endless-recursion": "def f(): return f()\nf()\n",
    "deep": HEAD + "config = " + "(" * 150 + "Config()" + ")" * 150 + "\n",
    "too-deep": HEAD + "config = " + "(" * 5000 + "Config()" + ")" * 5000 + "\n",
    "deep-list": HEAD + "x = " + "[" * 90_000 + "\n",
    "deep-minus": HEAD + "x = " + "-" * 200_000 + "1\nconfig = Config()\n",
    "long-sum": HEAD + "x = " + "1+" * 50_000 + "1\nconfig = Config()\n",
    "nul": HEAD + "config = Config()\0\n",
    "own-class": HEAD + "class C(Config): pass\nconfig = C()\n",
    "class-itself": HEAD + "config = Config\n",
    "wrong-object": HEAD + "config = Config()\nconfig.model = 5\n",
    "object-in-setting": HEAD + "config = Config()\nconfig.data.root = object()\n",
    "tree-contains-itself": HEAD + "config = Config()\nconfig.model.backbone = config\n",
    "list-contains-itself": HEAD + "x = []\nx.append(x)\nconfig = Config()\nconfig.evaluation.thresholds = x\n",
    "name-up": HEAD + "config = Config(name='../../escaped')\n",
    "name-with-nul": HEAD + "config = Config(name='a\\0b')\n",
    "huge-number": HEAD + "config = Config()\nconfig.training.seed = 10**5000\n",
    "huge-float": HEAD + "config = Config()\nconfig.training.learning_rate = 10**400\n",
    "viewport-none": HEAD + "config = Config()\nconfig.model.viewport = None\n",
    "builds-on-itself": HEAD + "config = load_config('tiny.py')\n",
    "builds-on-nothing": HEAD + "config = load_config('missing')\n",
    "builds-on-odd": HEAD + "config = load_config(5)\n",
    "tabs": "if 1:\n\tx = 1\n        y = 2\n",
    "coding-unknown": "# coding: klingon\n",
    "coding-rot13": "# coding: rot13\nvzcbeg bf\n",
    "only-a-comment": "# nothing\n",
    "text-annotation": HEAD + "config: 'Config' = Config()\n",
    "surrogate": HEAD + "config = Config(name='\udcff')\n",
}.items():
    add("configs", name, ours(text))
for codec in ("utf-8-sig", "utf-16", "utf-32"):
    add("configs", f"in-{codec}", one("tiny.py", (HEAD + "config = Config()\n").encode(codec)))


def theirs(text: str) -> Make:
    return one("configs/clrernet_culane_dla34.py", text.encode(errors="surrogateescape"))


MODEL = "model = dict(type='CLRerNet')\n"
DOUBLING = "\n".join(f"a{i + 1} = dict(x=a{i}, y=a{i})" for i in range(40))
special("mmdetection", "configs/clrernet_culane_dla34.py")
for name, text in {
    "doubling-dicts": f"a0 = dict(v=1)\n{DOUBLING}\n{MODEL}train_pipeline = a40\n",
    "doubling-lists": "a0 = [1]\n" + "\n".join(f"a{i + 1} = [a{i}, a{i}]" for i in range(40)) + f"\n{MODEL}x = a40\n",
    "doubling-sums": "a0 = [1]\n" + "\n".join(f"a{i + 1} = a{i} + a{i}" for i in range(40)) + f"\n{MODEL}x = a40\n",
    "doubling-texts": "a0 = 'ab'\n" + "\n".join(f"a{i + 1} = a{i} + a{i}" for i in range(60)) + f"\n{MODEL}x = a60\n",
    "doubling-tuples": "a0 = (1,)\n"
    + "\n".join(f"a{i + 1} = (*a{i}, *a{i})" for i in range(60))
    + f"\n{MODEL}x = a60\n",
    "doubling-updates": "a0 = dict(v=1)\n"
    + "\n".join(f"a{i + 1} = {{'x': a{i}, **a{i}, 'y': a{i}}}" for i in range(60))
    + f"\n{MODEL}x = a60\n",
    "huge-power": f"{MODEL}x = 9**9**9**9\n",
    "power-chain": f"{MODEL}x = (((10**64)**64)**64)**64\n",
    "huge-product": f"{MODEL}x = [0] * 10**12\n",
    "huge-text": f"{MODEL}x = 'a' * 10**12\n",
    "huge-shift": f"{MODEL}x = 1 << 10**12\n",
    "percent": f"{MODEL}x = '%999999999d' % 3\n",
    "divides-by-zero": f"{MODEL}x = 1 / 0\ny = 1 % 0\nz = 1 // 0\n",
    "negative-power": f"{MODEL}x = 0 ** -1\ny = (-8) ** 0.5\n",
    "float-power": f"{MODEL}x = 10.0 ** 64 ** 64\n",
    "contains-itself": f"x = []\nx.append(x)\n{MODEL}",
    "base-itself": f"_base_ = ['clrernet_culane_dla34.py']\n{MODEL}",
    "base-missing": f"_base_ = ['missing.py']\n{MODEL}",
    "base-many": f"_base_ = {['missing.py'] * 5000}\n{MODEL}",
    "base-pipe": f"_base_ = ['/dev/zero']\n{MODEL}",
    "base-number": f"_base_ = 5\n{MODEL}",
    "base-folder": f"_base_ = ['.']\n{MODEL}",
    "base-nul": f"_base_ = ['a\\0b.py']\n{MODEL}",
    "base-surrogate": f"_base_ = ['\\udcff.py']\n{MODEL}",
    "deep": f"{MODEL}x = {'[' * 90}{']' * 90}\n",
    "deeper": f"{MODEL}x = {'dict(a=' * 80}1{')' * 80}\n",
    "too-deep": f"{MODEL}x = {'[' * 50_000}\n",
    "deep-minus": f"{MODEL}x = {'-' * 5000}1\n",
    "long-sum": f"{MODEL}x = {'1+' * 5000}1\n",
    "long-attributes": f"{MODEL}x = a{'.b' * 5000}\n",
    "many-names": MODEL + "".join(f"n{i} = {i}\n" for i in range(20_000)),
    "quoted-base": f"{MODEL}x = '{{{{ _base_.{'a.' * 5000}b }}}}'\n",
    "runs": f"import os\nos.system('touch ../../escaped')\n{MODEL}",
    "custom-imports": f"{MODEL}custom_imports = dict(imports=['os'], allow_failed_imports=False)\n",
    "keys-not-texts": f"{MODEL}x = {{1: 2, None: 3, (1, 2): 4}}\n",
    "keys-unhashable": f"{MODEL}x = {{[1]: 2}}\n",
    "unhashable-set": f"{MODEL}x = {{[1], {{}}}}\n",
    "type-of-list": "model = dict(type=['CLRerNet'])\n",
    "type-of-dict": "model = dict(type=dict(a=1))\n",
    "model-of-list": "model = [1]\n",
    "sizes-of-text": f"{MODEL}data = dict(samples_per_gpu='x', workers_per_gpu=[1])\n",
    "sizes-of-zero": "model = dict(type='CLRerNet', test_cfg=dict(ori_img_w=0, ori_img_h=0, cut_height=0))\n",
    "sizes-huge": f"model = dict(type='CLRerNet', test_cfg=dict(ori_img_w={'9' * 400}, ori_img_h=1e308, cut_height=-{'9' * 400}))\n",
    "nan": "model = dict(type='CLRerNet', test_cfg=dict(conf_threshold=1e999-1e999))\n",
    "delete": f"{MODEL}x = dict(_delete_=True)\n",
    "pipeline-types": f"{MODEL}train_pipeline = [dict(type=1), dict(type=[2]), dict(type=None)] * 50\n",
    "surrogate": f"{MODEL}x = '\udcff'\n",
    "digits": f"{MODEL}x = {'9' * 5000}\n",
}.items():
    add("mmdetection", name, theirs(text))
for codec in ("utf-8-sig", "utf-16"):
    add("mmdetection", f"in-{codec}", one("configs/clrernet_culane_dla34.py", MODEL.encode(codec)))

# --- checkpoints


def checkpoint_zip(data_pkl: bytes, more: dict[str, bytes] | None = None) -> bytes:
    members = {"a/data.pkl": data_pkl, "a/version": b"3\n", "a/byteorder": b"little", **(more or {})}
    return zipped(members)


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def laughs(depth: int) -> bytes:
    """Return a pickle of lists that hold the previous one ten times: small in memory, endless to traverse."""
    parts = [b"\x80\x02]q\x00"]
    for level in range(1, depth):
        parts.append(b"](" + b"h" + bytes([level - 1]) + (b"h" + bytes([level - 1])) * 9 + b"e" + b"q" + bytes([level]))
    return b"".join(parts) + b"."


def settings_laughs(depth: int) -> bytes:
    value: Any = "ha"
    tree: dict[str, Any] = {"a": value}
    for _ in range(depth):
        tree = dict.fromkeys(map(str, range(10)), tree)
    return pickle.dumps({"config": tree, "state_dict": {}}, protocol=2)


special("checkpoints", "tiny.pth")
for name, data in {
    "runs-a-command": pickle.dumps(Hostile(), 2),
    "runs-a-command-in-a-zip": checkpoint_zip(pickle.dumps({"state_dict": {"a": Hostile()}}, 2)),
    "runs-eval": checkpoint_zip(b"\x80\x02cbuiltins\neval\n(X\x10\x00\x00\x00open('../x','w')tR."),
    "runs-by-instance": b"(S'touch ../escaped'\nios\nsystem\n.",
    "runs-by-build": b"\x80\x02cos\nsystem\n}(X\x01\x00\x00\x00aX\x01\x00\x00\x00bub.",
    "runs-getattr": checkpoint_zip(b"\x80\x02cbuiltins\ngetattr\n(cos\nsystem\nX\x08\x00\x00\x00__call__tR."),
    "nested-lists": checkpoint_zip(nested(1 << 20)),
    "nested-lists-old": nested(1 << 20),
    "nested-tuples": checkpoint_zip(b"\x80\x02)" + b"\x85" * (1 << 20) + b"."),
    "nested-marks": checkpoint_zip(b"\x80\x02" + b"(" * (1 << 20) + b"."),
    "nested-marks-old": b"\x80\x02" + b"(" * (1 << 20) + b".",
    "nested-dicts": checkpoint_zip(b"\x80\x02" + b"}K\x01" * 300_000 + b"}" + b"s" * 300_000 + b"."),
    "billion-laughs": checkpoint_zip(laughs(200)),
    "billion-laughs-settings": checkpoint_zip(settings_laughs(12)),
    "billion-laughs-more-settings": checkpoint_zip(settings_laughs(60)),
    "list-of-itself": checkpoint_zip(b"\x80\x02]q\x00h\x00a."),
    "settings-of-itself": checkpoint_zip(b"\x80\x02}q\x00X\x06\x00\x00\x00configh\x00s."),
    "long-integer": checkpoint_zip(b"\x80\x02\x8b\xff\xff\xff\x7f" + bytes(100) + b"."),
    "long-text": checkpoint_zip(b"\x80\x02X\xff\xff\xff\xff" + bytes(100) + b"."),
    "long-bytes": checkpoint_zip(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f."),
    "frame-of-petabytes": checkpoint_zip(b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f."),
    "memo-far-away": checkpoint_zip(b"\x80\x02]r\xff\xff\xff\x7f."),
    "a-number": checkpoint_zip(pickle.dumps(3, 2)),
    "a-list": checkpoint_zip(pickle.dumps([1], 2)),
    "an-empty-dict": checkpoint_zip(pickle.dumps({}, 2)),
    "keys-no-texts": checkpoint_zip(pickle.dumps({1: 2, None: 3, (1,): 4, "state_dict": {5: 6}}, 2)),
    "state-dict-list": checkpoint_zip(pickle.dumps({"state_dict": [1, 2]}, 2)),
    "settings-no-dict": checkpoint_zip(pickle.dumps({"state_dict": {}, "config": 5}, 2)),
    "settings-unknown": checkpoint_zip(pickle.dumps({"state_dict": {}, "config": {"x" * 3000: 1}}, 2)),
    "settings-huge-anchors": checkpoint_zip(
        pickle.dumps({"state_dict": {}, "config": {"model": {"head": {"num_priors": 10**9}}}}, 2)
    ),
    "settings-name-up": checkpoint_zip(pickle.dumps({"state_dict": {}, "config": {"name": "../../escaped"}}, 2)),
    "name-up-in-zip": zipped({"../../escaped/data.pkl": pickle.dumps({}, 2)}),
    "torchscript": zipped({"a/constants.pkl": b"", "a/code/x.py": b"import os"}),
    "tar": (lambda buffer: (tarfile.open(fileobj=buffer, mode="w").close(), buffer.getvalue())[1])(io.BytesIO()),
    "html": b"<html>404</html>",
    "zip-bomb": lambda: zipped({"a/data.pkl": b"\x80\x02" + b"N0" * (100 << 20) + b"N."}, zipfile.ZIP_DEFLATED),
}.items():
    add("checkpoints", name, one("tiny.pth", data), "refuse")


def storage_case(size: str) -> Make:
    """Register a tensor whose storage has another size than declared."""
    text = (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuL" + size.encode() + b"LtQK\x00(L" + size.encode() + b"Lt(K\x01t\x89"
        b"ccollections\nOrderedDict\n)RtRs."
    )
    return one("tiny.pth", checkpoint_zip(text, {"a/data/0": bytes(16)}))


for size in ("4", "5", "1000000000000", "-4", "9" * 40):
    add("checkpoints", f"storage-of-{size[:13]}", storage_case(size), "refuse")

# --- packed files


def packed(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def about(config: Any, **more: Any) -> dict[str, Any]:
    return {"__metadata__": {KEY: json.dumps({"format": 1, "clrernetlm_version": "0", "config": config} | more)}}


def seed_with(change: Callable[[dict[str, Any]], None]) -> Make:
    """Return the packed seed with other settings."""

    def make(seeds: Path, folder: Path) -> None:
        data = content(seeds / "models" / "tiny.safetensors")
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        described = json.loads(header["__metadata__"][KEY])
        change(described)
        header["__metadata__"][KEY] = json.dumps(described)
        (folder / "model.safetensors").write_bytes(packed(header, data[8 + length :]))

    return make


def setting(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(described: dict[str, Any]) -> None:
        *groups, leaf = ["config", *name.split(".")]
        tree = described
        for group in groups:
            tree = tree[group]
        tree[leaf] = value

    return change


special("packed", "model.safetensors")
for name, data in {
    "length-lies": packed(b"{}", length=2**63),
    "length-too-long": packed(b"{}", length=100),
    "no-header": packed(b""),
    "header-list": packed([]),
    "header-nested": packed(b'{"a":' * 20_000),
    "header-of-blanks": packed(b" " * 5_000_000),
    "header-duplicate-keys": packed(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "offsets-beyond": packed({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 10**12]}}, bytes(16)),
    "offsets-negative": packed({"a": {"dtype": "F32", "shape": [4], "data_offsets": [-1, 15]}}, bytes(16)),
    "shape-overflows": packed({"a": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]}}),
    "unknown-type": packed({"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)),
    "metadata-number": packed({"__metadata__": {KEY: 5}}),
    "metadata-no-json": packed({"__metadata__": {KEY: "{"}}),
    "metadata-deep": packed({"__metadata__": {KEY: "[" * 90_000}}),
    "metadata-deep-settings": packed(
        {"__metadata__": {KEY: '{"format":1,"config":' + '{"model":' * 5000 + "1" + "}" * 5001}}
    ),
    "metadata-big-number": packed(
        {"__metadata__": {KEY: '{"format":1,"config":{"model":{"max_lanes":' + "9" * 10_000 + "}}}"}}
    ),
    "format-of-list": packed(about({}, format=[1])),
    "settings-empty": packed(about({})),
    "settings-of-lists": packed(about({"model": []})),
    "no-metadata": packed({}),
    "many-tensors": packed({f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}),
}.items():
    add("packed", name, one("model.safetensors", data), "refuse")
for name, value in {
    "model.head.num_priors": 10**9, "model.head.num_points": 10**9, "model.head.sample_points": 10**9, "model.head.fc_layers": 10**9,
    "model.head.feature_channels": 10**6, "model.head.roi_channels": 10**9, "model.head.attention_size": [10**6, 10**6],
    "model.head.refine_layers": 4, "model.viewport.width": 10**9, "model.viewport.height": 2**31, "model.viewport.top": 1e-300,
    "model.max_lanes": 10**12, "model.decode.nms_threshold": 1e308, "model.decode.conf_threshold": -1, "data.root": "/etc",
    "training.device": "cuda:99", "training.work_dir": "../../escaped", "lanelm.detector": "/etc/passwd", "lanelm.cache": "../../escaped",
    "lanelm.network.num_steps": 10**9, "lanelm.network.nbins_x": 10**9, "lanelm.network.num_layers": 10**9, "lanelm.network.embed_dim": 10**6,
    "task": "lanelm", "model.backbone.name": "resnet50", "model.backbone.pretrained": True, "evaluation.thresholds": [0.5] * 10**6,
    "evaluation.image_size": [10**12, 10**12], "name": "../../escaped",
}.items():  # fmt: skip
    add("packed", f"setting-{name}", seed_with(setting(name, value)))
for name, value in {
    "nul": "a\0b",
    "long": "x" * 5000,
    "slash": "/etc/passwd",
    "surrogate": "\udcff",
    "dots": "..",
}.items():
    add("packed", f"name-{name}", seed_with(setting("name", value)))


def other_weights(name: str, kind: str, value: float) -> Make:
    """The packed seed with weights that are not finite or of another type."""

    def make(seeds: Path, folder: Path) -> None:
        import torch
        from safetensors.torch import load, save

        data = content(seeds / "models" / "tiny.safetensors")
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        tensors = {key: torch.full_like(tensor, value) if name in key else tensor for key, tensor in load(data).items()}
        tensors = {key: tensor.to(getattr(torch, kind)) if name in key else tensor for key, tensor in tensors.items()}
        (folder / "model.safetensors").write_bytes(save(tensors, metadata))

    return make


add("packed", "weights-nan", other_weights("weight", "float32", float("nan")))
add("packed", "weights-infinite", other_weights("bias", "float32", float("inf")))
add("packed", "weights-complex", other_weights("bias", "complex64", 1.0))
add("packed", "weights-bool", other_weights("weight", "bool", 1.0))
add("packed", "weights-float8", other_weights("weight", "float8_e4m3fn", 1.0))
add("packed", "anchors-nan", other_weights("prior", "float32", float("nan")))

# --- exported models


def onnx_with(change: Callable[[Any], None]) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        import onnx

        model = onnx.ModelProto.FromString(content(seeds / "models" / "tiny.onnx"))
        change(model)
        (folder / "tiny.onnx").write_bytes(model.SerializeToString())

    return make


def metadata(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], None]:
    def changed(model: Any) -> None:
        described = json.loads(model.metadata_props[0].value)
        change(described)
        model.metadata_props[0].value = json.dumps(described)

    return changed


def set_in(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(described: dict[str, Any]) -> None:
        described[name] = value

    return change


def onnx_external(location: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key, value in (("location", location), ("offset", "0"), ("length", "24")):
            tensor.external_data.add(key=key, value=value)

    return change


def onnx_values(value: float) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for tensor in model.graph.initializer:
            if tensor.data_type == 1 and tensor.name.endswith("_value"):
                tensor.raw_data = np.full(len(tensor.raw_data) // 4, value, np.float32).tobytes()

    return change


def onnx_constant_of_shape(model: Any) -> None:
    """Return a graph that allocates terabytes when it is run."""
    from onnx import helper, numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.array([10**6, 10**6], np.int64), "terabytes"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["terabytes"], ["huge"]))
    model.graph.node.insert(1, helper.make_node("ReduceMean", ["huge"], ["mean_of_huge"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["mean_of_huge", "nothing"], ["unused"]))
    model.graph.node[-2].input[1] = "unused"


def onnx_expanded(model: Any) -> None:
    """Return a graph that expands one number to gigabytes, which no runtime computes beforehand."""
    from onnx import helper, numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.array([10**9], np.int64), "gigabytes"))
    model.graph.node.insert(2, helper.make_node("Expand", ["mean", "gigabytes"], ["huge"]))
    model.graph.node.insert(3, helper.make_node("ReduceMean", ["huge"], ["mean_of_huge"], keepdims=0))
    model.graph.node[4].input[0] = "mean_of_huge"


def onnx_loop(model: Any) -> None:
    """Return a graph that counts to 2^62 when it is run."""
    from onnx import TensorProto, helper, numpy_helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**62, np.int64), "trips"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    model.graph.node.insert(3, helper.make_node("Loop", ["trips", "true", "nothing"], ["looped"], body=body))
    model.graph.node[4].input[0] = "looped"


def rename(field: str, new: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        value = getattr(model.graph, field)[0]
        for node in model.graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == value.name:
                        names[index] = new
        value.name = new

    return change


def custom_operator(model: Any) -> None:
    node = model.graph.node[0]
    node.op_type, node.domain = "Run", "evil.example"
    model.opset_import.add(domain="evil.example", version=1)


def smaller_output(model: Any) -> None:
    """`xs` of fewer rows than the settings say."""
    for tensor in model.graph.initializer:
        if tensor.name == "xs_value":
            tensor.raw_data, tensor.dims[2] = tensor.raw_data[: 48 * 4 * 5], 5


special("onnx", "tiny.onnx")
for name, change in {
    "external-passwd": onnx_external("/etc/passwd"),
    "external-up": onnx_external("../../seeds/models/tiny.onnx"),
    "external-missing": onnx_external("missing.bin"),
    "external-itself": onnx_external("tiny.onnx"),
    "custom-operator": custom_operator,
    "loop": onnx_loop,
    "terabytes": onnx_constant_of_shape,
    "gigabytes-of-one-number": onnx_expanded,
    "input-renamed": rename("input", "pixels_of_mine"),
    "output-renamed": rename("output", "logits_of_mine"),
    "no-outputs": lambda model: model.graph.ClearField("output"),
    "no-nodes": lambda model: model.graph.ClearField("node"),
    "no-metadata": lambda model: model.ClearField("metadata_props"),
    "opset-unknown": lambda model: setattr(model.opset_import[0], "version", 9999),
    "metadata-nested": lambda model: setattr(model.metadata_props[0], "value", "[" * 90_000),
    "metadata-list": lambda model: setattr(model.metadata_props[0], "value", "[1]"),
    "format-unknown": metadata(set_in("format", 99)),
    "batch-huge": metadata(set_in("batch", 10**12)),
    "precision-list": metadata(set_in("precision", ["fp32"])),
    "part-step": metadata(set_in("part", "step")),
}.items():
    add("onnx", name, onnx_with(change), "refuse")
for name, change in {
    "nan": onnx_values(float("nan")),
    "infinite": onnx_values(float("inf")),
    "huge-values": onnx_values(1e38),
    "fewer-rows": smaller_output,
    "part-list": metadata(set_in("part", [1])),
    "anchors-huge": metadata(setting("model.head.num_priors", 10**9)),
    "viewport-huge": metadata(setting("model.viewport.width", 10**9)),
    "viewport-other": metadata(setting("model.viewport.width", 320)),
    "task-lanelm": metadata(setting("task", "lanelm")),
    "name-up": metadata(setting("name", "../../escaped")),
    "lanes-huge": metadata(setting("model.max_lanes", 10**9)),
}.items():
    add("onnx", name, onnx_with(change))


def openvino_with(change: Callable[[str, str, str], str], weights: Callable[[bytes], bytes] | None = None) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        text = content(seeds / "models" / "tiny.xml").decode()
        data = content(seeds / "models" / "tiny.bin")
        (folder / "tiny.xml").write_text(change(*metadata_of_xml(text)))
        (folder / "tiny.bin").write_bytes(weights(data) if weights else data)

    return make


def quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def described(change: Callable[[dict[str, Any]], None]) -> Callable[[str, str, str], str]:
    def changed(before: str, text: str, behind: str) -> str:
        tree = json.loads(text)
        change(tree)
        return before + quoted(json.dumps(tree)) + behind

    return changed


def replaced(old: str, new: str) -> Callable[[str, str, str], str]:
    return lambda before, text, behind: (before + quoted(text) + behind).replace(old, new)


LAUGHS = "<!DOCTYPE a [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{i + 1} '{f'&a{i};' * 10}'>" for i in range(12)) + "]>"
ENTITY = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"


def with_xml(path: str, data: bytes) -> Make:
    return one(path, data)


special("openvino", "tiny.xml")
for name, make in {
    "billion-laughs": with_xml("tiny.xml", f"<?xml version='1.0'?>{LAUGHS}<net>&a12;</net>".encode()),
    "external-entity": with_xml("tiny.xml", f"<?xml version='1.0'?>{ENTITY}<net>&x;</net>".encode()),
    "deep-elements": with_xml("tiny.xml", b"<a>" * 200_000),
    "long-attribute": with_xml("tiny.xml", b"<net name='" + b"a" * 5_000_000 + b"'/>"),
    "unknown-encoding": with_xml("tiny.xml", b"<?xml version='1.0' encoding='klingon'?><net/>"),
    "no-layers": with_xml("tiny.xml", b"<net><rt_info><clrernetlm value='{}'/></rt_info></net>"),
    "weights-empty": openvino_with(replaced("\0", ""), lambda data: b""),
    "weights-cut": openvino_with(replaced("\0", ""), lambda data: data[:100]),
    "offset-beyond": openvino_with(replaced('offset="0"', 'offset="999999999999"')),
    "offset-negative": openvino_with(replaced('offset="0"', 'offset="-8"')),
    "unknown-layer": openvino_with(replaced('type="Convert"', 'type="Evil"')),
    "unknown-version": openvino_with(replaced('version="opset1"', 'version="extension"')),
    "input-renamed": openvino_with(replaced("images", "pixels_of_mine")),
    "part-step": openvino_with(described(set_in("part", "step"))),
    "batch-huge": openvino_with(described(set_in("batch", 10**12))),
}.items():
    add("openvino", name, make, "refuse")
for name, make in {
    "dims-huge": openvino_with(replaced("<dim>160</dim>", "<dim>99999999999</dim>")),
    "dims-other": openvino_with(replaced("<dim>160</dim>", "<dim>161</dim>")),
    "anchors-huge": openvino_with(described(setting("model.head.num_priors", 10**9))),
    "viewport-huge": openvino_with(described(setting("model.viewport.width", 10**9))),
    "name-up": openvino_with(described(setting("name", "../../escaped"))),
    "weights-nan": openvino_with(replaced("\0", ""), lambda data: data[:64] + b"\xff" * (len(data) - 64)),
    "no-weights": lambda seeds, folder: (folder / "tiny.xml").write_bytes(content(seeds / "models" / "tiny.xml")),
}.items():
    add("openvino", name, make)

HARM = "__import__('os').system('touch escaped ../escaped ../../escaped')"


def program_with(change: Callable[[dict[str, bytes]], None]) -> Make:
    """The torch.export seed with other members in its archive."""

    def make(seeds: Path, folder: Path) -> None:
        with zipfile.ZipFile(seeds / "models" / "tiny.pt2") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members)
        (folder / "tiny.pt2").write_bytes(zipped(members))

    return make


def member(end: str, data: bytes | Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        for name in [name for name in members if name.endswith(end)]:
            members[name] = data(members[name]) if callable(data) else data

    return change


def hostile_symbol(members: dict[str, bytes]) -> None:
    """Put code in the place of a symbolic size."""

    def changed(data: bytes) -> bytes:
        tree = json.loads(data)
        tree["range_constraints"] = {HARM: {"min_val": 1, "max_val": 2}}
        for described in tree["graph_module"]["graph"]["tensor_values"].values():
            described["sizes"] = [{"as_expr": {"expr_str": HARM, "hint": {"as_int": 3}}} for _ in described["sizes"]]
        return json.dumps(tree).encode()

    member("models/model.json", changed)(members)


def hostile_target(members: dict[str, bytes]) -> None:
    """Put a function of `os` in the place of an operator of PyTorch."""

    def changed(data: bytes) -> bytes:
        tree = json.loads(data)
        for node in tree["graph_module"]["graph"]["nodes"]:
            node["target"] = "os.system"
            node["inputs"] = [
                {"name": "command", "arg": {"as_string": "touch escaped ../escaped ../../escaped"}, "kind": 1}
            ]
        return json.dumps(tree).encode()

    member("models/model.json", changed)(members)


def hostile_guards(members: dict[str, bytes]) -> None:
    def changed(data: bytes) -> bytes:
        tree = json.loads(data)
        tree["guards_code"] = [HARM]
        return json.dumps(tree).encode()

    member("models/model.json", changed)(members)


def hostile_pickles(members: dict[str, bytes]) -> None:
    for name in list(members):
        if not name.endswith((".json", "version", "byteorder", "archive_format", "clrernetlm", "names")):
            members[name] = pickle.dumps(Hostile(), 2)


def hostile_inputs(members: dict[str, bytes]) -> None:
    for name in [name for name in members if "sample_inputs" in name]:
        members[name] = checkpoint_zip(pickle.dumps(Hostile(), 2))


special("pt2", "tiny.pt2")
for name, make in {
    "symbols": program_with(hostile_symbol),
    "targets": program_with(hostile_target),
    "guards": program_with(hostile_guards),
    "pickles": program_with(hostile_pickles),
    "sample-inputs": program_with(hostile_inputs),
    "model-nested": program_with(member("model.json", b"[" * 90_000)),
    "no-extra": program_with(member("clrernetlm", b"")),
    "names-missing": program_with(member("names", b"")),
    "names-cut": program_with(member("names", b"images")),
    "bomb": one("tiny.pt2", lambda: zipped({"a/extra/clrernetlm": bytes(1 << 30)}, zipfile.ZIP_DEFLATED)),
    "a-pickle": one("tiny.pt2", pickle.dumps(Hostile(), 2)),
    "a-checkpoint": one("tiny.pt2", checkpoint_zip(pickle.dumps(Hostile(), 2))),
    "extra-twice": program_with(lambda members: members.update({"../extra/clrernetlm": b"{}"})),
}.items():
    add("pt2", name, make, "refuse")

# --- predictions


def jsonl(name: str, data: bytes) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        link_data(seeds, folder, "driver_1", "list")
        for other in ("predictions.jsonl", "per_image.jsonl"):
            (folder / other).write_bytes(data if other == name else content(seeds / "predictions" / other))

    return make


ROW = '{"path": "/driver_1/clip_0.MP4/00000.jpg", "lanes": [{"score": SCORE, "points": POINTS}]}\n'
for kind_of_row, (score, points) in {
    "huge": ("0.5", "[[1e300, 1e300], [-1e300, 5]]"),
    "infinite": ("Infinity", "[[1, 2], [3, 4]]"),
    "nan": ("NaN", "[[1, NaN], [3, 4]]"),
    "digits": ("9" * 5000, "[[1, 2], [3, 4]]"),
    "texts": ('"0.5"', '[["1", "2"], ["3", "4"]]'),
    "three-columns": ("0.5", "[[1, 2, 3], [4, 5, 6]]"),
    "ragged": ("0.5", "[[1, 2], [3]]"),
    "nested": ("0.5", "[" * 300 + "]" * 300),
    "deeply-nested": ("0.5", "[" * 90_000),
    "objects": ("{}", "{}"),
    "score-list": ("[0.5]", "[[1, 2], [3, 4]]"),
    "score-10": ("10", "[[1, 2], [3, 4]]"),
    "score-bool": ("true", "[[true, false], [3, 4]]"),
    "null": ("null", "null"),
    "empty": ("0.5", "[]"),
    "one-point": ("0.5", "[[1, 2]]"),
    "same-points": ("0.5", str([[5, 5]] * 3000)),
}.items():
    text = ROW.replace("SCORE", score).replace("POINTS", points)
    add("predictions", f"lane-{kind_of_row}", jsonl("predictions.jsonl", text.encode()))
for where in ("predictions.jsonl", "per_image.jsonl"):
    for name, data in {
        "empty": b"",
        "number": b"5\n",
        "list": b"[]\n",
        "null": b"null\n",
        "text": b'"a"\n',
        "nul": b"\0\n",
        "open-brackets": b"[" * 90_000,
        "not-utf8": b"\xff\xfe\n",
        "mark": b"\xef\xbb\xbf{}\n",
        "utf16": '{"path": "a", "lanes": []}\n'.encode("utf-16"),
        "path-up": b'{"path": "/../../../etc/passwd", "lanes": [], "fp": {"0.5": 1}, "fn": {"0.5": 1}, "tp": {"0.5": 0}, "hits": {"0.5": []}}\n',
        "path-nul": b'{"path": "a\\u0000b.jpg", "lanes": [], "fp": {"0.5": 1}, "fn": {"0.5": 1}, "tp": {"0.5": 0}, "hits": {"0.5": []}}\n',
        "path-surrogate": b'{"path": "\\udcff.jpg", "lanes": [], "fp": {"0.5": 1}, "fn": {"0.5": 1}, "tp": {"0.5": 0}, "hits": {"0.5": []}}\n',
        "path-number": b'{"path": 5, "lanes": [], "fp": {"0.5": 1}, "fn": {"0.5": 1}, "tp": {"0.5": 0}, "hits": {"0.5": []}}\n',
        "path-list": b'{"path": [1], "lanes": [], "fp": {"0.5": 1}, "fn": {"0.5": 1}, "tp": {"0.5": 0}, "hits": {"0.5": []}}\n',
        "counts-text": b'{"path": "a.jpg", "lanes": 5, "fp": {"0.5": "x"}, "fn": {"0.5": "y"}}\n',
        "counts-mixed": b'{"path": "a.jpg", "lanes": {}, "fp": {"0.5": 1}, "fn": {"0.5": [1]}}\n',
        "counts-twice": b'{"path": "/driver_1/clip_0.MP4/00000.jpg", "lanes": [], "fp": {"0.5": 1}, "fn": {"0.5": 1}, "tp": {"0.5": 0}, "hits": {"0.5": [true, false, true]}}\n'
        * 2,
        "lists-for-counts": b'{"path": "a.jpg", "fp": [1], "fn": [1]}\n',
    }.items():
        add("predictions", f"{where.partition('.')[0]}-{name}", jsonl(where, data))

# --- arguments and command lines


def line(*words: str, before: Make = lambda seeds, folder: None) -> Make:
    def make(seeds: Path, folder: Path) -> None:
        write_line(seeds, folder, list(words))
        before(seeds, folder)

    return make


def hide(path: str, what: str) -> Make:
    """Something else than a file in a file's place."""

    def make(seeds: Path, folder: Path) -> None:
        if (folder / path).exists():
            (folder / path).unlink()
        nothing_there(path, what)(seeds, folder)

    return make


TINY = ("--model", "models/tiny.safetensors", "--out", "out")
for name, make in {
    "nothing": line(),
    "empty-word": line(""),
    "unknown": line("detekt"),
    "unknown-surrogate": line("\udcff"),
    "dashes": line("--", "--"),
    "help-of-unknown": line("xyz", "--help"),
    "help-of-detect": line("detect", "--help"),
    "help-in-the-middle": line("train", "tiny.py", "--help", "--x"),
    "thousand-words": line("detect", *["photo.jpg"] * 1000, *TINY),
    "long-word": line("detect", "x" * 200_000),
    "long-option": line("detect", "--" + "x" * 100_000),
    "newline": line("detect", "a\nb.jpg"),
    "markup": line("detect", "[bold]x[/].jpg"),
    "escape": line("detect", "\x1b[31m.jpg"),
    "braces": line("detect", "{x}.jpg"),
    "detect-folder-of-nothing": line("detect", "out", *TINY),
    "detect-everything": line("detect", ".", *TINY),
    "detect-a-label": line("detect", "data/driver_1/clip_0.MP4/00000.lines.txt", *TINY),
    "detect-dev-zero": line("detect", "/dev/zero", *TINY),
    "detect-pipe": line("detect", "photo.jpg", *TINY, before=hide("photo.jpg", "pipe")),
    "detect-pipe-video": line("detect", "clip.avi", *TINY, before=hide("clip.avi", "pipe")),
    "detect-loop": line("detect", "photo.jpg", *TINY, before=hide("photo.jpg", "loop")),
    "detect-out-is-a-file": line("detect", "photo.jpg", "--model", "models/tiny.safetensors", "--out", "photo.jpg"),
    "detect-out-below-a-file": line("detect", "photo.jpg", "--model", "models/tiny.safetensors", "--out", "photo.jpg/x"),
    "detect-out-dev-null": line("detect", "photo.jpg", "--model", "models/tiny.safetensors", "--out", "/dev/null"),
    "detect-out-nowhere": line("detect", "photo.jpg", "--model", "models/tiny.safetensors", "--out", "/proc/x/y"),
    "detect-out-long": line("detect", "photo.jpg", "--model", "models/tiny.safetensors", "--out", "x" * 300),
    "detect-out-empty": line("detect", "photo.jpg", "--model", "models/tiny.safetensors", "--out", ""),
    "detect-model-pipe": line("detect", "photo.jpg", "--model", "x.pth", before=hide("x.pth", "pipe")),
    "detect-model-folder": line("detect", "photo.jpg", "--model", "models"),
    "detect-model-zero": line("detect", "photo.jpg", "--model", "x.pth", before=hide("x.pth", "zeros without end")),
    "detect-conf-nan": line("detect", "photo.jpg", *TINY, "--conf", "nan"),
    "detect-conf-2": line("detect", "photo.jpg", *TINY, "--conf", "2"),
    "detect-crop-nan": line("detect", "photo.jpg", *TINY, "--crop", "nan,nan"),
    "detect-crop-tiny": line("detect", "photo.jpg", *TINY, "--crop", "0.5,0.5000001"),
    "detect-camera-99": line("detect", "99", *TINY),
    "detect-viewport-huge": line("detect", "photo.jpg", *TINY, "--model.viewport.width", "1000000000"),
    "detect-anchors-huge": line("detect", "tiny.py", "models/tiny.pth", "photo.jpg", "--model.head.num-priors", "1000000000"),
    "detect-layers-huge": line("detect", "tiny.py", "models/tiny.pth", "photo.jpg", "--model.head.fc-layers", "1000000000"),
    "detect-surrogate-name": line("detect", "\udcff.jpg", *TINY),
    "detect-surrogate-out": line("detect", "photo.jpg", "--model", "models/tiny.safetensors", "--out", "out/\udcff"),
    "test-out-is-the-data": line("test", "tiny.py", "models/tiny.pth", "--data.root", "data", "--out", "data"),
    "test-out-is-the-data-by-dots": line("test", "tiny.py", "models/tiny.pth", "--data.root", "data", "--out", "out/../data/"),
    "test-json-is-a-list": line("test", "tiny.py", "models/tiny.pth", "--data.root", "data", "--json", "data/list/test.txt"),
    "test-canvas-huge": line("test", "tiny.py", "models/tiny.pth", "--data.root", "data", "--evaluation.image-size", "100000", "100000"),
    "evaluate-json-is-a-label": line(
        *["evaluate", "--pred", "predictions", "--gt", "data", "--list", "data/list/test.txt", "--workers", "1", "--json"],
        "data/driver_1/clip_0.MP4/00000.lines.txt",
    ),
    "evaluate-huge": line(*["evaluate", "--pred", "data", "--gt", "data", "--list", "data/list/test.txt", "--workers", "1", "--json", "out/a", "--image-size", "32000x32000"]),
    "evaluate-wide": line(*["evaluate", "--pred", "data", "--gt", "data", "--list", "data/list/test.txt", "--workers", "1", "--json", "out/a", "--width", "1000"]),
    "evaluate-list-pipe": line(*["evaluate", "--pred", "data", "--gt", "data", "--list", "l", "--json", "out/a", "--workers", "1"], before=hide("l", "pipe")),
    "evaluate-list-zero": line(*["evaluate", "--pred", "data", "--gt", "data", "--list", "l", "--json", "out/a", "--workers", "1"], before=hide("l", "zeros without end")),
    "evaluate-workers": line(*["evaluate", "--pred", "data", "--gt", "data", "--list", "data/list/test.txt", "--json", "out/a", "--workers", "1000000"]),
    "check-nothing": line("check-data", "out"),
    "check-a-file": line("check-data", "photo.jpg"),
    "check-sheet-is-a-label": line("check-data", "data", "--contact-sheet", "data/driver_1/clip_0.MP4/00000.lines.txt", "--workers", "1"),
    "check-lanes": line("check-data", "data", "--max-lanes", "-5", "--workers", "1"),
    "tokens-steps": line("tokens", "data/driver_1/clip_0.MP4/00000.lines.txt", "--steps", "100000000"),
    "tokens-bins": line("tokens", "data/driver_1/clip_0.MP4/00000.lines.txt", "--bins", "9" * 30),
    "tokens-frame": line("tokens", "data/driver_1/clip_0.MP4/00000.lines.txt", "--frame", "9" * 30 + "x1"),
    "tokens-pipe": line("tokens", "l", "--frame", "9x9", before=hide("l", "pipe")),
    "config-save-is-itself": line("config", "tiny.py", "--save", "tiny.py"),
    "config-save-folder": line("config", "tiny.py", "--save", "out"),
    "config-pipe": line("config", "x.py", before=hide("x.py", "pipe")),
    "config-zero": line("config", "x.py", before=hide("x.py", "zeros without end")),
    "pack-onto-itself": line("pack", "models/tiny.safetensors", "models/tiny.safetensors"),
    "pack-onto-a-folder": line("pack", "models/tiny.ckpt", "out"),
    "speed-batch-huge": line("speed", "tiny.py", "--batch", "1000000000", "--iterations", "1"),
    "speed-batch-text": line("speed", "tiny.py", "--batch", "x"),
    "speed-nothing": line("speed", "tiny.py", "--batch"),
    "synth-onto-data": line("synth", "data", "--train", "1", "--val", "0", "--test", "0", "--workers", "1", "--size", "328x118"),
    "synth-negative": line("synth", "out/s", "--train", "-1", "--val", "0", "--test", "0"),
    "synth-nothing": line("synth", "out/s", "--train", "0", "--val", "0", "--test", "0"),
    "synth-size-huge": line("synth", "out/s", "--train", "1", "--val", "0", "--test", "0", "--size", "100000000x100000000"),
    "synth-size-tiny": line("synth", "out/s", "--train", "1", "--val", "0", "--test", "0", "--size", "1x1", "--workers", "1"),
    "synth-onto-a-file": line("synth", "photo.jpg", "--train", "1", "--val", "0", "--test", "0"),
    "synth-seed": line("synth", "out/s", "--train", "1", "--val", "0", "--test", "0", "--seed", "9" * 40, "--workers", "1", "--size", "328x118"),
    "train-no-data": line("train", "tiny.py", "--data.root", "missing"),
    "train-batch-huge": line("train", "tiny.py", "--data.root", "data", "--data.batch-size", "1000000000"),
    "train-work-dir-file": line("train", "tiny.py", "--data.root", "data", "--training.work-dir", "photo.jpg"),
    "train-strategy": line("train", "tiny.py", "--data.root", "data", "--training.strategy", "x"),
    "train-resume-nothing": line("train", "tiny.py", "--data.root", "data", "--resume"),
    "train-resume-an-image": line("train", "tiny.py", "--data.root", "data", "--resume-from", "photo.jpg"),
    "train-start-from-image": line("train", "tiny.py", "--data.root", "data", "--training.init-from", "photo.jpg"),
    "train-devices": line("train", "tiny.py", "--data.root", "data", "--training.num-devices", "1000"),
    "train-lanelm-without-detector": line("train", "tiny.py", "--data.root", "data", "--task", "lanelm"),
    "export-onto-folder": line("export", "models/tiny.ckpt", "--out", "out"),
    "export-calibration-missing": line("export", "tiny.py", "models/tiny.pth", "--precision", "int8", "--to", "openvino", "--calibration", "missing"),
    "models-get-nothing": line("models", "get"),
    "models-get-up": line("models", "get", "../../escaped"),
}.items():  # fmt: skip
    add("commands", name, make)

SLOW |= {("labels", f"many-{what}") for what in ("points", "lanes", "blank-lines")}
SLOW |= {(kind, "zeros-without-end-instead-of-a-file") for kind in CASES}
SLOW |= {("images", name) for name in CASES["images"] if name.startswith(("900-million", "bomb", "text-bomb"))}
SLOW |= {("checkpoints", name) for name in CASES["checkpoints"] if name.startswith(("nested", "billion", "zip-bomb"))}
SLOW |= {("packed", "many-tensors"), ("openvino", "deep-elements"), ("openvino", "long-attribute")}
SLOW |= {("npz", "200-MB-of-zeros"), ("pt2", "bomb"), ("masks", "900-million-pixels")}
SLOW |= {
    ("commands", name)
    for name in CASES["commands"]
    if name.startswith(("train", "test", "speed", "synth", "evaluate-huge", "evaluate-wide", "thousand"))
}
