"""Layers that backbones, neck and head share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NORM_MOMENTUM = 0.1  # weight of the newest batch in the running statistics


@dataclass(frozen=True)
class Activation:
    """An element-wise activation under its name in oneDNN; `limits` are its arguments."""

    name: str
    limits: tuple[float, ...] = ()


NONE, RELU, RELU6 = Activation("none"), Activation("relu"), Activation("hardtanh", (0.0, 6.0))


class FusedConv2d(nn.Module):
    """Base class of convolutions fused with norm, residual and activation, (B, in, h, w) -> (B, out, h', w').

    `onednn.PackedConv2d` is the only one. Blocks pass residual and activation to it; see `conv_norm_relu`.
    """

    def forward(self, x: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        raise NotImplementedError


def conv_norm_relu(conv: nn.Module, norm: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """Apply convolution, batch norm, the residual if given, and ReLU, (B, in, h, w) -> (B, out, h', w')."""
    if isinstance(conv, FusedConv2d):  # the norm is folded into its weights
        fused: Tensor = conv(x, residual, RELU)
        return fused
    x = norm(conv(x))
    return (x if residual is None else x.add_(residual)).relu_()


class ConvNormReLU(nn.Sequential):
    """Apply the three layers it holds, a convolution, a batch norm and a ReLU, (B, in, h, w) -> (B, out, h', w')."""

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, _ = self
        return conv_norm_relu(conv, norm, x)


class ConvBlock(nn.Module):
    """Apply a convolution, and batch norm and ReLU if `norm` is set, (B, in, h, w) -> (B, out, h, w).

    Without norm the convolution has a bias, and no activation follows. Padding keeps the size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        norm: bool = False,
        momentum: float = NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = rows // 2, columns // 2
        self.conv = nn.Conv2d(in_channels, out_channels, (rows, columns), padding=padding, bias=not norm)
        self.bn = nn.BatchNorm2d(out_channels, momentum=momentum) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.bn is None else self.bn(x).relu_()


class RgbInput(nn.Module):
    """Convert (B, 3, H, W) BGR in [0, 1] -> RGB normalised as (x - mean) / std, on which ImageNet weights were trained.

    Every backbone takes the same images; those that need another input hold this layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.flip(1) - self.mean) / self.std


def to_channels_last(module: nn.Module) -> None:
    """Store the weights of convolutions in the channels-last format, in place, which is faster; values stay."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def initialise_convolutions(module: nn.Module) -> None:
    """Initialise convolutions: normal weights that keep the variance of the backward pass (He et al. 2015), bias 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
