"""Defines a depth-wise convolution whose backward pass is fast on the CPU, too.

PyTorch's own gradients of depth-wise convolutions are slow there in two cases: for the weights of 5x5 kernels, and for
the inputs of strided kernels in bfloat16. Both are composed here of operations that are fast; the values are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_FAST_KERNEL = 3  # taps a side of the largest kernel whose weight gradient is fast


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve each channel of a padded input (B, C, H, W) with its own kernel, (C, 1, k, k) weight and (C,) bias.

    Returns (B, C, (H - k) // stride + 1, (W - k) // stride + 1).
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return F.conv2d(x, weight, bias, stride, groups=len(weight))
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    result: Tensor = _DepthwiseConv2d.apply(x, weight, bias, stride)  # type: ignore[no-untyped-call]
    return result


class _DepthwiseConv2d(torch.autograd.Function):
    """Depth-wise `F.conv2d` with its gradients by `_input_gradient` and `_weight_gradient`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, bias, stride, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        (out,) = gradients
        if x.is_contiguous(memory_format=torch.channels_last):
            out = out.contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        return (
            _input_gradient(out, x, weight, ctx.stride) if wants_x else None,
            _weight_gradient(out, x, weight, ctx.stride) if wants_weight else None,
            out.sum((0, 2, 3)) if wants_bias else None,
            None,
        )


def _aten_gradients(
    out: Tensor, x: Tensor, weight: Tensor, stride: int, mask: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Compute PyTorch's gradients of input and weight; those that are False in `mask` are undefined."""
    arguments = (out, x, weight, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], len(weight), [*mask, False])
    of_input, of_weight, _ = torch.ops.aten.convolution_backward(*arguments)
    return of_input, of_weight


def _input_gradient(out: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Compute the gradient of the input (B, C, H, W) from that of the output, `out`."""
    if stride == 1 or out.dtype == torch.float32:
        return _aten_gradients(out, x, weight, stride, (True, False))[0]
    # With stride - 1 zeros between the gradients of neighbouring outputs it is an unstrided convolution.
    (batch, channels, height, width), kernel = x.shape, weight.shape[-1]
    rows, columns = out.shape[-2:]
    spread = torch.empty(
        (batch, channels, height + kernel - 1, width + kernel - 1),
        dtype=out.dtype,
        memory_format=torch.channels_last,
    ).zero_()
    first = kernel - 1
    last_row, last_column = first + (rows - 1) * stride + 1, first + (columns - 1) * stride + 1
    spread[:, :, first:last_row:stride, first:last_column:stride] = out
    return F.conv2d(spread, weight.flip(2, 3), groups=channels)


def _weight_gradient(out: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Compute the gradient of the weight (C, 1, k, k) from that of the output, `out`."""
    kernel = weight.shape[-1]
    if kernel <= _FAST_KERNEL:
        return _aten_gradients(out, x, weight, stride, (False, True))[1]
    # A 5x5 kernel consists of four overlapping 3x3 kernels, each applied to the input shifted.
    rows, columns = out.shape[-2:]
    height, width = (rows - 1) * stride + _FAST_KERNEL, (columns - 1) * stride + _FAST_KERNEL
    part = weight[:, :, :_FAST_KERNEL, :_FAST_KERNEL].contiguous(memory_format=torch.channels_last)
    result = torch.empty_like(weight)
    for i in _corners(kernel):
        for j in _corners(kernel):
            shifted = x[:, :, i : i + height, j : j + width].contiguous(memory_format=torch.channels_last)
            gradient = _aten_gradients(out, shifted, part, stride, (False, True))[1]
            result[:, :, i : i + _FAST_KERNEL, j : j + _FAST_KERNEL] = gradient
    return result


def _corners(kernel: int) -> list[int]:
    """List the first taps, along one axis, of the 3x3 kernels that cover a larger one."""
    return [*range(0, kernel - _FAST_KERNEL, _FAST_KERNEL), kernel - _FAST_KERNEL]
