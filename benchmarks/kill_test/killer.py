"""Kills one command again and again, and checks what it leaves."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

from clrernetlm.cli.commands import COMMANDS
from clrernetlm.core.errors import UserError
from kill_test.cases import Case
from kill_test.file_checks import are_equal_files, is_unfinished, list_files, read_completely
from kill_test.inputs import PATIENCE, Inputs
from kill_test.processes import Run, end_session, is_worker, send, session_members, start

WORKER_KILLED = "worker killed"
KILL_METHODS = ("SIGKILL", "SIGTERM", "SIGINT", WORKER_KILLED)
# Exit codes after each method; 0: the command finished before the kill. A negative code is that of a signal that came
# before the command had installed its handlers, or after it had removed them.
ALLOWED_CODES = {"SIGKILL": (0, -9), "SIGTERM": (0, 143, -15), "SIGINT": (0, 130, -2), WORKER_KILLED: (0, 2)}
# In the folder for temporary files: sockets of multiprocessing, and caches that PyTorch keeps.
FOREIGN_FOLDERS = ("pymp-", "torchinductor_")


@dataclass
class KillCounts:
    """Kills and faults of one command."""

    seconds: float = 0.0  # of the undisturbed run
    kills: Counter[str] = field(default_factory=Counter)  # by method
    faults: list[str] = field(default_factory=list)
    reruns: int = 0  # runs to the end after kills
    slowest: float = 0.0  # seconds from a kill to the end of the command's last process


class Killer:
    """Kills one command in rounds. `folder`: a new one for its work, its reference run and the output of faulty runs.

    Runs the command once undisturbed; raises UserError if it fails.
    """

    def __init__(self, case: Case, inputs: Inputs, folder: Path, seed: int) -> None:
        self.case, self.inputs, self.folder = case, inputs, folder
        self.random = random.Random(f"{seed} {case.name}")
        self.counts = KillCounts()
        methods = KILL_METHODS if case.workers else KILL_METHODS[:3]
        self.methods = self.random.sample(methods, len(methods))
        self.work = folder / "work"
        reference = folder / "reference"
        for name in ("work", "tmp"):
            (folder / name).mkdir(parents=True)
        run = start(self._arguments(), self.work)
        if run.wait(PATIENCE) != 0:
            raise UserError(f"{self.case.name}: fails without being killed: {run.output.read_text()[-600:]}")
        self.counts.seconds = time.monotonic() - run.began
        self.work.rename(reference)
        self.expected = list_files(reference)
        self.work.mkdir()

    def _arguments(self) -> list[str]:
        """Make the arguments of the next run: with `--resume` for a training that has a checkpoint."""
        arguments = self.inputs.fill_in(self.case.arguments)
        if self.case.trains and list(self.work.glob("run/checkpoints/epoch_*.ckpt")):
            return [*arguments, "--resume"]
        if "overwrite" in {item.name for item in fields(COMMANDS[arguments[0]])}:
            return [*arguments, "--overwrite"]
        return arguments

    def kill(self) -> None:
        """Start the command, kill it by the next method after a random time, and check what it leaves."""
        method = self.methods[self.counts.kills.total() % len(self.methods)]
        delay = self.random.uniform(0.0, 1.05) * self.counts.seconds
        run = start(self._arguments(), self.work)
        run.wait(delay)
        killed_at = time.monotonic()
        method = self._send_signals(run, method)
        self.counts.kills[method] += 1
        if run.wait(PATIENCE) is None:
            self._add_fault(run, f"{method}: hangs")
        all_ended = end_session(run.process)
        self.counts.slowest = max(self.counts.slowest, time.monotonic() - killed_at)
        code = run.wait(PATIENCE)
        if not all_ended:
            self._add_fault(run, f"{method}: processes stay")
        if code not in ALLOWED_CODES[method]:
            self._add_fault(run, f"{method}: exit code {code}")
        if "Traceback" in run.output.read_text():
            self._add_fault(run, f"{method}: traceback")
        self._check_files(run, method)

    def _send_signals(self, run: Run, method: str) -> str:
        """Kill a run, or one of its workers; returns the method, SIGKILL where there is no worker."""
        if method == WORKER_KILLED:
            workers = [process for process in session_members(run.process) if is_worker(process, run.process)]
            if workers:
                send(self.random.choice(workers), signal.SIGKILL)
                return method
            method = "SIGKILL"
        if method == "SIGINT":  # a terminal sends it to all processes
            for process in session_members(run.process):
                send(process, signal.SIGINT)
        elif run.poll() is None:
            send(run.process, getattr(signal, method))
        return method

    def _check_files(self, run: Run, method: str) -> None:
        """Add faults for incomplete files, and for files that differ from those of the undisturbed run."""
        for name, path in list_files(self.work).items():
            if is_unfinished(Path(name)):
                continue
            try:
                read_completely(path)
            except Exception as error:
                self._add_fault(run, f"{method}: {name} is half-written ({type(error).__name__}: {str(error)[:80]})")
                continue
            # Ctrl-C and SIGTERM end a video, or the list of all images, properly with the frames so far.
            shortened = self.case.arguments[0] == "detect" and path.suffix in (".json", ".mp4")
            compared = name in self.expected and not self.case.trains and not shortened
            if compared and not are_equal_files(path, self.expected[name]):
                self._add_fault(run, f"{method}: {name} is another file")

    def finish(self) -> None:
        """Run the command to its end, compare all files with those of the undisturbed run, and empty the folders."""
        run = start(self._arguments(), self.work)
        code = run.wait(PATIENCE)
        self.counts.reruns += 1
        if code != 0 or not end_session(run.process):
            self._add_fault(run, f"the last run ends with {code}")
        if not self.case.trains:  # the first run may have compiled kernels; a resumed training runs only in part
            self.counts.seconds = min(self.counts.seconds, time.monotonic() - run.began)
        files = list_files(self.work)
        for name in sorted(files.keys() ^ self.expected.keys()):
            self._add_fault(run, f"{name} is {'left behind' if name in files else 'missing'}")
        for name in sorted(files.keys() & self.expected.keys()):
            if not are_equal_files(files[name], self.expected[name]):
                self._add_fault(run, f"{name} is another one in the end")
        names = [path.name for path in self.folder.joinpath("tmp").iterdir()]
        left = [name for name in names if not name.startswith(FOREIGN_FOLDERS)]
        if left:
            self._add_fault(run, f"{len(left)} temporary files are left, {left[0]} among them")
        for folder in (self.work, self.folder / "tmp"):
            shutil.rmtree(folder)
            folder.mkdir()

    def _add_fault(self, run: Run, fault: str) -> None:
        """Record a fault, and keep what the command printed."""
        self.counts.faults.append(fault)
        shutil.copyfile(run.output, self.folder / f"fault{len(self.counts.faults)}.txt")
