"""Speed of the road generator: pictures per second and core, with labels, masks and JPEGs written.

python benchmarks/synth.py [--count 90] [--size 1640x590]
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

from clrernetlm.data.synth.dataset import Picture, categories, generate_dataset, make_picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=90)
    parser.add_argument("--size", default="1640x590")
    arguments = parser.parse_args()
    width, height = (int(value) for value in arguments.size.split("x"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"machine: {platform.processor() or platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}")
    kinds = categories(0, arguments.count, 0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for index, kind in enumerate(kinds[:9]):  # compile and fill the caches
            make_picture(Picture(1, index, kind), root, 0, (width, height), (60, 95), 4)
        wall, cpu, slowest = 0.0, time.process_time(), 0.0
        for index, kind in enumerate(kinds):
            start = time.perf_counter()
            make_picture(Picture(0, index, kind), root, 0, (width, height), (60, 95), 4)
            seconds = time.perf_counter() - start
            wall, slowest = wall + seconds, max(slowest, seconds)
        cpu = time.process_time() - cpu
        count = len(kinds)
        print(
            f"one process, {width}x{height}: {count / wall:.1f} images/s by the clock ({1e3 * wall / count:.1f} ms an"
        )
        print(f"  image, slowest {1e3 * slowest:.0f} ms), {count / cpu:.1f} images/s of processor time")
        start = time.perf_counter()
        generate_dataset(root / "all", count, 0, 0, size=(width, height), progress=False)
        wall = time.perf_counter() - start
        print(
            f"all cores, with starting the processes: {count / wall:.1f} images/s, {count / wall / cores:.1f} per core"
        )


if __name__ == "__main__":
    main()
