"""Models for use: BatchNorm inside the convolutions, a layout and a precision that are fast, optionally compiled."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.errors import UserError
from clrernetlm.models.clrernet import CLRerNet
from clrernetlm.models.lanelm.network import LaneLM
from clrernetlm.models.layers import lay_channels_last

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LARGE_WEIGHT = 1 << 18  # values from which oneDNN is faster for any input
LARGE_PRODUCT = 1 << 19  # multiplications from which it is faster for any weight
Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def fuse(model: Model, precision: str = "fp32", compiled: bool = False) -> Model:
    """A copy of a CLRerNet, or of a module that holds one, for inference: same inputs, same outputs up to rounding.

    `precision` fp32, bf16 or fp16 is that of backbone and pyramid convolutions, where the time goes; what they return
    is float32, and head and LaneLM stay in float32. fp16 is for GPUs. `compiled` hands backbone, pyramid and head to
    torch.compile, which takes a minute at the first image and needs a C++ compiler. The copy takes no gradients, and
    its weights are not those of a checkpoint. Raises UserError for another precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision: '{precision}' is unknown; use {', '.join(PRECISIONS)}")
    if precision == "fp16" and next(model.parameters()).device.type == "cpu":
        raise UserError("precision: fp16 is for GPUs; use bf16 on the CPU")
    fast = deepcopy(model).eval().requires_grad_(False)
    for detector in [module for module in fast.modules() if isinstance(module, CLRerNet)]:
        fold_norms(detector)
        if precision != "fp32":
            detector.pyramid_dtype = PRECISIONS[precision]
            detector.backbone.to(PRECISIONS[precision])
            detector.neck.to(PRECISIONS[precision])
        lay_channels_last(detector)
        if compiled:
            for part in (detector.backbone, detector.neck, detector.bbox_head):
                part.compile(dynamic=False)
    on_cpu = next(fast.parameters()).device.type == "cpu"
    for_onednn = on_cpu and not compiled and torch.backends.mkldnn.is_available()
    for lanelm in [module for module in fast.modules() if isinstance(module, LaneLM)]:
        lanelm.sharpen(fold=for_onednn)
    if for_onednn:
        pack(fast)
    return fast


def fold_norms(module: nn.Module) -> None:
    """Put every BatchNorm2d that is registered right after its convolution into that convolution's weights, in place.

    An Identity stays in its place. The norms are taken with their running statistics.
    """
    before: nn.Module | None = None
    for name, child in module.named_children():
        if isinstance(before, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            _fold(before, child)
            setattr(module, name, nn.Identity())
        else:
            fold_norms(child)
        before = child


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


class PackedConv2d(nn.Module):
    """(B, in, h, w) -> (B, out, h', w'): a Conv2d whose weights lie as oneDNN wants them for the first input it meets.

    For the CPU, without gradients. Conv2d brings its weights into that order at every call, which for the coarse, wide
    layers takes a fifth of the time.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert isinstance(conv.padding, tuple)
        self.geometry = [*conv.padding], [*conv.stride], [*conv.dilation], conv.groups
        self.weight = conv.weight.detach()
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.is_packed = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_packed:
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, [*x.shape])
            self.is_packed = True
        return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.geometry, "none", [], "")


def pack(module: nn.Module) -> None:
    """Replace the Linear and Conv2d layers in a module by packed ones, where this PyTorch has them."""
    for name, child in module.named_children():
        packed: nn.Module
        try:
            if type(child) is nn.Linear and child.weight.dtype == torch.float32:
                packed = PackedLinear(child)
                packed(torch.zeros(LARGE_PRODUCT // child.weight.numel() + 1, child.in_features))
            elif type(child) is nn.Conv2d and child.padding_mode == "zeros" and not isinstance(child.padding, str):
                PackedConv2d(child)(torch.zeros(1, child.in_channels, *child.kernel_size, dtype=child.weight.dtype))
                packed = PackedConv2d(child)
            else:
                pack(child)
                continue
        except (AttributeError, RuntimeError):  # built without oneDNN, or for a processor without bf16
            return
        setattr(module, name, packed)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    weight = conv.weight * scale[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
