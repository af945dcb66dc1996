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
GENERATED_DATA = "synth.json"  # lies in a generated data set and holds its settings
EXPORTED_SUFFIXES = (".onnx", ".xml", ".pt2")  # names of models in the files of other runtimes end so

# A temporary file is called `.NAME.PLACE-PROCESS-NUMBER.tmp`; one that needs its suffix has it once more at the end.
TEMPORARY_NAME = re.compile(r"^\..*\.(?P<place>[0-9a-f]{6})-(?P<process>\d+)-\d+\.tmp(\.\w+)?$", re.DOTALL)
ABANDONED_AFTER = 24 * 3600.0  # seconds after which a temporary file of another machine belongs to nobody
MAX_NAME_LENGTH = 180  # bytes of NAME in the name of a temporary file; file systems take 255 for all of it

_numbers = itertools.count()
_in_use: set[str] = set()  # temporary files of this process that are being written
_swept: set[str] = set()  # folders that this process has written to, and swept before


def cache_folder() -> Path:
    """Folder for downloads, exported models and compiled kernels.

    `$CLRERNETLM_CACHE`, else `clrernetlm` in `$XDG_CACHE_HOME` or `~/.cache`.
    """
    chosen = os.environ.get("CLRERNETLM_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clrernetlm"


@contextmanager
def replacing(path: PathLike, sync: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed over `path` when the block ends without an error.

    On an error the temporary file is removed and `path` stays as it was; an OSError (full disk, no permission) becomes
    a UserError that names `path`. With `sync` the new file survives a power cut; without, which is for thousands of
    small files that can be made again, it survives the end of this process. A device or pipe (`/dev/null`) is written
    to directly: a rename would put a file in its place.
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
    """Whether a path leads to a character device or a pipe, which keep nothing of what is written to them."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


@contextmanager
def temporary_beside(path: PathLike, keep_suffix: bool = False) -> Iterator[Path]:
    """A new path in the folder of `path`, which is made, for a file or folder that is renamed to `path` when complete.

    What is still there at the end of the block is removed. Where the process is killed before, it is removed when
    another process first writes to the same folder, or calls `sweep_temporary_files`. `keep_suffix`: it ends as `path`
    does, for libraries that choose the format by the suffix.
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
    """A new folder in the system's place for temporary files, removed at the end of the block.

    Where the process is killed before, the next process that calls this function removes it.
    """
    with temporary_beside(Path(tempfile.gettempdir()) / "clrernetlm") as folder:
        folder.mkdir(mode=0o700)
        yield folder


def write_text_atomically(path: PathLike, text: str) -> None:
    """Write `text` (UTF-8) to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sweep_temporary_files(folder: PathLike) -> None:
    """Remove temporary files and folders that killed processes have left directly in `folder`.

    A temporary file stays while the process that writes it lives. Of another machine or container, whose processes
    cannot be seen, it stays for a day.
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
    if process == os.getpid():  # a number may be given again: to this process after a killed one
        return entry.name in _in_use
    return process_is_alive(process)


def process_is_alive(process: int) -> bool:
    """Whether there is a process of this number on this machine; on Windows, which cannot be asked so, never.

    Windows refuses to remove a file that a process has open, so that nothing is lost there.
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
    """Six hexadecimal digits for this machine or container: where a process number means the same process."""
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
    """Whether a path can be written in UTF-8; file systems also take bytes that are not."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def sha256(path: PathLike) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
