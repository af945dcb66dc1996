"""Decides which existing files a run may replace: results of this program, but no inputs and no other files.

One rule for every command. A file that the run reads is never replaced. Any other existing file is replaced only if it
is recognised as a result of this program: in a folder of results by the folder's log (`ResultFolder`), else by its
content (`check_output`). `overwrite` is needed if a result would be lost; a repetition of the same run loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, is_device_or_pipe, replacing, sha256
from clrernetlm.core.text_encoding import read_bounded_lines

RESULTS_LOG = ".clrernetlm-results.jsonl"
BEGINNING_BYTES = 4096  # first bytes of a file, by which its kind is recognised
Place = tuple[Hashable, str]


class ReadFiles:
    """The files that a run reads, identified by their folder and name, not by the spelling of their paths.

    Symbolic links, `..` and the case of letters make no difference. Missing files are included: a result must not
    become the label that an image lacks.
    """

    def __init__(self, paths: Iterable[PathLike] = ()) -> None:
        self._folders: dict[str, Hashable] = {}
        self._places: set[Place] = set()
        for path in paths:
            self.add(path)

    def add(self, path: PathLike) -> None:
        """Add a file: the directory entry of `path`, and the one to which it leads through links."""
        self._places.add(self._place(os.fspath(path)))
        if os.path.islink(path):
            self._places.add(self._place(os.path.realpath(path)))

    def __contains__(self, path: PathLike) -> bool:
        return self._place(os.fspath(path)) in self._places

    def refuse(self, path: PathLike, parameter: str) -> None:
        """Raise UserError when writing `path`, which `parameter` names, would replace a file of the run."""
        if path in self:
            raise UserError(f"{path}: this run reads that file and would overwrite it; choose another `{parameter}`")

    def _place(self, path: str) -> Place:
        """Identify a file by its folder and name; names that differ in the case of letters count as equal."""
        folder, name = os.path.split(path)
        identity = self._folders.get(folder)
        if identity is None:
            try:
                status = os.stat(folder or os.curdir)
                identity = (status.st_dev, status.st_ino)
            except OSError:  # not there yet
                identity = os.path.realpath(folder)
            self._folders[folder] = identity
        return identity, name.casefold()


class ResultFolder:
    """A folder of results with a log, by which a later run distinguishes results from other files.

    The log is `RESULTS_LOG`, one JSON object per line: `file` (path inside the folder), `sha256` of its content, and
    `source`, the input of the result. A file is a result as long as its content is one of those recorded for it; a
    prediction corrected by hand is none. A line is written before its file appears, so that the results of a killed run
    are recognised.
    """

    def __init__(
        self, folder: PathLike, *, overwrite: bool = False, reads: ReadFiles | None = None, parameter: str = "out"
    ) -> None:
        self.folder = Path(folder)
        self.overwrite = overwrite
        self.reads = reads or ReadFiles()
        self.parameter = parameter  # the argument that names the folder, for messages
        self._sources: dict[str, dict[str, str]] = {}  # file -> SHA-256 of its content -> source
        for line in _lines(self.folder / RESULTS_LOG):
            try:
                row = json.loads(line)
                self._sources.setdefault(str(row["file"]), {})[str(row["sha256"])] = str(row["source"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # the last line of a killed run, or not a line of this program

    def check(self, name: str, source: str = "") -> None:
        """Raise UserError unless the result `name` of `source` may be written.

        An existing result of the same source may be replaced; one of another or unknown ("") source with `overwrite`.
        """
        path = self.folder / name
        self.reads.refuse(path, self.parameter)
        if not os.path.lexists(path):
            return
        recorded = self._sources.get(name, {})
        before = recorded.get(_content(path)) if recorded else None
        if before is None:
            raise _not_a_result(path, "an unchanged result of an earlier run", self.parameter)
        if not self.overwrite and not (source and before == source):
            raise _needs_overwrite(path, f"a result of {before or 'an earlier run'}", self.parameter)

    def write_bytes(self, name: str, content: bytes, source: str = "") -> None:
        """Write a result atomically, after `check`; not synced to disk, because there may be very many."""
        self.check(name, source)
        with replacing(self.folder / name, sync=False) as temporary:
            temporary.write_bytes(content)
            self._record(name, hashlib.sha256(content).hexdigest(), source)

    @contextmanager
    def replacing(self, name: str, source: str = "") -> Iterator[Path]:
        """Write a result as by `files.replacing`, after `check`."""
        self.check(name, source)
        with replacing(self.folder / name) as temporary:
            yield temporary
            self.record_file(name, temporary, source)

    def record_file(self, name: str, written: Path, source: str = "") -> None:
        """Record that the file `written` is about to become the result `name`. Raises OSError."""
        self._record(name, sha256(written), source)

    def _record(self, name: str, digest: str, source: str) -> None:
        recorded = self._sources.setdefault(name, {})
        if recorded.get(digest) != source:
            recorded[digest] = source
            line = json.dumps({"file": name, "sha256": digest, "source": source}) + "\n"
            with open(self.folder / RESULTS_LOG, "ab", buffering=0) as log:
                log.write(line.encode())


def check_output(
    path: PathLike,
    kind: str,
    is_own: Callable[[Path], bool],
    *,
    parameter: str,
    overwrite: bool = False,
    reads: ReadFiles | None = None,
) -> None:
    """Raise UserError unless the single result `path` may be written.

    `kind` says in words what it is ("a report"); `is_own` tells whether an existing file is one of this program's;
    `parameter` is the argument that names it. An existing result needs `overwrite`. Devices and pipes (`/dev/null`)
    lose nothing.
    """
    if reads is not None:
        reads.refuse(path, parameter)
    if not os.path.lexists(path) or is_device_or_pipe(path):
        return
    if not (os.path.isfile(path) and is_own(Path(path))):
        raise _not_a_result(path, f"{kind} of this program", parameter)
    if not overwrite:
        raise _needs_overwrite(path, f"{kind} of an earlier run", parameter)


def check_distinct(**outputs: PathLike | None) -> None:
    """Raise UserError when two parameters name the same file."""
    for number, (name, path) in enumerate(outputs.items()):
        for other, before in list(outputs.items())[:number]:
            if path is not None and before is not None and path in ReadFiles([before]):
                raise UserError(f"{path}: {other} and {name} name the same file; choose two")


def read_beginning(path: Path) -> bytes:
    """Read the first `BEGINNING_BYTES` bytes of a file, by which its kind is recognised; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(BEGINNING_BYTES)
    except OSError:
        return b""


def begins_with(*texts: str) -> Callable[[Path], bool]:
    """Make a test for `check_output`: whether a file begins with one of `texts`, ignoring white space."""

    beginnings = tuple("".join(text.split()) for text in texts)

    def is_own(path: Path) -> bool:
        return "".join(read_beginning(path).decode("utf-8", errors="replace").split()).startswith(beginnings)

    return is_own


def _not_a_result(path: PathLike, kind: str, parameter: str) -> UserError:
    return UserError(
        f"{path}: would be overwritten, and is not {kind}; choose another `{parameter}`, or move the file away"
    )


def _needs_overwrite(path: PathLike, kind: str, parameter: str) -> UserError:
    return UserError(
        f"{path}: {kind}, which would be overwritten; choose another `{parameter}`, or allow it with `overwrite=True`"
    )


def _content(path: Path) -> str:
    """Compute the SHA-256 of a regular file; empty, which is never recorded, for anything else."""
    try:
        return sha256(path) if path.is_file() and not path.is_symlink() else ""
    except OSError:
        return ""


def _lines(path: Path) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            yield from read_bounded_lines(lines, path)
    except OSError:
        return
