"""Transforms: from a frame with its labels to network pixels.

A transform takes `(sample, rng)` and returns a sample, or None when nothing usable is left. Before the viewport a
sample holds `image` (H, W, 3) uint8 BGR and, where there are labels, `lanes` (list of (N, 2) float64 x, y, bottom
first) and `mask` (H, W) uint8, all in frame pixels; after it they are in network pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.config.schema import AugmentationConfig
from clrernetlm.data import alaug
from clrernetlm.data.alaug import Matrix
from clrernetlm.data.images import Image, Scratch
from clrernetlm.geometry import FrameSize, Viewport

Sample = dict[str, Any]
Transform = Callable[[Sample, np.random.Generator], Sample | None]


@dataclass(frozen=True)
class Compose:
    """Transforms one after another; None as soon as one of them returns None."""

    transforms: Sequence[Transform]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample | None:
        current: Sample | None = sample
        for transform in self.transforms:
            if current is None:
                return None
            current = transform(current, rng)
        return current


@dataclass(frozen=True)
class CropResize:
    """The viewport's crop and resize, and nothing else: what validation, test and prediction see."""

    viewport: Viewport = field(default_factory=Viewport)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        frame = _frame_size(sample["image"])
        result = sample | {"image": self.viewport.apply(sample["image"])}
        if "lanes" in sample:
            result["lanes"] = [self.viewport.to_network(points, frame) for points in sample["lanes"]]
        if "mask" in sample:
            result["mask"] = self.viewport.apply(sample["mask"], cv2.INTER_NEAREST)
        return result


@dataclass(frozen=True)
class Alaug:
    """Crop, resize and every training augmentation; image, lanes and mask stay on each other.

    Crop, resize, flip and affine map are one warp from the frame, so the image is interpolated once. What the affine
    map brings in from outside the crop is black. A flip mirrors the mask but keeps its numbers, as published: after it
    they count from the right. With every probability at 0 this is `CropResize`. The image of the result is overwritten
    by the next call; `PackCLRNetInputs` copies it.
    """

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    viewport: Viewport = field(default_factory=Viewport)
    _scratch: Scratch = field(default_factory=Scratch, repr=False, compare=False)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        moved = self._move(sample, rng)
        return moved | {"image": self._recolour(moved["image"], rng)}

    def _move(self, sample: Sample, rng: np.random.Generator) -> Sample:
        flipped = rng.random() < self.augmentation.flip
        affine = self._draw_affine(rng)
        if affine is None:
            moved = CropResize(self.viewport)(sample, rng)
            return _flip(moved, self.viewport.size) if flipped else moved
        change = alaug.compose(affine, alaug.flip_matrix(self.viewport.size)) if flipped else affine
        return self._warp(sample, change)

    def _draw_affine(self, rng: np.random.Generator) -> Matrix | None:
        settings = self.augmentation
        if rng.random() >= settings.affine:
            return None
        scale, degrees = rng.uniform(*settings.affine_scale), rng.uniform(*settings.affine_rotate)
        shift = rng.uniform(-settings.affine_shift, settings.affine_shift, 2)
        return alaug.affine_matrix(self.viewport.size, scale, degrees, (shift[0], shift[1]))

    def _warp(self, sample: Sample, change: Matrix) -> Sample:
        """Viewport, then `change` (a map of network pixels), in one interpolation."""
        frame = _frame_size(sample["image"])
        left, top, right, bottom = self.viewport.crop_box(frame)
        matrix = alaug.compose(change, alaug.resize_matrix((right - left, bottom - top), self.viewport.size))
        crop = sample["image"][top:bottom, left:right]
        out = self._scratch.image("network", *self.viewport.size)
        result = sample | {"image": alaug.warp(crop, matrix, self.viewport.size, out=out)}
        if "lanes" in sample:
            lanes = (self.viewport.to_network(points, frame) for points in sample["lanes"])
            result["lanes"] = [_climbing(alaug.apply_matrix(change, points)) for points in lanes]
        if "mask" in sample:
            mask = sample["mask"][top:bottom, left:right]
            result["mask"] = alaug.warp(mask, matrix, self.viewport.size, nearest=True)
        return result

    def _recolour(self, image: Image, rng: np.random.Generator) -> Image:
        """Channel order, brightness and contrast, hue and saturation, blur: each with its own probability."""
        settings = self.augmentation
        if rng.random() < settings.channel_shuffle:
            image = alaug.reorder_channels(image, rng.permutation(3).tolist())
        if rng.random() < settings.brightness_contrast:
            factor = 1 + rng.uniform(-alaug.CONTRAST, alaug.CONTRAST)
            offset = 255 * rng.uniform(-alaug.BRIGHTNESS, alaug.BRIGHTNESS)
            image = alaug.adjust_contrast(image, factor, offset)
        if rng.random() < settings.hsv:
            hue, saturation, value = rng.integers(-alaug.HSV_SHIFT, alaug.HSV_SHIFT, 3, endpoint=True).tolist()
            image = alaug.shift_hsv(image, hue, saturation, value, self._scratch.image("hsv", *self.viewport.size))
        if rng.random() < settings.blur:
            size = alaug.BLUR_SIZES[rng.integers(len(alaug.BLUR_SIZES))]
            if rng.random() < 0.5:
                image = alaug.motion_blur(image, size, rng.uniform(0, 180))
            else:
                image = alaug.median_blur(image, size)
        return image


def _flip(sample: Sample, size: FrameSize) -> Sample:
    """Mirror a sample that already is in network pixels."""
    result = sample | {"image": cv2.flip(sample["image"], 1)}
    if "lanes" in sample:
        mirror = alaug.flip_matrix(size)
        result["lanes"] = [alaug.apply_matrix(mirror, points) for points in sample["lanes"]]
    if "mask" in sample:
        result["mask"] = cv2.flip(sample["mask"], 1)
    return result


def _climbing(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) bottom first -> the points higher than all before them: a rotated lane may turn down near its end."""
    highest = np.minimum.accumulate(points[:, 1])
    higher = np.concatenate(([True], points[1:, 1] < highest[:-1])) if len(points) else np.zeros(0, bool)
    return points if higher.all() else points[higher]


def _frame_size(image: Image) -> FrameSize:
    return image.shape[1], image.shape[0]
