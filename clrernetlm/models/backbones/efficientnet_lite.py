"""Defines EfficientNet-Lite0: mobile inverted bottlenecks without squeeze-and-excitation, ReLU6 throughout.

Tan and Le, EfficientNet (ICML 2019), in the variant without swish for edge devices. Names, padding, input scale and
the epsilon of the norms are those of the published ImageNet weights, which were trained with TensorFlow.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.models.backbones.depthwise import depthwise_conv2d
from clrernetlm.models.layers import RELU6, FusedConv2d, RgbInput, initialise_convolutions

NORM_EPSILON = 1e-3
INPUT_MEAN = (127 / 255,) * 3
INPUT_STD = (128 / 255,) * 3


class Stage(NamedTuple):
    """Consecutive inverted bottlenecks of one kind; the first one has the stride."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    depth: int


STEM_CHANNELS = 32
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
OUTPUT_BLOCKS = (2, 4, 10, 15)  # the last block of each of the strides 4, 8, 16, 32


class SameConv2d(nn.Conv2d):
    """Convolve (B, in, h, w) -> (B, out, h/stride, w/stride) with TensorFlow's "SAME" padding; stride divides h and w.

    With stride 2 the odd row and column of padding are at the bottom and right, not at the top and left.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False)
        before = (kernel - stride) // 2
        after = kernel - stride - before
        self.margins = (before, after, before, after)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.kernel_size != (1, 1):
            input = F.pad(input, self.margins)
        if self.groups > 1:
            return depthwise_conv2d(input, weight, bias, self.stride[0])
        convolved: Tensor = super()._conv_forward(input, weight, bias)
        return convolved


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """Apply convolution and batch norm, (B, in, h, w) -> (B, out, h', w'); in one operation if the norm is fixed."""
    if norm.training or not isinstance(norm, nn.BatchNorm2d):  # an Identity if the norm is folded into the weights
        normalised: Tensor = norm(conv(x))
        return normalised
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    convolved: Tensor = conv._conv_forward(x, conv.weight * scale[:, None, None, None], shift)
    return convolved


def conv_norm_relu6(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """Apply convolution, batch norm and ReLU6 (clipping to 0..6), (B, in, h, w) -> (B, out, h', w')."""
    if isinstance(conv, FusedConv2d):  # the norm is folded into its weights
        fused: Tensor = conv(x, None, RELU6)
        return fused
    return F.relu6(conv_norm(conv, norm, x), inplace=True)


class InvertedBottleneck(nn.Module):
    """Map (B, in, h, w) -> (B, out, h/stride, w/stride): expand, depth-wise, project; a residual if shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.has_residual = stride == 1 and in_channels == out_channels
        self._expand_conv: nn.Conv2d | None = None
        if expansion > 1:
            self._expand_conv = nn.Conv2d(in_channels, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, out_channels, 1, bias=False)
        self._bn2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        if self._expand_conv is not None:
            inner = conv_norm_relu6(self._expand_conv, self._bn0, x)
        inner = conv_norm_relu6(self._depthwise_conv, self._bn1, inner)
        residual = x if self.has_residual else None
        if isinstance(self._project_conv, FusedConv2d):
            fused: Tensor = self._project_conv(inner, residual)
            return fused
        out = conv_norm(self._project_conv, self._bn2, inner)
        return out if residual is None else out + residual


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


class EfficientNetLite0(nn.Module):
    """Extract four maps, strides 4, 8, 16, 32, with `out_channels` channels from (B, 3, H, W) BGR in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.input = RgbInput(INPUT_MEAN, INPUT_STD)
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _norm(STEM_CHANNELS)
        blocks: list[InvertedBottleneck] = []
        widths = [STEM_CHANNELS]
        for kernel, stride, expansion, channels, depth in STAGES:
            for position in range(depth):
                step = stride if position == 0 else 1
                blocks.append(InvertedBottleneck(widths[-1], channels, kernel, step, expansion))
                widths.append(channels)
        self._blocks = nn.ModuleList(blocks)
        self.out_channels = tuple(widths[block + 1] for block in OUTPUT_BLOCKS)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = conv_norm_relu6(self._conv_stem, self._bn0, self.input(images))  # (B, 32, H/2, W/2)
        levels = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in OUTPUT_BLOCKS:
                levels.append(x)  # (B, C, H/stride, W/stride), stride 4, 8, 16, 32
        return tuple(levels)

    def stem(self) -> list[nn.Module]:
        """Return the layers up to the map of stride 4."""
        return [self._conv_stem, self._bn0, *self._blocks[: OUTPUT_BLOCKS[0] + 1]]

    def imagenet_module(self) -> nn.Module:
        """Return the module whose weights have the names of the published ImageNet weights."""
        return self


def efficientnet_lite0() -> EfficientNetLite0:
    """Build the smallest variant: 3.0 M parameters."""
    return EfficientNetLite0()
