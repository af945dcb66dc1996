"""Kills commands at random moments, and checks that files stay complete, nothing is left behind and results are equal.

Run: python benchmarks/kills.py --kills 200. Every command works on a small generated data set. It runs undisturbed
first. Then, in rounds, it is started and killed several times, by SIGKILL, SIGTERM, Ctrl-C (SIGINT to all of its
processes) or the death of one of its workers, each after a random share of its run time; training continues with
`--resume`. Then it runs to its end. Faults are: a file that cannot be read or differs from the one of the undisturbed
run; another exit code than 143, 130 or 2 (or 0, if the command finished before the kill); a traceback; a process that
survives; temporary files after the last run; a last run that fails; a result that differs in any bit. The table counts
faults per command; the output of faulty runs is kept. Needs POSIX: commands run in forks of this process, which has
already loaded the libraries, so that kills hit the work and not the imports. The parts are in benchmarks/kill_test.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
from kill_test.cases import Case, list_cases
from kill_test.inputs import Inputs
from kill_test.killer import KILL_METHODS, KillCounts, Killer
from kill_test.processes import kill_last_session
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from timing import machine, positive

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.errors import UserError
from clrernetlm.core.progress import progress_display

KILLS_PER_ROUND = 3  # of one command before it may run to its end


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=positive, default=200, help="over all commands")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="commands, or beginnings of their names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="of all files and the output of faulty runs; default: a new one")
    return parser.parse_args()


def select_cases(names: Sequence[str] | None) -> list[Case]:
    """Select the commands whose names begin with one of `names`, None: all. Raises UserError if there are none."""
    cases = list_cases()
    selected = [case for case in cases if not names or case.name.startswith(tuple(names))]
    if not selected:
        raise UserError(f"--only: {(names or [''])[0]} begins none of {', '.join(case.name for case in cases)}")
    return selected


def plan_rounds(cases: Sequence[Case], kills: int) -> Iterator[tuple[Case, int]]:
    """Yield the commands in turn, each with its number of kills; the numbers add up to `kills`."""
    for case in itertools.cycle(cases):
        number = min(KILLS_PER_ROUND, kills)
        kills -= number
        if not number:
            return
        yield case, number


def kill_in_rounds(cases: Sequence[Case], kills: int, folder: Path, seed: int) -> dict[str, KillCounts]:
    """Kill the commands `kills` times in all, with a progress bar; returns the counts so far on Ctrl-C."""
    (folder / "inputs").mkdir(parents=True)
    inputs = Inputs(folder / "inputs")
    killers: dict[Case, Killer] = {}
    counts: dict[str, KillCounts] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress_display(*columns) as bar:
        task = bar.add_task("Kills", total=kills)
        try:
            for case, number in plan_rounds(cases, kills):
                bar.update(task, description=case.name)
                if case not in killers:
                    own_folder = folder / case.name.replace(" ", "_").replace(",", "")
                    killers[case] = Killer(case, inputs, own_folder, seed)
                    counts[case.name] = killers[case].counts
                for _ in range(number):
                    killers[case].kill()
                    bar.advance(task)
                killers[case].finish()
        except KeyboardInterrupt:
            print("interrupted; so far:")
        finally:
            kill_last_session()
    return counts


def counts_table(counts: dict[str, KillCounts]) -> Table:
    """Make the table of results, with one row per command."""
    columns = ("command", "undisturbed s", *KILL_METHODS, "runs to the end", "slowest end s", "faults")
    table = Table(*columns, title="kills")
    for name, row in counts.items():
        kills = [str(row.kills[method]) for method in KILL_METHODS]
        table.add_row(name, f"{row.seconds:.1f}", *kills, str(row.reruns), f"{row.slowest:.1f}", str(len(row.faults)))
    return table


def main() -> int:
    """Kill commands and print the table; returns 1 if there are faults, else 0."""
    options = parse_options()
    if not hasattr(os, "fork") or not Path("/proc").is_dir():
        raise UserError("kills.py: needs Linux: it forks, and finds processes in /proc")
    cases = select_cases(options.only)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--folder: {folder} is not empty; name a new one")
    cv2.setNumThreads(0)  # forks would wait for OpenCV's threads
    began = time.monotonic()
    counts = kill_in_rounds(cases, options.kills, folder, options.seed)
    Console(width=130).print(counts_table(counts))
    faults = [f"{name}: {fault}" for name, row in counts.items() for fault in row.faults]
    for fault in faults:
        print(fault)
    kills = sum(row.kills.total() for row in counts.values())
    seconds = time.monotonic() - began
    print(f"{machine()}: {kills} kills in {seconds:.0f} s, seed {options.seed}, {len(faults)} faults")
    if faults:
        print(f"the output of faulty runs is in {folder}/*/fault*.txt")
    elif options.folder is None:
        shutil.rmtree(folder)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
