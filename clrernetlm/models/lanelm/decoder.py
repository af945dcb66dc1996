"""Defines the transformer decoder over keypoint tokens, with attention to the image.

A keypoint is a pair of tokens: the bin of its x and the row of its y. Source: LaneLM (Zhang and Bai, 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from clrernetlm.core.argument_checks import Range, check_arguments
from clrernetlm.models.lanelm.attention import Attention, sinusoids
from clrernetlm.models.lanelm.folded_attention import FoldedImageFeatures

KeysValues = tuple[Tensor, Tensor]
Size = Annotated[int, Range(1, 1_000_000)]  # of tables and layers
ImageMemory = KeysValues | FoldedImageFeatures  # the image features to which a layer attends


class KeypointEmbedding(nn.Module):
    """Embeds x tokens (N, S) and y tokens (N, S), int64, as (N, S, D): e = E_x(x) + E_y(y) + PE(position).

    All three tables are initialised with sinusoids, so that near bins are similar before training.
    """

    @check_arguments
    def __init__(self, nbins_x: Size, max_y_tokens: Size, embed_dim: Size, max_len: Size) -> None:
        super().__init__()
        self.x_embedding = nn.Embedding(nbins_x, embed_dim)
        self.y_embedding = nn.Embedding(max_y_tokens, embed_dim)
        self.pos_embedding = nn.Embedding(max_len, embed_dim)
        for table in (self.x_embedding, self.y_embedding, self.pos_embedding):
            positions = torch.linspace(0, 1, table.num_embeddings)
            table.weight.data.copy_(sinusoids(positions, embed_dim))

    def forward(self, x_tokens: Tensor, y_tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """Embed tokens; `positions` (S,) or (N, S): indices in the sequence, by default 0, 1, 2, ..."""
        if positions is None:
            positions = torch.arange(x_tokens.shape[-1], device=x_tokens.device)
        embedded: Tensor = self.x_embedding(x_tokens) + self.y_embedding(y_tokens) + self.pos_embedding(positions)
        return embedded


class LaneLMDecoderLayer(nn.Module):
    """Applies self-attention, attention to the image and a feed-forward network to tokens (N, S, D); pre-norm.

    With `cross=False` the layer has no attention to the image.
    """

    @check_arguments
    def __init__(self, embed_dim: Size, num_heads: Size, ffn_dim: Size, cross: bool = True) -> None:
        super().__init__()
        self.norm_self, self.norm_ffn = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.self_attn = Attention(embed_dim, num_heads)
        self.norm_cross = nn.LayerNorm(embed_dim) if cross else None
        self.cross_attn = Attention(embed_dim, num_heads) if cross else None
        self.ffn = nn.Sequential(nn.Linear(embed_dim, ffn_dim), nn.GELU(), nn.Linear(ffn_dim, embed_dim))

    def image_keys_values(self, memory: Tensor | None) -> KeysValues | None:
        """Project image tokens (B, K, D) to keys and values, once per image; None if there is nothing to attend to."""
        if self.cross_attn is None or memory is None:
            return None
        keys, values = self.cross_attn.keys_values(memory)
        if torch.is_grad_enabled():
            return keys, values
        return keys.contiguous(), values.contiguous()  # read in every decoding step, twice as fast when contiguous

    def forward(
        self, tokens: Tensor, memory: ImageMemory | None, mask: Tensor | None, memory_mask: Tensor | None = None
    ) -> Tensor:
        """Process all tokens (N, S, D) at once; `mask` and `memory_mask` as in `Attention.forward`.

        `memory` may be of fewer images than there are sequences: those of one image are adjacent.
        """
        normed = self.norm_self(tokens)
        return self.forward_new(tokens, self.own_keys_values(tokens, normed), memory, mask, memory_mask, normed)

    def own_keys_values(self, tokens: Tensor, normed: Tensor | None = None) -> KeysValues:
        """Project tokens (N, S, D) to keys and values for self-attention; `normed`: `norm_self` of them, if known."""
        return self.self_attn.keys_values(self.norm_self(tokens) if normed is None else normed)

    def forward_new(
        self,
        tokens: Tensor,
        keys_values: KeysValues,
        memory: ImageMemory | None,
        mask: Tensor | None,
        memory_mask: Tensor | None = None,
        normed: Tensor | None = None,
    ) -> Tensor:
        """Process new tokens (N, S, D); `keys_values` are those of all tokens that they may attend to."""
        tokens = tokens + self.self_attn(self.norm_self(tokens) if normed is None else normed, *keys_values, mask)
        tokens = self.attend_to_image(tokens, memory, memory_mask)
        updated: Tensor = tokens + self.ffn(self.norm_ffn(tokens))
        return updated

    def attend_to_image(self, tokens: Tensor, memory: ImageMemory | None, memory_mask: Tensor | None = None) -> Tensor:
        """Add attention to the image to tokens (N, ..., D); those of one image are adjacent."""
        if self.cross_attn is None or self.norm_cross is None or memory is None:
            return tokens
        # Sequences of one image share its keys and values: fold them into one long query instead of copying.
        images = memory.images if isinstance(memory, FoldedImageFeatures) else memory[0].shape[0]
        queries = self.norm_cross(tokens).reshape(images, -1, tokens.shape[-1])
        if isinstance(memory, FoldedImageFeatures):
            return tokens + memory.attend(queries).reshape(tokens.shape)
        updated: Tensor = tokens + self.cross_attn(queries, *memory, memory_mask).reshape(tokens.shape)
        return updated


class LaneLMDecoder(nn.Module):
    """Applies `num_layers` decoder layers and a final LayerNorm: (N, S, D) tokens, (B, K, D) memory -> (N, S, D).

    N is a multiple of B: the sequences of one image are adjacent.
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
        """Decode tokens `tgt`.

        `memory`: the same tokens for every layer, or one tensor per layer. `memory_key_padding_mask` (B, K) is True at
        padding. Without `mask` attention is causal: a token attends to itself and to those before it.
        """
        if mask is None:
            mask = causal_mask(tgt.shape[1], tgt.device)
        memory_mask = None if memory_key_padding_mask is None else ~memory_key_padding_mask[:, None, None, :]
        for layer, layer_memory in zip(self.stack, self.image_keys_values(memory), strict=True):
            tgt = layer(tgt, layer_memory, mask, memory_mask)
        normalised: Tensor = self.norm(tgt)
        return normalised

    @property
    def stack(self) -> list[LaneLMDecoderLayer]:
        """Return the layers, first to last."""
        return cast(list[LaneLMDecoderLayer], list(self.layers))

    def image_keys_values(self, memory: Tensor | Sequence[Tensor] | None) -> list[KeysValues | None]:
        """Compute every layer's keys and values of the image; `memory` as in `forward`."""
        memories = [memory] * len(self.layers) if memory is None or isinstance(memory, Tensor) else memory
        return [layer.image_keys_values(tokens) for layer, tokens in zip(self.stack, memories, strict=True)]


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """Build a causal attention mask (length, length) bool: True where the row's token may attend to the column's."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


class LaneLMHead(nn.Module):
    """Computes logits of the x bin (N, S, nbins_x) and of the row (N, S, max_y_tokens) from states (N, S, D)."""

    @check_arguments
    def __init__(self, embed_dim: Size, nbins_x: Size, max_y_tokens: Size) -> None:
        super().__init__()
        self.proj_x = nn.Linear(embed_dim, nbins_x)
        self.proj_y = nn.Linear(embed_dim, max_y_tokens)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return self.proj_x(states), self.proj_y(states)
