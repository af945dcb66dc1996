"""The optimiser and learning rates of both models."""

from __future__ import annotations

import math
from typing import Any

import torch

from clrernetlm.config import TrainingConfig


def adamw_cosine(groups: list[dict[str, Any]], settings: TrainingConfig, total: int) -> dict[str, Any]:
    """AdamW over parameter groups for `total` steps: linear warm-up, then half a cosine down to 0."""
    optimizer = torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    total = max(1, total)
    warmup = min(settings.warmup_steps, total - 1)

    def factor(step: int) -> float:
        """Linear from near 0 over `warmup` steps, then half a cosine down to 0 at the last step."""
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
