"""Packing: a training checkpoint becomes one file that is a complete model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clrernetlm import Predictor, UserError
from clrernetlm.cli import main
from clrernetlm.config import Config, to_dict
from clrernetlm.weights.build_models import init_detector, init_lanelm
from clrernetlm.weights.checkpoint import read_checkpoint, save_official, write_checkpoint
from clrernetlm.weights.pack import MACHINE_SETTINGS, pack_weights, strip_machine_settings
from clrernetlm.weights.safetensors_file import SMALL
from tests.helpers.small_detector import small_config
from tests.helpers.small_lanelm import small_lanelm_config, write_detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """Write a checkpoint as training does: weights with the prefix `model.`, an optimiser's state, the settings."""
    folder = tmp_path_factory.mktemp("detector")
    config = small_config(folder / "data", folder / "run")
    config.model.decode.conf_threshold = 0.2
    model = init_detector(config, write_detector(folder / "detector.pth"))
    path = folder / "epoch_3.ckpt"
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    write_checkpoint(
        {"state_dict": state, "config": to_dict(config), "optimizer_states": [torch.zeros(10**6)], "epoch": 3}, path
    )
    return config, path


@pytest.fixture(scope="module")
def lanelm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    folder = tmp_path_factory.mktemp("lanelm")
    config = small_lanelm_config(folder / "data", folder / "run", write_detector(folder / "detector.pth"))
    config.model.decode.conf_threshold = 0.2
    model = init_lanelm(config, "random")
    model.detector.load_official_state_dict(read_checkpoint(folder / "detector.pth"))
    path = folder / "epoch_3.ckpt"
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    write_checkpoint({"state_dict": state, "config": to_dict(config)}, path)
    return config, path


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (148, 410, 3), np.uint8)


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        pack_weights(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_packed_detector_is_its_checkpoint_rounded_to_fp16(detector: tuple[Config, Path], tmp_path: Path) -> None:
    config, checkpoint = detector
    packed = pack_weights(str(checkpoint), str(tmp_path / "tiny.safetensors"))
    alone, original = Predictor(checkpoint=packed), Predictor(config, checkpoint)
    theirs = init_detector(config, checkpoint).state_dict()
    for name, value in init_detector(config, packed).state_dict().items():
        rounded = value.is_floating_point() and value.numel() >= SMALL
        assert torch.equal(value, theirs[name].half().float() if rounded else theirs[name])
        assert value.dtype == theirs[name].dtype
    assert alone.config == strip_machine_settings(config)
    found = []
    for predictor in (alone, original):
        predictor.set_image(image())
        found.append(predictor.lanes(conf=0.0))
    assert len(found[0]) == len(found[1]) > 0
    for a, b in zip(*found, strict=True):
        assert a.score == pytest.approx(b.score, abs=0.01)


def test_packed_files_contain_no_paths_of_the_training_machine(detector: tuple[Config, Path], tmp_path: Path) -> None:
    config, checkpoint = detector
    content = pack_weights(str(checkpoint), str(tmp_path / "tiny.safetensors")).read_bytes()
    assert str(checkpoint.parent).encode() not in content
    assert b"optimizer" not in content
    assert len(content) < 2.2 * sum(value.numel() for value in init_detector(config, "random").parameters())
    assert {name.split(".")[0] for name in MACHINE_SETTINGS} == {"data", "training", "lanelm"}


def test_lanelm_and_its_detector_are_one_file(lanelm: tuple[Config, Path], tmp_path: Path) -> None:
    config, checkpoint = lanelm
    packed = pack_weights(str(checkpoint), str(tmp_path / "both.safetensors"), "fp32")
    both, original = Predictor(packed), Predictor(config, checkpoint)
    detector_alone = Predictor(Config(model=config.model), packed)
    for predictor in (both, original, detector_alone):
        predictor.set_image(image())
    lane, same = both.complete([[200, 120]], use_detector=False), original.complete([[200, 120]], use_detector=False)
    assert lane.score == same.score
    np.testing.assert_array_equal(lane.points, same.points)
    ours = [found.score for found in detector_alone.lanes(conf=0.0)]
    assert ours == [found.score for found in original.detections(conf=0.0)]
    assert both.config.lanelm.detector is None


def test_a_training_checkpoint_can_be_used_without_a_config(detector: tuple[Config, Path]) -> None:
    assert Predictor(checkpoint=detector[1]).config == strip_machine_settings(detector[0])
    assert Predictor(str(detector[1])).config == strip_machine_settings(detector[0])


def test_settings_can_be_changed_while_packing(
    detector: tuple[Config, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "tiny.safetensors")
    words = ["pack", str(detector[1]), out, "--model.decode.conf-threshold", "0.31", "--name", "roads"]
    assert main([*words, "--precision", "fp32"]) == 0
    assert f"{out}: roads, clrernet, " in capsys.readouterr().out
    config = Predictor(checkpoint=out).config
    assert (config.name, config.model.decode.conf_threshold) == ("roads", 0.31)


def test_weights_without_settings_need_a_config(detector: tuple[Config, Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare.pth"
    save_official(init_detector(*detector), bare)
    out = str(tmp_path / "tiny.safetensors")
    assert "holds no settings; name the `config` that it was trained with" in refusal(str(bare), out)
    assert "bare.pth: state_dict: weights " in refusal(str(bare), out, config="clrernet_culane_dla34")
    (tmp_path / "tiny.py").write_text(
        "from clrernetlm.config import load_config\n"
        'config = load_config("clrernet_culane_dla34")\n'
        'config.model.backbone.name = "dla46_c"\n'
        "config.model.head.num_priors, config.model.head.roi_channels = 48, 12\n"
    )
    pack_weights(str(bare), out, config=str(tmp_path / "tiny.py"))
    assert Predictor(checkpoint=out).config.model.head.num_priors == 48


def test_errors_of_packing_are_one_line_and_keep_the_old_file(detector: tuple[Config, Path], tmp_path: Path) -> None:
    out = tmp_path / "tiny.safetensors"
    out.write_bytes(b"a label")
    for overwrite in (False, True):
        error = refusal(str(detector[1]), str(out), overwrite=overwrite)
        assert "would be overwritten, and is not a packed model" in error
    old = pack_weights(str(detector[1]), str(tmp_path / "old.safetensors")).read_bytes()
    out.write_bytes(old)
    assert "a packed model of an earlier run" in refusal(str(detector[1]), str(out))
    assert "this run reads that file" in refusal(str(out), str(out), overwrite=True)
    (tmp_path / "old.safetensors").unlink()
    assert "a packed file ends in .safetensors; use " in refusal(str(detector[1]), str(tmp_path / "tiny.pth"))
    assert "no such checkpoint" in refusal("nowhere.ckpt", str(out), overwrite=True)
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(detector[1].read_bytes()[:5000])
    assert refusal(str(broken), str(out), overwrite=True).startswith(f"{broken}: ")
    wrong = ["--model.head.num-priors", "96"]
    error = refusal(str(detector[1]), str(out), overrides=wrong, overwrite=True)
    assert "model.head.num_priors=48, the configuration says 96" in error
    assert out.read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.ckpt", "tiny.safetensors"]
