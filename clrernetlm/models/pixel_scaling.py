"""Normalises images to network input."""

from __future__ import annotations

import torch
from torch import Tensor


def normalise(images: Tensor) -> Tensor:
    """Scale uint8 images of any shape to [0, 1], float32, or float64 in a training in double precision.

    Runs on the device of `images`, so that a quarter of the bytes is copied to it.
    """
    return images.to(torch.get_default_dtype()).div_(255)


def network_input(images: Tensor) -> Tensor:
    """Normalise images (B, 3, H, W) uint8 BGR, in the channels-last format, which is faster for convolutions."""
    return normalise(images.contiguous(memory_format=torch.channels_last))
