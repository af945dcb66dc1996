"""Transforms: from a frame with its labels to network pixels.

A transform takes `(sample, rng)` and returns a sample, or None when nothing usable is left. Before the viewport a
sample holds `image` (H, W, 3) uint8 BGR and, where there are labels, `lanes` (list of (N, 2) float64 x, y, bottom
first) and `mask` (H, W) uint8, all in frame pixels; after it they are in network pixels. A sample that also holds
`frame_size` (width, height) was decoded at half size: its image has (W + 1) // 2 columns and (H + 1) // 2 rows, while
lanes and mask keep the frame's pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.config.schema import AugmentationConfig
from clrernetlm.core.argument_checks import require_sequence, shown
from clrernetlm.core.errors import UserError
from clrernetlm.core.images import Image, Scratch
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.datasets import image_ops as alaug
from clrernetlm.datasets.image_ops import Blur, Matrix, Recolouring

if TYPE_CHECKING:
    from clrernetlm.datasets.image_kernels import Packed  # numba is slow to import

Sample = dict[str, Any]
Transform = Callable[[Sample, np.random.Generator], Sample | None]


@dataclass(frozen=True)
class Compose:
    """Transforms one after another; None as soon as one of them returns None."""

    transforms: Sequence[Transform]

    def __post_init__(self) -> None:
        require_sequence(self.transforms, "transforms", "functions")
        for transform in self.transforms:
            if not callable(transform):
                raise UserError(f"transforms: {shown(transform)} is not a function (sample, rng) -> sample")

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
        if "frame_size" in sample:
            raise ValueError("CropResize takes images of full size; leave out `half_above`, or use Alaug")
        frame = _frame_size(sample)
        result = sample | {"image": self.viewport.apply(sample["image"])}
        if "lanes" in sample:
            result["lanes"] = [self.viewport.to_network(points, frame) for points in sample["lanes"]]
        if "mask" in sample:
            result["mask"] = self.viewport.apply(sample["mask"], cv2.INTER_NEAREST)
        return result


@dataclass(frozen=True)
class _Change:
    """What was drawn for the geometry: maps of network pixels."""

    flipped: bool
    affine: Matrix | None

    def matrix(self, size: FrameSize) -> Matrix:
        """Flip, then affine map."""
        first = alaug.flip_matrix(size) if self.flipped else alaug.IDENTITY
        return first if self.affine is None else alaug.compose(self.affine, first)


@dataclass(frozen=True)
class Alaug:
    """Crop, resize and every training augmentation; image, lanes and mask stay on each other.

    Crop, resize, flip and affine map are one warp from the frame, so the image is interpolated once. What the affine
    map brings in from outside the crop is black. A flip mirrors the mask but keeps its
    numbers, as published: after it they count from the right. With every probability at 0 this is `CropResize`. The
    result's (H, W, 3) image may lie in memory plane by plane, or be overwritten by the next call (a blurred one);
    `PackCLRNetInputs` takes care of either.
    """

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    viewport: Viewport = field(default_factory=Viewport)
    _scratch: Scratch = field(default_factory=Scratch, repr=False, compare=False)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        change = self._draw_change(rng)
        recolouring = self._draw_recolouring(rng)
        blur = self._draw_blur(rng)
        if change.affine is None and "frame_size" not in sample:
            moved = CropResize(self.viewport)(sample, rng)
            moved = _flip(moved, self.viewport.size) if change.flipped else moved
            if recolouring is not None:
                packed = alaug.pack(moved["image"], self._scratch)
                recolouring.apply(packed)
                moved["image"] = self._unpack(packed, blur)
        else:
            moved, packed = self._warp(sample, change.matrix(self.viewport.size), recolouring)
            moved["image"] = self._unpack(packed, blur)
        if blur is not None:
            moved["image"] = blur.apply(moved["image"])
        return moved

    def _unpack(self, packed: Packed, blur: Blur | None) -> Image:
        return alaug.unpack_planes(packed) if blur is None else alaug.unpack(packed, self._scratch)

    def _draw_change(self, rng: np.random.Generator) -> _Change:
        settings = self.augmentation
        flipped = bool(rng.random() < settings.flip)
        if rng.random() >= settings.affine:
            return _Change(flipped, None)
        scale, degrees = rng.uniform(*settings.affine_scale), rng.uniform(*settings.affine_rotate)
        shift = rng.uniform(-settings.affine_shift, settings.affine_shift, 2)
        return _Change(flipped, alaug.affine_matrix(self.viewport.size, scale, degrees, (shift[0], shift[1])))

    def _draw_recolouring(self, rng: np.random.Generator) -> Recolouring | None:
        """Channel order, brightness and contrast, hue and saturation, each with its own probability; None: none."""
        settings = self.augmentation
        drawn: dict[str, Any] = {}
        if rng.random() < settings.channel_shuffle:
            drawn["order"] = tuple(rng.permutation(3).tolist())
        if rng.random() < settings.brightness_contrast:
            drawn["factor"] = 1 + rng.uniform(-alaug.CONTRAST, alaug.CONTRAST)
            drawn["offset"] = 255 * rng.uniform(-alaug.BRIGHTNESS, alaug.BRIGHTNESS)
        if rng.random() < settings.hsv:
            drawn["hsv"] = tuple(rng.integers(-alaug.HSV_SHIFT, alaug.HSV_SHIFT, 3, endpoint=True).tolist())
        return Recolouring(**drawn) if drawn else None

    def _warp(self, sample: Sample, change: Matrix, recolouring: Recolouring | None) -> tuple[Sample, Packed]:
        """Viewport, then `change` (a map of network pixels), in one interpolation: the labels, and the new image."""
        size, frame = self.viewport.size, _frame_size(sample)
        left, top, right, bottom = box = self.viewport.crop_box(frame)
        matrix = alaug.compose(change, alaug.resize_matrix((right - left, bottom - top), size))
        result = sample.copy()
        if "lanes" in sample:
            lanes = (self.viewport.to_network(points, frame) for points in sample["lanes"])
            result["lanes"] = [_climbing(alaug.apply_matrix(change, points)) for points in lanes]
        if "mask" in sample:
            result["mask"] = alaug.warp_mask(sample["mask"][top:bottom, left:right], matrix, size)
        view = slice(top, bottom), slice(left, right)
        if "frame_size" in sample:
            view, to_crop = _half_view(box)
            matrix = alaug.compose(matrix, to_crop)
        framed = alaug.pack_framed(sample["image"][view], self._scratch)
        # The colours are changed where there are fewer pixels; the black around a crop shifts only in the latter case.
        colours_first = framed.size < size[0] * size[1]
        if recolouring is not None and colours_first:
            recolouring.apply_framed(framed)
        warped = alaug.warp(framed, matrix, size, self._scratch)
        if recolouring is not None and not colours_first:
            recolouring.apply(warped)
        return result, warped

    def _draw_blur(self, rng: np.random.Generator) -> Blur | None:
        if rng.random() >= self.augmentation.blur:
            return None
        size = alaug.BLUR_SIZES[rng.integers(len(alaug.BLUR_SIZES))]
        return Blur(size, rng.uniform(0, 180) if rng.random() < 0.5 else None)


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


def _half_view(box: tuple[int, int, int, int]) -> tuple[tuple[slice, slice], Matrix]:
    """A crop box in frame pixels -> the part of the half-size image that covers it, and the map from there to the crop.

    Pixel i of the half-size image covers pixels 2i and 2i + 1 of the frame: its centre is at 2i + 0.5.
    """
    left, top, right, bottom = box
    view = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
    return view, np.array([[2.0, 0.0, 0.5 - left % 2], [0.0, 2.0, 0.5 - top % 2]])


def _frame_size(sample: Sample) -> FrameSize:
    height, width = sample["image"].shape[:2]
    return sample.get("frame_size", (width, height))
