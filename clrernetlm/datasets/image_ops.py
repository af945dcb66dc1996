"""Applies the image operations of the augmentation: geometric maps, colour changes and blurs.

albumentations has the same operations as separate steps; here crop, resize, flip and affine map are one warp, and all
colour changes one pass, which makes the loader fast (`benchmarks/data_pipeline.py` measures both).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.arrays import BgrImage, ByteMask, Float64Array
from clrernetlm.core.images import ThreadLocalBuffers
from clrernetlm.core.viewport import FrameSize

if TYPE_CHECKING:
    from clrernetlm.datasets.image_kernels import PackedImage  # numba is slow to import

Matrix = Float64Array  # (2, 3): an affine map of pixel coordinates x, y

CONTRAST = 0.15  # factor 1 +- this
BRIGHTNESS = 0.04  # of 255, added after the contrast
HSV_SHIFT = 10  # +-; hue in OpenCV's half degrees, saturation and value of 255
BLUR_SIZES = (3, 5)  # pixels
IDENTITY: Matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
_SEXTANT = 30  # half degrees


def flip_matrix(size: FrameSize) -> Matrix:
    """Make the map that mirrors left and right: pixel x becomes W - 1 - x."""
    return np.array([[-1.0, 0.0, size[0] - 1.0], [0.0, 1.0, 0.0]])


def affine_matrix(size: FrameSize, scale: float, degrees: float, shift: tuple[float, float]) -> Matrix:
    """Make the map that scales and rotates about the centre of an image (width, height), then shifts by `shift`.

    `shift` is in fractions of width and height.
    """
    width, height = size
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    angle = math.radians(degrees)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    offset = centre - linear @ centre + np.array(shift) * (width, height)
    return np.column_stack((linear, offset))


def compose(second: Matrix, first: Matrix) -> Matrix:
    """Compose two maps: `first`, then `second`."""
    return np.column_stack((second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]))


def apply_matrix(matrix: Matrix, points: NDArray[np.floating]) -> Float64Array:
    """Map points (N, 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def resize_matrix(source: FrameSize, target: FrameSize) -> Matrix:
    """Make the map of pixel indices by `cv2.resize`: pixel centres are at index + 0.5."""
    scale_x, scale_y = target[0] / source[0], target[1] / source[1]
    return np.array([[scale_x, 0.0, scale_x / 2 - 0.5], [0.0, scale_y, scale_y / 2 - 0.5]])


def warp_mask(mask: ByteMask, matrix: Matrix, size: FrameSize) -> ByteMask:
    """Warp a mask (H, W) -> (height, width) by nearest pixels; 0 outside the mask."""
    return _uint8(cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST))


def warp(bordered: PackedImage, matrix: Matrix, size: FrameSize, scratch: ThreadLocalBuffers) -> PackedImage:
    """Warp (H + 2, W + 2) of `pack_with_border` -> (height, width), valid until the next call.

    `matrix` maps the image without its border. The result is 0 outside the image.
    """
    from clrernetlm.datasets.image_kernels import warp_packed

    inverse = cv2.invertAffineTransform(matrix).astype(np.float64, copy=False)
    inverse[:, 2] += 1
    target = _as_packed(scratch.image("packed", *size, 4))
    warp_packed(bordered, inverse, target)
    return target


def pack_with_border(image: BgrImage, scratch: ThreadLocalBuffers) -> PackedImage:
    """Pack an image (H, W, 3) -> (H + 2, W + 2) pixels with a black border, into which the edges fade.

    Valid until the next call.
    """
    height, width = image.shape[:2]
    bordered = scratch.image("framed", width + 2, height + 2, 4)
    cv2.cvtColor(image, cv2.COLOR_BGR2BGRA, dst=bordered[1:-1, 1:-1])
    return _as_packed(bordered)


def pack_pixels(image: BgrImage, scratch: ThreadLocalBuffers) -> PackedImage:
    """Pack an image (H, W, 3) -> (H, W) pixels, valid until the next call."""
    target = scratch.image("packed", image.shape[1], image.shape[0], 4)
    return _as_packed(_uint8(cv2.cvtColor(image, cv2.COLOR_BGR2BGRA, dst=target)))


def unpack_planes(packed: PackedImage) -> BgrImage:
    """Unpack pixels (H, W) -> (H, W, 3) in new memory, plane by plane as in tensors."""
    from clrernetlm.datasets import image_kernels as kernels

    planes = np.empty((3, *packed.shape), np.uint8)
    kernels.unpack_planes(packed, planes[0], planes[1], planes[2])
    return planes.transpose(1, 2, 0)


def unpack(packed: PackedImage, scratch: ThreadLocalBuffers) -> BgrImage:
    """Unpack pixels (H, W) -> (H, W, 3), valid until the next call."""
    height, width = packed.shape
    image = packed.view(np.uint8).reshape(height, width, 4)
    return _uint8(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR, dst=scratch.image("network", width, height)))


@dataclass(frozen=True)
class ColourChange:
    """A change of the colours of every pixel; the default changes nothing.

    Channel c becomes channel `order[c]`, times `factor`, plus `offset`, clipped to 0..255. Then `hsv` is added to hue
    (half degrees, -30 to 30), saturation and value (of 255); hue wraps, the latter two clip.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    factor: float = 1.0
    offset: float = 0.0
    hsv: tuple[int, int, int] = (0, 0, 0)

    def apply_with_border(self, bordered: PackedImage) -> None:
        """Change the colours in place, and make the border of one pixel black again."""
        self.apply(bordered)
        bordered[0] = bordered[-1] = bordered[:, 0] = bordered[:, -1] = 0

    def apply(self, packed: PackedImage) -> None:
        """Change the colours in place."""
        from clrernetlm.datasets.image_kernels import change_colours

        hue, saturation, value = self.hsv
        shifts = self.hsv != (0, 0, 0)
        change_colours(
            packed, self.order, self.factor, self.offset, hue / _SEXTANT, float(saturation), float(value), shifts
        )


@dataclass(frozen=True)
class Blur:
    """A motion blur along a line of `size` pixels at an angle in degrees; None: a median blur of size x size pixels."""

    size: int
    degrees: float | None

    def apply(self, image: BgrImage) -> BgrImage:
        """Blur an image (H, W, 3) in place; fastest if the colours of a pixel are contiguous."""
        return median_blur(image, self.size) if self.degrees is None else motion_blur(image, self.size, self.degrees)


def motion_blur(image: BgrImage, size: int, degrees: float) -> BgrImage:
    """Blur an image (H, W, 3) in place along a line of `size` pixels at an angle in degrees."""
    kernel = np.zeros((size, size), np.float32)
    centre, reach = size // 2, size / 2
    dx, dy = reach * math.cos(math.radians(degrees)), reach * math.sin(math.radians(degrees))
    start = (round(centre - dx), round(centre - dy))
    end = (round(centre + dx), round(centre + dy))
    cv2.line(kernel, start, end, [1.0])
    return _uint8(cv2.filter2D(image, -1, kernel / kernel.sum(), dst=image))


def median_blur(image: BgrImage, size: int) -> BgrImage:
    """Replace every pixel by the median of size x size pixels, in place."""
    return _uint8(cv2.medianBlur(image, size, dst=image))


def _as_packed(image: BgrImage) -> PackedImage:
    """View an image (H, W, 4) as packed pixels (H, W)."""
    return image.view(np.uint32)[..., 0]


def _uint8(image: cv2.typing.MatLike) -> BgrImage:
    return image.astype(np.uint8, copy=False)
