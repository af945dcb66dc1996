"""Atomic file writes: readers see the old file or the complete new one. And the folder for caches."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from clrernetlm.core.errors import UserError

PathLike = str | os.PathLike[str]
GENERATED_DATA = "synth.json"  # file in a generated data set that holds its settings
EXPORTED_SUFFIXES = (".onnx", ".xml", ".pt2")  # of exported models

# A temporary file is called `.NAME.PLACE-PROCESS-NUMBER.tmp`, with the suffix of NAME added if it is needed. PLACE is
# `_machine_id()`.
TEMPORARY_NAME = re.compile(r"^\..*\.(?P<place>[0-9a-f]{6})-(?P<process>\d+)-\d+\.tmp(\.\w+)?$", re.DOTALL)
ABANDONED_AFTER = 24 * 3600.0  # seconds after which a temporary file of another machine counts as abandoned
MAX_NAME_LENGTH = 180  # bytes of NAME in the name of a temporary file; file systems allow 255 in all

_numbers = itertools.count()
_in_use: set[str] = set()  # temporary files of this process that are being written
_swept: set[str] = set()  # folders that this process has written to, and swept before


def cache_folder() -> Path:
    """Return the folder for downloads, exported models and compiled kernels.

    `$CLRERNETLM_CACHE`, else `clrernetlm` in `$XDG_CACHE_HOME` or `~/.cache`.
    """
    chosen = os.environ.get("CLRERNETLM_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clrernetlm"


@contextmanager
def replacing(path: PathLike, sync: bool = True) -> Iterator[Path]:
    """Write a file atomically: the context's value is a temporary path, renamed to `path` if the block has no error.

    On an error the temporary file is removed and `path` stays unchanged; an OSError (full disk, no permission) becomes
    a UserError that names `path`. With `sync` the new file survives a power cut; without, which is for thousands of
    small files that can be made again, it survives the end of this process. A device or pipe (`/dev/null`) is written
    to directly, because a rename would put a file in its place.
    """
    target = Path(path)
    try:
        if is_device_or_pipe(target):
            yield target
            return
        with temporary_beside(target) as temporary:
            yield temporary
            if sync:
                with open(temporary, "rb") as written:
                    os.fsync(written.fileno())
            os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{target}: cannot be written ({reason}); free space or check permissions") from None


def is_device_or_pipe(path: PathLike) -> bool:
    """Check whether a path leads to a character device or a pipe, which store nothing."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


@contextmanager
def temporary_beside(path: PathLike, keep_suffix: bool = False) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`, which is made, for a file or folder to be renamed to `path`.

    A file or folder that is left there at the end of the block is removed; if the process is killed before, by the next
    process that writes to the same folder or calls `sweep_temporary_files`. `keep_suffix`: it has the suffix of `path`,
    for libraries that choose the format by the suffix.
    """
    target = Path(path)
    folder = os.path.abspath(target.parent)
    os.makedirs(folder, exist_ok=True)
    if folder not in _swept:
        _swept.add(folder)
        sweep_temporary_files(folder)
    name = os.fsdecode(os.fsencode(target.name)[:MAX_NAME_LENGTH])
    suffix = target.suffix if keep_suffix else ""
    temporary = target.with_name(f".{name}.{_machine_id()}-{os.getpid()}-{next(_numbers)}.tmp{suffix}")
    _in_use.add(temporary.name)
    try:
        yield temporary
    finally:
        _remove(temporary)
        _in_use.discard(temporary.name)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder in the system's folder for temporary files, removed at the end of the block.

    If the process is killed before, the next process that calls this function removes it.
    """
    with temporary_beside(Path(tempfile.gettempdir()) / "clrernetlm") as folder:
        folder.mkdir(mode=0o700)
        yield folder


def write_text_atomically(path: PathLike, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sweep_temporary_files(folder: PathLike) -> None:
    """Remove temporary files and folders that killed processes have left directly in `folder`.

    A temporary file is kept while its process is alive; that of another machine or container, whose processes cannot be
    checked, for a day.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = TEMPORARY_NAME.match(entry.name)
            if found is not None and not _is_being_written(entry, found["place"], int(found["process"])):
                _remove(Path(entry.path))


def _is_being_written(entry: os.DirEntry[str], place: str, process: int) -> bool:
    if place != _machine_id():
        with suppress(OSError):
            return time.time() - entry.stat(follow_symlinks=False).st_mtime < ABANDONED_AFTER
        return True
    if process == os.getpid():  # the system may give the number of a killed process to this one
        return entry.name in _in_use
    return process_is_alive(process)


def process_is_alive(process: int) -> bool:
    """Check whether there is a process of this number on this machine; on Windows always False.

    On Windows a file that a process has open cannot be removed, so that nothing is lost there.
    """
    if os.name == "nt":
        return False  # os.kill(process, 0) would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@lru_cache(maxsize=1)
def _machine_id() -> str:
    """Compute six hexadecimal digits that identify this machine or container, where process numbers are unique."""
    numbering = ""
    with suppress(OSError):
        numbering = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {numbering}".encode()).hexdigest()[:6]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def has_utf8_name(path: PathLike) -> bool:
    """Check whether a path is valid UTF-8; file systems also accept other bytes."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def sha256(path: PathLike) -> str:
    """Compute a file's SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
