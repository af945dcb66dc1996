"""Segmentation decoder: an auxiliary task that improves the features in training; not used in detection."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SegmentationDecoder(nn.Module):
    """Segment lanes: pyramid levels (B, C, h_i, w_i), fine first -> (B, classes, H, W) logits; class 0: background."""

    def __init__(self, channels: int, levels: int, classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        width, height = image_size
        self.output_size = height, width
        self.dropout = nn.Dropout2d(0.1)
        self.conv = nn.Conv2d(channels * levels, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        finest = features[0].shape[-2:]
        maps = [F.interpolate(level, size=finest, mode="bilinear") for level in reversed(features)]
        logits = self.conv(self.dropout(torch.cat(maps, dim=1)))  # (B, classes, h, w)
        return F.interpolate(logits, size=self.output_size, mode="bilinear")  # (B, classes, H, W)
