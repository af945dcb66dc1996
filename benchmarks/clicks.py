"""Compares LaneLM's lanes through clicks with a monotone spline through the same clicks, which needs no network.

    python benchmarks/clicks.py DATA_ROOT [--list list/test.txt] [--model roads] [--clicks 1 2 3 4 6] [--noise 5]

Clicks lie evenly along every labelled lane and miss it by up to `--noise` pixels of a frame 1640 wide, in x and in y.
The spline (PCHIP, straight beyond its outer clicks) gets the ends of the label for nothing; `own ends` is LaneLM as it
answers, `label's ends` LaneLM's curve on the rows of the label, as the spline. A lane counts as right if its IoU with
its label, both drawn 30 pixels wide at 1640, reaches .5 or .75. Distances are means over the rows of the label, in
pixels at 1640.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from clrernetlm import Lane, Predictor
from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.image_list import read_image_list
from clrernetlm.core.images import read_image
from clrernetlm.core.progress import progress_bar
from clrernetlm.datasets.culane import read_labels

WIDTH = 1640  # pixels of the scale on which lanes are compared
LANE_WIDTH = 30
Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--list", default="list/test.txt", help="of images below the root (%(default)s)")
    parser.add_argument("--model", default=None, help="a model or checkpoint (that of the package)")
    parser.add_argument("--clicks", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--noise", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=1, help="times that clicks are drawn on every lane (%(default)s)")
    parser.add_argument("--limit", type=int, default=None, help="images to use (all)")
    options = parser.parse_args()
    is_file = options.model is not None and Path(options.model).is_file()
    predictor = Predictor(checkpoint=options.model) if is_file else Predictor(options.model)
    images = read_image_list(options.root / options.list, root=options.root).images[: options.limit]
    found: dict[tuple[int, str], list[list[float]]] = {}
    for listed in progress_bar(images, "Clicking"):
        path = str(options.root / listed.decode().lstrip("/"))
        image = read_image(path)
        scale = WIDTH / image.shape[1]
        predictor.set_image(image)
        _, top, _, bottom = predictor.viewport.crop_box((image.shape[1], image.shape[0]))
        labels = [label_inside(points, top, bottom) for points in read_labels(path)]
        labels = [label for label in labels if len(label) > 2 and np.ptp(label[:, 1]) * scale > 40]
        rng = np.random.default_rng(len(path))
        for _ in range(options.seeds):
            for number in options.clicks:
                clicks = [clicks_on(label, number, options.noise / scale, rng) for label in labels]
                for name, lanes in answers(predictor, clicks, labels).items():
                    found.setdefault((number, name), []).extend(
                        measure(lane, label, points, scale)
                        for lane, label, points in zip(lanes, labels, clicks, strict=True)
                    )
    print_table(found)


def label_inside(points: Array, top: float, bottom: float) -> Array:
    """Return the points of a label, from the top down, on the rows that the network sees."""
    inside = points[(points[:, 1] >= top) & (points[:, 1] < bottom)]
    return inside[np.unique(inside[:, 1], return_index=True)[1]]


def clicks_on(label: Array, number: int, noise: float, rng: np.random.Generator) -> Array:
    """Click on `number` even places along a label (N, 2), (number, 2), each missed by up to `noise` pixels."""
    y = label[0, 1] + (np.arange(number) + 0.5) / number * (label[-1, 1] - label[0, 1])
    points = np.stack([PchipInterpolator(label[:, 1], label[:, 0])(y), y], -1)
    return points + noise * rng.uniform(-1, 1, points.shape)


def answers(predictor: Predictor, clicks: Sequence[Array], labels: Sequence[Array]) -> dict[str, list[Array]]:
    """Return the lanes (N, 2), from the top down, of every way to make them from clicks."""
    if not labels:
        return {}
    completed = [lane.points[::-1] for lane in predictor.complete_many(clicks)]
    # A lane that ends before its label does is continued straight, as the spline.
    on_rows = [on_label(lane, label) for lane, label in zip(completed, labels, strict=True)]
    spline = [through(points, label) for points, label in zip(clicks, labels, strict=True)]
    return {"spline": spline, "LaneLM, label's ends": on_rows, "LaneLM, own ends": completed}


def on_label(lane: Array, label: Array) -> Array:
    """Return x of a lane on the rows of its label, straight beyond its ends."""
    if len(lane) < 2:
        return np.zeros((0, 2))
    return np.stack([extend(lane, label[:, 1], *end_slopes(lane)), label[:, 1]], -1)


def end_slopes(points: Array) -> tuple[float, float]:
    """Compute dx/dy at both ends of a lane from the top down."""
    slopes = np.diff(points[:, 0]) / np.maximum(np.diff(points[:, 1]), 1e-6)
    return float(slopes[0]), float(slopes[-1])


def extend(points: Array, y: Array, first: float, last: float) -> Array:
    """Interpolate x on rows `y`, straight beyond the ends with the slopes given."""
    x = np.interp(y, points[:, 1], points[:, 0])
    x = np.where(y < points[0, 1], points[0, 0] + (y - points[0, 1]) * first, x)
    return np.where(y > points[-1, 1], points[-1, 0] + (y - points[-1, 1]) * last, x)


def through(clicks: Array, label: Array) -> Array:
    """Return the monotone spline through clicks on the rows of a label; one click gives a vertical line."""
    points = clicks[np.argsort(clicks[:, 1])]
    points = points[np.r_[True, np.diff(points[:, 1]) > 1e-3]]
    y = label[:, 1]
    if len(points) == 1:
        return np.stack([np.full_like(y, points[0, 0]), y], -1)
    spline = PchipInterpolator(points[:, 1], points[:, 0])
    first, last = (float(spline.derivative()(end)) for end in (points[0, 1], points[-1, 1]))
    inside = spline(np.clip(y, points[0, 1], points[-1, 1]))
    beyond = extend(points, y, first, last)
    return np.stack([np.where((y < points[0, 1]) | (y > points[-1, 1]), beyond, inside), y], -1)


def measure(lane: Array, label: Array, clicks: Array, scale: float) -> list[float]:
    """Measure the IoU of a lane with its label, its mean distance from it, and from the farthest of its clicks."""
    if len(lane) < 2:
        return [0.0, np.nan, np.nan]
    slopes = end_slopes(lane)
    away = np.abs(extend(lane, label[:, 1], *slopes) - label[:, 0]).mean() * scale
    missed = np.abs(extend(lane, clicks[:, 1], *slopes) - clicks[:, 0]).max() * scale
    return [overlap(Lane(lane[::-1]), Lane(label[::-1]), scale), float(away), float(missed)]


def overlap(one: Lane, other: Lane, scale: float) -> float:
    """Compute the IoU of two lanes drawn `LANE_WIDTH` wide on a canvas `WIDTH` wide."""
    height = int(max(one.points[:, 1].max(), other.points[:, 1].max()) * scale) + LANE_WIDTH
    masks = []
    for lane in (one, other):
        y = np.linspace(lane.points[-1, 1], lane.points[0, 1], 100)
        points = np.stack([lane.x_at(y), y], -1) * scale
        mask = np.zeros((min(height, 4 * WIDTH), WIDTH), np.uint8)
        cv2.polylines(mask, [np.round(points).clip(-9999, 9999).astype(np.int32)], False, [1], LANE_WIDTH)
        masks.append(mask.astype(bool))
    union = (masks[0] | masks[1]).sum()
    return float((masks[0] & masks[1]).sum() / union) if union else 0.0


def print_table(found: dict[tuple[int, str], list[list[float]]]) -> None:
    """Print a line for every number of clicks and way to make a lane from them."""
    print(f"{'clicks':<7}{'':22}{'lanes':>6}{'IoU .5':>8}{'IoU .75':>9}{'distance':>10}{'farthest click':>16}")
    for (number, name), rows in found.items():
        iou, away, missed = np.array(rows).T
        print(
            f"{number:<7}{name:22}{len(rows):>6}{100 * (iou >= 0.5).mean():>8.1f}{100 * (iou >= 0.75).mean():>9.1f}"
            f"{np.nanmean(away):>7.1f} px{np.nanquantile(missed, 0.995):>13.1f} px"
        )


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
