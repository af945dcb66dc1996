"""Folds consecutive linear maps of the image encoder into one matrix, computed once instead of per image.

The maps are the 1x1 projection of the pyramid level and the key/value projection of a decoder layer's attention. All
of this is for inference: nothing here has gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clrernetlm.models.lanelm.attention import Attention, grid_sinusoids

MAX_SCORES = 1 << 18  # attention scores computed at once (1 MB), so that memory does not grow with the queries


class FoldedKeysValues(nn.Module):
    """Computes keys and values of a pyramid level (B, C, h, w), each (B, heads, h * w, d), in one product per image.

    Equal to those of `VisualEncoder` followed by `Attention.keys_values`, up to rounding.
    """

    def __init__(self, attention: Attention, project: nn.Conv2d, level: Tensor, size: tuple[int, int]) -> None:
        """Fold the weights of the projection and the attention; `level` (D,): embedding of the pyramid level."""
        super().__init__()
        assert project.bias is not None
        dim, heads = len(level), attention.num_heads
        features = (attention.key_value.weight @ project.weight.flatten(1)).T  # (C, 2 D)
        offsets = attention.key_value(grid_sinusoids(*size, dim, level.device) + project.bias + level)  # (h w, 2 D)
        self.register_buffer("weights", features.unflatten(1, (2, heads, -1)).permute(1, 2, 0, 3).contiguous())
        self.register_buffer("offsets", offsets.unflatten(1, (2, heads, -1)).permute(1, 2, 0, 3).contiguous())
        self.weights: Tensor  # (2, heads, C, d)
        self.offsets: Tensor  # (2, heads, h w, d), the part that does not depend on the image

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute keys and values of features (B, C, h, w)."""
        images = features.flatten(2).transpose(1, 2)  # (B, h w, C)
        keys_values = self.offsets.new_empty(2, len(images), *self.offsets.shape[1:])
        for kind, (weights, offsets) in enumerate(zip(self.weights, self.offsets, strict=True)):
            for index, image in enumerate(images):
                torch.baddbmm(offsets, image.expand(len(weights), -1, -1), weights, out=keys_values[kind, index])
        return keys_values[0], keys_values[1]


class FoldedAttention(nn.Module):
    """Attends to a pyramid level of C channels and `size` (h, w) without computing its keys and values.

    A token of the image is a linear map of its features plus a position encoding, which is a sum of one vector per row
    and one per column; keys and values are linear maps of the tokens. So attention scores are products of queries with
    the C features (instead of D-dimensional keys) plus one number per row and one per column; likewise for the values.
    Equal to `Attention` up to rounding. Needs float32 on the CPU with oneDNN.
    """

    def __init__(self, attention: Attention, project: nn.Conv2d, level: Tensor, size: tuple[int, int]) -> None:
        """Fold the weights of the projection and the attention; `level` (D,): embedding of the pyramid level."""
        super().__init__()
        dim, (height, width) = len(level), size
        half = dim - dim // 2
        positions = grid_sinusoids(height, width, dim, level.device).view(height, width, dim)
        along_y, along_x = positions[:, 0].clone(), positions[0].clone()
        along_y[:, half:], along_x[:, :half] = 0.0, 0.0
        features = project.weight.flatten(1)  # (D, C)
        key, value = attention.key_value.weight.chunk(2)
        heads = attention.num_heads

        def fold(weight: Tensor) -> Tensor:
            """Multiply a weight (D, D) with the maps before it -> (heads, d, C + h + w)."""
            folded: Tensor = (weight @ torch.cat([features, along_y.T, along_x.T], dim=1)).unflatten(0, (heads, -1))
            return folded

        assert project.bias is not None
        # The same for all positions: in the scores it cancels out in the softmax, in the results it adds to the bias.
        constant = value @ (project.bias + level) + attention.key_value.bias.chunk(2)[1]
        self.heads, self.size, self.channels = heads, size, features.shape[1]
        self.register_buffer("keys", fold(key) * (dim // heads) ** -0.5)
        self.register_buffer("values", fold(value).transpose(1, 2).contiguous())
        self.keys: Tensor  # (heads, d, C + h + w)
        self.values: Tensor  # (heads, C + h + w, d)
        self.query, self.out = attention.query, nn.Linear(dim, dim)
        self.out.weight = attention.out.weight
        self.out.bias = nn.Parameter(attention.out.bias + attention.out.weight @ constant, False)

    def forward(self, features: Tensor) -> FoldedImageFeatures:
        """Lay out features (B, C, h, w) for attention to them."""
        images = features.flatten(2).transpose(1, 2)  # (B, h w, C)
        reorder = torch.ops.mkldnn._reorder_linear_weight
        return FoldedImageFeatures(self, [(reorder(one.contiguous()), reorder(one.T.contiguous())) for one in images])


class FoldedImageFeatures:
    """Features of B images that decoder layers can attend to, in oneDNN's layout for matrix weights.

    Per image twice: as weights of the product with queries (h w outputs), and of that with attention weights (C).
    """

    def __init__(self, attention: FoldedAttention, weights: list[tuple[Tensor, Tensor]]) -> None:
        self.attention, self.weights, self.images = attention, weights, len(weights)

    def attend(self, queries: Tensor) -> Tensor:
        """Attend with queries (B, Q, D) -> (B, Q, D), as `Attention.forward`."""
        attention = self.attention
        split = attention.query(queries).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        folded = split @ attention.keys  # (B, heads, Q, C + h + w)
        max_queries = max(1, MAX_SCORES // (attention.heads * attention.size[0] * attention.size[1]))
        attended = [
            torch.cat([self._attend_image(part, *weights) for part in image.split(max_queries, dim=1)], dim=1)
            for image, weights in zip(folded, self.weights, strict=True)
        ]
        mixed: Tensor = attention.out((torch.stack(attended) @ attention.values).transpose(1, 2).flatten(2))
        return mixed

    def _attend_image(self, queries: Tensor, to_positions: Tensor, to_channels: Tensor) -> Tensor:
        """Attend to one image with folded queries (heads, Q, C + h + w) -> its features, rows, columns, same shape."""
        (height, width), multiply = self.attention.size, torch.ops.mkldnn._linear_pointwise
        sizes = [self.attention.channels, height, width]
        of_features, of_rows, of_columns = queries.flatten(0, 1).split(sizes, dim=-1)
        scores = multiply(of_features.contiguous(), to_positions, None, "none", [], "").view(-1, height, width)
        weights = scores.add_(of_rows[..., None]).add_(of_columns[:, None]).flatten(1).softmax(-1)
        grid = weights.view(-1, height, width)
        features = multiply(weights, to_channels, None, "none", [], "")
        return torch.cat([features, grid.sum(-1), grid.sum(-2)], dim=-1).view(queries.shape)
