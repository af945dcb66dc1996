"""Reads text files of users in UTF-8 or UTF-16, with byte order marks; refuses files that are far too large."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TextIO

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike

MAX_LINE_LENGTH = 10_000_000  # characters of a line of JSON; those of this package have 100,000 at most

_MARKS = (  # longer marks first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file descriptor without waiting for the writer of a named pipe; the `opener` argument of `open`.

    A pipe with a writer, such as `<(command)` in a shell, is read to its end; one without a writer is empty. Raises
    OSError for devices, which may never end.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "a device, not a file", path)
        if stat.S_ISFIFO(mode):
            os.set_blocking(descriptor, True)
    return descriptor


def read_utf8(path: PathLike, most_bytes: int) -> bytes:
    """Read a text file of any Unicode encoding as UTF-8 without a byte order mark.

    The encoding is that of the mark; UTF-16 without a mark is recognised by its first two bytes. Bytes of any other
    file without a mark are returned unchanged. Raises OSError if the file cannot be read, and UserError naming the file
    if it is larger than `most_bytes` or its text does not match its mark.
    """
    with open(path, "rb", opener=open_without_waiting) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise UserError(f"{path}: larger than {most_bytes // 1_000_000} MB; check that it is the right file")
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            if encoding == "utf-8":
                return data[len(mark) :]
            try:
                return data[len(mark) :].decode(encoding).encode()
            except UnicodeError:
                encoding_name = encoding[: encoding.rindex("-")].upper()
                raise UserError(f"{path}: begins as {encoding_name} and does not go on so; write it in UTF-8") from None
    unmarked = unmarked_utf16(data)
    if unmarked is not None:
        with suppress(UnicodeError):
            text = data.decode(unmarked)
            return data if "\0" in text else text.encode()
    return data


def unmarked_utf16(head: bytes) -> str | None:
    """Recognise UTF-16 by a first character that is ASCII, one of whose two bytes is NUL; None for others."""
    first = head[:2]
    if len(first) < 2 or (first[0] == 0) == (first[1] == 0):
        return None
    return "utf-16-be" if first[0] == 0 else "utf-16-le"


def read_bounded_lines(file: TextIO, path: PathLike) -> Iterator[str]:
    """Yield the lines of an open text file. Raises UserError naming the file for a line longer than MAX_LINE_LENGTH."""
    for line in iter(partial(file.readline, MAX_LINE_LENGTH + 1), ""):
        if len(line) > MAX_LINE_LENGTH:
            raise UserError(
                f"{path}: a line of more than {MAX_LINE_LENGTH // 1_000_000} MB; check that it is the right file"
            )
        yield line


def text_encoding(path: PathLike) -> str:
    """Find the encoding of a text file, for `open`: of its byte order mark, UTF-16 by its first two bytes, or UTF-8.

    Raises OSError.
    """
    with open(path, "rb", opener=open_without_waiting) as file:
        head = file.read(4)
    encoding = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
    if encoding is None:
        return unmarked_utf16(head) or "utf-8-sig"
    return "utf-8-sig" if encoding == "utf-8" else encoding.rpartition("-")[0]  # these skip the mark
