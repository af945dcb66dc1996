"""LaneLM's configs: each uses the CLRerNet and the size in its name."""

import pytest

from clrernetlm.config import load_config
from clrernetlm.config.loading import find_config
from clrernetlm.weights.build_models import build_lanelm

DETECTORS = {
    "lanelm_128_resnet18": "clrernet_culane_resnet18",
    "lanelm_128_efficientnet_lite0": "clrernet_culane_efficientnet_lite0",
    "lanelm_256_resnet34": "clrernet_culane_resnet34",
    "lanelm_512_dla34": "clrernet_culane_dla34_ema",
    "lanelm_plain_dla34": "clrernet_culane_dla34_ema",
}
PAPER_MEGABYTES = {128: 3.5, 256: 11.3, 512: 39.7}  # trainable weights, without this project's local sampling


def test_every_config_of_the_folder_is_tested_here():
    folder = find_config("lanelm_512_dla34").parent
    assert {path.stem for path in folder.glob("*.py")} == set(DETECTORS)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_lanelm_config_uses_the_detector_in_its_name(name):
    config, detector = load_config(name), load_config(DETECTORS[name])
    assert config.model == detector.model
    assert config.task == "lanelm"
    assert config.lanelm.detector is None
    assert (config.lanelm.network.num_steps, config.lanelm.network.nbins_x) == (40, 800)
    assert config.lanelm.network.num_layers == 3
    assert (config.training.learning_rate, config.training.betas, config.training.clip_norm) == (1e-3, (0.9, 0.98), 1.0)
    detector.data.batch_size = config.data.batch_size
    assert config.data == detector.data
    assert config.evaluation == detector.evaluation


@pytest.mark.parametrize("name", sorted(set(DETECTORS) - {"lanelm_plain_dla34"}))
def test_trainable_sizes_match_the_paper(name):
    config = load_config(name)
    width = config.lanelm.network.embed_dim
    assert f"_{width}_" in name
    trainable = sum(weight.numel() for weight in build_lanelm(config).parameters() if weight.requires_grad)
    assert PAPER_MEGABYTES[width] < 4e-6 * trainable < 1.25 * PAPER_MEGABYTES[width]
    assert config.data.batch_size == 128
