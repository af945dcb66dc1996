"""Runs commands in forks of this process, and finds and ends the processes that they start."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from clrernetlm.cli import main as clrernetlm
from clrernetlm.cli.exit_codes import ENDING_SIGNALS

ORPHANED_AFTER = 15.0  # seconds after its command's end in which a process may still end by itself

_started: list[int] = []  # processes of commands; the last may still run


@dataclass
class Run:
    """A command in a fork of this process, which leads a session of its own."""

    process: int
    output: Path  # the file of what it prints
    began: float = field(default_factory=time.monotonic)
    code: int | None = None  # negative: the number of the signal that ended it

    def poll(self) -> int | None:
        """Return the exit code; None while the command runs."""
        if self.code is None:
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float) -> int | None:
        """Wait for the exit code; None if the command still runs after `seconds`."""
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        return self.code


def start(arguments: Sequence[str], folder: Path) -> Run:
    """Start `clrernetlm ARGUMENTS` in `folder`; beside it are the file `output` and the temporary folder `tmp`."""
    output = folder.with_name("output")
    process = os.fork()
    if process:
        _started.append(process)
        return Run(process, output)
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder.with_name("tmp"))
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        faulthandler.enable()  # prints the traceback of a crash to `output`
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in ENDING_SIGNALS:  # as in a new process
            signal.signal(number, signal.SIG_DFL)
        for number, name in ((1, "stdout"), (2, "stderr")):
            stream = open(number, "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        torch.set_num_threads(1)  # equal in all runs: sums of another number of threads have other rounding errors
        code = clrernetlm(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def session_members(session: int) -> list[int]:
    """List the living processes of a session, from /proc."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                members.append(int(entry.name))
    return members


def is_worker(process: int, session: int) -> bool:
    """Check whether a process of a session is a worker: not its leader, nor multiprocessing's resource tracker."""
    with suppress(OSError):
        return process != session and b"resource_tracker" not in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def send(process: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


def end_session(session: int) -> bool:
    """Wait until no process of a session lives. Kills the rest after `ORPHANED_AFTER` seconds and returns False."""
    end = time.monotonic() + ORPHANED_AFTER
    while left := session_members(session):
        if time.monotonic() > end:
            for process in left:
                os.kill(process, signal.SIGKILL)
            return False
        time.sleep(0.01)
    return True


def kill_last_session() -> None:
    """Kill every process of the command started last."""
    for process in session_members(_started[-1]) if _started else ():
        os.kill(process, signal.SIGKILL)
