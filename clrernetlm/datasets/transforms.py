"""Transforms frames with their labels to network pixels.

A transform takes `(sample, rng)` and returns a sample, or None if nothing usable is left. Before the viewport a
sample holds `image` (H, W, 3) uint8 BGR and, where there are labels, `lanes` (list of (N, 2) float64 x, y, bottom
first) and `mask` (H, W) uint8, all in frame pixels; after it they are in network pixels. `attributes`, a list of
`LabelAttributes`, says what is known of the lanes; without a `.lanes.json` file there is none. A sample that also holds
`frame_size` (width, height) was decoded at half size: its image has (W + 1) // 2 columns and (H + 1) // 2 rows, while
lanes and mask keep the frame's pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from clrernetlm.core.argument_checks import require_sequence, short_repr
from clrernetlm.core.errors import UserError
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.datasets import image_ops

if TYPE_CHECKING:
    pass  # numba is slow to import

Sample = dict[str, Any]
Transform = Callable[[Sample, np.random.Generator], Sample | None]


@dataclass(frozen=True)
class Compose:
    """Applies transforms one after another; returns None as soon as one of them does."""

    transforms: Sequence[Transform]

    def __post_init__(self) -> None:
        require_sequence(self.transforms, "transforms", "functions")
        for transform in self.transforms:
            if not callable(transform):
                raise UserError(f"transforms: {short_repr(transform)} is not a function (sample, rng) -> sample")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample | None:
        current: Sample | None = sample
        for transform in self.transforms:
            if current is None:
                return None
            current = transform(current, rng)
        return current


@dataclass(frozen=True)
class CropResize:
    """Crops and resizes samples by the viewport, without augmentation, for validation, test and prediction."""

    viewport: Viewport = field(default_factory=Viewport)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if "frame_size" in sample:
            raise ValueError("CropResize takes images of full size; leave out `half_above`, or use Alaug")
        frame = _frame_size(sample)
        result = sample | {"image": self.viewport.apply(sample["image"])}
        if "lanes" in sample:
            result["lanes"] = [self.viewport.to_network(points, frame) for points in sample["lanes"]]
        if "mask" in sample:
            result["mask"] = self.viewport.apply(sample["mask"], cv2.INTER_NEAREST)
        return result


def _flip(sample: Sample, size: FrameSize) -> Sample:
    """Mirror a sample in network pixels."""
    result = sample | {"image": cv2.flip(sample["image"], 1)}
    if "lanes" in sample:
        mirror = image_ops.flip_matrix(size)
        result["lanes"] = [image_ops.apply_matrix(mirror, points) for points in sample["lanes"]]
    if "attributes" in sample:
        result["attributes"] = [attributes.mirrored() for attributes in sample["attributes"]]
    if "mask" in sample:
        result["mask"] = cv2.flip(sample["mask"], 1)
    return result


def _frame_size(sample: Sample) -> FrameSize:
    height, width = sample["image"].shape[:2]
    size: FrameSize = sample.get("frame_size", (width, height))
    return size
