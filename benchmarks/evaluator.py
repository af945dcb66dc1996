"""Compares the evaluator with a restatement of the Python tool behind the published numbers.

Run: python benchmarks/evaluator.py. Both read the same generated tree (4 predicted and 4 labelled lanes per image,
predictions every 2 rows, labels every 10) and run in turns. The restatement does the steps of that tool image by image:
read both files, fit a parametric spline with scipy, draw every lane on a full-size mask with OpenCV, intersect every
pair of masks, match with scipy. The counts of both must be equal.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import splev, splprep
from scipy.optimize import linear_sum_assignment
from timing import machine, positive

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.lane_files import format_lines
from clrernetlm.core.worker_pool import available_cores
from clrernetlm.metrics import evaluate

Points = NDArray[np.float64]
WIDTH, HEIGHT, LANE_WIDTH, THRESHOLD = 1640, 590, 30, 0.5


def plain_read(path: Path) -> list[list[tuple[float, float]]]:
    """Read the lanes of a file as lists of x, y in pixels; those of fewer than two points are left out."""
    lanes = []
    for line in path.read_text().splitlines():
        values = [float(value) for value in line.split()]
        lanes.append([(values[i], values[i + 1]) for i in range(0, len(values), 2)])
    return [lane for lane in lanes if len(lane) >= 2]


def plain_mask(lane: list[tuple[float, float]]) -> NDArray[np.bool_]:
    """Draw a lane through a spline on a mask (H, W)."""
    xs, ys = [x for x, _ in lane], [y for _, y in lane]
    spline, u = splprep([xs, ys], s=0, k=min(3, len(lane) - 1))
    curve = np.array(splev(np.linspace(0, 1, (len(u) - 1) * 5 + 1), spline)).T.astype(np.int32)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for start, end in pairwise(curve.tolist()):
        cv2.line(mask, start, end, (255,), LANE_WIDTH)
    return mask > 0


def plain_evaluate(pred: Path, gt: Path, images: list[str]) -> tuple[int, int, int]:
    """Count (tp, fp, fn) at IoU 0.5 by drawing every lane on a mask of its own."""
    tp = predictions = labels = 0
    for image in images:
        masks = []
        for folder in (pred, gt):
            lanes = plain_read(folder / image.replace(".jpg", ".lines.txt"))
            masks.append([plain_mask(lane) for lane in lanes])
        ious = np.zeros((len(masks[0]), len(masks[1])))
        for i, a in enumerate(masks[0]):
            for j, b in enumerate(masks[1]):
                ious[i, j] = (a & b).sum() / (a | b).sum()
        rows, columns = linear_sum_assignment(1 - ious)
        tp += int((ious[rows, columns] > THRESHOLD).sum())
        predictions += len(masks[0])
        labels += len(masks[1])
    return tp, predictions - tp, labels - tp


def make_lane(rng: np.random.Generator, foot: float, step: float) -> Points:
    """Draw a bent lane (N, 2) in pixels from the lower border towards a vanishing point, a point every `step` rows."""
    y = np.arange(590.0, rng.uniform(250, 290), -step)
    towards = (590 - y) / 340
    return np.column_stack([foot + (820 - foot) * towards + rng.uniform(-60, 60) * towards**2, y])


def make_tree(root: Path, count: int) -> list[str]:
    """Write `count` images' labels and predictions; half of the predictions are good, half are off."""
    rng = np.random.default_rng(0)
    images = [f"drive_{i % 7}/{i:05d}.jpg" for i in range(count)]
    for image in images:
        feet = np.array([-700.0, 350, 1250, 2300]) + rng.uniform(-100, 100, 4)
        seed = int(rng.integers(1 << 31))
        for name, step in (("gt", 10.0), ("pred", 2.0)):
            lanes = np.random.default_rng(seed)
            shift = np.array([0, 10, 45, 90]) if name == "pred" else np.zeros(4)
            points = [make_lane(lanes, foot + offset, step) for foot, offset in zip(feet, shift, strict=True)]
            points = [lane[(lane[:, 0] >= 0) & (lane[:, 0] < WIDTH)] if name == "pred" else lane for lane in points]
            path = root / name / image.replace(".jpg", ".lines.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(format_lines(points))
    (root / "list.txt").write_text("".join(f"/{image}\n" for image in images))
    return images


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the workers that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=positive, default=4000, help="images in the tree; ours runs on all of them")
    parser.add_argument("--plain", type=int, default=40, help="images per round of the plain version")
    parser.add_argument("--rounds", type=positive, default=5)
    arguments = parser.parse_args()
    cores = available_cores()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images = make_tree(root, arguments.images)
        (root / "check.txt").write_text("\n".join(images[: arguments.plain]))
        quarter = len(images) // 4
        (root / "quarter.txt").write_text("".join(f"/{image}\n" for image in images[:quarter]))
        ours = evaluate(root / "pred", root / "gt", root / "check.txt", workers=1).total.at(THRESHOLD)  # and warms up
        plain = plain_evaluate(root / "pred", root / "gt", images[: arguments.plain])
        if plain != (ours["tp"], ours["fp"], ours["fn"]):
            sys.exit(f"the two disagree: {plain} and {ours}")
        rates: dict[str, list[float]] = {"plain": [], "quarter": [], "one": [], "all": []}
        work: dict[str, list[float]] = {"one": [], "all": []}  # CPU milliseconds per image, all processes together
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            plain_evaluate(root / "pred", root / "gt", images[: arguments.plain])
            rates["plain"].append(arguments.plain / (time.perf_counter() - start))
            start = time.perf_counter()
            evaluate(root / "pred", root / "gt", root / "quarter.txt", workers=1)
            rates["quarter"].append(quarter / (time.perf_counter() - start))
            for name, workers in (("one", 1), ("all", cores)):
                start, used = time.perf_counter(), cpu_seconds()
                evaluate(root / "pred", root / "gt", root / "list.txt", workers=workers)
                rates[name].append(len(images) / (time.perf_counter() - start))
                work[name].append(1000 * (cpu_seconds() - used) / len(images))
    middle = {name: float(np.median(values)) for name, values in rates.items()}
    print(f"{machine()}, {cores} cores, OpenCV {cv2.__version__}, counts equal: {plain}")
    print(f"plain, 1 core : {middle['plain']:8.1f} images/s")
    print(f"ours,  1 core : {middle['one']:8.1f} images/s   {middle['one'] / middle['plain']:.1f}x")
    growth = len(images) / quarter * middle["quarter"] / middle["one"]
    print(f"time for {len(images)} images: {growth:.2f} times that for {quarter}")
    print(f"ours,  {cores} cores: {middle['all']:8.1f} images/s   {middle['all'] / middle['one']:.2f}x of one core")
    one, several = (float(np.median(work[name])) for name in ("one", "all"))
    print(f"CPU per image : {one:.3f} ms in one process, {several:.3f} ms over {cores}: {one / several:.0%} efficient")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
