"""Normalises images to network input."""

from __future__ import annotations

import torch
from torch import Tensor


def network_input(images: Tensor) -> Tensor:
    """Convert images (B, 3, H, W) uint8 BGR to float32 in [0, 1], float64 in a training in double precision.

    Runs on the device of `images`, so that a quarter of the bytes is copied to it. The result is in the channels-last
    format, which is faster for convolutions.
    """
    return images.contiguous(memory_format=torch.channels_last).to(torch.get_default_dtype()).div_(255)
