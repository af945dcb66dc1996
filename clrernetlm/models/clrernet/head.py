"""Defines CLRerHead, which refines anchors in stages, coarse pyramid level first; without losses and decoding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.config.schema import HeadConfig
from clrernetlm.core.errors import UserError
from clrernetlm.models.clrernet.anchors import CLRerNetAnchorGenerator, row_heights, sample_heights, sample_rows
from clrernetlm.models.clrernet.roi_gather import ROIGather
from clrernetlm.models.clrernet.segmentation_decoder import SegmentationDecoder

PYRAMID_LEVELS = 3
StageOutput = dict[str, Tensor]  # the predictions of a refinement stage; see `CLRerHead`


def pool_along(level: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Sample a map (B, C, h, w) bilinearly at xs (B, Np, S), ys (S,), fractions of the map -> (B, C, S, Np).

    Fractions 0 and 1 are the centres of the outer pixels; the value outside the map is zero.
    """
    batch, anchors, samples = xs.shape
    grid = torch.stack([xs.transpose(1, 2), ys[:, None].expand(batch, samples, anchors)], dim=-1)  # (B, S, Np, 2)
    return F.grid_sample(level.to(grid.dtype), grid * 2 - 1, mode="bilinear", align_corners=True)


def gather_along(level: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Compute `pool_along` up to rounding, for float32 without gradients, twice as fast on CPUs; channels-last memory.

    All anchors are sampled at the same heights, so the map is interpolated to these rows first; then every sample has
    two neighbours, whose channels are contiguous in memory. ONNX Runtime, too, takes several times as long for a
    GridSample.
    """
    batch, _, samples = xs.shape
    channels, height, width = level.shape[1:]
    y = ys * (height - 1)  # (S,)
    above = y.floor().long().clamp(0, height - 1)
    below = (above + 1).clamp(max=height - 1)
    pixels = level.permute(0, 2, 3, 1)  # (B, h, w, C)
    rows = torch.lerp(pixels.index_select(1, above), pixels.index_select(1, below), (y - above)[:, None, None])
    values = rows.reshape(-1, channels)
    first = torch.arange(batch * samples, device=xs.device).view(batch, samples, 1) * width
    x = xs.transpose(1, 2) * (width - 1)  # (B, S, Np)
    left = x.floor().clamp(-2, width)  # beyond the outer pixels all values are zero
    share = x - left

    def neighbour(column: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the index of a neighbour among the values, and its weight, (B, S, Np) each."""
        inside = (column >= 0) & (column < width)
        # Clamped as integers, because a NaN (of weights so large that the network overflows) is no index.
        index = column.clamp(0, width - 1).long() if exporting else column.long().clamp(0, width - 1)
        return first + index, weight * inside

    exporting = torch.compiler.is_exporting()  # in a graph the clamp comes first: runtimes have it for floats
    one, other = neighbour(left, 1 - share), neighbour(left + 1, share)
    if exporting:  # runtimes have no embedding bags
        sampled = values[one[0]] * one[1][..., None] + values[other[0]] * other[1][..., None]  # (B, S, Np, C)
    else:
        bags, weights = (torch.stack(pair, dim=-1).view(-1, 2) for pair in zip(one, other, strict=True))
        sampled = F.embedding_bag(bags, values, mode="sum", per_sample_weights=weights).view(*x.shape, channels)
    return sampled.permute(0, 3, 1, 2)


class CLRerHead(nn.Module):
    """Predict lanes from pyramid levels (B, C, h_i, w_i), fine first: one dict per stage, coarse level first.

    `cls_logits` (B, Np, 2): background, lane. `anchor_params` (B, Np, 3): y0, x0 as fractions of height and width,
    theta / pi. `lengths` (B, Np, 1): fraction of the rows. `xs` (B, Np, num_points): x per row, bottom first; 0 is the
    centre of the first column of pixels, 1 that of the last. Raises UserError for more stages than pyramid levels.

    Source: CLRNet (Zheng et al., CVPR 2022), section 3; CLRerNet (Honda and Uchida, WACV 2024).
    """

    sample_x_indices: Tensor
    prior_feat_ys: Tensor
    prior_ys: Tensor

    def __init__(self, config: HeadConfig, image_size: tuple[int, int], max_lanes: int) -> None:
        super().__init__()
        if not 1 <= config.refine_layers <= PYRAMID_LEVELS:
            raise UserError(
                f"model.head.refine_layers: {config.refine_layers} stages on {PYRAMID_LEVELS} pyramid levels; "
                f"use 1 to {PYRAMID_LEVELS}"
            )
        channels = config.feature_channels
        self.stages = config.refine_layers
        self.pool = pool_along  # `fusing.fuse` replaces it by `gather_along` on CPUs
        self.register_buffer("sample_x_indices", sample_rows(config.num_points, config.sample_points))
        self.register_buffer("prior_feat_ys", sample_heights(config.num_points, config.sample_points))
        self.register_buffer("prior_ys", row_heights(config.num_points))
        self.anchor_generator = CLRerNetAnchorGenerator(config.num_priors, config.num_points, image_size)
        self.attention = ROIGather(
            num_priors=config.num_priors,
            channels=channels,
            roi_channels=config.roi_channels,
            sample_points=config.sample_points,
            stages=config.refine_layers,
            attention_size=config.attention_size,
            attention_dropout=config.attention_dropout,
        )
        self.reg_modules = _hidden_layers(channels, config.fc_layers)
        self.cls_modules = _hidden_layers(channels, config.fc_layers)
        self.reg_layers = nn.Linear(channels, 3 + 1 + config.num_points)
        self.cls_layers = nn.Linear(channels, 2)
        for layer in (self.reg_layers, self.cls_layers):  # so small that the first predictions are the anchors
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.normal_(layer.bias, std=1e-3)
        self.seg_decoder = SegmentationDecoder(channels, PYRAMID_LEVELS, max_lanes + 1, image_size)

    def forward(self, features: Sequence[Tensor]) -> list[StageOutput]:
        batch = features[0].shape[0]
        to_lines = self.anchor_generator.lines
        pool = gather_along if torch.compiler.is_exporting() else self.pool
        parameters = self.anchor_generator.prior_embeddings.weight.expand(batch, -1, -1)  # (B, Np, 3)
        lines = to_lines(parameters, self.prior_ys)  # (B, Np, num_points)
        points: list[Tensor] = []
        stages: list[StageOutput] = []
        for stage in range(self.stages):
            level = features[-1 - stage]
            if stage > 0:  # gradients of a stage reach its own update only, those of the first one also the anchors
                parameters, lines = parameters.detach(), lines.detach()
            xs = lines.index_select(2, self.sample_x_indices)  # (B, Np, S)
            points.append(self.attention.points(stage, pool(level, xs, self.prior_feat_ys)))
            anchors = self.attention(points, level)  # (B, Np, C)

            cls_logits = self.cls_layers(self.cls_modules(anchors)).to(parameters.dtype)  # (B, Np, 2)
            update = self.reg_layers(self.reg_modules(anchors)).to(parameters.dtype)  # (B, Np, 4 + num_points)
            parameters = parameters + update[..., :3]
            lines = to_lines(parameters, self.prior_ys)
            stages.append(
                {
                    "cls_logits": cls_logits,
                    "anchor_params": parameters,
                    "lengths": update[..., 3:4],
                    "xs": lines + update[..., 4:],
                }
            )
        return stages


def _hidden_layers(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(layer for _ in range(count) for layer in (nn.Linear(channels, channels), nn.ReLU())))
