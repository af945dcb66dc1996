"""The NumPy functions of examples/onnx_lanes.py find the lanes that the package's decoding finds."""

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from clrernetlm.config import DecodeConfig
from clrernetlm.core.viewport import Viewport
from clrernetlm.deploy.export import export_model
from clrernetlm.deploy.export.detector_graph import DetectorGraph
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.weights.checkpoint import save_official
from tests.helpers.exports import random_detector

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_lanes.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """Import the example as a module."""
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    spec = importlib.util.spec_from_file_location("onnx_lanes", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_stage(batch: int, anchors: int, seed: int) -> dict[str, torch.Tensor]:
    """Draw straight lanes of all positions, lengths and confidences; some are close together, some are invalid."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.linspace(0, 1, 72)
    bottom, top = (torch.rand(batch, anchors, 1, generator=g) * 1.4 - 0.2 for _ in range(2))
    params = torch.rand(batch, anchors, 3, generator=g) * torch.tensor([1.3, 1.0, 1.0])
    return {
        "cls_logits": torch.randn(batch, anchors, 2, generator=g),
        "anchor_params": params,
        "lengths": torch.rand(batch, anchors, 1, generator=g) * 1.3 - 0.2,
        "xs": bottom + (top - bottom) * rows,
    }


@pytest.mark.parametrize("extend", [True, False])
def test_the_example_finds_the_lanes_of_the_package(example: ModuleType, extend: bool) -> None:
    _, model = random_detector()
    view, frame = Viewport(width=160, height=64, left=0.1, top=0.4, right=0.9), (1000, 500)
    decode = DecodeConfig(conf_threshold=0.4, nms_threshold=12, extend_bottom=extend)
    found = 0
    for seed in range(5):
        stage = random_stage(2, 60, seed)
        expected = decode_lanes(stage, decode, view, [frame] * 2, max_lanes=5)
        rows = DetectorGraph(model).sorted_lanes(*stage.values()).numpy()
        for image, theirs in zip(rows, expected, strict=True):
            kept = example.select_lanes(image, 0.4, 12, 5)
            drawn = [(lane[0], example.lane_points(lane, view.crop_box(frame), view.size, extend)) for lane in kept]
            ours = [(score, points) for score, points in drawn if len(points)]
            assert len(ours) == len(theirs)
            for (score, points), lane in zip(ours, theirs, strict=True):
                assert score == pytest.approx(lane.score, abs=1e-6)
                assert np.allclose(points, lane.points, atol=1e-2)
            found += len(theirs)
    assert found > 20


def test_no_score_above_the_threshold_gives_no_lanes(example: ModuleType) -> None:
    rows = np.zeros((4, 75), np.float32)
    assert len(example.select_lanes(rows, 0.4, 12, 4)) == 0
    rows[:, 0] = np.nan
    assert len(example.select_lanes(rows, 0.0, 12, 4)) == 0


def test_user_errors_of_the_example_are_one_line(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "road.png"
    cv2.imwrite(str(picture), np.zeros((1, 1, 3), np.uint8))
    (tmp_path / "text.onnx").write_text("not a model")
    config, model = random_detector(stages=1)
    save_official(model, tmp_path / "weights.pth")
    lanes = export_model(config, tmp_path / "weights.pth", "onnx", out=tmp_path / "lanes.onnx")
    for file, words, message in (
        (tmp_path / "text.onnx", [], "text.onnx: not an ONNX model"),
        (lanes, ["--top", "1.5"], "--top: 1.5; use 0 or more"),
        (lanes, ["--out", str(tmp_path / "absent" / "lanes.jpg")], "lanes.jpg: cannot be written"),
        (lanes, ["--out", str(tmp_path / "lanes")], "lanes: cannot be written"),
    ):
        monkeypatch.setattr("sys.argv", ["onnx_lanes.py", str(file), str(picture), *words])
        with pytest.raises(SystemExit, match=message):
            example.main()


def test_the_example_needs_only_numpy_opencv_and_onnxruntime() -> None:
    imported = {
        line.split()[1].split(".")[0]
        for line in EXAMPLE.read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported <= {"__future__", "argparse", "json", "pathlib", "typing", "cv2", "numpy", "onnxruntime"}
