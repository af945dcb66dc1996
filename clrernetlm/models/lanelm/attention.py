"""Defines multi-head attention with reusable keys and values, and sinusoidal position encodings."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clrernetlm.core.errors import UserError

# On the CPU explicit matrix products are faster than PyTorch's fused attention in two cases: in training while the
# scores fit the processor's cache (faster backward pass), and for few queries, as in a decoding step.
MAX_SCORES_TRAINING = 1 << 22
MAX_SCORES_INFERENCE = 1 << 18

SINUSOID_AMPLITUDE = 0.3
SHORTEST_PERIOD = 1 / 100  # of the whole length: 8 pixels of an 800 pixel wide image


class Attention(nn.Module):
    """Computes multi-head attention: (N, Q, D) queries, (N, K, D) memory -> (N, Q, D).

    `keys_values` projects a memory once; `forward` can then attend to it any number of times. Raises UserError if the
    heads do not divide the embedding. Source: Vaswani et al., arXiv 1706.03762.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise UserError(f"embed_dim: {embed_dim} is not a multiple of num_heads ({num_heads})")
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key_value = nn.Linear(embed_dim, 2 * embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Project a memory (N, K, D) to keys and values, each (N, heads, K, D / heads)."""
        keys, values = self.key_value(memory).chunk(2, dim=-1)
        return self._split_heads(keys), self._split_heads(values)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend with (N, Q, D) queries to (N, heads, K, D / heads) keys and values -> (N, Q, D).

        `mask`, broadcastable to (N, heads, Q, K), is True where a query may attend; every query needs at least one key.
        """
        attended = attend(self._split_heads(self.query(queries)), keys, values, mask)
        mixed: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return mixed

    def _split_heads(self, tokens: Tensor) -> Tensor:
        heads: Tensor = tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Compute softmax(q k' / sqrt(d)) v for (N, heads, Q, d) queries and (N, heads, K, d) keys and values."""
    if queries.device.type != "cpu" or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    scores = queries.shape[0] * queries.shape[1] * queries.shape[2] * keys.shape[2]
    if scores > (MAX_SCORES_TRAINING if torch.is_grad_enabled() else MAX_SCORES_INFERENCE):
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    weights = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    if mask is not None:
        weights = weights.masked_fill(~mask, -torch.inf)
    attended: Tensor = weights.softmax(-1) @ values
    return attended


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Encode positions (...), fractions of the whole length, as (..., dim) within +- `SINUSOID_AMPLITUDE`.

    Periods fall geometrically from four times the whole length to `SHORTEST_PERIOD`. An odd `dim` ends with a sine.
    """
    half = (dim + 1) // 2
    periods = torch.logspace(math.log10(4.0), math.log10(SHORTEST_PERIOD), half, device=positions.device)
    angles = positions[..., None] * (2 * math.pi / periods)
    return SINUSOID_AMPLITUDE * torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :dim]


def grid_sinusoids(height: int, width: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Encode the cells of a grid: (height * width, dim), the first half of `dim` for y, the rest for x.

    The result is shared between calls: do not modify it.
    """
    if torch.compiler.is_compiling():  # a tensor created while tracing must not outlive the trace
        return _compute_grid_sinusoids(height, width, dim, device)
    return _cached_grid_sinusoids(height, width, dim, device)


def _compute_grid_sinusoids(height: int, width: int, dim: int, device: torch.device | None) -> Tensor:
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    along_y = sinusoids(y, dim - dim // 2)[:, None].expand(-1, width, -1)
    along_x = sinusoids(x, dim // 2)[None].expand(height, -1, -1)
    return torch.cat([along_y, along_x], dim=-1).flatten(0, 1)


# Never evicted: a recorded CUDA graph reads the tensors at the addresses they had when it was recorded. The finest
# level of 800x320 takes 4 MB.
@cache
@torch.inference_mode(False)
def _cached_grid_sinusoids(height: int, width: int, dim: int, device: torch.device | None) -> Tensor:
    return _compute_grid_sinusoids(height, width, dim, device)
