"""Compares ways in which PyTorch's threads wait for each other, on an idle machine and beside another process.

    python benchmarks/waiting.py [--frames 60] [--rounds 3]

Image to lanes with the shipped detector on two threads, in one process for every way to wait, round after round:
`default` (threads spin for milliseconds), `short` (GOMP_SPINCOUNT=2000, tens of microseconds) and `passive`
(OMP_WAIT_POLICY=PASSIVE, what the command line sets). Busy: two other processes that do nothing but compute.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

from timing import positive

from clrernetlm.cli.exit_codes import exit_code_of

WAYS = {"default": {}, "short": {"GOMP_SPINCOUNT": "2000"}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}
LOADS = {"quiet": 0, "busy": 2}  # processes that compute
MEASURE = """
import sys, time
import numpy as np, torch
from clrernetlm import Predictor
torch.set_num_threads(2)
predictor = Predictor("roads_detector")
image = np.random.default_rng(0).integers(0, 256, (590, 1640, 3), np.uint8)
taken = []
for _ in range(int(sys.argv[1]) + 5):
    start = time.perf_counter()
    predictor.detect(image)
    taken.append(1000 * (time.perf_counter() - start))
print(sorted(taken[5:])[len(taken[5:]) // 2])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=positive, default=60, help="timed frames of every process (%(default)s)")
    parser.add_argument("--rounds", type=positive, default=3, help="processes of every kind (%(default)s)")
    options = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for load, processes in LOADS.items():
            for way in WAYS:
                found.setdefault((load, way), []).append(median_ms(way, processes, options.frames))
    print(f"{'':10}" + "".join(f"{way:>12}" for way in WAYS) + f"{'default/passive':>18}")
    for load in LOADS:
        row = {way: statistics.median(found[load, way]) for way in WAYS}
        ratio = row["default"] / row["passive"]
        print(f"{load:10}" + "".join(f"{value:>9.1f} ms" for value in row.values()) + f"{ratio:>17.2f}x")


def median_ms(way: str, processes: int, frames: int) -> float:
    """Measure milliseconds per frame in a process whose threads wait in this way, beside `processes` that compute."""
    waiting = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in waiting}
    with ExitStack() as stack:
        for _ in range(processes):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(other.kill)
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, str(frames)],
            env=environment | WAYS[way],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return float(run.stdout)


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
