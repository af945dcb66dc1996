"""Checks images and clicks, and converts clicks from frame to network pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from clrernetlm.core.argument_checks import number_array
from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.errors import UserError
from clrernetlm.core.viewport import FrameSize, Viewport


def prompts_of_clicks(clicks: Sequence[ArrayLike], viewport: Viewport, frame: FrameSize) -> tuple[Tensor, Tensor]:
    """Convert L sets of clicks (K_i, 2), x, y in frame pixels, to points (L, K, 2) float32 in network pixels.

    Also returns a mask (L, K) of the points that exist, where sets differ in length.

    Points that are not finite or outside the viewport are left out. Raises UserError for a set of another shape, and
    for one without any point left.
    """
    names = ["points"] if len(clicks) == 1 else [f"points of lane {number}" for number in range(len(clicks))]
    usable = [points_in_view(given, viewport, frame, name) for given, name in zip(clicks, names, strict=True)]
    points = torch.zeros(len(usable), max(map(len, usable), default=0), 2)
    exists = torch.zeros(points.shape[:2], dtype=torch.bool)
    for row, row_exists, found in zip(points, exists, usable, strict=True):
        row[: len(found)], row_exists[: len(found)] = torch.from_numpy(found), True
    return points, exists


def points_in_view(given: ArrayLike, viewport: Viewport, frame: FrameSize, name: str) -> NDArray[np.float64]:
    """Convert points (K, 2) in frame pixels to those inside the viewport (k, 2) in network pixels.

    Raises UserError that begins with `name` for another shape, and when no point is inside.
    """
    points = number_array(given, name, "x, y pairs of shape (K, 2)")
    if points.ndim != 2 or points.shape[1] != 2:
        raise UserError(f"{name}: shape {points.shape}; expected x, y pairs of shape (K, 2)")
    inside = np.asarray(viewport.to_network(points, frame), np.float64)
    usable = ((inside >= 0) & (inside <= viewport.size)).all(axis=1)  # False for NaN
    if not usable.any():
        left, top, right, bottom = viewport.crop_box(frame)
        raise UserError(
            f"{name}: none of {len(points)} is in the part that the network sees, x {left} to {right} and y {top} to "
            f"{bottom} of this {frame[0]}x{frame[1]} image; give one that is"
        )
    return inside[usable]


def frame_size(image: BgrImage) -> FrameSize:
    """Return (width, height) of a BGR image; raises UserError for anything else."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"image: {found}; expected uint8 of shape (height, width, 3), BGR as cv2.imread returns")
    if 0 in image.shape:
        raise UserError(f"image: {image.shape[1]}x{image.shape[0]} has no pixels")
    return image.shape[1], image.shape[0]
