"""Image lists of a data set in CULane's layout, and the frame differences that go with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.arrays import BoolArray, ByteArray, Int64Array
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.text_encoding import read_utf8

Paths = NDArray[np.bytes_]
ListFault = tuple[int, str]  # line number, what is wrong with it

MAX_LIST_BYTES = 500_000_000  # size limit of an image list; CULane's have ten million bytes
_MAX_LINE_LENGTH = 10_000  # bytes; file names have at most 4096
_SUFFIXES = (b".jpg", b".png", b".jpeg", b".bmp", b".tif", b".tiff", b".webp", b".ppm", b".pgm")
_SUFFIX = re.compile(b"|".join(map(re.escape, _SUFFIXES)), re.IGNORECASE)
_MAX_SUFFIXES = 20  # in a line; file names could end at each of them
_NAME = rb'"[^"]+"|\S.*?(?:' + b"|".join(map(re.escape, _SUFFIXES)) + rb")"
_SPACED = re.compile(
    rb"\s*(?P<image>" + _NAME + rb")(?:\s+(?P<mask>" + _NAME + rb"))?(?P<flags>(?:\s+[01])*)\s*$", re.IGNORECASE
)


@dataclass(frozen=True)
class ImageList:
    """The lines of an image list, as arrays instead of Python strings, whose memory forked worker processes share.

    `images` (N,) and `masks` (N,) or None are paths relative to the data set, as bytes; `flags` (N, k) uint8 or None
    says which of k lanes exist; `lines` (N,) are the line numbers in the file, from 1.
    """

    images: Paths
    masks: Paths | None
    flags: ByteArray | None
    lines: Int64Array

    def __len__(self) -> int:
        return len(self.images)

    def select(self, keep: BoolArray) -> ImageList:
        """Select the lines for which `keep` (N,) is true."""
        return ImageList(
            self.images[keep],
            None if self.masks is None else self.masks[keep],
            None if self.flags is None else self.flags[keep],
            self.lines[keep],
        )


def read_image_list(
    path: PathLike, faults: list[ListFault] | None = None, *, root: PathLike | None = None
) -> ImageList:
    """Read `/image.jpg [/mask.png] [e1 e2 ...]` lines, all of the same form, as `list_rows` does.

    Raises UserError naming the file, and the line that differs from the first. With `faults`, such lines are left out
    and (line, message) is appended for each.
    """
    rows = list(list_rows(path, root))
    foreign = {number: row for number, row in rows if not _is_utf8(row)}
    if foreign:
        message = "not UTF-8; write the list in UTF-8, rename the file where its own name is something else"
        if faults is None:
            raise UserError(f"{path}, line {next(iter(foreign))}: {message}")
        faults.extend((number, message) for number in foreign)
        rows = [(number, row) for number, row in rows if number not in foreign]
    if not rows:
        raise UserError(f"{path}: the image list is empty; write one image path per line")
    columns = len(rows[0][1])
    has_mask = columns > 1 and not rows[0][1][1].isdigit()
    first_flag = 2 if has_mask else 1
    wrong = [
        number
        for number, row in rows
        if len(row) != columns or not all(flag in (b"0", b"1") for flag in row[first_flag:])
    ]
    if wrong:
        count = columns - first_flag
        form = "/image" + " /mask" * has_mask + (" 0|1" * count if count <= 8 else f" 0|1 ({count} times)")
        message = f"expected `{form}`, the form of the first line; correct that line"
        if faults is None:
            raise UserError(f"{path}, line {wrong[0]}: {message}")
        faults.extend((number, message) for number in wrong)
        rows = [(number, row) for number, row in rows if number not in set(wrong)]
    flags = np.array([row[first_flag:] for _, row in rows]).astype(np.uint8) if columns > first_flag else None
    return ImageList(
        images=np.array([row[0] for _, row in rows]),
        masks=np.array([row[1] for _, row in rows]) if has_mask else None,
        flags=flags,
        lines=np.array([number for number, _ in rows]),
    )


def list_rows(path: PathLike, root: PathLike | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """Yield line number and columns of every line of an image list; names are relative to the data set.

    Blank lines are skipped, and so are the `._` files that macOS leaves on other disks. The file may have a byte order
    mark and Windows line ends. Names may contain spaces, if they end in the suffix of an image or are in quotes,
    backslashes, `./`, and the absolute path of a file below `root`.

    Raises UserError naming the file if it cannot be read or is too large, and the line for a NUL byte.
    """
    try:
        text = read_utf8(path, MAX_LIST_BYTES)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: the image list cannot be read ({reason}); check data.root and the list") from None
    folders = [] if root is None else _absolute(root)
    plain = not any(odd in text for odd in (b"\\", b"./", b"//", b"._", b"\0", *folders))
    for number, line in enumerate(text.splitlines(), start=1):
        row = line.split()
        if not row:
            continue
        if len(line) > _MAX_LINE_LENGTH:
            raise UserError(f"{path}, line {number}: {len(line)} bytes; write one image a line")
        if not row[0].lower().endswith(_SUFFIXES) or (len(row) > 1 and not _is_column(row[1])):
            row = _with_spaces(line) or row
        if not plain:
            if b"\0" in line:
                raise UserError(f"{path}, line {number}: a NUL byte, which no name holds; write the list in UTF-8")
            names = 1 if len(row) < 2 or row[1].isdigit() else 2
            row[:names] = (_relative(name, folders) for name in row[:names])
            if row[0].rpartition(b"/")[2].startswith(b"._"):
                continue
        yield number, row


def visible_lists(folder: Path) -> list[Path]:
    """Find the `*.txt` of a folder, sorted by name, without hidden ones: macOS leaves `._name.txt` files."""
    return sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))


def _is_column(column: bytes) -> bool:
    return column in (b"0", b"1") or column.lower().endswith(_SUFFIXES)


def _with_spaces(line: bytes) -> list[bytes] | None:
    """Split a line with spaces in its names; None if the ends of the names are ambiguous."""
    found = _SPACED.match(line) if len(_SUFFIX.findall(line)) <= _MAX_SUFFIXES else None
    if found is None:
        return None
    names = [found["image"], *([found["mask"]] if found["mask"] else [])]
    return [name.strip(b'"') for name in names] + found["flags"].split()


def _relative(name: bytes, folders: list[bytes]) -> bytes:
    """Make a file name relative to the data set; `folders` are the absolute paths of the data set."""
    name = name.replace(b"\\", b"/")
    for folder in folders:
        if name.startswith(folder):
            name = name[len(folder) - 1 :]
            break
    if b"./" in name or b"//" in name:
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        name = b"/" * name.startswith(b"/") + b"/".join(parts)
    return name


def _absolute(root: PathLike) -> list[bytes]:
    """List the absolute paths of a folder, with `/` at the end: as given, and with links resolved."""
    paths = dict.fromkeys((os.path.abspath(root), os.path.realpath(root)))
    return [os.fsencode(path.replace(os.sep, "/").rstrip("/")) + b"/" for path in paths if path != os.sep]


def _is_utf8(row: list[bytes]) -> bool:
    try:
        b" ".join(row).decode()
    except UnicodeDecodeError:
        return False
    return True


def read_images(list_file: PathLike, root: PathLike | None = None) -> Iterator[str]:
    """Yield the image paths of a list file, as `list_rows` reads it, without the leading `/`.

    `root`: the folder of the data set, with whose absolute path names may begin. Raises UserError if the file cannot be
    read.
    """
    for _, row in list_rows(list_file, root):
        yield os.fsdecode(row[0]).lstrip("/")
