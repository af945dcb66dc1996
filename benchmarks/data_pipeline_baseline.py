"""Restates the original training pipeline: albumentations step by step, targets lane by lane."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import looks for newer versions on the internet

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import InterpolatedUnivariateSpline

WIDTH, HEIGHT, ROWS, MAX_LANES = 800, 320, 72, 4


class BaselinePipeline:
    """The original pipeline: turns an image's path into pixels (3, 320, 800) uint8 and targets (4, 78) float32."""

    def __init__(self) -> None:
        self.augment = albumentations.Compose(
            [
                albumentations.Crop(0, 270, 1640, 590),
                albumentations.Resize(HEIGHT, WIDTH),
                albumentations.HorizontalFlip(p=0.5),
                albumentations.ChannelShuffle(p=0.1),
                albumentations.RandomBrightnessContrast(brightness_limit=0.04, contrast_limit=0.15, p=0.6),
                albumentations.HueSaturationValue(10, 10, 10, p=0.7),
                albumentations.OneOf(
                    [albumentations.MotionBlur(blur_limit=(3, 5)), albumentations.MedianBlur(blur_limit=(3, 5))], p=0.2
                ),
                albumentations.Affine(
                    scale=(0.8, 1.2), rotate=(-10, 10), translate_percent=(-0.1, 0.1), p=0.7, fit_output=False
                ),
                albumentations.Resize(HEIGHT, WIDTH),
            ],
            keypoint_params=albumentations.KeypointParams(format="xy", remove_invisible=False),
        )

    def __call__(self, image_path: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        image = cv2.imread(image_path)
        lanes = []
        for line in Path(image_path).with_suffix(".lines.txt").read_text().splitlines():
            values = [float(value) for value in line.split()]
            lanes.append([(values[i], values[i + 1]) for i in range(0, len(values), 2)])
        points = [point for lane in lanes for point in lane]
        augmented: dict[str, Any] = self.augment(image=image, keypoints=points)
        moved, start = [], 0
        for lane in lanes:
            moved.append(climbing([tuple(point) for point in augmented["keypoints"][start : start + len(lane)]]))
            start += len(lane)
        return np.ascontiguousarray(augmented["image"].transpose(2, 0, 1)), targets(moved)


def climbing(lane: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the points that are higher than all before them; the spline needs strictly ordered rows."""
    kept: list[tuple[float, float]] = []
    for point in lane:
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def targets(lanes: list[list[tuple[float, float]]]) -> NDArray[np.float32]:
    """Compute targets (4, 78) of lanes in network pixels, one lane and one angle at a time."""
    rows = np.arange(HEIGHT, -1, -HEIGHT / (ROWS - 1))
    result = np.ones((MAX_LANES, 6 + ROWS), np.float32) * -1e5
    result[:, 0], result[:, 1] = 1, 0
    for slot, lane in enumerate(lane for lane in lanes if len(lane) > 1):
        points = np.array(lane)
        x, y = points[:, 0], points[:, 1]
        inside_rows = rows[(rows >= y.min()) & (rows <= y.max())]
        if not len(inside_rows):
            continue
        spline = InterpolatedUnivariateSpline(y[::-1], x[::-1], k=min(3, len(points) - 1))
        line = np.polyfit(y[:2], x[:2], deg=1)
        xs = np.hstack((np.polyval(line, rows[rows > y.max()]), spline(inside_rows)))
        visible = (xs >= 0) & (xs < WIDTH)
        inside, outside = xs[visible], xs[~visible]
        if len(inside) <= 1:
            continue
        angles = []
        for i in range(1, len(inside)):
            angle = math.atan(i * HEIGHT / (ROWS - 1) / (inside[i] - inside[0] + 1e-5)) / math.pi
            angles.append(angle if angle > 0 else 1 - abs(angle))
        all_xs = np.hstack((outside, inside))
        result[slot, :6] = 0, 1, 1 - len(outside) / (ROWS - 1), inside[0], sum(angles) / len(angles), len(inside)
        result[slot, 6 : 6 + len(all_xs)] = all_xs
    return result
