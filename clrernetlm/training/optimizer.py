"""Builds the optimiser and the learning rate schedule of both models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from clrernetlm.config import TrainingConfig


def build_optimizer(
    groups: list[dict[str, Any]], settings: TrainingConfig, total: int, done: int = 0
) -> dict[str, Any]:
    """Build AdamW over parameter groups, and its learning rate schedule of `total` steps.

    Linear warm-up over `warmup_steps`, then half a cosine down to 0, or a constant rate (`training.schedule`). `done`:
    steps that a resumed run has already taken. Returns a dict as Lightning's `configure_optimizers`.
    """
    optimizer = torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    total = max(1, total)
    warmup = min(settings.warmup_steps, total - 1)

    def factor(step: int) -> float:
        """Compute the share of the learning rate at a step, 0 .. 1."""
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if settings.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    schedule = Schedule(optimizer, factor, done)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Schedule(LambdaLR):
    """Learning rates as a share, `factor(step)`, of those that the optimiser is made with.

    A checkpoint brings neither them nor other settings of the optimiser back: those of the run count, from step `done`.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float], done: int) -> None:
        super().__init__(optimizer, factor)
        self.done = done
        self.settings = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]

    def state_dict(self) -> dict[str, Any]:
        own = ("done", "settings")
        return {name: value for name, value in super().state_dict().items() if name not in own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the schedule to the step at which the run resumes. The optimiser must be restored before."""
        self.last_epoch, self._step_count = self.done, self.done + 1
        for group, settings, base in zip(self.optimizer.param_groups, self.settings, self.base_lrs, strict=True):
            group.update(settings | {"lr": base * self.lr_lambdas[0](self.done)})
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
