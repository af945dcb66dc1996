"""Small detectors for tests of exports, and images for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clrernetlm.config import BackboneConfig, Config
from clrernetlm.deploy.graph_names import STAGE
from clrernetlm.models.clrernet.detector import CLRerNet
from tests.helpers.small_detector import small_config


def random_detector(backbone: str = "dla46_c", seed: int = 3, stages: int = 3) -> tuple[Config, CLRerNet]:
    """Return a detector of random weights that finds lanes of every confidence, three quarters of the image long.

    With one stage of the head instead of three, an export takes about half the time.
    """
    config = small_config(Path("data"), Path("run"))
    config.model.backbone = BackboneConfig(name=backbone)  # type: ignore[arg-type]
    config.model.head.refine_layers = stages
    config.model.decode.conf_threshold = 0.45
    torch.manual_seed(seed)
    model = CLRerNet(config.model).eval()
    head = model.bbox_head
    with torch.no_grad():
        torch.nn.init.normal_(head.cls_layers.weight, std=0.05)
        torch.nn.init.constant_(head.reg_layers.bias[3:4], 0.75)
        for parameter in head.attention.attention.W.parameters():  # zero in an untrained head
            torch.nn.init.normal_(parameter, std=0.1)
    return config, model


def line_images(config: Config, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw (count, height, width, 3) uint8: bright lines on dark noise, of the network's size."""
    width, height = config.model.viewport.size
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, (count, height, width, 3)).astype(np.uint8)
    for image in images:
        for _ in range(3):
            bottom, top = rng.integers(0, width, 2)
            rows = np.arange(height)
            columns = (top + (bottom - top) * rows / height).astype(int)
            image[rows, columns] = 230
    return images


@torch.inference_mode()
def pytorch_outputs(model: CLRerNet, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Return the last stage of the detector, computed by PyTorch."""
    stage = model(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)[-1]
    return {name: stage[name].numpy() for name in STAGE}


def largest_difference(one: dict[str, NDArray[np.float32]], other: dict[str, NDArray[np.float32]]) -> float:
    """Return the largest difference over the stage's outputs."""
    return max(float(np.abs(one[name] - other[name]).max()) for name in STAGE)
