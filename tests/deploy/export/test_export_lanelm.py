"""An exported LaneLM decodes the lanes that PyTorch decodes."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clrernetlm import Predictor, UserError
from clrernetlm.cli.detect_command import starts_with_config
from clrernetlm.config import Config
from clrernetlm.deploy.load_model import load_model, open_exported
from clrernetlm.deploy.runtimes.export_cache import export_into
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.models.lanelm.generate import generate
from clrernetlm.weights.build_models import init_lanelm
from clrernetlm.weights.exported_metadata import read_metadata
from tests.helpers.lanelm_networks import random_requests

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("openvino", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def exported(exported_fovea, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, PromptableDetector, Path, Path]:
    """Return settings, the model, its checkpoint, and a folder of its graphs, all as before LaneLM had a fovea."""
    with_fovea, _, checkpoint, folder = exported_fovea
    config = deepcopy(with_fovea)
    config.lanelm.network.fovea = False
    out = tmp_path_factory.mktemp("older")
    for part in ("detector", "look", "prefill", "step"):
        graph = onnx.load(folder / f"{part}.onnx")
        (entry,) = graph.metadata_props
        tree = json.loads(entry.value)
        for settings in (tree["config"]["lanelm"]["network"], tree["config"]["lanelm"]["decode"]):
            for name in [name for name in settings if name.startswith(("fovea", "click_sigma"))]:
                del settings[name]
        entry.value = json.dumps(tree)
        (out / f"{part}.onnx").write_bytes(graph.SerializeToString())
    return config, init_lanelm(config, checkpoint), checkpoint, out


def levels(config: Config, batch: int) -> tuple[torch.Tensor, ...]:
    width, height = config.model.viewport.size
    g = torch.Generator().manual_seed(batch)
    channels = config.model.head.feature_channels
    return tuple(5 * torch.randn(batch, channels, height // s, width // s, generator=g) for s in (8, 16, 32))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("batch", "lanes", "clicks"), [(2, 3, 3), (1, 4, 0), (3, 1, 2)])
def test_exported_lanelm_decodes_the_same_keypoints(
    exported, backend: str, batch: int, lanes: int, clicks: int
) -> None:
    config, model, _, folder = exported
    graphs = load_model(config, folder, backend=backend)  # type: ignore[arg-type]
    assert isinstance(graphs, PromptableDetector)
    drawn = (random_requests(batch, lanes, clicks, seed, config.lanelm.network.num_steps) for seed in range(lanes, 99))
    requests = next(requests for requests in drawn if requests.request_mask.any())
    pyramid = levels(config, batch)
    theirs, ours = generate(model.lanelm, pyramid, requests), graphs.generate(pyramid, requests)
    assert torch.equal(ours.visible, theirs.visible)
    assert ours.visible.any()
    tokens = model.lanelm.x_tokens
    assert torch.equal(tokens(ours.xs)[ours.visible], tokens(theirs.xs)[theirs.visible])
    assert (ours.xs - theirs.xs).abs().max() < 1e-3
    assert (ours.score - theirs.score).abs().max() < 1e-4


def test_predictor_verifies_and_completes_from_the_folder_alone(exported) -> None:
    config, _, checkpoint, folder = exported
    image = np.random.default_rng(0).integers(0, 256, (148, 410, 3), np.uint8)
    alone, original = Predictor(checkpoint=folder), Predictor(config, checkpoint)
    for predictor in (alone, original):
        predictor.set_image(image)
    ours, theirs = alone.lanes(conf=0.0), original.lanes(conf=0.0)
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert np.allclose(one.points, other.points, atol=0.05)
    clicks = [[200.0, 130.0], [210.0, 100.0]]
    assert np.allclose(alone.complete(clicks).points, original.complete(clicks).points, atol=0.05)
    with pytest.raises(UserError, match="an exported LaneLM takes 4"):
        alone.complete([[200.0 + i, 130.0 - 5 * i] for i in range(5)])


def test_every_part_has_metadata(exported) -> None:
    _, _, _, folder = exported
    parts = {path.stem: read_metadata(path) for path in folder.iterdir()}
    assert set(parts) == {"detector", "look", "prefill", "step"}
    for name, metadata in parts.items():
        assert metadata.part == name
        assert metadata.model_class == ("CLRerNet" if name == "detector" else "LaneLM")


def test_a_single_part_is_refused(exported) -> None:
    config, _, _, folder = exported
    detector = replace(config, task="clrernet")
    with pytest.raises(UserError, match="holds step, a part of LaneLM; name the folder"):
        load_model(detector, folder / "step.onnx")
    with pytest.raises(UserError, match=r"step\.onnx: a file, but a LaneLM is a folder"):
        load_model(config, folder / "step.onnx")


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_mismatched_parts_are_a_one_line_error(exported, tmp_path: Path) -> None:
    config, _, _, folder = exported
    swapped = copied(folder, tmp_path / "swapped")
    shutil.copy(swapped / "prefill.onnx", swapped / "step.onnx")
    with pytest.raises(UserError, match=r"step\.onnx: .*export the model again"):
        load_model(config, swapped)
    mixed = copied(folder, tmp_path / "mixed")
    graph = onnx.load(mixed / "step.onnx")
    (entry,) = graph.metadata_props
    entry.value = entry.value.replace('"offset_bins": ', '"offset_bins": 1')
    (mixed / "step.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(UserError, match=r"step\.onnx: trained with lanelm\.network\.offset_bins=1"):
        load_model(config, mixed)


@pytest.mark.parametrize("part", ["prefill", "step"])
def test_damaged_weights_of_a_part_are_a_one_line_error(exported, part: str, tmp_path: Path) -> None:
    _, _, _, folder = exported
    damaged = copied(folder, tmp_path / "damaged")
    graph = onnx.load(damaged / f"{part}.onnx")
    for weight in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.ndim == 2:
            weight.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, np.nan), weight.name))
    (damaged / f"{part}.onnx").write_bytes(graph.SerializeToString())
    predictor = Predictor(checkpoint=damaged)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (148, 410, 3), np.uint8))
    with pytest.raises(UserError, match=rf"{part}\.onnx: .* is not finite"):
        predictor.lanes(conf=0.0)


def test_a_folder_without_the_detector_is_refused(exported, tmp_path: Path) -> None:
    config, _, _, _ = exported
    with pytest.raises(UserError, match=r"holds no LaneLM for onnxruntime; export it with `to=onnx`$"):
        open_exported(config, tmp_path, "onnxruntime")


def test_the_detector_of_a_folder_can_be_used_alone(exported) -> None:
    _, _, _, folder = exported
    assert Predictor(checkpoint=folder / "detector.onnx").config.task == "clrernet"


def test_detect_takes_a_folder_after_its_config(exported) -> None:
    _, _, _, folder = exported
    assert starts_with_config(["roads_lanelm", str(folder), str(folder.parent)])


def test_an_interrupted_export_is_repeated_and_a_complete_one_is_reused(exported, tmp_path: Path) -> None:
    config, _, _, folder = exported
    kept = tmp_path / "small_onnx"
    shutil.copytree(folder, kept)
    # Without weights no new export can be made: only the existing one can be reused.
    arguments = (tmp_path, "small", config, tmp_path / "absent.pth", "onnxruntime", "fp32")
    assert export_into(*arguments) == kept
    (kept / "detector.onnx").unlink()
    with pytest.raises(UserError, match="no such checkpoint"):
        export_into(*arguments)
