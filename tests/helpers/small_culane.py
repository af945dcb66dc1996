"""Writes a small data set in CULane's layout, and makes its frames and lanes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FRAME = (1640, 590)


def road_lanes() -> list[NDArray[np.float64]]:
    """Return four straight lanes in frame pixels, bottom first."""
    ys = np.arange(590.0, 300.0, -10)
    way = (590 - ys) / 330
    return [np.stack([foot + (820 - foot) * way, ys], axis=1) for foot in (-300.0, 450.0, 1200.0, 1950.0)]


def frame(seed: int = 0, size: tuple[int, int] = FRAME) -> NDArray[np.uint8]:
    """Draw a smooth random frame: compresses well, yet every pixel differs from its neighbours."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
    return cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def lane_mask(lanes: list[NDArray[np.float64]], size: tuple[int, int] = FRAME) -> NDArray[np.uint8]:
    mask = np.zeros((size[1], size[0]), np.uint8)
    for number, points in enumerate(lanes, start=1):
        cv2.polylines(mask, [points.round().astype(np.int32)], False, [number], 16)
    return mask


def lines_text(lanes: list[NDArray[np.float64]]) -> str:
    return "".join(" ".join(f"{value:.3f}" for value in points.ravel()) + "\n" for points in lanes)


def write_culane(
    root: Path, images: int = 4, *, masks: bool = True, flags: bool = True, size: tuple[int, int] = FRAME
) -> list[str]:
    """Write `list/train_gt.txt`, `list/test.txt`, images, labels and masks under `root`; returns the listed images."""
    lanes = [points * np.divide(size, FRAME) for points in road_lanes()]
    lines, names = [], []
    for number in range(images):
        name = f"/driver_1/clip_{number // 3}.MP4/{number % 3:05d}.jpg"
        path = root / name[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), frame(number, size))
        path.with_suffix(".lines.txt").write_text(lines_text(lanes))
        line = name
        if masks:
            mask = f"/laneseg{name[:-4]}.png"
            (root / mask[1:]).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / mask[1:]), lane_mask(lanes, size))
            line += f" {mask}"
        if flags:
            line += " 1 1 1 1"
        lines.append(line)
        names.append(name)
    (root / "list").mkdir(exist_ok=True)
    (root / "list" / "train_gt.txt").write_text("\n".join(lines) + "\n")
    (root / "list" / "test.txt").write_text("\n".join(names) + "\n")
    return names
