"""Augments training samples as CLRNet and CLRerNet do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clrernetlm.config.schema import AugmentationConfig
from clrernetlm.core.arrays import BgrImage, BoolArray, Float64Array
from clrernetlm.core.images import ThreadLocalBuffers
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.datasets import image_ops
from clrernetlm.datasets.image_kernels import PackedImage
from clrernetlm.datasets.image_ops import Blur, ColourChange, Matrix
from clrernetlm.datasets.transforms import CropResize, Sample, _flip, _frame_size


@dataclass(frozen=True)
class _Geometry:
    """The random geometric change of a sample, a map of network pixels."""

    flipped: bool
    affine: Matrix | None

    def matrix(self, size: FrameSize) -> Matrix:
        """Compute the matrix of the flip followed by the affine map, for images of `size` (width, height)."""
        first = image_ops.flip_matrix(size) if self.flipped else image_ops.IDENTITY
        return first if self.affine is None else image_ops.compose(self.affine, first)


@dataclass(frozen=True)
class Alaug:
    """Crop, resize and augment a training sample; image, lanes and mask stay aligned.

    Crop, resize, flip and affine map are one warp from the frame, so that the image is interpolated once. Pixels that
    the affine map takes from outside the crop are black. A flip mirrors the mask but keeps its numbers, as published:
    after it they count from the right. With every probability 0 this is `CropResize`. The memory of the resulting
    (H, W, 3) image may be plane by plane, or be overwritten by the next call (of a blurred one); `PackCLRNetInputs`
    handles both.
    """

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    viewport: Viewport = field(default_factory=Viewport)
    _scratch: ThreadLocalBuffers = field(default_factory=ThreadLocalBuffers, repr=False, compare=False)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        geometry = self._draw_geometry(rng)
        colours = self._draw_colour_change(rng)
        blur = self._draw_blur(rng)
        if geometry.affine is None and "frame_size" not in sample:
            moved = CropResize(self.viewport)(sample, rng)
            moved = _flip(moved, self.viewport.size) if geometry.flipped else moved
            if colours is not None:
                packed = image_ops.pack_pixels(moved["image"], self._scratch)
                colours.apply(packed)
                moved["image"] = self._unpack(packed, blur)
        else:
            moved, packed = self._warp(sample, geometry.matrix(self.viewport.size), colours)
            if geometry.flipped and "attributes" in moved:
                moved["attributes"] = [attributes.mirrored() for attributes in moved["attributes"]]
            moved["image"] = self._unpack(packed, blur)
        if blur is not None:
            moved["image"] = blur.apply(moved["image"])
        return moved

    def _unpack(self, packed: PackedImage, blur: Blur | None) -> BgrImage:
        return image_ops.unpack_planes(packed) if blur is None else image_ops.unpack(packed, self._scratch)

    def _draw_geometry(self, rng: np.random.Generator) -> _Geometry:
        settings = self.augmentation
        flipped = bool(rng.random() < settings.flip)
        if rng.random() >= settings.affine:
            return _Geometry(flipped, None)
        scale, degrees = rng.uniform(*settings.affine_scale), rng.uniform(*settings.affine_rotate)
        shift = rng.uniform(-settings.affine_shift, settings.affine_shift, 2)
        return _Geometry(flipped, image_ops.affine_matrix(self.viewport.size, scale, degrees, (shift[0], shift[1])))

    def _draw_colour_change(self, rng: np.random.Generator) -> ColourChange | None:
        """Draw channel order, brightness and contrast, hue and saturation, each by its own probability; None: none."""
        settings = self.augmentation
        drawn: dict[str, Any] = {}
        if rng.random() < settings.channel_shuffle:
            drawn["order"] = tuple(rng.permutation(3).tolist())
        if rng.random() < settings.brightness_contrast:
            drawn["factor"] = 1 + rng.uniform(-image_ops.CONTRAST, image_ops.CONTRAST)
            drawn["offset"] = 255 * rng.uniform(-image_ops.BRIGHTNESS, image_ops.BRIGHTNESS)
        if rng.random() < settings.hsv:
            drawn["hsv"] = tuple(rng.integers(-image_ops.HSV_SHIFT, image_ops.HSV_SHIFT, 3, endpoint=True).tolist())
        return ColourChange(**drawn) if drawn else None

    def _warp(self, sample: Sample, geometry: Matrix, colours: ColourChange | None) -> tuple[Sample, PackedImage]:
        """Crop, resize and apply `geometry` (a map of network pixels) in one interpolation; return labels and image."""
        size, frame = self.viewport.size, _frame_size(sample)
        left, top, right, bottom = box = self.viewport.crop_box(frame)
        matrix = image_ops.compose(geometry, image_ops.resize_matrix((right - left, bottom - top), size))
        result = sample.copy()
        if "lanes" in sample:
            lanes = (self.viewport.to_network(points, frame) for points in sample["lanes"])
            moved = [image_ops.apply_matrix(geometry, points) for points in lanes]
            kept = [_rising_points(points) for points in moved]
            result["lanes"] = [points[rising] for points, rising in zip(moved, kept, strict=True)]
            if "attributes" in sample:
                result["attributes"] = [
                    attributes.select_points(rising)
                    for attributes, rising in zip(sample["attributes"], kept, strict=True)
                ]
        if "mask" in sample:
            result["mask"] = image_ops.warp_mask(sample["mask"][top:bottom, left:right], matrix, size)
        view = slice(top, bottom), slice(left, right)
        if "frame_size" in sample:
            view, to_crop = _half_size_crop(box)
            matrix = image_ops.compose(matrix, to_crop)
        bordered = image_ops.pack_with_border(sample["image"][view], self._scratch)
        # Colours are changed on the smaller image. After the warp, this changes the black around the crop, too.
        colours_first = bordered.size < size[0] * size[1]
        if colours is not None and colours_first:
            colours.apply_with_border(bordered)
        warped = image_ops.warp(bordered, matrix, size, self._scratch)
        if colours is not None and not colours_first:
            colours.apply(warped)
        return result, warped

    def _draw_blur(self, rng: np.random.Generator) -> Blur | None:
        if rng.random() >= self.augmentation.blur:
            return None
        size = image_ops.BLUR_SIZES[rng.integers(len(image_ops.BLUR_SIZES))]
        return Blur(size, rng.uniform(0, 180) if rng.random() < 0.5 else None)


def _rising_points(points: Float64Array) -> BoolArray | slice:
    """Select the points of (N, 2), bottom first, that are higher than all before: a rotated lane may turn down."""
    highest = np.minimum.accumulate(points[:, 1])
    higher = np.concatenate(([True], points[1:, 1] < highest[:-1])) if len(points) else np.zeros(0, bool)
    return slice(None) if higher.all() else higher


def _half_size_crop(box: tuple[int, int, int, int]) -> tuple[tuple[slice, slice], Matrix]:
    """Find the part of the half-size image that covers a crop box in frame pixels, and the map from it to the crop.

    Pixel i of the half-size image covers pixels 2i and 2i + 1 of the frame: its centre is at 2i + 0.5.
    """
    left, top, right, bottom = box
    view = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
    return view, np.array([[2.0, 0.0, 0.5 - left % 2], [0.0, 2.0, 0.5 - top % 2]])
