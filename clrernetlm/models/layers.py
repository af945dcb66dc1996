"""The small pieces that backbones, neck and head share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NORM_MOMENTUM = 0.1  # weight of the newest batch in the running statistics


@dataclass(frozen=True)
class Activation:
    """A function of single values under its name in oneDNN."""

    name: str
    limits: tuple[float, ...] = ()


NONE, RELU, RELU6 = Activation("none"), Activation("relu"), Activation("hardtanh", (0.0, 6.0))


class FusedConv2d(nn.Module):
    """(B, in, h, w) -> (B, out, h', w'): convolution with its norm, the residual and the activation in one operation.

    `onednn.PackedConv2d` is the one there is. Blocks hand it what follows the convolution; see `conv_norm_relu`.
    """

    def forward(self, x: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        raise NotImplementedError


def conv_norm_relu(conv: nn.Module, norm: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """(B, in, h, w) -> (B, out, h', w'): convolution, batch norm, plus the residual if there is one, ReLU."""
    if isinstance(conv, FusedConv2d):  # the norm is in its weights
        return conv(x, residual, RELU)
    x = norm(conv(x))
    return (x if residual is None else x.add_(residual)).relu_()


class ConvNormReLU(nn.Sequential):
    """(B, in, h, w) -> (B, out, h', w'): three layers in a row, a convolution, a batch norm and a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, _ = self
        return conv_norm_relu(conv, norm, x)


class ConvBlock(nn.Module):
    """(B, in, h, w) -> (B, out, h', w'): convolution, then batch norm and ReLU when `norm` is set.

    Without norm the convolution has a bias and nothing follows it. Padding keeps the size.
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
    """(B, 3, H, W) BGR in [0, 1] -> (B, 3, H, W) RGB, (x - mean) / std: what ImageNet weights were trained on.

    Every backbone takes the same images; those that need another input convert it here.
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
    """Store the weights of convolutions channel by channel side by side, which makes them faster; values stay."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def initialise_convolutions(module: nn.Module) -> None:
    """Normal weights that keep the variance of the backward pass through ReLU (He et al. 2015); biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
