"""Cuts strips of a frame's own pixels along lanes: the images that the fovea reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from clrernetlm.core.arrays import BgrImage, ByteArray, Float32Array
from clrernetlm.core.viewport import FrameSize, Viewport

COLUMNS = 64  # of a patch, across the lane
ROWS_PER_STEP = 2  # rows of a patch per row of the lane
# Distance from the lane to the edge of a patch, fractions of the image width: on the top row, and at the bottom. On the
# road that is about the same distance, which perspective makes larger towards the bottom.
TOP_REACH, BOTTOM_REACH = 16 / 1640, 64 / 1640
FINEST_WIDTH = (
    1640  # pixels of a crop: a finer one is resized first, since its pixels lie closer than a patch's columns
)
MAX_PATCHES_PER_CALL = 256  # OpenCV takes maps of at most 32,767 rows


@dataclass(frozen=True)
class FrameCrop:
    """The part of a frame that is the network's input, at the frame's own resolution."""

    pixels: BgrImage  # (h, w, 3) uint8
    network_size: FrameSize  # width, height of the network's input that shows the same part

    @classmethod
    def of(cls, frame: BgrImage, viewport: Viewport) -> FrameCrop:
        """Copy the part of a frame (H, W, 3) that `viewport` shows; at most `FINEST_WIDTH` pixels wide."""
        left, top, right, bottom = viewport.crop_box((frame.shape[1], frame.shape[0]))
        part = frame[top:bottom, left:right]
        if right - left <= FINEST_WIDTH:
            return cls(part.copy(), viewport.size)
        height = max(1, round((bottom - top) * FINEST_WIDTH / (right - left)))
        smaller = cv2.resize(part, (FINEST_WIDTH, height), interpolation=cv2.INTER_AREA)
        return cls(smaller.astype(np.uint8, copy=False), viewport.size)


def row_reach(steps: int, width: float) -> Tensor:
    """Compute the distance from a lane to the edge of its patch on each of `steps` rows, (steps,) network pixels."""
    rows = torch.arange(steps) / steps
    return width * (TOP_REACH + (BOTTOM_REACH - TOP_REACH) * rows)


def cut_patches(crop: FrameCrop, curves: Float32Array) -> ByteArray:
    """Cut the patches of n lanes out of a frame: (n, T) x in network pixels on T rows -> (n, 2 T, COLUMNS, 3) uint8.

    Rows of a patch lie half as far apart as those of the lane, from the top of the crop on; its columns lie left to
    right of the lane, up to `row_reach`. Pixels beyond the crop are black.
    """
    count, steps = curves.shape
    (height, width), rows = crop.pixels.shape[:2], steps * ROWS_PER_STEP
    network_width = crop.network_size[0]
    # x on the rows between those of the lane; below the last one the lane continues straight.
    extended = np.concatenate([curves, 2 * curves[:, -1:] - curves[:, -2:-1]], axis=1)
    between = (extended[:, :-1] + extended[:, 1:]) / 2
    centres = np.stack([curves, between], axis=2).reshape(count, rows)
    columns = (np.arange(COLUMNS, dtype=np.float32) - (COLUMNS - 1) / 2) / ((COLUMNS - 1) / 2)
    reach = row_reach(rows, network_width).numpy()
    x = (centres[..., None] + reach[:, None] * columns) * np.float32(width / network_width)
    y = np.broadcast_to((np.arange(rows, dtype=np.float32) * (height / rows))[:, None], x.shape)
    # Beyond this the pixels are black anyway, and OpenCV's coordinates stay in range.
    x = x.clip(-2.0, width + 1.0).astype(np.float32)
    patches = np.empty((count, rows, COLUMNS, 3), np.uint8)
    for start in range(0, count, MAX_PATCHES_PER_CALL):
        part = slice(start, start + MAX_PATCHES_PER_CALL)
        shape = (-1, COLUMNS)
        cut = cv2.remap(
            crop.pixels,
            x[part].reshape(shape),
            np.ascontiguousarray(y[part]).reshape(shape),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
        patches[part] = cut.reshape(-1, rows, COLUMNS, 3)
    return patches


def patches_of_images(crops: Sequence[FrameCrop], curves: Tensor, used: Tensor) -> Tensor:
    """Cut the patches of the `used` ones (B, L) of L lanes in each of B frames.

    `curves` (B, L, T) x in network pixels -> (N, 2 T, COLUMNS, 3) uint8, in the order of `curves[used]`.
    """
    on_host, used_on_host = curves.float().cpu().numpy(), used.cpu().numpy()
    cut = [cut_patches(crop, on_host[i, used_on_host[i]]) for i, crop in enumerate(crops)]
    return torch.from_numpy(np.concatenate(cut)).to(curves.device)
