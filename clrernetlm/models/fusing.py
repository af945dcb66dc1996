"""Optimises models for inference: folded BatchNorm, memory layout, precision, fused decoding, optional compilation."""

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
    """Copy a CLRerNet, or a module that contains one, for inference; the outputs are equal up to rounding.

    `precision` fp32, bf16 or fp16 is that of the backbone's and pyramid's convolutions, which take most of the time;
    their output is float32, and head and LaneLM stay in float32. fp16 is for GPUs. `compiled` runs backbone, pyramid
    and head through torch.compile, which takes a minute at the first image and needs a C++ compiler. The copy has no
    gradients, and its weights are not those of a checkpoint. Raises UserError for another precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision: '{precision}' is unknown; use {', '.join(PRECISIONS)}")
    if precision == "fp16" and next(model.parameters()).device.type == "cpu":
        raise UserError("precision: fp16 is for GPUs; use bf16 on the CPU")
    fused = deepcopy(model).eval().requires_grad_(False)
    detectors = [module for module in fused.modules() if isinstance(module, CLRerNet)]
    for detector in detectors:
        fold_norms(detector)
        if precision != "fp32":
            detector.pyramid_dtype = PRECISIONS[precision]
            detector.backbone.to(PRECISIONS[precision])
            detector.neck.to(PRECISIONS[precision])
        to_channels_last(detector)
        if compiled:
            for module in (detector.backbone, detector.neck, detector.bbox_head):
                module.compile(dynamic=False)
    on_cpu = next(fused.parameters()).device.type == "cpu"
    for_onednn = on_cpu and not compiled and torch.backends.mkldnn.is_available()
    for lanelm in [module for module in fused.modules() if isinstance(module, LaneLM)]:
        fuse_for_inference(lanelm, fold_image_encoder=for_onednn)
    if for_onednn:
        prepack(fused)
        for detector in detectors:
            detector.bbox_head.pool = gather_along
    return fused


def fold_norms(module: nn.Module) -> None:
    """Fold every BatchNorm2d that is registered right after its convolution into that convolution, in place.

    An Identity replaces it. The running statistics of the norms are used.
    """
    previous: nn.Module | None = None
    for name, child in module.named_children():
        if isinstance(previous, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            _fold(previous, child)
            setattr(module, name, nn.Identity())
        else:
            fold_norms(child)
        previous = child


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # In float64, on the CPU: Apple's GPUs have no float64.
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
