"""Reads damaged and hostile inputs of every kind: lists, images, models, command lines and more.

Run: python benchmarks/fuzz.py --inputs 10000. All hand-made cases come first, then random damage to valid files; input
i of a kind is a function of (seed, kind, i). Every input is read in a monitored process. Faults are: an error other
than UserError, an error of more than one line, more than 10 s (without the time waiting for a core), a crash, more than
1.5 GB, execution of code in the input, a file outside the folder of results, a network connection, and a hostile file
that is not refused. The table counts faults per kind; the files of faulty inputs are kept, each with the command that
repeats it. The code is in tests/fuzz.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from timing import machine

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.progress import progress_display
from clrernetlm.core.worker_pool import available_cores

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ("traceback", "words", "hang", "crash", "memory", "code", "outside", "network", "passed")  # of tests/fuzz


@dataclass
class Row:
    """Outcomes of the inputs of one kind, the largest time and memory of one of them, and the sum of their seconds."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    megabytes: float = 0.0
    seconds: float = 0.0

    def add(self, result: dict[str, Any]) -> None:
        """Add the result of one input."""
        self.outcomes[result["outcome"]] += 1
        self.slowest = max(self.slowest, result["seconds"])
        self.megabytes = max(self.megabytes, result["megabytes"])
        self.seconds += result["seconds"]


def table(rows: dict[str, Row]) -> Table:
    """Make the table of results: a row per kind with its inputs, their outcomes, longest time and most memory."""
    shown = Table("kind", *("inputs", "accepted", "refused", *FAULTS, "slowest, s", "MB"))
    for column in shown.columns[1:]:
        column.justify = "right"
    total = Row()
    for name, row in [*sorted(rows.items()), ("all", total)]:
        if row is not total:
            total.outcomes += row.outcomes
            total.slowest, total.megabytes = max(total.slowest, row.slowest), max(total.megabytes, row.megabytes)
        counts = [str(row.outcomes[outcome]) for outcome in ("accepted", "refused", *FAULTS)]
        shown.add_row(name, str(row.outcomes.total()), *counts, f"{row.slowest:.1f}", f"{row.megabytes:.0f}")
    return shown


def start(share: str, arguments: argparse.Namespace, kept: Path) -> subprocess.Popen[str]:
    """Start a process that reads its share of the inputs and prints a JSON line for each."""
    more = ["--cases"] * (not arguments.no_cases) + ["--total", str(arguments.inputs), "--seed", str(arguments.seed)]
    if arguments.kinds:
        more += ["--kind", *arguments.kinds]
    command = [sys.executable, "-m", "tests.fuzz", "--share", share, "--kept", str(kept), *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def results(processes: Sequence[subprocess.Popen[str]]) -> Queue[dict[str, Any] | None]:
    """Return a queue of the results that all processes print; None follows the last result of each process."""
    queue: Queue[dict[str, Any] | None] = Queue()

    def follow(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            queue.put(json.loads(line))
        queue.put(None)

    for process in processes:
        threading.Thread(target=follow, args=(process,), daemon=True).start()
    return queue


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="all kinds together, hand-made cases among them")
    parser.add_argument("--kinds", nargs="*", default=[], help="kinds of input; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes; default: one per core")
    parser.add_argument("--no-cases", action="store_true", help="random damage only")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so long, with what has been run")
    parser.add_argument("--kept", type=Path, help="folder for faulty inputs; default: a new one")
    arguments = parser.parse_args()
    kept = arguments.kept or Path(tempfile.mkdtemp(prefix="fuzz-faults-"))
    console = Console() if sys.stdout.isatty() else Console(width=160)
    rows: dict[str, Row] = {}
    faults: list[dict[str, Any]] = []
    begun = time.monotonic()
    processes = [start(f"{share}/{arguments.workers}", arguments, kept) for share in range(arguments.workers)]
    try:
        queue, running = results(processes), len(processes)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with progress_display(*columns) as bar:
            task = bar.add_task("Inputs", total=arguments.inputs)
            while running and time.monotonic() < begun + 60 * arguments.minutes:
                result = queue.get()
                if result is None:
                    running -= 1
                    continue
                rows.setdefault(result["input"]["kind"], Row()).add(result)
                if result["folder"]:
                    faults.append(result)
                bar.advance(task)
    finally:
        for process in processes:
            process.terminate()
    codes = [code for code in (process.wait() for process in processes) if code != -signal.SIGTERM]
    console.print(table(rows))
    for fault in faults:
        given = fault["input"]
        which = f"--case {given['case']}" if given["case"] else f"--index {given['index']} --seed {given['seed']}"
        console.print(
            f"{fault['outcome']}: {fault['message'][:200]}\n  python -m tests.fuzz --kind {given['kind']} {which}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    done = sum(row.outcomes.total() for row in rows.values())
    seconds = time.monotonic() - begun
    print(f"{machine()}, {arguments.workers} processes: {done} inputs in {seconds:.0f} s, seed {arguments.seed}")
    print(f"{len(faults)} faults" + (f"; their files are in {kept}" if faults else ""))
    if any(codes):
        sys.exit(f"processes ended with the codes {codes}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
