"""Converts images to network input."""

from __future__ import annotations

import torch
from torch import Tensor


def network_input(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 BGR -> float32 in [0, 1]; converted on the device, so that a quarter of the bytes travel.

    Channels lie side by side, as fast convolutions want them. In a training in double precision, float64.
    """
    return images.contiguous(memory_format=torch.channels_last).to(torch.get_default_dtype()).div_(255)
