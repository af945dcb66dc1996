"""Attention with keys and values that can be kept: what caching and folding lanes into the query length need."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clrernetlm.core.errors import UserError

# On a CPU explicit products beat the fused backward pass as long as the scores stay in its cache, and for few queries,
# as in a step of decoding, the fused forward pass.
SCORES_IN_TRAINING = 1 << 22
SCORES_OF_FEW = 1 << 18


class Attention(nn.Module):
    """Multi-head attention (N, Q, D) x (N, K, D) -> (N, Q, D).

    `keys_values` projects a memory once; `forward` attends to the result as often as needed. Raises UserError when the
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
        """(N, K, D) -> keys and values, each (N, heads, K, D / heads)."""
        keys, values = self.key_value(memory).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, Q, D) queries, (N, heads, K, D / heads) keys and values -> (N, Q, D).

        `mask`, broadcastable to (N, heads, Q, K), is True where a query may look; every query must see something.
        """
        attended = attend(self._split(self.query(queries)), keys, values, mask)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(d)) v over (N, heads, Q, d) queries and (N, heads, K, d) keys and values."""
    if queries.device.type != "cpu" or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    scores = queries.shape[0] * queries.shape[1] * queries.shape[2] * keys.shape[2]
    if scores > (SCORES_IN_TRAINING if torch.is_grad_enabled() else SCORES_OF_FEW):
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    weights = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    if mask is not None:
        weights = weights.masked_fill(~mask, -torch.inf)
    return weights.softmax(-1) @ values
