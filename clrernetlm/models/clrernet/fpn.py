"""Defines CLRerNetFPN, the feature pyramid between backbone and head (Lin et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.models.layers import ConvBlock


class CLRerNetFPN(nn.Module):
    """Map levels (B, in_channels[i], h/2^i, w/2^i) to as many with `out_channels` channels, in their sizes and order.

    1x1 lateral convolutions, top-down sums with nearest upsampling, 3x3 output convolutions; no norm. If the backbone
    returns more levels than `in_channels` has entries, the finest are left out.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvBlock(channels, out_channels, 1) for channels in in_channels)
        self.fpn_convs = nn.ModuleList(ConvBlock(out_channels, out_channels, 3) for _ in in_channels)
        for block in (*self.lateral_convs, *self.fpn_convs):
            nn.init.xavier_uniform_(block.conv.weight)
            nn.init.zeros_(block.conv.bias)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        levels = levels[-len(self.lateral_convs) :]
        laterals = [lateral(level) for lateral, level in zip(self.lateral_convs, levels, strict=True)]
        for i in reversed(range(len(laterals) - 1)):
            laterals[i] = laterals[i] + F.interpolate(laterals[i + 1], size=laterals[i].shape[-2:], mode="nearest")
        return tuple(conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=True))
