"""Attention to an image from its features: weights that follow each other are multiplied once, not for every image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clrernetlm.models.lanelm.attention import Attention
from clrernetlm.models.lanelm.positions import grid_sinusoids

SCORES = 1 << 18  # at once: a megabyte, so that many queries take no more memory than some


class FoldedMemory(nn.Module):
    """Keys and values of a pyramid level (B, C, h, w), each (B, heads, h * w, d), straight from its features.

    Equal to those of the image's tokens up to rounding. Without gradients.
    """

    def __init__(self, attention: Attention, project: nn.Conv2d, level: Tensor, size: tuple[int, int]) -> None:
        super().__init__()
        assert project.bias is not None
        dim, heads = len(level), attention.num_heads
        features = (attention.key_value.weight @ project.weight.flatten(1)).T  # (C, 2 D)
        places = attention.key_value(grid_sinusoids(*size, dim, level.device) + project.bias + level)  # (h w, 2 D)
        self.register_buffer("weights", features.unflatten(1, (2, heads, -1)).permute(1, 2, 0, 3).contiguous())
        self.register_buffer("places", places.unflatten(1, (2, heads, -1)).permute(1, 2, 0, 3).contiguous())
        self.weights: Tensor  # (2, heads, C, d)
        self.places: Tensor  # (2, heads, h w, d)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) -> keys and values."""
        rows = features.flatten(2).transpose(1, 2)
        made = self.places.new_empty(2, len(rows), *self.places.shape[1:])
        for kind, (weights, places) in enumerate(zip(self.weights, self.places, strict=True)):
            for image, one in enumerate(rows):
                torch.baddbmm(places, one.expand(len(weights), -1, -1), weights, out=made[kind, image])
        return made[0], made[1]


class FoldedAttention(nn.Module):
    """Attention to a pyramid level of C channels and `size` (h, w), its weights multiplied with those before them.

    The image's tokens are a product of its features plus what says where they are, `along_y + along_x`; keys and values
    are products of the tokens. So scores are products of the features, C numbers a place instead of D for keys and D
    for values, with C numbers per query and head, plus one number per row and one per column; likewise the results.
    Equal to `Attention` up to rounding. For float32 on the CPU with oneDNN, without gradients.
    """

    def __init__(self, attention: Attention, project: nn.Conv2d, level: Tensor, size: tuple[int, int]) -> None:
        super().__init__()
        dim, (height, width) = len(level), size
        half = dim - dim // 2
        places = grid_sinusoids(height, width, dim, level.device).view(height, width, dim)
        along_y, along_x = places[:, 0].clone(), places[0].clone()
        along_y[:, half:], along_x[:, :half] = 0.0, 0.0
        features = project.weight.flatten(1)  # (D, C)
        key, value = attention.key_value.weight.chunk(2)
        heads = attention.num_heads

        def folded(weight: Tensor) -> Tensor:
            """(heads, d, C + h + w)"""
            return (weight @ torch.cat([features, along_y.T, along_x.T], dim=1)).unflatten(0, (heads, -1))

        assert project.bias is not None
        constant = value @ (project.bias + level) + attention.key_value.bias.chunk(2)[1]  # in keys it cancels out
        self.heads, self.size, self.channels = heads, size, features.shape[1]
        self.register_buffer("keys", folded(key) * (dim // heads) ** -0.5)
        self.register_buffer("values", folded(value).transpose(1, 2).contiguous())
        self.keys: Tensor
        self.values: Tensor
        self.query, self.out = attention.query, nn.Linear(dim, dim)
        self.out.weight = attention.out.weight
        self.out.bias = nn.Parameter(attention.out.bias + attention.out.weight @ constant, False)

    def forward(self, features: Tensor) -> Glimpse:
        """(B, C, h, w) -> what queries attend to."""
        rows = features.flatten(2).transpose(1, 2)
        pack = torch.ops.mkldnn._reorder_linear_weight
        return Glimpse(self, [(pack(one.contiguous()), pack(one.T.contiguous())) for one in rows])


class Glimpse:
    """The features of B images, laid out for products with queries (`by_place`) and with weights (`by_channel`)."""

    def __init__(self, attention: FoldedAttention, packed: list[tuple[Tensor, Tensor]]) -> None:
        self.attention, self.packed, self.images = attention, packed, len(packed)

    def attend(self, queries: Tensor) -> Tensor:
        """(B, Q, D) -> (B, Q, D), as `Attention.forward`."""
        own = self.attention
        asked = own.query(queries).unflatten(-1, (own.heads, -1)).transpose(1, 2) @ own.keys  # (B, heads, Q, C + h + w)
        most = max(1, SCORES // (own.heads * own.size[0] * own.size[1]))
        seen = [
            torch.cat([self._seen(part, *packed) for part in one.split(most, dim=1)], dim=1)
            for one, packed in zip(asked, self.packed, strict=True)
        ]
        return own.out((torch.stack(seen) @ own.values).transpose(1, 2).flatten(2))

    def _seen(self, asked: Tensor, by_place: Tensor, by_channel: Tensor) -> Tensor:
        """Of one image, (heads, Q, C + h + w): what is asked of channels, rows and columns -> what they show."""
        (height, width), multiply = self.attention.size, torch.ops.mkldnn._linear_pointwise
        of_features, of_rows, of_columns = asked.flatten(0, 1).split([self.attention.channels, height, width], dim=-1)
        scores = multiply(of_features.contiguous(), by_place, None, "none", [], "").view(-1, height, width)
        weights = scores.add_(of_rows[..., None]).add_(of_columns[:, None]).flatten(1).softmax(-1)
        grid = weights.view(-1, height, width)
        features = multiply(weights, by_channel, None, "none", [], "")
        return torch.cat([features, grid.sum(-1), grid.sum(-2)], dim=-1).view(asked.shape)
