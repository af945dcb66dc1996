"""Defines ROIGather: features of anchors from the points along them and from the whole map (CLRNet, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.models.layers import NORM_MOMENTUM, ConvBlock

TAPS = 9  # kernel size of the convolutions along an anchor, in points


class AnchorScale(nn.Module):
    """Scale and shift features (B, Np, C) by one weight and one bias per anchor, the same for all channels.

    The weights have the shape of the depth-wise Conv1d over anchors of the published checkpoints.
    """

    def __init__(self, num_priors: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_priors, 1, 1).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.empty(num_priors).uniform_(-1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, 0] + self.bias[:, None]


class AnchorAttention(nn.Module):
    """Attend from anchors (B, Np, C) to a map (B, C, h, w) resized to `size` (rows, columns) -> (B, Np, C) to add.

    The output scale is initialised with zero, so that training starts from the pooled features alone.
    """

    def __init__(self, num_priors: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.scale = channels**-0.5
        self.f_key = ConvBlock(channels, channels, 1, norm=True)
        self.f_query = nn.Sequential(AnchorScale(num_priors), nn.ReLU())
        self.f_value = nn.Conv2d(channels, channels, 1)
        self.W = AnchorScale(num_priors)
        nn.init.zeros_(self.W.weight)
        nn.init.zeros_(self.W.bias)

    def forward(self, anchors: Tensor, level: Tensor) -> Tensor:
        small = F.interpolate(level, size=self.size, mode="nearest")  # (B, C, rows, columns)
        if self.f_key.training:  # on the whole level, whose batch statistics the norm needs
            key = F.interpolate(self.f_key(level), size=self.size, mode="nearest")
        else:  # the same, because 1x1 convolutions and nearest resizing commute, and cheaper on the small map
            key = self.f_key(small)
        key = key.flatten(2)  # (B, C, rows * columns)
        value = self.f_value(small).flatten(2).transpose(1, 2)  # (B, rows * columns, C)
        attention = torch.softmax(self.f_query(anchors) @ key * self.scale, dim=-1)  # (B, Np, rows * columns)
        attended: Tensor = self.W(attention @ value)
        return attended


class PointsLinear(nn.Linear):
    """Apply a Linear to the C * S values of each anchor, (B, C, S, Np) -> (B, out, Np).

    Computed as a convolution over all points at once: a matrix product needs the values of an anchor contiguous in
    memory, and reordering takes several times as long as the product.
    """

    def __init__(self, channels: int, points: int, out_features: int) -> None:
        super().__init__(points * channels, out_features)
        self.kernel_shape = out_features, channels, points, 1

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight.view(self.kernel_shape), self.bias).flatten(2)

    def convolution(self) -> nn.Conv2d:
        """Build the equal Conv2d, (B, C, S, Np) -> (B, out, 1, Np), with the same weights."""
        out_features, channels, *taps = self.kernel_shape
        conv = nn.Conv2d(channels, out_features, (taps[0], taps[1]), device="meta")
        conv.weight, conv.bias = nn.Parameter(self.weight.view(self.kernel_shape)), self.bias
        return conv


class ROIGather(nn.Module):
    """Compute one feature vector per anchor; one instance for all refinement stages.

    `points(stage, pooled)` is called once per stage on the map values along the anchors, `forward` combines the results
    of all stages so far. Pooled values are (B, C, S, Np), S points along each of Np anchors: anchors are the innermost
    axis, so that convolutions along S run over long rows of memory.
    """

    def __init__(
        self,
        num_priors: int,
        channels: int,
        roi_channels: int,
        sample_points: int,
        stages: int,
        attention_size: tuple[int, int],
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.attention = AnchorAttention(num_priors, channels, attention_size)
        taps = (TAPS, 1)
        # CLRNet convolves the pooled values of a stage again in every later stage. The results are the same, so they
        # are computed once here; k equal updates of a running statistic have the momentum 1 - (1 - momentum)^k.
        self.convs = nn.ModuleList(
            ConvBlock(channels, roi_channels, taps, norm=True, momentum=1 - (1 - NORM_MOMENTUM) ** (stages - stage))
            for stage in range(stages)
        )
        self.catconv = nn.ModuleList(
            ConvBlock(roi_channels * (stage + 1), channels, taps, norm=True) for stage in range(stages)
        )
        self.fc = PointsLinear(channels, sample_points, channels)
        self.fc_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(attention_dropout)
        for block in (self.attention.f_key, *self.convs, *self.catconv):
            nn.init.kaiming_normal_(block.conv.weight, mode="fan_out", nonlinearity="relu")

    def points(self, stage: int, pooled: Tensor) -> Tensor:
        """Convolve values (B, C, S, Np) pooled at `stage` along the anchors -> (B, roi_channels, S, Np)."""
        convolved: Tensor = self.convs[stage](pooled)
        return convolved

    def forward(self, points: list[Tensor], level: Tensor) -> Tensor:
        """Combine the results of `points` up to this stage and the stage's map (B, C, h, w) -> (B, Np, C)."""
        stage = len(points) - 1
        joined = self.catconv[stage](torch.cat(points, dim=1))  # (B, C, S, Np)
        anchors = self.fc(joined).transpose(1, 2)  # (B, Np, C)
        anchors = F.relu(self.fc_norm(anchors))
        context: Tensor = self.dropout(self.attention(anchors, level))
        return anchors + context
