"""The seeded weights and images behind the golden numbers: NumPy generators only, one per key, so nothing is shared.

Keys are the official names (`tests/data/golden/state_dict_order.json`). What is drawn, first match wins (N standard
normal, U uniform, fan_in the product of all but the first dimension):

    integers and constant buffers   kept
    prior_embeddings.weight         kept + 0.01 N
    running_var, running_mean       U(0.5, 1.5), 0.1 N
    reg_layers.weight, .bias        0.02 sqrt(1 / fan_in) N with row 3 (length) five times larger, 0.02 N with [3] = 0.5
    cls_layers.weight               sqrt(1 / fan_in) N
    1-D weights                     U(0.5, 1.5), halved for the last norm of a residual block (bn2, root.bn)
    other weights, biases           sqrt(2 / fan_in) N, 0.1 N
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
KEPT = ("sample_x_indices", "prior_feat_ys", "prior_ys", "loss_seg.criterion.weight", "num_batches_tracked")


def golden_value(key: str, current: NDArray[np.float64]) -> NDArray[np.float64]:
    """The golden value of one entry; `current` is (shape of the entry) and matters only where the fill adds to it."""
    if key.endswith(KEPT):
        return current
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    shape = current.shape
    if key.endswith("running_var"):
        return 0.5 + generator.random(shape)
    if key.endswith(".weight") and len(shape) == 1:
        return (0.5 + generator.random(shape)) * (0.5 if ".bn2." in key or ".root.bn." in key else 1.0)

    normal = generator.standard_normal(shape)
    deviation = math.sqrt(1 / math.prod(shape[1:]))
    if key.endswith("prior_embeddings.weight"):
        return current + 0.01 * normal
    if key.endswith("reg_layers.weight"):
        value = 0.02 * deviation * normal
        value[3] *= 5.0
        return value
    if key.endswith("reg_layers.bias"):
        value = 0.02 * normal
        value[3] = 0.5
        return value
    if key.endswith("cls_layers.weight"):
        return deviation * normal
    if key.endswith(".weight"):
        return math.sqrt(2 / math.prod(shape[1:])) * normal
    if key.endswith(("running_mean", ".bias")):
        return 0.1 * normal
    raise KeyError(key)


def golden_state(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under official names -> the same names, shapes and dtypes with the golden values."""
    state = {}
    for key, current in official.items():
        value = golden_value(key, current.detach().cpu().to(torch.float64).numpy())
        state[key] = torch.from_numpy(np.asarray(value)).to(current.dtype)
    return state


def golden_image(seed: int, batch: int = 1, height: int = 320, width: int = 800) -> Tensor:
    """(batch, 3, height, width) float32 in [0, 1): coarse blobs of 16x16 pixels under a fifth of noise."""
    generator = np.random.Generator(np.random.PCG64(seed))
    blobs = generator.random((batch, 3, height // 16, width // 16)).repeat(16, axis=2).repeat(16, axis=3)
    noise = generator.random((batch, 3, height, width))
    return torch.from_numpy((0.8 * blobs + 0.2 * noise).astype(np.float32))


FORWARD_LOSS = np.load(GOLDEN / "b_forward_loss.npz")


def golden_targets(*lanes):
    return torch.stack([torch.from_numpy(FORWARD_LOSS[f"target{n}"]) for n in lanes])


def golden_masks(*lanes):
    return torch.stack([torch.from_numpy(FORWARD_LOSS[f"mask{n}"]) for n in lanes])
