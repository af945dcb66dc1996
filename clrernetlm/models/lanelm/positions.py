"""Sines and cosines that tell places apart."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

AMPLITUDE = 0.3
SHORTEST_PERIOD = 1 / 100  # of the whole length: 8 pixels of an 800 pixel wide image


def sinusoids(places: Tensor, dim: int) -> Tensor:
    """Places (...) as fractions of the whole -> (..., dim) within +- `AMPLITUDE`.

    Periods fall geometrically from four times the whole to `SHORTEST_PERIOD`. An odd `dim` ends with a sine.
    """
    half = (dim + 1) // 2
    periods = torch.logspace(math.log10(4.0), math.log10(SHORTEST_PERIOD), half, device=places.device)
    angles = places[..., None] * (2 * math.pi / periods)
    return AMPLITUDE * torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :dim]


def grid_sinusoids(height: int, width: int, dim: int, device: torch.device | None = None) -> Tensor:
    """(height * width, dim): half of the numbers say where along y, half where along x. Not to be written to."""
    if torch.compiler.is_compiling():  # a tensor of a trace must not outlive it
        return _grid_sinusoids(height, width, dim, device)
    return _kept_sinusoids(height, width, dim, device)


def _grid_sinusoids(height: int, width: int, dim: int, device: torch.device | None) -> Tensor:
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    along_y = sinusoids(y, dim - dim // 2)[:, None].expand(-1, width, -1)
    along_x = sinusoids(x, dim // 2)[None].expand(height, -1, -1)
    return torch.cat([along_y, along_x], dim=-1).flatten(0, 1)


@cache  # for good: a CUDA graph reads them where they were when it was recorded; 4 MB for the finest level of 800x320
@torch.inference_mode(False)
def _kept_sinusoids(height: int, width: int, dim: int, device: torch.device | None) -> Tensor:
    return _grid_sinusoids(height, width, dim, device)
