"""The running average of weights that is validated and saved (`training.ema_momentum`)."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class ModelEma(WeightAveraging):
    """Averages the weights exponentially, and lets the average be validated and saved.

    `momentum` is the weight of the newest value. The first updates have a larger one, 9 / (10 + number of updates), so
    that the random start has no influence even on a short run. Weights that never change, such as those of a frozen
    detector, stay bit-identical, unlike in Lightning's `EMAWeightAveraging`, which rounds them at every step. Integer
    counters are copied.

    `device`: the device of the training. Without it Lightning takes the device of the model before it is moved, keeps
    the average on the host, and copies all weights there in every step.
    """

    def __init__(self, momentum: float, device: torch.device | None = None) -> None:
        def average(mean: Tensor, newest: Tensor, updates: Tensor | int) -> Tensor:
            if not mean.is_floating_point():
                return newest
            weight = torch.clamp(9 / (10 + torch.as_tensor(updates)), min=momentum)
            return mean + (newest - mean) * weight.to(mean.device, mean.dtype)

        super().__init__(device, avg_fn=average)
