"""Writes a small data set in CULane's layout: grey ground, bright straight lanes, learned within seconds."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from clrernetlm.core.lane_attribute_files import attributes_path, write_attributes
from clrernetlm.core.lane_attributes import HiddenRange, LaneAttributes
from clrernetlm.core.lane_files import read_lines, write_lines

SIZE = (410, 148)  # a quarter of CULane's frames


def drawn_lanes(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Draw two or three lanes from a common vanishing point, (N, 2) x, y in pixels, bottom first."""
    width, height = size
    top = 0.5 * height
    vanishing = width * rng.uniform(0.4, 0.6)
    bottoms = width * (np.array([0.1, 0.45, 0.9])[: rng.integers(2, 4)] + rng.uniform(-0.06, 0.06))
    rows = np.arange(height, top, -height / 59.0)
    share = (rows - top) / (height - top)
    return [np.stack([vanishing + (bottom - vanishing) * (0.05 + 0.95 * share), rows], axis=1) for bottom in bottoms]


def write_mixed_roads(root: Path, count: int, sizes: Sequence[tuple[int, int]], seed: int = 0) -> Path:
    """Write `count` drawn roads of each size to its own folder `camera_0`, `camera_1`, ..., in common lists."""
    lists: dict[str, list[str]] = {}
    for number, size in enumerate(sizes):
        folder = root / f"camera_{number}"
        write_drawn_roads(folder, count, seed + number, size)
        for path in sorted((folder / "list").glob("*.txt")):
            for line in path.read_text().splitlines():
                words = [f"/camera_{number}{word}" if word.startswith("/") else word for word in line.split()]
                lists.setdefault(path.name, []).append(" ".join(words) + "\n")
    (root / "list").mkdir()
    for name, lines in lists.items():
        (root / "list" / name).write_text("".join(lines))
    return root


def write_drawn_roads(root: Path, count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    """Write `count` images with labels and masks; the same list serves training, validation and test."""
    width, height = size
    names = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        lanes = drawn_lanes(rng, size)
        image = rng.integers(60, 90, (height, width, 3)).astype(np.uint8)
        mask = np.zeros((height, width), np.uint8)
        for number, lane in enumerate(lanes, start=1):
            points = lane.round().astype(np.int32)
            cv2.polylines(image, [points], False, (230, 230, 230), max(2, width // 100), cv2.LINE_AA)
            cv2.polylines(mask, [points], False, number, max(2, width // 100))
        name = f"driver_1/clip.MP4/{index:05d}"
        for folder in ("driver_1/clip.MP4", "laneseg/driver_1/clip.MP4", "list"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"{name}.jpg"), image)
        cv2.imwrite(str(root / f"laneseg/{name}.png"), mask)
        write_lines(root / f"{name}.lines.txt", lanes, decimals=3)
        flags = " ".join("1" if slot < len(lanes) else "0" for slot in range(4))
        names.append(f"/{name}.jpg /laneseg/{name}.png {flags}\n")
    (root / "list/train_gt.txt").write_text("".join(names))
    for split in ("val", "test"):
        (root / f"list/{split}.txt").write_text("".join(name.split()[0] + "\n" for name in names))
    return root


def describe_lanes(root: Path, images: Sequence[int]) -> None:
    """Write `.lanes.json` files for images of `write_drawn_roads`: dashed white lanes, two points under the bonnet."""
    for number in images:
        labels = root / f"driver_1/clip.MP4/{number:05d}.lines.txt"
        lanes = [
            LaneAttributes(len(points), "dashed", "white", position, hidden=(HiddenRange(0, 1, "bonnet"),))
            for position, points in zip((-2, -1, 1), read_lines(labels), strict=False)
        ]
        write_attributes(attributes_path(labels), lanes, SIZE)
