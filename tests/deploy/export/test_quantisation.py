"""int8: convolutions in 8 bits, the rest of the head unchanged, calibrated on images of a folder or a list."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm import UserError
from clrernetlm.core.viewport import Viewport
from clrernetlm.deploy.export import export_model
from clrernetlm.deploy.export.quantisation import calibration_inputs
from clrernetlm.deploy.runtimes import open_runtime
from clrernetlm.weights.checkpoint import save_official
from tests.helpers.exports import line_images, pytorch_outputs, random_detector

VIEW = Viewport(width=160, height=64, top=0.5)


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(line_images(random_detector()[0], count)):
        cv2.imwrite(str(folder / f"{number}.png"), image)


def test_images_come_from_a_folder_or_a_list(tmp_path: Path) -> None:
    write_images(tmp_path / "camera", 3)
    (tmp_path / "list").mkdir()
    listed = tmp_path / "list" / "train.txt"
    listed.write_text("/camera/2.png /masks/2.png 1 1 0 0\n\n/camera/0.png\n")
    (tmp_path / "camera/._00000.jpg").write_bytes(b"\0\5\x16\7")  # which macOS writes beside every file
    found, named = calibration_inputs(str(tmp_path / "camera"), VIEW), calibration_inputs(str(listed), VIEW)
    assert [one["images"].shape for one in found] == [(1, 64, 160, 3)] * 3
    assert np.array_equal(named[0]["images"], found[2]["images"])
    assert len(named) == 2


def test_missing_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("here.png\n")
    for source, words in (
        ("empty", "no images to calibrate on"),
        ("absent", "not a folder or a list"),
        ("list.txt", r"list\.txt, line 1: here\.png is neither beside the list nor"),
    ):
        with pytest.raises(UserError, match=words):
            calibration_inputs(str(tmp_path / source), VIEW)


@pytest.mark.parametrize("backbone", ["dla46_c", "efficientnet_lite0"])
def test_a_quantised_detector_is_smaller_and_finds_nearly_the_same(backbone: str, tmp_path: Path) -> None:
    for module in ("openvino", "nncf"):
        pytest.importorskip(module, reason="the extra `export` is not installed")
    config, model = random_detector(backbone)
    save_official(model, tmp_path / "weights.pth")
    write_images(tmp_path / "camera", 4)
    path = export_model(
        config,
        tmp_path / "weights.pth",
        "openvino",
        precision="int8",
        out=tmp_path / "small.xml",
        calibration=str(tmp_path / "camera"),
    )
    floats = sum(value.numel() for value in model.state_dict().values()) * 4
    assert path.with_suffix(".bin").stat().st_size < 0.5 * floats
    images = line_images(config, 2, seed=5)
    found, theirs = open_runtime(path, threads=1).run({"images": images}), pytorch_outputs(model, images)
    assert np.abs(found["anchor_params"] - theirs["anchor_params"]).max() < 0.05
    assert np.abs(found["xs"] - theirs["xs"]).mean() < 0.02
