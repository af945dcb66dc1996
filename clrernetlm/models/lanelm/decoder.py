"""The decoder that reads and writes lanes as sequences of keypoint tokens.

A keypoint is a pair of tokens: the bin of its x and the row of its y. Source: LaneLM (Zhang and Bai, 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from clrernetlm.core.argument_checks import Range, check_arguments
from clrernetlm.models.lanelm.attention import Attention
from clrernetlm.models.lanelm.folded_attention import Glimpse
from clrernetlm.models.lanelm.positions import sinusoids

KeysValues = tuple[Tensor, Tensor]
Size = Annotated[int, Range(1, 1_000_000)]  # of tables and layers
Visual = KeysValues | Glimpse  # what a layer attends to of images


class KeypointEmbedding(nn.Module):
    """x tokens (N, S) and y tokens (N, S), int64 -> (N, S, D): e = E_x(x) + E_y(y) + PE(position).

    All three tables start as sines and cosines, so that near bins are alike before anything is learned.
    """

    @check_arguments
    def __init__(self, nbins_x: Size, max_y_tokens: Size, embed_dim: Size, max_len: Size) -> None:
        super().__init__()
        self.x_embedding = nn.Embedding(nbins_x, embed_dim)
        self.y_embedding = nn.Embedding(max_y_tokens, embed_dim)
        self.pos_embedding = nn.Embedding(max_len, embed_dim)
        for table in (self.x_embedding, self.y_embedding, self.pos_embedding):
            places = torch.linspace(0, 1, table.num_embeddings)
            table.weight.data.copy_(sinusoids(places, embed_dim))

    def forward(self, x_tokens: Tensor, y_tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """`positions` (S,) or (N, S): places in the sequence; 0, 1, 2, ... when left out."""
        if positions is None:
            positions = torch.arange(x_tokens.shape[-1], device=x_tokens.device)
        return self.x_embedding(x_tokens) + self.y_embedding(y_tokens) + self.pos_embedding(positions)


class LaneLMDecoderLayer(nn.Module):
    """Tokens (N, S, D) -> (N, S, D): self-attention, attention to the image, feed-forward; each after a LayerNorm.

    Without `cross` the layer does not look at the image.
    """

    @check_arguments
    def __init__(self, embed_dim: Size, num_heads: Size, ffn_dim: Size, cross: bool = True) -> None:
        super().__init__()
        self.norm_self, self.norm_ffn = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.self_attn = Attention(embed_dim, num_heads)
        self.norm_cross = nn.LayerNorm(embed_dim) if cross else None
        self.cross_attn = Attention(embed_dim, num_heads) if cross else None
        self.ffn = nn.Sequential(nn.Linear(embed_dim, ffn_dim), nn.GELU(), nn.Linear(ffn_dim, embed_dim))

    def visual_cache(self, memory: Tensor | None) -> KeysValues | None:
        """(B, K, D) tokens of the image -> what attention needs of them; once per image."""
        if self.cross_attn is None or memory is None:
            return None
        keys, values = self.cross_attn.keys_values(memory)
        if torch.is_grad_enabled():
            return keys, values
        return keys.contiguous(), values.contiguous()  # decoding reads them in every step, twice as fast from one piece

    def forward(
        self, tokens: Tensor, visual: Visual | None, mask: Tensor | None, visual_mask: Tensor | None = None
    ) -> Tensor:
        """All tokens at once; `mask` as in `Attention`. `visual` may be of fewer images than there are sequences."""
        normed = self.norm_self(tokens)
        return self.extend(tokens, self.own_keys_values(tokens, normed), visual, mask, visual_mask, normed)

    def own_keys_values(self, tokens: Tensor, normed: Tensor | None = None) -> KeysValues:
        """(N, S, D) -> keys and values of these tokens for the ones that follow; `normed`: `norm_self` of them."""
        return self.self_attn.keys_values(self.norm_self(tokens) if normed is None else normed)

    def extend(
        self,
        tokens: Tensor,
        own: KeysValues,
        visual: Visual | None,
        mask: Tensor | None,
        visual_mask: Tensor | None = None,
        normed: Tensor | None = None,
    ) -> Tensor:
        """New tokens (N, S, D) that attend to `own`, the keys and values of all tokens they may see."""
        tokens = tokens + self.self_attn(self.norm_self(tokens) if normed is None else normed, *own, mask)
        tokens = self.see(tokens, visual, visual_mask)
        return tokens + self.ffn(self.norm_ffn(tokens))

    def see(self, tokens: Tensor, visual: Visual | None, visual_mask: Tensor | None = None) -> Tensor:
        """Tokens (N, ..., D), those of an image side by side, after attention to the image."""
        if self.cross_attn is None or self.norm_cross is None or visual is None:
            return tokens
        # Sequences of one image share its keys and values: fold them into one long query instead of copying.
        images = visual.images if isinstance(visual, Glimpse) else visual[0].shape[0]
        queries = self.norm_cross(tokens).reshape(images, -1, tokens.shape[-1])
        if isinstance(visual, Glimpse):
            return tokens + visual.attend(queries).reshape(tokens.shape)
        return tokens + self.cross_attn(queries, *visual, visual_mask).reshape(tokens.shape)


class LaneLMDecoder(nn.Module):
    """`num_layers` decoder layers and a last LayerNorm: (N, S, D) tokens, (B, K, D) memory -> (N, S, D).

    N is a multiple of B: the sequences of one image lie side by side.
    """

    @check_arguments
    def __init__(self, embed_dim: Size, num_layers: Size, num_heads: Size, ffn_dim: Size, cross: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LaneLMDecoderLayer(embed_dim, num_heads, ffn_dim, cross) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor | Sequence[Tensor] | None,
        memory_key_padding_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """`memory`: the same tokens for every layer, or one tensor per layer; a `memory_key_padding_mask` (B, K) is
        True where there is nothing to see. Without `mask` a token sees itself and those before it."""
        if mask is None:
            mask = causal_mask(tgt.shape[1], tgt.device)
        visual_mask = None if memory_key_padding_mask is None else ~memory_key_padding_mask[:, None, None, :]
        for layer, visual in zip(self.stack, self.visual_caches(memory), strict=True):
            tgt = layer(tgt, visual, mask, visual_mask)
        return self.norm(tgt)

    @property
    def stack(self) -> list[LaneLMDecoderLayer]:
        """The layers, first to last."""
        return cast(list[LaneLMDecoderLayer], list(self.layers))

    def visual_caches(self, memory: Tensor | Sequence[Tensor] | None) -> list[KeysValues | None]:
        """Keys and values of the image for every layer."""
        memories = [memory] * len(self.layers) if memory is None or isinstance(memory, Tensor) else memory
        return [layer.visual_cache(tokens) for layer, tokens in zip(self.stack, memories, strict=True)]


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """(length, length) bool: True where the token of a row may look at the token of a column."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


class LaneLMHead(nn.Module):
    """(N, S, D) -> logits of the x bin (N, S, nbins_x) and of the row (N, S, max_y_tokens), from the same state."""

    @check_arguments
    def __init__(self, embed_dim: Size, nbins_x: Size, max_y_tokens: Size) -> None:
        super().__init__()
        self.proj_x = nn.Linear(embed_dim, nbins_x)
        self.proj_y = nn.Linear(embed_dim, max_y_tokens)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return self.proj_x(states), self.proj_y(states)
