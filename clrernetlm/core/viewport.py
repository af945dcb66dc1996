"""Defines the Viewport, the crop of a frame that is the network's input, and converts points between both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from clrernetlm.core.argument_checks import require_number, require_whole_number
from clrernetlm.core.arrays import ByteArray, FloatArray
from clrernetlm.core.errors import UserError

FrameSize = tuple[int, int]  # width, height in pixels
MAX_INPUT_SIDE = 4096  # pixels of the network input along an edge


@dataclass(frozen=True)
class Viewport:
    """A crop of the original frame, in fractions of it, resized to the network's input.

    `left, top, right, bottom` are fractions of the frame's width and height in [0, 1]; `width, height` are the network
    input in pixels. Fractions instead of pixels make one setting fit every resolution of a camera. The default is
    CULane's: a 1640x590 frame, rows 270..590 kept, resized to 800x320.

    Raises UserError when the crop is empty or leaves the frame.
    """

    width: int = 800
    height: int = 320
    left: float = 0.0
    top: float = 270 / 590
    right: float = 1.0
    bottom: float = 1.0

    def __post_init__(self) -> None:
        for name in ("left", "top", "right", "bottom"):
            require_number(getattr(self, name), f"viewport.{name}")
        for name in ("width", "height"):
            require_whole_number(getattr(self, name), f"viewport.{name}")
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise UserError(
                f"viewport: left, top, right, bottom = {self.left:g}, {self.top:g}, {self.right:g}, {self.bottom:g} "
                "is not a part of the frame; use fractions with 0 <= left < right <= 1 and 0 <= top < bottom <= 1"
            )
        if self.width < 32 or self.height < 32:
            raise UserError(f"viewport: the network input {self.width}x{self.height} is too small; use at least 32x32")
        if self.width > MAX_INPUT_SIDE or self.height > MAX_INPUT_SIDE:
            raise UserError(
                f"viewport: the network input {self.width}x{self.height} is too large; "
                f"use {MAX_INPUT_SIDE}x{MAX_INPUT_SIDE} at most"
            )

    @property
    def size(self) -> FrameSize:
        """Return the (width, height) of the network input in pixels."""
        return self.width, self.height

    def crop_box(self, frame: FrameSize) -> tuple[int, int, int, int]:
        """Compute (left, top, right, bottom) of the crop in whole pixels of a frame (width, height); never empty."""
        frame_width, frame_height = frame
        left, right = round(self.left * frame_width), round(self.right * frame_width)
        top, bottom = round(self.top * frame_height), round(self.bottom * frame_height)
        left, top = min(left, frame_width - 1), min(top, frame_height - 1)
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def scale(self, frame: FrameSize) -> tuple[float, float]:
        """Compute network pixels per frame pixel along x and y."""
        left, top, right, bottom = self.crop_box(frame)
        return self.width / (right - left), self.height / (bottom - top)

    def to_network(self, points: FloatArray, frame: FrameSize) -> FloatArray:
        """Convert points (..., 2) x, y from frame pixels to network pixels."""
        left, top, _, _ = self.crop_box(frame)
        return (np.asarray(points, np.float64) - (left, top)) * self.scale(frame)

    def to_frame(self, points: FloatArray, frame: FrameSize) -> FloatArray:
        """Convert points (..., 2) x, y from network pixels to frame pixels."""
        left, top, _, _ = self.crop_box(frame)
        return np.asarray(points, np.float64) / self.scale(frame) + (left, top)

    def apply(self, image: ByteArray, interpolation: int = cv2.INTER_LINEAR) -> ByteArray:
        """Crop and resize a frame (H, W[, C]) to network input (height, width[, C])."""
        left, top, right, bottom = self.crop_box((image.shape[1], image.shape[0]))
        resized = cv2.resize(image[top:bottom, left:right], self.size, interpolation=interpolation)
        return resized.astype(np.uint8, copy=False)


def viewports_of_frames(viewport: Viewport | Sequence[Viewport], count: int) -> list[Viewport]:
    """Return the viewports of `count` frames, given one for all or a sequence with one for each."""
    viewports = [viewport] * count if isinstance(viewport, Viewport) else list(viewport)
    assert len(viewports) == count, f"{len(viewports)} viewports for {count} frames"
    return viewports
