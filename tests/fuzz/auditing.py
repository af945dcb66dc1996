"""Judges Python's audit events: programs that start, connections, files written outside the sandbox, code that runs.

Imports nothing of the package, so that `start_in_command` is in place before a command of its own process begins.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SETTINGS = "CLRERNETLM_FUZZ_AUDIT"  # environment variable: the JSON file that `start_in_command` reads
ASKED = "asked"
MARK = "escaped"  # in every piece of hostile code, and the name of the file that it makes
STARTS_PROGRAMS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "subprocess.Popen",
    "pty.spawn",
)
CONNECTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
CHANGES_FILES = {
    "os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
    "os.chmod": 1, "os.chown": 1, "os.utime": 1, "shutil.rmtree": 1, "shutil.move": 2, "shutil.copyfile": 2,
}  # fmt: skip
COMMAND = "'-m', 'clrernetlm'"  # the command line as a process of its own, which has an auditor too
DANGEROUS = ("os", "posix", "nt", "subprocess", "sys", "eval", "exec", "getattr", "open", "compile", "__import__")


class Auditor:
    """Records forbidden audit events in the file `violations` while `watching`; also of forked processes."""

    def __init__(self, root: Path, violations: Path) -> None:
        self.watching = False
        self.runs = False
        self.allowed: tuple[str, ...] = ()
        self.asked: tuple[str, ...] = ()  # paths named on the command line: writing there is prevented, but no fault
        self.above: set[str] = set()  # the folders above them, each with a slash behind
        self.sandbox = str(root)
        self.violations = str(violations)
        self._file = os.open(violations, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._busy = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching or self._busy:
            return
        self._busy = True
        try:
            violation = self.judge(event, arguments)
            if violation:
                if not violation.startswith(ASKED):
                    os.write(self._file, (violation.replace("\n", " ")[:500] + "\n").encode(errors="replace"))
                # The event is prevented in any case: this process may write and run what the user may.
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        finally:
            self._busy = False

    def judge(self, event: str, arguments: tuple[Any, ...]) -> str:
        """Return the fault of an event, its name, a blank and details; empty for a harmless one."""
        if event in STARTS_PROGRAMS:
            return "" if harmless_program(arguments) else f"code {event} {arguments[:2]!r}"
        if event in CONNECTS:
            local = getattr(arguments[0], "family", None) == getattr(socket, "AF_UNIX", -1)
            return "" if local else f"network {event} {arguments[1:]!r}"
        if event == "open" and opens_for_writing(arguments):
            return self._place(event, arguments[0])
        if event in CHANGES_FILES:
            return self._place(event, in_folder(arguments[CHANGES_FILES[event] - 1], arguments[-1]), False)
        if event == "pickle.find_class" and (arguments[0] in DANGEROUS or arguments[1] in DANGEROUS):
            return f"code pickle names {arguments}"
        if event == "ctypes.dlopen" and isinstance(arguments[0], str) and arguments[0].startswith(self.sandbox):
            return f"code {event} {arguments[0]}"
        if event == "exec":
            source, constants = getattr(arguments[0], "co_filename", ""), getattr(arguments[0], "co_consts", ())
            foreign = not self.runs and (source.startswith(self.sandbox) or MARK in repr(constants))
            return f"code exec of {source}" if foreign else ""
        return ""

    def _place(self, event: str, path: Any, follow: bool = True) -> str:
        if isinstance(path, int) or path is None:
            return ""
        with contextlib.suppress(TypeError, ValueError, OSError):
            name = os.path.abspath(os.fsdecode(path))
            parent = os.path.realpath(os.path.dirname(name))
            place = os.path.realpath(name) if follow else os.path.join(parent, os.path.basename(name))
            if place.startswith(("/dev/null", "/dev/tty", "/dev/shm/", f"/proc/{os.getpid()}/", *self.allowed)):
                return ""
            return (
                f"{ASKED if place.startswith(self.asked) or f'{place}/' in self.above else 'outside'} {event} {place}"
            )
        return ""


def opens_for_writing(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))


def in_folder(path: Any, descriptor: Any) -> Any:
    """A path that may be relative to the folder of an open descriptor."""
    if isinstance(descriptor, int) and descriptor >= 0 and not isinstance(path, int):
        with contextlib.suppress(OSError):
            return os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), os.fsdecode(path))
    return path


def harmless_program(arguments: tuple[Any, ...]) -> bool:
    """Test for programs by which libraries inspect the machine, independent of the input."""
    words = repr(arguments)
    return any(
        name in words
        for name in ("lscpu", "uname", "ldconfig", "'gcc'", "'ld'", "nvidia-smi", "resource_tracker", COMMAND)
    )


def named_places(words: list[str]) -> Iterator[str]:
    """Return the paths that arguments of a command line name, also those behind an equals sign."""
    for word in words:
        for name in (word, word.partition("=")[2]):
            with contextlib.suppress(ValueError, OSError):
                if name and os.path.realpath(name) != "/":
                    yield os.path.realpath(name)


def allow(auditor: Auditor, allowed: tuple[str, ...], words: list[str], runs: bool) -> None:
    """Set where an input may write, the paths its arguments name, and whether it is code that runs by design."""
    auditor.allowed, auditor.runs = allowed, runs
    auditor.asked = tuple(named_places(words))
    auditor.above = {f"{parent}/" for place in auditor.asked for parent in Path(place).parents}


def write_settings(auditor: Auditor, words: list[str], path: Path) -> None:
    """Write the settings by which a command in its own process is watched, those of its parent, to a file."""
    path.write_text(json.dumps([auditor.sandbox, auditor.violations, auditor.allowed, words, auditor.runs]))


def write_site(folder: Path) -> None:
    """Write a module that starts the auditor; every Python with `folder` in its path imports it first."""
    start = "from tests.fuzz.auditing import start_in_command\n\nstart_in_command()\n"
    (folder / "sitecustomize.py").write_text(start)


def start_in_command() -> None:
    """Watch this process with the settings in the file `SETTINGS`; `sitecustomize` calls it when Python starts."""
    root, violations, allowed, words, runs = json.loads(Path(os.environ[SETTINGS]).read_text())
    auditor = Auditor(Path(root), Path(violations))
    allow(auditor, tuple(allowed), words, runs)
    sys.addaudithook(auditor.hook)
    auditor.watching = True
