"""Models for use: BatchNorm inside the convolutions, a layout and a precision that are fast, optionally compiled."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

from clrernetlm.core.errors import UserError
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.clrernet.head import gather_along
from clrernetlm.models.lanelm.cached_decoding import fuse_for_inference
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.layers import to_channels_last
from clrernetlm.models.onednn import prepack

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
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
    detectors = [module for module in fast.modules() if isinstance(module, CLRerNet)]
    for detector in detectors:
        fold_norms(detector)
        if precision != "fp32":
            detector.pyramid_dtype = PRECISIONS[precision]
            detector.backbone.to(PRECISIONS[precision])
            detector.neck.to(PRECISIONS[precision])
        to_channels_last(detector)
        if compiled:
            for part in (detector.backbone, detector.neck, detector.bbox_head):
                part.compile(dynamic=False)
    on_cpu = next(fast.parameters()).device.type == "cpu"
    for_onednn = on_cpu and not compiled and torch.backends.mkldnn.is_available()
    for lanelm in [module for module in fast.modules() if isinstance(module, LaneLM)]:
        fuse_for_inference(lanelm, fold_image_encoder=for_onednn)
    if for_onednn:
        prepack(fast)
        for detector in detectors:
            detector.bbox_head.pool = gather_along
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


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # In float64, which Apple's GPUs do not have: on the host.
    gain, shift, mean, variance, weight = (
        value.detach().cpu().double()
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var, conv.weight)
    )
    scale = gain * torch.rsqrt(variance + norm.eps)
    shift = shift - mean * scale
    if conv.bias is not None:
        shift = shift + conv.bias.detach().cpu() * scale
    conv.bias = nn.Parameter(shift.to(conv.weight), requires_grad=False)
    conv.weight = nn.Parameter((weight * scale[:, None, None, None]).to(conv.weight), requires_grad=False)
