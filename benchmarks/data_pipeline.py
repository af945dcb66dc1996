"""Training data: images per second on one core, ours against a restatement of the original pipeline.

`python benchmarks/data_pipeline.py` draws road-like JPEG files of CULane's size, then runs decoding, labels, the full
augmentation and the targets through both, in turns. CPU seconds of one thread are counted, so that other programs on
the machine disturb little; `--wall` counts wall time instead.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from data_pipeline_baseline import BaselinePipeline

from clrernetlm.data import Alaug, Compose, CropResize, CulaneDataset, PackCLRNetInputs
from clrernetlm.data.images import Scratch, read_frame
from clrernetlm.lane import write_lines

WIDTH, HEIGHT = 1640, 590
VANISHING_POINT = (820.0, 260.0)


def draw_image(rng: np.random.Generator, lanes: list[np.ndarray]) -> np.ndarray:
    """A road-like frame: gradients for sky and asphalt, blurred and fine noise, white markings."""
    rows = np.linspace(0, 1, HEIGHT)[:, None, None]
    base = np.where(rows < 0.45, 210 - 90 * rows, 95 + 30 * rows) * rng.uniform(0.8, 1.1, 3)
    coarse = cv2.GaussianBlur(rng.normal(0, 60, (HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 4)
    fine = rng.normal(0, 3, (HEIGHT, WIDTH, 1))
    image = np.clip(base + 4 * coarse + fine, 0, 255).astype(np.uint8)
    for points in lanes:
        cv2.polylines(image, [points.round().astype(np.int32)], False, (235, 235, 235), 8, cv2.LINE_AA)
    return image


def write_data_set(root: Path, images: int) -> list[str]:
    """Images and labels of four lanes each, and `list.txt`; returns the paths."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(images):
        ys = np.arange(HEIGHT, 275, -10.0)
        feet = np.array([-500.0, 400.0, 1250.0, 2200.0]) + rng.uniform(-80, 80, 4)
        way = (HEIGHT - ys) / (HEIGHT - VANISHING_POINT[1])
        bend = rng.uniform(-120, 120) * way**2
        lanes = [np.stack([foot + (VANISHING_POINT[0] - foot) * way + bend, ys], axis=1) for foot in feet]
        path = root / f"{number:05d}.jpg"
        cv2.imwrite(str(path), draw_image(rng, lanes), [cv2.IMWRITE_JPEG_QUALITY, 90])
        write_lines(path.with_suffix(".lines.txt"), lanes, decimals=3)
        paths.append(str(path))
    (root / "list.txt").write_text("".join(f"/{Path(path).name}\n" for path in paths))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--wall", action="store_true", help="wall time instead of CPU time")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    clock = time.perf_counter if options.wall else time.process_time
    with tempfile.TemporaryDirectory() as folder:
        paths = write_data_set(Path(folder), options.images)
        size = np.mean([Path(path).stat().st_size for path in paths]) / 1024
        ours = CulaneDataset(folder, "list.txt", Compose([Alaug(), PackCLRNetInputs()]))
        plain = CulaneDataset(folder, "list.txt", Compose([CropResize(), PackCLRNetInputs()]))
        baseline, scratch = BaselinePipeline(), Scratch()
        runs: dict[str, Callable[[int], object]] = {
            "decode only": lambda i: read_frame(paths[i], scratch),
            "ours, no augmentation": lambda i: plain[i],
            "ours, full augmentation": lambda i: ours[i],
            "original, full augmentation": lambda i: baseline(paths[i]),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run(0)
        for round_ in range(options.rounds):
            ours.set_epoch(round_)
            for name, run in runs.items():
                start = clock()
                for i in range(options.images):
                    run(i)
                seconds[name].append((clock() - start) / options.images)
    print(f"{platform.processor() or platform.machine()}, OpenCV {cv2.__version__}, one thread, ", end="")
    print(f"{'wall' if options.wall else 'CPU'} time, {options.images} JPEG files of {size:.0f} KiB, 4 lanes each")
    for name, times in seconds.items():
        best, median = 1 / min(times), 1 / float(np.median(times))
        print(f"{name:28s} {median:6.0f} images/s (median of {options.rounds} rounds; best {best:.0f})")
    ratio = np.median(seconds["original, full augmentation"]) / np.median(seconds["ours, full augmentation"])
    print(f"ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
