import pytest
import torch

from clrernetlm.config import TrainingConfig, load_config
from clrernetlm.training.optimizer import build_optimizer


def rates(settings: TrainingConfig, total: int) -> list[float]:
    """Learning rates of the steps of a training."""
    made = build_optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))]}], settings, total)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    seen = []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_a_constant_rate_stays_after_the_warm_up():
    settings = TrainingConfig(learning_rate=0.3, warmup_steps=2, schedule="constant")
    assert rates(settings, 6) == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3, 0.3])


def test_a_cosine_falls_to_zero_after_the_warm_up():
    settings = TrainingConfig(learning_rate=0.3, warmup_steps=2)
    assert rates(settings, 6) == pytest.approx([0.1, 0.2, 0.3, 0.15 + 0.15 * 0.5**0.5, 0.15, 0.15 - 0.15 * 0.5**0.5])


def test_the_config_with_averaged_weights_keeps_the_rate_constant_as_published():
    assert load_config("clrernet_culane_dla34_ema").training.schedule == "constant"
    assert load_config("clrernet_culane_dla34").training.schedule == "cosine"
