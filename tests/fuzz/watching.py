"""Runs inputs in a process of their own and watches it: time, memory, signals, code that runs, files and connections.

`Watcher` forks that process, hands it one input after the other and starts another one when it dies. Python's audit
events tell what the process does; what libraries do without Python is seen by a listening socket and by files that
have appeared or changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from clrernetlm.core.errors import UserError
from tests.fuzz.auditing import MARK, SETTINGS, Auditor, allow, write_settings, write_site
from tests.fuzz.cases import CASES, expectation
from tests.fuzz.command_lines import COMMAND_LINES, MEGABYTES, SITE, memory
from tests.fuzz.kinds import KINDS
from tests.fuzz.seeds import build_seeds

SECONDS = 10.0  # that one input may take, without what its threads waited for a core
LONGEST = 6  # times as long in all, however busy the machine is
KILLED_ABOVE = 3000  # megabytes; the machine has others to serve
MESSAGE = 2100  # characters that an error may have


@dataclass(frozen=True)
class Input:
    """A hand-made case by its name, or input number `index` of a seed."""

    kind: str
    index: int = 0
    seed: int = 0
    case: str | None = None

    @property
    def command(self) -> str:
        """Return the command line that reproduces this input."""
        which = f"--case {self.case}" if self.case else f"--index {self.index} --seed {self.seed}"
        return f"python -m tests.fuzz --kind {self.kind} {which}"


@dataclass
class Result:
    """Result of an input: `outcome` accepted, refused, or a fault.

    Faults: traceback, words (an error that is not one line, or a command line that prints several), hang, crash,
    memory, code, outside, network, and passed for an input that must be refused and was not. `seconds` and `megabytes`
    are wall time and the largest resident memory.
    """

    input: Input
    outcome: str
    message: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    folder: str = ""

    @property
    def is_fault(self) -> bool:
        return self.outcome not in ("accepted", "refused")

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Result:
        tree = json.loads(text)
        return Result(**{**tree, "input": Input(**tree["input"])})


class Sandbox:
    """The only place where an input may leave files: `input/` with its `out/`, `tmp/`, `cache/`; `seeds/` is read only.

    `input/` belongs to it only where the kind `writes`. `outside/` and `escaped` beside them are there to be watched.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.seeds, self.input, self.log = self.root / "seeds", self.root / "work" / "input", self.root / "log"
        self.violations = self.root / "violations"
        self.settings, self.site = self.root / "audit.json", self.root / "site"  # of commands in their own processes

    def prepare(self) -> None:
        """Make everything but the seeds' files."""
        for name in ("seeds", "work", "tmp", "cache", "site"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        write_site(self.site)

    def clear(self) -> None:
        """An empty `input/`; also what watched processes left in it is gone."""
        shutil.rmtree(self.root / "work", ignore_errors=True)
        shutil.rmtree(self.root / "tmp", ignore_errors=True)
        (self.root / "tmp").mkdir()
        (self.input / "out").mkdir(parents=True)
        for path in (self.log, self.violations):
            path.write_bytes(b"")

    def strangers(self) -> list[Path]:
        """Return files in places where no input may write."""
        known = {"seeds", "work", "tmp", "cache", "site", "log", "violations", "audit.json"}
        found = [path for path in self.root.iterdir() if path.name not in known]
        return found + [path for path in (self.root / "work").iterdir() if path.name != "input"]


def serve(sandbox: Sandbox, requests: int, replies: int) -> None:
    """The watched process: inputs as JSON lines from `requests`, to `replies` `started` and then a result for each."""
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the watcher, however it ends
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300 << 20, 300 << 20))
    os.environ |= {
        "CLRERNETLM_CACHE": str(sandbox.root / "cache"),
        "TMPDIR": str(sandbox.root / "tmp"),
        "COLUMNS": "100",
        SETTINGS: str(sandbox.settings),
        SITE: str(sandbox.site),
    }
    log = os.open(sandbox.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    tempfile.tempdir = str(sandbox.root / "tmp")
    auditor = Auditor(sandbox.root, sandbox.violations)
    sys.addaudithook(auditor.hook)
    with os.fdopen(requests) as lines, os.fdopen(replies, "w") as out:
        for line in lines:
            given = Input(**json.loads(line))
            make_input(sandbox, given)
            out.write("started\n")
            out.flush()
            result = read_input(sandbox, auditor, given)
            out.write(result.to_json() + "\n")
            out.flush()


def make_input(sandbox: Sandbox, given: Input) -> None:
    """Write the files of an input into `sandbox.input`."""
    os.chdir(sandbox.root)
    sandbox.clear()
    os.chdir(sandbox.input)
    if given.case is not None:
        CASES[given.kind][given.case](sandbox.seeds, sandbox.input)
    else:
        KINDS[given.kind].make(Random(f"{given.seed}/{given.kind}/{given.index}"), sandbox.seeds, sandbox.input)


def read_input(sandbox: Sandbox, auditor: Auditor, given: Input) -> Result:
    """Pass an input to its readers, and return the result."""
    kind = KINDS[given.kind]
    caches = os.path.realpath(os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "~/.cache"))) + "/clrernetlm/kernels-"
    own = [
        sandbox.root / "tmp",
        sandbox.root / "cache",
        sandbox.input / "out",
        *([sandbox.input] if kind.writes else []),
    ]
    words = json.loads((sandbox.input / "line.json").read_text()) if given.kind in COMMAND_LINES else []
    allow(auditor, (caches, *map(str, own)), words, kind.runs)
    write_settings(auditor, words, sandbox.settings)
    Path("/proc/self/clear_refs").write_text("5")  # the largest resident memory counts from now
    start = time.perf_counter()
    outcome, message = "accepted", ""
    auditor.watching = True
    try:
        kind.read(sandbox.seeds, sandbox.input)
    except UserError as error:
        outcome, message = "refused", str(error)
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)
        own_frames = [frame for frame in place if "/clrernetlm/" in frame.filename] or place
        where = f"{Path(own_frames[-1].filename).name}:{own_frames[-1].lineno}" if place else ""
        outcome, message = "traceback", f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:300]}"
    finally:
        auditor.watching = False
    seconds = time.perf_counter() - start
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    megabytes = memory(os.getpid(), "VmHWM")
    if outcome == "refused" and ("\n" in message.strip() or len(message) > MESSAGE):
        outcome, message = "words", f"{len(message)} characters, {message.count(chr(10))} line ends: {message[:200]!r}"
    if outcome in ("accepted", "refused") and given.kind in COMMAND_LINES:
        printed = sandbox.log.read_text(errors="replace")
        wrong = wrong_words(printed, refused=outcome == "refused")
        outcome, message = ("words", wrong) if wrong else (outcome, printed[-200:])
    if outcome in ("accepted", "refused") and megabytes > MEGABYTES:
        outcome, message = "memory", f"{megabytes:.0f} MB; {message[:200]}"
    if given.case is not None and outcome == "accepted" and expectation(given.kind, given.case) == "refuse":
        outcome = "passed"
    violation = sandbox.violations.read_text(errors="replace").partition("\n")[0]
    if violation:
        outcome, _, message = violation.partition(" ")
    elif strangers := sandbox.strangers():
        outcome = "code" if any(MARK in path.name for path in strangers) else "outside"
        message = f"{', '.join(path.name for path in strangers)} came to be"
        for path in strangers:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Result(given, outcome, message[:600], seconds, megabytes)


def wrong_words(printed: str, refused: bool) -> str:
    """Return the fault in the output of a command line; empty without one."""
    lines = printed.splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    if "Traceback (most recent call last)" in printed:
        return f"a traceback is printed: {lines[-1][:200]}"
    if len(errors) != refused:
        return f"{len(errors)} error lines: {printed[-300:]!r}"
    return f"an error of {len(errors[0])} characters" if errors and len(errors[0]) > MESSAGE else ""


def waited_for_core(process: int) -> dict[str, float]:
    """Seconds that every thread of a process has been ready and had no core; empty where the system does not say."""
    waited: dict[str, float] = {}
    for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            waited[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    return waited


def starved(session: int, before: dict[str, float]) -> float:
    """Return the longest time in seconds that one thread of a session has waited for a core since `before`."""
    lost = [0.0]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(process.name)) == session:
                waited = waited_for_core(int(process.name))
                lost += [seconds - before.get(thread, 0.0) for thread, seconds in waited.items()]
    return max(lost)


class Watcher:
    """Runs inputs one by one in a forked process; what libraries are imported is shared with it.

    `seconds`: how long an input may take. `kept`: folder for the inputs at fault.
    """

    def __init__(self, root: Path, kept: Path, seconds: float = SECONDS) -> None:
        self.sandbox, self.kept, self.seconds = Sandbox(root), kept, seconds
        self.sandbox.prepare()
        self._in_other_process(lambda: build_seeds(self.sandbox.seeds))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        (self.sandbox.seeds / "port").write_text(str(self._listener.getsockname()[1]))
        self._process = 0

    def _in_other_process(self, work: Any) -> None:
        """Run a function whose memory and threads the watched processes must not inherit."""
        process = os.fork()
        if not process:
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        if os.waitpid(process, 0)[1]:
            raise RuntimeError("the seeds cannot be made")

    def run(self, inputs: Sequence[Input]) -> Iterator[Result]:
        """The results, in the order of the inputs."""
        try:
            for given in inputs:
                result = self._run_one(given)
                if result.is_fault:
                    self._keep(result)
                if result.outcome == "memory":
                    self._end()  # memory that is not released would count for the next input too
                yield result
        finally:
            self._end()

    def _run_one(self, given: Input) -> Result:
        if not self._process:
            self._begin()
        self._requests.write(json.dumps(asdict(given)).encode() + b"\n")
        self._requests.flush()
        start, started, reply = time.monotonic(), False, b""
        before = waited_for_core(self._process)
        limit = self.seconds + KINDS[given.kind].start
        peak = 0.0
        while True:
            if select.select([self._replies], [], [], 0.05)[0]:
                piece = os.read(self._replies, 1 << 16)
                if not piece:
                    _, status = os.waitpid(self._process, 0)
                    self._process = 0
                    how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status >> 8}"
                    when = "" if started else ", while the input was made"
                    return self._outside(Result(given, "crash", how + when, time.monotonic() - start, peak))
                reply += piece
                if not started and reply.startswith(b"started\n"):
                    started, start, reply = True, time.monotonic(), reply[len(b"started\n") :]
                if reply.endswith(b"\n"):
                    return self._outside(Result.from_json(reply.decode()))
            peak = max(peak, memory(self._process, "VmRSS"))
            if peak > KILLED_ABOVE:
                self._end()
                return self._outside(Result(given, "memory", f"{peak:.0f} MB", time.monotonic() - start, peak))
            seconds = time.monotonic() - start
            if seconds > limit and (seconds > LONGEST * limit or seconds - starved(self._process, before) > limit):
                self._end()
                return self._outside(Result(given, "hang", f"{limit:g} s", seconds, peak))

    def _outside(self, result: Result) -> Result:
        """Return the result, or a fault that only an outside process can find."""
        with contextlib.suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            connection.close()
            result.outcome, result.message = "network", "a library connected to an address in the file"
        return result

    def _begin(self) -> None:
        requests, self._replies = os.pipe(), -1
        replies = os.pipe()
        self._process = os.fork()
        if not self._process:
            try:
                os.close(requests[1])
                os.close(replies[0])
                serve(self.sandbox, requests[0], replies[1])
            except BaseException:
                with open(self.sandbox.root / "log", "a") as log:
                    traceback.print_exc(file=log)
                os._exit(70)
            os._exit(0)
        os.close(requests[0])
        os.close(replies[1])
        self._requests, self._replies = os.fdopen(requests[1], "wb"), replies[0]

    def _end(self) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            self._process = 0
        with contextlib.suppress(AttributeError, OSError):
            self._requests.close()
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._replies)

    def _keep(self, result: Result) -> None:
        """Copy the files of a faulty input, with its result beside them."""
        given = result.input
        folder = self.kept / f"{result.outcome}-{given.kind}-{given.case or given.index}"
        folder.mkdir(parents=True, exist_ok=True)
        result.folder = str(folder)
        for parent, _, names in os.walk(self.sandbox.input):  # which follows no links
            for path in (Path(parent, name) for name in names):
                if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20:
                    target = folder / path.relative_to(self.sandbox.input)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, target)
        (folder / "result.txt").write_text(f"{given.command}\n{result.outcome}: {result.message}\n")
