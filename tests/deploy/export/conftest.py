"""Exports one small LaneLM with a fovea, once for all tests of this folder."""

from pathlib import Path

import pytest
import torch

from clrernetlm.config import Config
from clrernetlm.deploy.export import export_model
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.weights.build_models import init_lanelm, save_lanelm
from tests.helpers.small_lanelm import small_lanelm_config, write_detector


@pytest.fixture(scope="session")
def exported_fovea(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, PromptableDetector, Path, Path]:
    """Return settings, the model, its checkpoint, and the folder of ONNX files it is exported to."""
    folder = tmp_path_factory.mktemp("lanelm")
    config = small_lanelm_config(folder / "data", folder / "run", write_detector(folder / "detector.pth", stages=1))
    config.model.head.refine_layers = 1
    config.model.decode.conf_threshold = 0.2
    network = config.lanelm.network
    network.num_layers = 2
    network.fovea, network.fovea_dim, network.fovea_layers = True, 32, 1
    torch.manual_seed(0)
    model = init_lanelm(config, "random")
    model.detector.load_official_state_dict(torch.load(folder / "detector.pth", weights_only=True))
    assert model.fovea is not None
    with torch.no_grad():  # lanes of every length
        for linear in (model.lanelm.head.proj_x, model.lanelm.head.proj_y, model.lanelm.proj_offset):
            linear.weight.mul_(4)
        model.lanelm.head.proj_y.bias[-1] -= 4
        model.fovea.of_row.bias[2:] = 1.0
        model.fovea.offset.weight.mul_(20)
    save_lanelm(model, folder / "lanelm.pth")
    return (
        config,
        model,
        folder / "lanelm.pth",
        export_model(config, folder / "lanelm.pth", "onnx", out=folder / "onnx"),
    )
