"""Measures the speed of the road generator: images per second and core, with labels, masks and JPEGs written.

python benchmarks/synth.py [--count 90] [--repeats 3] [--size 1640x590] [--randomization all]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from timing import machine, positive

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.worker_pool import available_cores
from clrernetlm.synth.dataset import ImageSpec, generate_dataset, generate_image, sample_categories
from clrernetlm.synth.randomization import parse_randomization


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=positive, default=90)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--size", default="1640x590")
    parser.add_argument(
        "--randomization", nargs="*", default=[], help="groups; `cameras` draws frames of other heights"
    )
    arguments = parser.parse_args()
    randomization = parse_randomization(arguments.randomization)
    width, height = (int(value) for value in arguments.size.split("x"))
    print(f"machine: {machine()}, {available_cores()} cores, load {os.getloadavg()[0]:.1f}")
    cv2.setNumThreads(1)
    kinds = sample_categories(0, arguments.count, 0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for index, kind in enumerate(kinds[:9]):  # compile and fill the caches
            generate_image(ImageSpec(1, index, kind), root, 0, (width, height), (60, 95), 4, randomization)
        seconds = np.full((arguments.repeats, len(kinds)), np.inf)
        for turn in range(arguments.repeats):
            for index, kind in enumerate(kinds):
                start = time.perf_counter()
                generate_image(ImageSpec(0, index, kind), root, 0, (width, height), (60, 95), 4, randomization)
                seconds[turn, index] = time.perf_counter() - start
        best, count = seconds.min(0), len(kinds)  # the best of each image: other work on the machine only adds
        print(f"one process, {width}x{height}, {count} images, best of {arguments.repeats} runs of each:")
        print(
            f"  {count / best.sum():.1f} images/s: {1e3 * best.mean():.1f} ms each, slowest {1e3 * best.max():.0f} ms"
        )
        print(f"  {count / seconds.mean(0).sum():.1f} images/s over all runs, with whatever else the machine did")
        for name in dict.fromkeys(kinds):
            chosen = np.array([kind == name for kind in kinds])
            print(f"    {name:8s} {1e3 * best[chosen].mean():5.1f} ms")
        start = time.perf_counter()
        generate_dataset(root / "all", count, 0, 0, size=(width, height), progress=False, randomization=randomization)
        rate = count / (time.perf_counter() - start)
        print(f"all cores, with starting the processes: {rate:.1f} images/s, {rate / available_cores():.1f} per core")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
