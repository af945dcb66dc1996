"""Defines DLA, the deep layer aggregation backbones (Yu et al., Deep Layer Aggregation, CVPR 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clrernetlm.models.layers import ConvNormReLU, conv_norm_relu, initialise_convolutions


class BasicBlock(nn.Module):
    """Map (B, in, h, w) -> (B, out, h/stride, w/stride) by two 3x3 convolutions and a residual."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        residual = x if residual is None else residual
        x = conv_norm_relu(self.conv1, self.bn1, x)
        return conv_norm_relu(self.conv2, self.bn2, x, residual)


class Bottleneck(nn.Module):
    """Map (B, in, h, w) -> (B, out, h/stride, w/stride) by 1x1, 3x3 at half the channels, 1x1, and a residual."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        inner = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        residual = x if residual is None else residual
        x = conv_norm_relu(self.conv1, self.bn1, x)
        x = conv_norm_relu(self.conv2, self.bn2, x)
        return conv_norm_relu(self.conv3, self.bn3, x, residual)


Block = type[BasicBlock] | type[Bottleneck]


class Root(nn.Module):
    """Aggregate the outputs of a tree's children, maps (B, c_i, h, w) of one size -> (B, out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, *children: Tensor) -> Tensor:
        return conv_norm_relu(self.conv, self.bn, torch.cat(children, dim=1))


class Tree(nn.Module):
    """Map (B, in, h, w) -> (B, out, h/stride, w/stride) by two subtrees, aggregated in the root of the second.

    `depth` 1 is two blocks and a root. `inherited` counts the channels of maps of parent trees that the root also
    aggregates; `keeps_input` adds the (pooled) input of this tree to them.
    """

    def __init__(
        self,
        depth: int,
        block: Block,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        inherited: int = 0,
        keeps_input: bool = False,
    ) -> None:
        super().__init__()
        self.keeps_input = keeps_input
        self.downsample = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        inherited += in_channels if keeps_input else 0
        self.tree1: nn.Module
        self.tree2: nn.Module
        self.root: Root | None = None
        self.project: nn.Module | None = None
        if depth > 1:
            self.tree1 = Tree(depth - 1, block, in_channels, out_channels, stride)
            self.tree2 = Tree(depth - 1, block, out_channels, out_channels, inherited=inherited + out_channels)
            return
        self.tree1 = block(in_channels, out_channels, stride)
        self.tree2 = block(out_channels, out_channels)
        self.root = Root(2 * out_channels + inherited, out_channels)
        if in_channels != out_channels:
            self.project = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor, inherited: Sequence[Tensor] = ()) -> Tensor:
        bottom = self.downsample(x)
        children = [*inherited, bottom] if self.keeps_input else list(inherited)
        if self.root is None:
            first = self.tree1(x)
            nested: Tensor = self.tree2(first, [*children, first])
            return nested
        first = self.tree1(x, bottom if self.project is None else self.project(bottom))
        aggregated: Tensor = self.root(self.tree2(first), first, *children)
        return aggregated


class DLA(nn.Module):
    """Map (B, 3, H, W) -> the maps of levels 2..5 (strides 4, 8, 16, 32). H and W are multiples of 32."""

    def __init__(self, depths: Sequence[int], channels: Sequence[int], block: Block) -> None:
        super().__init__()
        self.base_layer = _conv_norm_relu(3, channels[0], kernel=7)
        self.level0 = _conv_norm_relu(channels[0], channels[0])
        self.level1 = _conv_norm_relu(channels[0], channels[1], stride=2)
        self.level2 = Tree(depths[2], block, channels[1], channels[2], stride=2)
        self.level3 = Tree(depths[3], block, channels[2], channels[3], stride=2, keeps_input=True)
        self.level4 = Tree(depths[4], block, channels[3], channels[4], stride=2, keeps_input=True)
        self.level5 = Tree(depths[5], block, channels[4], channels[5], stride=2, keeps_input=True)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        level2 = self.level2(self.level1(self.level0(self.base_layer(images))))  # (B, C2, H/4, W/4)
        level3 = self.level3(level2)  # (B, C3, H/8, W/8)
        level4 = self.level4(level3)  # (B, C4, H/16, W/16)
        return level2, level3, level4, self.level5(level4)  # (B, C5, H/32, W/32)


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> ConvNormReLU:
    return ConvNormReLU(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class DLANet(nn.Module):
    """Extract four maps of strides 4, 8, 16, 32 with `out_channels` channels from images (B, 3, H, W), BGR in [0, 1].

    The released CLRerNet weights were trained on BGR in [0, 1], so the images are not converted.
    """

    def __init__(self, depths: Sequence[int], channels: Sequence[int], block: Block) -> None:
        super().__init__()
        self.model = DLA(depths, channels, block)
        self.out_channels = tuple(channels[2:])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        levels: tuple[Tensor, ...] = self.model(images)
        return levels

    def stem(self) -> list[nn.Module]:
        """Return the layers up to the map of stride 4."""
        return [self.model.base_layer, self.model.level0, self.model.level1, self.model.level2]

    def imagenet_module(self) -> nn.Module:
        """Return the module whose weights have the names of the published ImageNet weights."""
        return self.model


def dla34() -> DLANet:
    """Build the backbone of the published CLRerNet: 15.2 M parameters."""
    return DLANet((1, 1, 1, 2, 2, 1), (16, 32, 64, 128, 256, 512), BasicBlock)


def dla46_c() -> DLANet:
    """Build the compact variant: 1.0 M parameters instead of DLA-34's 15.2 M."""
    return DLANet((1, 1, 1, 2, 2, 1), (16, 32, 64, 64, 128, 256), Bottleneck)
