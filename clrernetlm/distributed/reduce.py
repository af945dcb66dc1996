"""Reduces values over the processes of a distributed training."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def mean_over_processes(value: Tensor) -> Tensor:
    """Average a tensor of any shape over all processes, without gradient; with one process, return it detached.

    For the divisor of a loss: DDP averages gradients, so a loss that every process divides by this mean has the
    gradient of one process with the whole batch. Every process must call it equally often.
    """
    value = value.detach()
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)  # gloo has no mean of its own
    return total / dist.get_world_size()
