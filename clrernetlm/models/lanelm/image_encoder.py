"""Image features for LaneLM: tokens of whole pyramid levels, and features sampled beside a lane."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clrernetlm.models.lanelm.attention import grid_sinusoids


class ChannelNorm(nn.Module):
    """Applies LayerNorm over the channels of every position: (B, C, h, w) -> the same shape.

    The pyramid of a trained detector has a standard deviation of 6 to 9; the layers after it expect 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        normalised: Tensor = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return normalised


class VisualEncoder(nn.Module):
    """Encodes pyramid levels (B, C, h_i, w_i) as tokens (B, h_i * w_i, D): projection + 2-D position + level."""

    def __init__(self, channels: int, embed_dim: int, num_levels: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(channels, embed_dim, 1) for _ in range(num_levels))
        self.level_embedding = nn.Parameter(torch.zeros(num_levels, embed_dim))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        tokens = []
        for project, level, embedding in zip(self.project, levels, self.level_embedding, strict=True):
            positions = grid_sinusoids(level.shape[-2], level.shape[-1], embedding.shape[0], level.device)
            tokens.append(project(level).flatten(2).transpose(1, 2) + positions + embedding)
        return tokens


class LocalSampler(nn.Module):
    """Samples features at a point: a horizontal strip of the finest level, and the point itself on the coarser levels.

    `image_size` is (width, height) in network pixels; the strip has `points` samples `spacing` pixels apart. Channels
    are reduced before sampling: sampling costs more than the product that reduces them.
    """

    REDUCED = 32  # channels

    def __init__(
        self, channels: int, image_size: tuple[int, int], num_levels: int, points: int, spacing: float
    ) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(channels, self.REDUCED, 1) for _ in range(num_levels))
        self.register_buffer("size", torch.tensor(image_size, dtype=torch.float32), persistent=False)
        strip = torch.cat([(torch.arange(points) - (points - 1) / 2) * spacing, torch.zeros(1)])
        self.register_buffer("strip", torch.stack([strip, torch.zeros(points + 1)], dim=-1), persistent=False)
        self.register_buffer("pixel", torch.tensor([2 / image_size[0], 0.0]), persistent=False)
        self.size: Tensor
        self.strip: Tensor  # (points + 1, 2) offsets in pixels; the last one is the point itself
        self.pixel: Tensor  # (2,) one pixel to the right, in the coordinates of `grid`
        self.out_features = self.REDUCED * (points + num_levels - 1)

    def maps(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Reduce the channels of pyramid levels (B, C, h, w), finest first -> the maps that `forward` samples.

        Always float32: in bfloat16 the sampling positions would be a pixel or two off.
        """
        return [reduce(level).float() for reduce, level in zip(self.reduce, levels, strict=True)]

    def forward(self, maps: Sequence[Tensor], points: Tensor) -> Tensor:
        """Sample at `points` (B, ..., 2), x, y in network pixels -> (B, ..., out_features); 0 outside the image."""
        sampled: Tensor = self.sample(maps, self.grid(points.flatten(1, -2))).unflatten(1, points.shape[1:-1])
        return sampled

    def grid(self, points: Tensor) -> Tensor:
        """Convert (..., 2) x, y in network pixels to sampling positions (..., points + 1, 2), the image being [-1, 1].

        They are those of the strip, then the point itself.
        """
        # The centre of pixel x lies at x + 0.5 on an axis from 0 to the width.
        return (points[..., None, :] + self.strip + 0.5) * (2 / self.size) - 1

    def shift_grid(self, grid: Tensor, x: Tensor) -> Tensor:
        """Shift sampling positions (..., points + 1, 2) by `x` (...) network pixels to the right."""
        return grid + x[..., None, None] * self.pixel

    def sample(self, maps: Sequence[Tensor], grid: Tensor) -> Tensor:
        """Sample the maps at the positions `grid` (B, K, points + 1, 2) -> (B, K, out_features)."""
        strip, point = grid[:, :, :-1], grid[:, :, -1:]
        sampled = [
            F.grid_sample(features, point if level else strip, align_corners=False)  # (B, c, K, points)
            for level, features in enumerate(maps)
        ]
        return torch.cat([part.permute(0, 2, 3, 1).flatten(2) for part in sampled], dim=-1)
