"""Settings with which LaneLM trains in seconds, and a detector for it."""

from pathlib import Path

import torch

from clrernetlm.config import ClrernetConfig, Config, HeadConfig, LaneLMConfig, LaneLMNetworkConfig
from clrernetlm.config.schema import BackboneConfig
from clrernetlm.core.viewport import Viewport
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase, PromptableDetector
from clrernetlm.models.lanelm.fovea.network import NUM_TYPES
from clrernetlm.weights.build_models import build_lanelm
from clrernetlm.weights.checkpoint import save_official
from tests.helpers.small_detector import small_config


def small_lanelm_config(root: Path, work_dir: Path, detector: Path, **training: object) -> Config:
    """Return settings of a LaneLM of 0.1 million weights on the detector of `small_config`."""
    config = small_config(root, work_dir, **training)
    config.task = "lanelm"
    config.lanelm = LaneLMConfig(
        detector=str(detector),
        network=LaneLMNetworkConfig(
            num_steps=16, nbins_x=80, embed_dim=32, num_layers=3, num_heads=2, ffn_dim=64, strip_points=5
        ),
    )
    return config


def write_detector(path: Path, stages: int = 3) -> Path:
    """Return a detector of random weights that finds lanes of every confidence, three quarters of the image long."""
    torch.manual_seed(3)
    config = small_config(path, path)
    config.model.head.refine_layers = stages
    model = CLRerNet(config.model)
    torch.nn.init.normal_(model.bbox_head.cls_layers.weight, std=0.5)
    torch.nn.init.constant_(model.bbox_head.reg_layers.bias[3:4], 0.75)
    save_official(model, path)
    return path


def random_lanelm_detector(config: Config) -> LaneLMDetectorBase:
    """Return a LaneLM of random weights that finds and decodes lanes of every length, some with low confidence."""
    torch.manual_seed(0)
    model = build_lanelm(config).eval()
    with torch.no_grad():
        model.detector.bbox_head.reg_layers.bias[3] = 0.8  # the length
        model.detector.bbox_head.cls_layers.weight.mul_(3000)
        for linear in (model.lanelm.head.proj_x, model.lanelm.head.proj_y, model.lanelm.proj_offset):
            linear.weight.mul_(4)
    return model


def with_fovea(config: Config) -> Config:
    """Give settings a small fovea, and a metric for which any lane near a label matches it; returns them."""
    network = config.lanelm.network
    network.fovea, network.fovea_dim, network.fovea_layers, network.fovea_heads = True, 32, 1, 4
    config.evaluation.lane_width = 100
    return config


def solid_white_detector(config: Config) -> LaneLMDetectorBase:
    """Return a LaneLM of random weights with a fovea, whose lanes are solid, white, on all rows and seen everywhere."""
    model = random_lanelm_detector(config)
    assert isinstance(model, PromptableDetector)
    assert model.fovea is not None
    with torch.no_grad():
        model.fovea.of_row.bias[1:] = 9.0
        model.fovea.of_lane.weight.zero_()
        model.fovea.of_lane.bias.zero_()
        model.fovea.of_lane.bias[[1, 1 + NUM_TYPES]] = 1.0  # the first type and the first colour
    return model


def config_of(kind: str = "full", **network: object) -> Config:
    settings = {"num_steps": 12, "nbins_x": 64, "embed_dim": 32, "num_heads": 4, "ffn_dim": 64} | network
    return Config(
        task="lanelm",
        model=ClrernetConfig(
            backbone=BackboneConfig(name="dla46_c"),
            head=HeadConfig(num_priors=24, roi_channels=8),
            viewport=Viewport(width=128, height=64),
        ),
        lanelm=LaneLMConfig(variant=kind, network=LaneLMNetworkConfig(**settings)),  # type: ignore[arg-type]
    )


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 128, generator=torch.Generator().manual_seed(0))
