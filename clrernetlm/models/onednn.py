"""CPU inference layers: weights prepacked for oneDNN; residual and activation fused into the convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.models.backbones.efficientnet_lite import SameConv2d
from clrernetlm.models.clrernet.roi_gather import PointsLinear
from clrernetlm.models.layers import NONE, RELU, Activation, ConvBlock, FusedConv2d

ONEDNN_MIN_WEIGHT = 1 << 18  # values of a weight matrix from which oneDNN is faster for any input
ONEDNN_MIN_PRODUCT = 1 << 19  # multiplications from which oneDNN is faster for any weight


class PackedLinear(nn.Module):
    """Apply a Linear with weights prepacked for oneDNN, (..., in) float32 -> (..., out).

    For float32 on the CPU, without gradients. Two to three times as fast as the BLAS that PyTorch calls on AMD's
    processors; small products, for which the overhead of oneDNN is too large, use PyTorch's own Linear.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().contiguous()
        self.values = weight.numel()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.weight = weight if self.values < ONEDNN_MIN_WEIGHT else None
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is not None and x.numel() // x.shape[-1] * self.values < ONEDNN_MIN_PRODUCT:
            return F.linear(x, self.weight, self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), self.packed, self.bias, "none", [], "")
        return product


class PackedConv2d(FusedConv2d):
    """Apply a Conv2d, the residual if given, and the activation, (B, in, h, w) -> (B, out, h', w').

    The weights are prepacked for oneDNN at the first input; Conv2d reorders them at every call, which takes a fifth of
    the time of the coarse, wide layers. Residual and activation are applied while the output is still in the cache.
    `activation` is applied by calls that pass none. For the CPU, without gradients; threads may share a layer.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation = NONE) -> None:
        super().__init__()
        weight, padding = conv.weight.detach(), conv.padding
        if isinstance(conv, SameConv2d):
            before, after = conv.margins[:2]
            # oneDNN is called with equal padding on both sides; a row and a column of zero weights lie over the excess.
            weight = F.pad(weight, (after - before, 0) * 2)
            padding = (after, after)
        assert isinstance(padding, tuple)
        self.geometry = [*padding], [*conv.stride], [*conv.dilation], conv.groups
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.activation = activation
        # One attribute for both, so that another thread reads either the plain weights or the packed ones with True.
        self.weight_and_packed = weight, False

    def forward(self, x: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        weight, is_packed = self.weight_and_packed
        if not is_packed:
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, [*x.shape])
            self.weight_and_packed = weight, True
        weights, operations = (weight, self.bias, *self.geometry), torch.ops.mkldnn
        after = self.activation if activation is None else activation
        result: Tensor
        if residual is None:
            result = operations._convolution_pointwise(x, *weights, after.name, after.limits, "")
            return result
        name = None if after == NONE else after.name
        result = operations._convolution_pointwise.binary(x, residual, *weights, "add", 1.0, name, after.limits, None)
        return result


def prepack(module: nn.Module) -> None:
    """Replace the Linear and Conv2d layers of a module by prepacked ones, in place, if this PyTorch supports them.

    Their BatchNorms must be folded into their weights before; see `fusing.fold_norms`.
    """
    for name, child in module.named_children():
        packed: nn.Module
        try:
            if type(child) is nn.Linear and child.weight.dtype == torch.float32:
                packed = PackedLinear(child)
                packed(torch.zeros(ONEDNN_MIN_PRODUCT // child.weight.numel() + 1, child.in_features))
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
    """Prepack a Conv2d and its activation. Raises RuntimeError if oneDNN does not support the layer."""
    PackedConv2d(conv, activation)(torch.zeros(1, conv.in_channels, *conv.kernel_size, dtype=conv.weight.dtype))
    return PackedConv2d(conv, activation)
