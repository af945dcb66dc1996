"""What the language model sees: tokens of the whole image, and features beside a lane."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clrernetlm.models.lanelm.positions import grid_sinusoids


class ChannelNorm(nn.Module):
    """(B, C, h, w) -> the same shape: LayerNorm over the channels of every place.

    The pyramid of a trained detector has a standard deviation of 6 to 9; everything behind it wants 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class VisualEncoder(nn.Module):
    """Pyramid levels (B, C, h_i, w_i) -> tokens (B, h_i * w_i, D): projection + 2-D position + level embedding."""

    def __init__(self, channels: int, embed_dim: int, num_levels: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(channels, embed_dim, 1) for _ in range(num_levels))
        self.level_embedding = nn.Parameter(torch.zeros(num_levels, embed_dim))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        tokens = []
        for project, level, embedding in zip(self.project, levels, self.level_embedding, strict=True):
            places = grid_sinusoids(level.shape[-2], level.shape[-1], embedding.shape[0], level.device)
            tokens.append(project(level).flatten(2).transpose(1, 2) + places + embedding)
        return tokens


class LocalSampler(nn.Module):
    """Features beside a place: a horizontal strip of the finest level, and the place itself on the coarser ones.

    `image_size` is (width, height) in network pixels; the strip has `points` samples `spacing` pixels apart. Channels
    are reduced before sampling: sampling costs more than the product that reduces them.
    """

    REDUCED = 32

    def __init__(
        self, channels: int, image_size: tuple[int, int], num_levels: int, points: int, spacing: float
    ) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(channels, self.REDUCED, 1) for _ in range(num_levels))
        self.register_buffer("size", torch.tensor(image_size, dtype=torch.float32), persistent=False)
        strip = (torch.arange(points) - (points - 1) / 2) * spacing
        self.register_buffer("strip", torch.stack([strip, torch.zeros(points)], dim=-1), persistent=False)
        self.size: Tensor
        self.strip: Tensor
        self.out_features = self.REDUCED * (points + num_levels - 1)

    def maps(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid levels (B, C, h, w), finest first -> what `forward` samples.

        In float32 whatever the precision around it: bfloat16 would place samples a pixel or two off.
        """
        return [reduce(level).float() for reduce, level in zip(self.reduce, levels, strict=True)]

    def forward(self, maps: Sequence[Tensor], places: Tensor) -> Tensor:
        """`places` (B, ..., 2) x, y in network pixels -> (B, ..., out_features); 0 outside the image."""
        flat = places.flatten(1, -2)
        grids = [(flat[:, :, None] + self.strip), *[flat[:, :, None]] * (len(maps) - 1)]
        parts = []
        for features, grid in zip(maps, grids, strict=True):
            # Pixel x has its centre at x + 0.5 of an axis that runs from 0 to the width.
            relative = (grid + 0.5) * (2 / self.size) - 1
            sampled = F.grid_sample(features, relative, align_corners=False)  # (B, c, places, points)
            parts.append(sampled.permute(0, 2, 3, 1).flatten(2))
        return torch.cat(parts, dim=-1).unflatten(1, places.shape[1:-1])
