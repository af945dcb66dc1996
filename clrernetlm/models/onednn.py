"""Layers for inference on the CPU: weights as oneDNN wants them, and what follows a convolution inside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.models.backbones.efficientnet_lite import SameConv2d
from clrernetlm.models.clrernet.roi_gather import PointsLinear
from clrernetlm.models.layers import NONE, RELU, Activation, ConvBlock, FusedConv2d

LARGE_WEIGHT = 1 << 18  # values from which oneDNN is faster for any input
LARGE_PRODUCT = 1 << 19  # multiplications from which it is faster for any weight


class PackedLinear(nn.Module):
    """(..., in) float32 -> (..., out): a Linear whose weights lie as oneDNN wants them.

    For float32 on the CPU, without gradients. Two to three times as fast there as the BLAS that PyTorch calls on AMD's
    processors; small products, which the longer way to oneDNN would make slower, go the usual way.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().contiguous()
        self.values = weight.numel()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.weight = weight if self.values < LARGE_WEIGHT else None
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is not None and x.numel() // x.shape[-1] * self.values < LARGE_PRODUCT:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x.contiguous(), self.packed, self.bias, "none", [], "")


class PackedConv2d(FusedConv2d):
    """(B, in, h, w) -> (B, out, h', w'): a Conv2d, then the residual if there is one, then the activation.

    Its weights lie as oneDNN wants them for the first input it meets: Conv2d brings them into that order at every call,
    which for the coarse, wide layers takes a fifth of the time. What follows the convolution happens while its output
    is still in the cache. `activation` is what a call without one applies. For the CPU, without gradients; threads may
    share one.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation = NONE) -> None:
        super().__init__()
        weight, padding = conv.weight.detach(), conv.padding
        if isinstance(conv, SameConv2d):
            before, after = conv.margins[:2]
            # oneDNN is asked for as much padding on the left as on the right: a column and a row of zero weights see
            # what is too much.
            weight = F.pad(weight, (after - before, 0) * 2)
            padding = (after, after)
        assert isinstance(padding, tuple)
        self.geometry = [*padding], [*conv.stride], [*conv.dilation], conv.groups
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.activation = activation
        # One assignment puts both in place: a second thread sees the plain weights or the packed ones, never a mixture.
        self.weight_and_packed = weight, False

    def forward(self, x: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        weight, is_packed = self.weight_and_packed
        if not is_packed:
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, [*x.shape])
            self.weight_and_packed = weight, True
        weights, operations = (weight, self.bias, *self.geometry), torch.ops.mkldnn
        after = self.activation if activation is None else activation
        if residual is None:
            return operations._convolution_pointwise(x, *weights, after.name, after.limits, "")
        name = None if after == NONE else after.name
        return operations._convolution_pointwise.binary(x, residual, *weights, "add", 1.0, name, after.limits, None)


def prepack(module: nn.Module) -> None:
    """Replace the Linear and Conv2d layers in a module by packed ones, where this PyTorch has them.

    Their BatchNorms are in their weights already; see `fusing.fold_norms`.
    """
    for name, child in module.named_children():
        packed: nn.Module
        try:
            if type(child) is nn.Linear and child.weight.dtype == torch.float32:
                packed = PackedLinear(child)
                packed(torch.zeros(LARGE_PRODUCT // child.weight.numel() + 1, child.in_features))
            elif isinstance(child, PointsLinear):
                packed = nn.Sequential(packed_convolution(child.convolution()), nn.Flatten(2))
            elif isinstance(child, ConvBlock):
                packed = packed_convolution(child.conv, NONE if child.bn is None else RELU)
            elif isinstance(child, nn.Conv2d) and child.padding_mode == "zeros" and not isinstance(child.padding, str):
                packed = packed_convolution(child)
            else:
                prepack(child)
                continue
        except (AttributeError, RuntimeError):  # built without oneDNN, or for a processor without bf16
            return
        setattr(module, name, packed.eval())


def packed_convolution(conv: nn.Conv2d, activation: Activation = NONE) -> PackedConv2d:
    """Raises RuntimeError where oneDNN cannot do it."""
    PackedConv2d(conv, activation)(torch.zeros(1, conv.in_channels, *conv.kernel_size, dtype=conv.weight.dtype))
    return PackedConv2d(conv, activation)
