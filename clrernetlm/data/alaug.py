"""Augmentation: the random choices, and the image operations they need, written on OpenCV.

albumentations offers the same operations; calling OpenCV directly lets one warp do crop, resize, flip and affine map,
which is what makes the loader fast (`benchmarks/data_pipeline.py` measures both).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.data.images import Image
from clrernetlm.geometry import FrameSize

Matrix = NDArray[np.float64]  # (2, 3): maps pixel coordinates x, y

CONTRAST = 0.15  # factor 1 +- this
BRIGHTNESS = 0.04  # of 255, added after the contrast
HSV_SHIFT = 10  # +-; hue in OpenCV's half degrees, saturation and value of 255
BLUR_SIZES = (3, 5)  # pixels


def flip_matrix(size: FrameSize) -> Matrix:
    """Mirror left and right: pixel x becomes W - 1 - x."""
    return np.array([[-1.0, 0.0, size[0] - 1.0], [0.0, 1.0, 0.0]])


def affine_matrix(size: FrameSize, scale: float, degrees: float, shift: tuple[float, float]) -> Matrix:
    """Scale and rotate about the centre of an image (width, height), then shift by fractions of its size."""
    width, height = size
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    angle = math.radians(degrees)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    offset = centre - linear @ centre + np.array(shift) * (width, height)
    return np.column_stack((linear, offset))


def compose(second: Matrix, first: Matrix) -> Matrix:
    """The map that applies `first`, then `second`."""
    return np.column_stack((second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]))


def apply_matrix(matrix: Matrix, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, 2) points -> (N, 2) mapped points."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def resize_matrix(source: FrameSize, target: FrameSize) -> Matrix:
    """The map `cv2.resize` uses between pixel indices: pixel centres sit at index + 0.5."""
    scale_x, scale_y = target[0] / source[0], target[1] / source[1]
    return np.array([[scale_x, 0.0, scale_x / 2 - 0.5], [0.0, scale_y, scale_y / 2 - 0.5]])


def warp(image: Image, matrix: Matrix, size: FrameSize, *, nearest: bool = False, out: Image | None = None) -> Image:
    """(H, W[, C]) -> (height, width[, C]), into `out` if given; what lies outside the image is 0."""
    interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return _uint8(cv2.warpAffine(image, matrix, size, dst=out, flags=interpolation))


def reorder_channels(image: Image, order: list[int]) -> Image:
    """Channel c of the result is channel `order[c]` of the image."""
    channels = cv2.split(image)
    return _uint8(cv2.merge([channels[c] for c in order], dst=image))


def adjust_contrast(image: Image, factor: float, offset: float) -> Image:
    """In place: image * factor + offset, rounded and clipped to 0..255."""
    return _uint8(cv2.addWeighted(image, factor, image, 0.0, offset, dst=image))


def shift_hsv(image: Image, hue: int, saturation: int, value: int, scratch: Image | None = None) -> Image:
    """In place: hue (half degrees, -75..75), saturation and value of a BGR image shifted; the latter two clip.

    Reading the channels in reverse order mirrors the hue circle, so a negative shift is a positive one of the mirrored
    image. Hues stay below 256 that way, OpenCV wraps them itself, and no look-up table is needed. `scratch` is memory
    for the HSV image.
    """
    forward, back = cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR
    if hue < 0:
        forward, back = cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB
    hsv = cv2.cvtColor(image, forward, dst=scratch)
    shift = np.array([abs(hue), saturation, value, 0.0])
    cv2.add(hsv, shift.clip(min=0), dst=hsv)  # two unsigned steps: OpenCV is six times slower with a negative number
    cv2.subtract(hsv, (-shift).clip(min=0), dst=hsv)
    return _uint8(cv2.cvtColor(hsv, back, dst=image))


def motion_blur(image: Image, size: int, degrees: float) -> Image:
    """In place: blur along a line of `size` pixels at an angle through the centre."""
    kernel = np.zeros((size, size), np.float32)
    centre, reach = size // 2, size / 2
    dx, dy = reach * math.cos(math.radians(degrees)), reach * math.sin(math.radians(degrees))
    start = (round(centre - dx), round(centre - dy))
    end = (round(centre + dx), round(centre + dy))
    cv2.line(kernel, start, end, [1.0])
    return _uint8(cv2.filter2D(image, -1, kernel / kernel.sum(), dst=image))


def median_blur(image: Image, size: int) -> Image:
    """In place: the median of size x size pixels."""
    return _uint8(cv2.medianBlur(image, size, dst=image))


def _uint8(image: cv2.typing.MatLike) -> Image:
    return image.astype(np.uint8, copy=False)
