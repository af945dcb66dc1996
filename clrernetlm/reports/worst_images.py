"""The images with the most mistakes, found in the per-image file and drawn."""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from clrernetlm.core.arrays import BgrImage, Points
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.images import read_image
from clrernetlm.core.lane import lane_file_path, read_lines
from clrernetlm.core.text_encoding import read_bounded_lines
from clrernetlm.metrics.prediction_files import listed_path
from clrernetlm.reports.report import draw_comparison

HIT = 0.5  # IoU threshold of what is drawn as a hit


def worst_images(per_image: PathLike, count: int = 12, threshold: float = HIT) -> list[dict[str, Any]]:
    """The `count` lines of a per-image file with the most false positives and negatives, most first.

    Among equals the one listed first; images without a mistake are left out. Reads line by line. Raises UserError when
    the file is not a per-image file with that threshold.
    """
    key = f"{threshold:g}"

    def ranked() -> Iterator[tuple[int, int, dict[str, Any]]]:
        for number, line in enumerate(per_image_lines(per_image, threshold)):
            mistakes = line["fp"][key] + line["fn"][key]
            if mistakes:
                yield mistakes, -number, line

    return [line for _, _, line in heapq.nlargest(count, ranked(), key=lambda entry: entry[:2])]


def per_image_lines(per_image: PathLike, threshold: float = HIT) -> Iterator[dict[str, Any]]:
    """The lines of a per-image file, one at a time. Raises UserError when it is not one with that threshold."""
    key = f"{threshold:g}"
    try:
        with open(per_image, encoding="utf-8") as lines:
            for text in read_bounded_lines(lines, per_image):
                line = json.loads(text)
                listed_path(line["path"])
                counts = [line[name][key] for name in ("tp", "fp", "fn")]
                if not all(type(count) is int for count in counts) or not isinstance(line["hits"][key], list):
                    raise ValueError
                yield line
    except OSError as error:
        raise UserError(f"{per_image}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{per_image}: not a per-image file with IoU threshold {key}; write it with evaluate") from None


def mistake_pictures(
    per_image: PathLike,
    pred_dir: PathLike,
    gt_dir: PathLike,
    image_dir: PathLike,
    count: int = 12,
) -> list[tuple[str, BgrImage]]:
    """Captions and BGR pictures of the worst images, for `write_report`: labels, hits and misses drawn.

    Images are read from `<image_dir>/<path>`; one that cannot be read is drawn on black.
    """
    return [mistake_picture(line, pred_dir, gt_dir, image_dir) for line in worst_images(per_image, count)]


def mistake_picture(
    line: dict[str, Any], pred_dir: PathLike, gt_dir: PathLike, image_dir: PathLike
) -> tuple[str, BgrImage]:
    """Caption and BGR picture of one line of a per-image file; arguments as in `mistake_pictures`."""
    key, path = f"{HIT:g}", line["path"].lstrip("/")
    labels = read_lines(lane_file_path(gt_dir, path))
    predicted_file = lane_file_path(pred_dir, path)
    points = read_lines(predicted_file) if os.path.exists(predicted_file) else []
    hits = line["hits"][key]
    if len(points) != len(hits):  # the `clrernet` reading has left lanes of one point out
        points = [lane for lane in points if len(lane) >= 2]
    try:
        image = read_image(os.path.join(image_dir, path))
    except UserError:
        image = _black_frame([*labels, *points])
    caption = f"/{path}: {line['tp'][key]} hit, {line['fp'][key]} false, {line['fn'][key]} missed"
    return caption, draw_comparison(image, points, labels, hits)


def image_lines(per_image: PathLike, paths: Collection[str]) -> dict[str, dict[str, Any]]:
    """Path -> its line of a per-image file, for the images asked for. Reads line by line; raises UserError."""
    return {line["path"]: line for line in per_image_lines(per_image) if line["path"] in paths}


def _black_frame(lanes: list[Points]) -> BgrImage:
    """A black image that holds the lanes, at least of CULane's size."""
    points = np.concatenate([np.array([[1640.0, 590.0]]), *lanes])
    width, height = np.clip(points.max(axis=0), 1, 4096).astype(int)
    return np.zeros((height, width, 3), np.uint8)
