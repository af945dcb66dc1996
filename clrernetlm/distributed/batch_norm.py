"""Normalises batches over all processes, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SumOverProcesses(torch.autograd.Function):
    """Sums a tensor of any shape over all processes; its gradient is summed over them, too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sum_over_processes(value: Tensor) -> Tensor:
    total: Tensor = SumOverProcesses.apply(value)  # type: ignore[no-untyped-call]
    return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Normalises (B, C, H, W): in training with the statistics of the global batch, otherwise as BatchNorm2d.

    Every process must hold the same number of images. The sums are computed by a differentiable all-reduce, so that
    gradients equal those of one process with the whole batch. PyTorch's own SyncBatchNorm refuses CPU tensors; on CUDA
    the trainer uses that one.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = _sum_over_processes(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        # Two passes, because E[x^2] - mean^2 loses digits, and N processes would differ from one.
        variance = _sum_over_processes(centred.square().sum((0, 2, 3))) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                momentum = 0.1 if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.detach(), momentum)
                self.running_var.lerp_(variance.detach() * (count / max(count - 1, 1)), momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked += 1
        normalised = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        scaled: Tensor = (normalised * self.weight[:, None, None] + self.bias[:, None, None]).to(input.dtype)
        return scaled


def synchronise_batch_norm(module: nn.Module) -> nn.Module:
    """Turn every BatchNorm2d of `module` into a SyncedBatchNorm2d, in place; weights and names stay."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SyncedBatchNorm2d
    return module
