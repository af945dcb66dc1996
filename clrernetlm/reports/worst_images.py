"""Finds the images with the most mistakes in a per-image file, and draws them."""

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
from clrernetlm.core.lane_files import lane_file_path, read_lines
from clrernetlm.core.text_encoding import read_bounded_lines
from clrernetlm.metrics.prediction_files import listed_path
from clrernetlm.reports.report import draw_comparison

HIT_IOU = 0.5  # a prediction with a larger IoU is drawn as a hit


def worst_images(per_image: PathLike, count: int = 12, threshold: float = HIT_IOU) -> list[dict[str, Any]]:
    """Return the `count` rows of a per-image file with the most false positives and negatives, most first.

    `threshold`: IoU of a hit. Rows with equally many keep the order of the file; images without a mistake are left out.
    The file is read line by line. Raises UserError unless it is a per-image file with that threshold.
    """
    key = f"{threshold:g}"

    def ranked() -> Iterator[tuple[int, int, dict[str, Any]]]:
        for number, row in enumerate(read_per_image(per_image, threshold)):
            mistakes = row["fp"][key] + row["fn"][key]
            if mistakes:
                yield mistakes, -number, row

    return [row for _, _, row in heapq.nlargest(count, ranked(), key=lambda entry: entry[:2])]


def read_per_image(per_image: PathLike, threshold: float = HIT_IOU) -> Iterator[dict[str, Any]]:
    """Yield the rows of a per-image file, one image each; raises UserError unless it is one with that IoU threshold."""
    key = f"{threshold:g}"
    try:
        with open(per_image, encoding="utf-8") as lines:
            for text in read_bounded_lines(lines, per_image):
                row = json.loads(text)
                listed_path(row["path"])
                counts = [row[name][key] for name in ("tp", "fp", "fn")]
                if not all(type(count) is int for count in counts) or not isinstance(row["hits"][key], list):
                    raise ValueError
                yield row
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
    """Draw the `count` worst images for `write_report`: labels, hits and misses; returns captions and BGR pictures.

    Images are read from `<image_dir>/<path>`; if one cannot be read, its lanes are drawn on black.
    """
    return [mistake_picture(row, pred_dir, gt_dir, image_dir) for row in worst_images(per_image, count)]


def mistake_picture(
    row: dict[str, Any], pred_dir: PathLike, gt_dir: PathLike, image_dir: PathLike
) -> tuple[str, BgrImage]:
    """Draw the image of one row of a per-image file, as `mistake_pictures`; returns its caption and BGR picture."""
    key, path = f"{HIT_IOU:g}", row["path"].lstrip("/")
    labels = read_lines(lane_file_path(gt_dir, path))
    predicted_file = lane_file_path(pred_dir, path)
    points = read_lines(predicted_file) if os.path.exists(predicted_file) else []
    hits = row["hits"][key]
    if len(points) != len(hits):  # the `clrernet` implementation of the metric skips lanes with a single point
        points = [lane for lane in points if len(lane) >= 2]
    try:
        image = read_image(os.path.join(image_dir, path))
    except UserError:
        image = _black_frame([*labels, *points])
    caption = f"/{path}: {row['tp'][key]} hit, {row['fp'][key]} false, {row['fn'][key]} missed"
    return caption, draw_comparison(image, points, labels, hits)


def image_rows(per_image: PathLike, paths: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the rows of some images of a per-image file, by path; raises UserError as `read_per_image`."""
    return {row["path"]: row for row in read_per_image(per_image) if row["path"] in paths}


def _black_frame(lanes: list[Points]) -> BgrImage:
    """Make a black BGR image, at least of CULane's size, that contains the lanes (N, 2) in pixels."""
    points = np.concatenate([np.array([[1640.0, 590.0]]), *lanes])
    width, height = np.clip(points.max(axis=0), 1, 4096).astype(int)
    return np.zeros((height, width, 3), np.uint8)
