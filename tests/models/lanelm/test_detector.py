"""Detector and LaneLM in one file: matching weights load completely, mismatches are named."""

import pytest
import torch

from clrernetlm.config import Config, to_dict
from clrernetlm.core.errors import UserError
from clrernetlm.core.viewport import Viewport
from clrernetlm.weights.build_models import build_lanelm, init_detector, init_lanelm, init_lanelm_detector, save_lanelm
from clrernetlm.weights.checkpoint import read_checkpoint, save_official
from tests.helpers.small_lanelm import config_of, images


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_lanelm(config_of()).eval()


@pytest.fixture
def checkpoint(model, tmp_path):
    path = tmp_path / "lanelm.pth"
    save_lanelm(model, path)
    return path


def test_the_detector_stays_in_evaluation_mode_and_has_no_gradient(model):
    model.train()
    assert model.lanelm.training
    assert not any(layer.training for layer in model.detector.modules())
    assert not any(parameter.requires_grad for parameter in model.detector.parameters())
    assert all(parameter.requires_grad for parameter in model.lanelm.parameters())
    model.eval()
    assert not model.lanelm.training


@pytest.mark.parametrize("kind", ["full", "plain"])
def test_a_saved_model_decodes_the_same_lanes(kind, tmp_path):
    torch.manual_seed(1)
    model = build_lanelm(config_of(kind)).eval()
    save_lanelm(model, tmp_path / "reader.pth")
    again = init_lanelm_detector(config_of(kind), tmp_path / "reader.pth")
    assert not any(layer.training for layer in again.modules())
    one, two = (reader.decode_unprompted(reader.run_detector(images())) for reader in (model, again))
    for name in ("xs", "visible", "score"):
        assert torch.equal(getattr(one, name), getattr(two, name))


def test_a_file_holds_weights_and_configuration_and_nothing_else(model, checkpoint):
    held = torch.load(checkpoint, weights_only=True)
    assert held["config"] == to_dict(model.config)
    assert set(held) == {"state_dict", "config", "clrernetlm_version"}
    assert held["state_dict"].keys() == model.state_dict().keys()


def test_parameter_names_of_a_training_checkpoint_are_understood(model, checkpoint, tmp_path):
    held = read_checkpoint(checkpoint)
    held["state_dict"] = {f"model.{name}": value for name, value in held["state_dict"].items()}
    held["optimizer_states"] = [{"state": {0: {"exp_avg": torch.zeros(2)}}}]
    torch.save(held, tmp_path / "epoch_0000.ckpt")
    loaded = init_lanelm(config_of(), tmp_path / "epoch_0000.ckpt")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_parameter_names_of_other_programs_are_understood_without_batch_counters(model, tmp_path):
    weights = {f"module.{name}": value for name, value in model.state_dict().items() if "num_batches" not in name}
    torch.save({"net": weights}, tmp_path / "other.pth")
    loaded = init_lanelm(config_of(), tmp_path / "other.pth")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.named_parameters())


def test_the_detector_can_be_extracted(model, checkpoint, tmp_path):
    held = read_checkpoint(checkpoint)
    held["state_dict"] = {f"model.{name}": value for name, value in held["state_dict"].items()}
    torch.save(held, tmp_path / "epoch_0000.ckpt")
    for path in (checkpoint, tmp_path / "epoch_0000.ckpt"):
        detector = init_detector(config_of(), path)
        assert all(
            torch.equal(value, detector.state_dict()[name]) for name, value in model.detector.state_dict().items()
        )


def refusal(config: Config, path: object) -> str:
    with pytest.raises(UserError) as caught:
        init_lanelm(config, path)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_of_a_detector_alone_is_named(model, tmp_path):
    path = tmp_path / "clrernet.pth"
    save_official(model.detector, path)
    assert "clrernet.pth: holds no LaneLM" in refusal(config_of(), path)
    assert "lanelm.detector=" in refusal(config_of(), path)
    torch.save({"state_dict": None}, tmp_path / "nothing.pth")
    assert "holds no LaneLM" in refusal(config_of(), tmp_path / "nothing.pth")


def test_the_setting_that_differs_is_named(checkpoint):
    message = refusal(config_of(embed_dim=64), checkpoint)
    assert message.startswith(f"{checkpoint}: trained with lanelm.network.embed_dim=32, the configuration says 64")
    assert "lanelm.network.row_order=bottom_up" in refusal(config_of(row_order="top_down"), checkpoint)
    config = config_of()
    config.model.backbone.name = "resnet18"
    assert "model.backbone.name=dla46_c" in refusal(config, checkpoint)
    assert "lanelm.variant: plain takes no prompts" in refusal(config_of("plain"), checkpoint)
    with pytest.raises(UserError, match=r"trained with lanelm\.variant=full"):
        init_lanelm_detector(config_of("plain"), checkpoint)


def test_decoding_settings_may_differ(checkpoint):
    config = config_of()
    config.lanelm.decode.lane_threshold = 0.2
    config.model.decode.conf_threshold = 0.2
    config.model.viewport = Viewport(width=128, height=64, top=0.3)
    assert init_lanelm(config, checkpoint).config is config


def test_weights_without_configuration_are_checked_by_shape(model, tmp_path):
    path = tmp_path / "bare.pth"
    torch.save(model.state_dict(), path)
    assert torch.equal(init_lanelm(config_of(), path).lanelm.score.weight, model.lanelm.score.weight)
    assert "weights do not fit the configuration, lanelm." in refusal(config_of(embed_dim=64), path)
    weights = model.state_dict()
    del weights["lanelm.score.weight"]
    torch.save(weights, path)
    assert "1 weights do not fit the configuration, lanelm.score.weight among them" in refusal(config_of(), path)
