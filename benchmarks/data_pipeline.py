"""Measures the training data pipeline in images per second on one core, against a restatement of the original.

`python benchmarks/data_pipeline.py` draws road-like JPEG files of CULane's size, in pixels and in bytes (real frames
have 1.7 bits per pixel), then runs decoding, labels, the full augmentation and the targets through both, in turns.
`--photos FOLDER` takes the JPEG files of a folder instead. CPU seconds of one thread are counted, which other programs
on the machine influence little; `--wall` counts wall time instead. Finally, network inputs from frames decoded at half
size are compared with those from whole frames.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from data_pipeline_baseline import BaselinePipeline
from timing import machine, positive, seconds_in_turns

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import AugmentationConfig
from clrernetlm.core.images import ThreadLocalBuffers, read_frame
from clrernetlm.core.lane_files import write_lines
from clrernetlm.datasets import Alaug, Compose, CulaneDataset, PackCLRNetInputs

WIDTH, HEIGHT = 1640, 590
QUALITY = 86  # gives drawn files the size of real ones
NOTHING = AugmentationConfig(flip=0, channel_shuffle=0, brightness_contrast=0, hsv=0, blur=0, affine=0)
VANISHING_POINT = (820.0, 260.0)


def draw_image(rng: np.random.Generator, lanes: list[np.ndarray]) -> np.ndarray:
    """Draw a road-like frame: gradients for sky and asphalt, blurred and fine noise, white markings along `lanes`."""
    rows = np.linspace(0, 1, HEIGHT)[:, None, None]
    base = np.where(rows < 0.45, 210 - 90 * rows, 95 + 30 * rows) * rng.uniform(0.8, 1.1, 3)
    coarse = cv2.GaussianBlur(rng.normal(0, 60, (HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 4)
    fine = rng.normal(0, 3, (HEIGHT, WIDTH, 1))
    image = np.clip(base + 4 * coarse + fine, 0, 255).astype(np.uint8)
    for points in lanes:
        cv2.polylines(image, [points.round().astype(np.int32)], False, (235, 235, 235), 8, cv2.LINE_AA)
    return image


def draw_lanes(rng: np.random.Generator) -> list[np.ndarray]:
    """Draw four random lanes (N, 2) in frame pixels, bottom first."""
    ys = np.arange(HEIGHT, 275, -10.0)
    feet = np.array([-500.0, 400.0, 1250.0, 2200.0]) + rng.uniform(-80, 80, 4)
    nearness = (HEIGHT - ys) / (HEIGHT - VANISHING_POINT[1])
    bend = rng.uniform(-120, 120) * nearness**2
    return [np.stack([foot + (VANISHING_POINT[0] - foot) * nearness + bend, ys], axis=1) for foot in feet]


def write_data_set(root: Path, images: int, photos: list[Path]) -> list[str]:
    """Write drawn images or copies of `photos`, labels of four lanes each and `list.txt`; returns the images' paths."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(images):
        lanes = draw_lanes(rng)
        path = root / f"{number:05d}.jpg"
        if photos:
            shutil.copyfile(photos[number % len(photos)], path)
        else:
            image = draw_image(rng, lanes)
            path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
        write_lines(path.with_suffix(".lines.txt"), lanes, decimals=3)
        paths.append(str(path))
    (root / "list.txt").write_text("".join(f"/{Path(path).name}\n" for path in paths))
    return paths


def measure(
    runs: dict[str, Callable[[int], object]], images: int, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Measure seconds per image of every run in every round; the runs take turns."""

    def all_images(run: Callable[[int], object]) -> None:
        for i in range(images):
            run(i)

    seconds = seconds_in_turns([partial(all_images, run) for run in runs.values()], rounds, clock)
    return {
        name: [taken / images for taken in rounds_of_run] for name, rounds_of_run in zip(runs, seconds, strict=True)
    }


def half_size_difference(exact: CulaneDataset, half: CulaneDataset) -> tuple[float, float]:
    """Compare network inputs: mean absolute difference in levels of 255, and PSNR in dB."""
    absolute, square = [], []
    for i in range(len(exact)):
        difference = exact[i]["inputs"].double() - half[i]["inputs"].double()
        absolute.append(float(difference.abs().mean()))
        square.append(float(difference.square().mean()))
    return float(np.mean(absolute)), 10 * math.log10(255**2 / float(np.mean(square)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=positive, default=64)
    parser.add_argument("--rounds", type=positive, default=12)
    parser.add_argument("--photos", type=Path, help="folder of 1640x590 JPEG files")
    parser.add_argument("--wall", action="store_true", help="wall time instead of CPU time")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    clock = time.perf_counter if options.wall else time.process_time
    photos = sorted(options.photos.glob("*.jpg")) if options.photos else []
    if options.photos and not photos:
        parser.error(f"{options.photos}: no .jpg file")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_data_set(Path(folder), options.images, photos)
        size = np.mean([Path(path).stat().st_size for path in paths])
        pack = PackCLRNetInputs(off_image="geometry")
        augmented, plain = Compose([Alaug(), pack]), Compose([Alaug(NOTHING), pack])
        exact = CulaneDataset(folder, "list.txt", augmented)
        half = CulaneDataset(folder, "list.txt", augmented, half_above=WIDTH)
        unchanged = CulaneDataset(folder, "list.txt", plain)
        baseline, scratch = BaselinePipeline(), ThreadLocalBuffers()
        seconds = measure(
            {
                "decode only": lambda i: read_frame(paths[i], scratch),
                "decode only, half size": lambda i: read_frame(paths[i], scratch, WIDTH),
                "ours, no augmentation": lambda i: unchanged[i],
                "ours, decode=exact": lambda i: exact[i],
                "ours, decode=half": lambda i: half[i],
                "original": lambda i: baseline(paths[i]),
            },
            options.images,
            options.rounds,
            clock,
        )
        difference = half_size_difference(unchanged, CulaneDataset(folder, "list.txt", plain, half_above=WIDTH))
    print(f"{machine()}, OpenCV {cv2.__version__}, one thread, ", end="")
    print(f"{'wall' if options.wall else 'CPU'} time, {options.rounds} rounds of {options.images} images,")
    print(f"{WIDTH}x{HEIGHT} JPEG, {size / 1024:.0f} KiB, {8 * size / WIDTH / HEIGHT:.2f} bits per pixel, 4 lanes each")
    reference = float(np.median(seconds["original"]))
    for name, times in seconds.items():
        median = float(np.median(times))
        print(f"{name:24s} {1 / median:5.0f} images/s (median; best {1 / min(times):.0f})  x {reference / median:.2f}")
    print(f"inputs, half against exact: mean difference {difference[0]:.2f} of 255, PSNR {difference[1]:.1f} dB")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
