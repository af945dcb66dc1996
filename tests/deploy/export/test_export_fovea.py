"""An exported LaneLM with a fovea moves lanes as PyTorch does."""

import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from clrernetlm import Predictor, UserError
from clrernetlm.config import Config
from clrernetlm.deploy.export.export_lanelm import replace_graphs
from clrernetlm.deploy.export.fovea_graph import fovea_graph
from clrernetlm.deploy.export.onnx_file import write_onnx
from clrernetlm.deploy.export.openvino_file import openvino_model, write_openvino
from clrernetlm.deploy.export.torch_file import write_program
from clrernetlm.deploy.graph_names import FOVEA, MAX_CLICKS
from clrernetlm.deploy.load_model import load_model
from clrernetlm.deploy.runtimes import open_runtime
from clrernetlm.deploy.runtimes.exported_lanelm import ExportedLaneLM, spread_clicks
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.models.lanelm.fovea.network import LANE_FEATURES, ROW_FEATURES, FoveaInput
from clrernetlm.models.lanelm.fovea.patches import COLUMNS, FrameCrop
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.requests import Requests, requests_from_clicks, requests_from_proposals
from clrernetlm.weights.exported_metadata import ModelMetadata, read_metadata
from tests.helpers.lanelm_networks import random_requests

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("openvino", reason="the extra `export` is not installed")

FRAME = (410, 148)  # width, height
STEPS = 16  # rows of a lane
SIZE = (160, 64)  # width and height of the network's input


@pytest.fixture(scope="module")
def exported(exported_fovea) -> tuple[Config, PromptableDetector, Path, Path]:
    """Return settings, the model, its checkpoint, and the folder it is exported to."""
    return exported_fovea


@pytest.fixture(scope="module")
def fovea_files(exported: tuple[Config, PromptableDetector, Path, Path], tmp_path_factory) -> dict[str, Path]:
    """Return the graph of the fovea in every format and precision, traced once for ONNX and OpenVINO."""
    config, model, _, folder = exported
    formats = tmp_path_factory.mktemp("formats")
    files = {"onnx fp32": folder / "fovea.onnx", "torch": formats / "fovea.pt2"}
    assert model.fovea is not None
    write_program(fovea_graph(model.fovea), files["torch"], read_metadata(files["onnx fp32"]))
    traced = onnx.load(files["onnx fp32"])
    for name, precision in (("onnx fp16", "fp16"), ("openvino fp32", "fp32"), ("openvino fp16", "fp16")):
        metadata = ModelMetadata(FOVEA, "LaneLM", precision, None, config)
        files[name] = formats / f"{precision}{'.onnx' if name.startswith('onnx') else '.xml'}"
        if name.startswith("onnx"):
            write_onnx(traced, files[name], metadata)
        else:
            write_openvino(openvino_model(traced), files[name], metadata)
    return files


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (FRAME[1], FRAME[0], 3), np.uint8) for _ in range(2)]


def images() -> torch.Tensor:
    return torch.rand(2, 3, SIZE[1], SIZE[0], generator=torch.Generator().manual_seed(0))


def opened(config: Config, folder: Path, fovea: Path | None = None) -> ExportedLaneLM:
    """Open the folder, with the graph of the fovea out of another file."""
    graphs = load_model(config, folder)
    assert isinstance(graphs, ExportedLaneLM)
    if fovea is not None:
        graphs.fovea_runtime = open_runtime(fovea, 1, trust_code=True)
    return graphs


def clicked(model: PromptableDetector, points: list[list[list[float]]]) -> Requests:
    """Return requests for two images with the points of every lane, in network pixels, without proposals."""
    proposals = model.propose(model.run_detector(images()).predictions)
    clicks = torch.tensor(points).expand(2, -1, -1, -1)
    return requests_from_clicks(proposals, clicks, torch.ones(clicks.shape[:3]).bool(), model.lanelm.rows, 0.0)


def assert_same(ours: Answers, theirs: Answers) -> None:
    assert theirs.details is not None
    assert ours.details is not None
    torch.testing.assert_close(ours.xs, theirs.xs, atol=2e-3, rtol=0)
    torch.testing.assert_close(ours.score, theirs.score, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.details.ends, theirs.details.ends, atol=1e-3, rtol=0)
    for name in ("seen", "type", "colour"):
        assert torch.equal(getattr(ours.details, name), getattr(theirs.details, name))


@pytest.mark.parametrize("name", ["torch", "onnx fp32", "openvino fp32"])
def test_exported_fovea_moves_lanes_as_pytorch_does(exported, fovea_files, frames, name: str) -> None:
    config, model, _, folder = exported
    graphs = opened(config, folder, fovea_files[name])
    assert graphs.needs_crops
    crops = [FrameCrop.of(frame, config.model.viewport) for frame in frames]
    output = model.run_detector(images())
    proposals = requests_from_proposals(model.propose(output.predictions, 0.0))
    assert proposals.request_mask.sum() > 4
    points = [[[30.0, 60.0], [50.0, 30.0], [60.0, 20.0]], [[100.0, 50.0], [100.0, 50.0], [90.0, 8.0]]]
    for requests in (proposals, clicked(model, points)):
        together = graphs.answer(output.levels, requests, crops)
        assert together.visible.any()
        assert_same(together, model.answer(output.levels, requests, crops))
    levels = tuple(level[1:] for level in output.levels)
    alone = proposals[1:, :1]
    assert_same(graphs.answer(levels, alone, crops[1:]), model.answer(levels, alone, crops[1:]))


def test_no_proposal_gives_no_lane(exported, frames) -> None:
    config, model, _, folder = exported
    crops = [FrameCrop.of(frame, config.model.viewport) for frame in frames]
    output = model.run_detector(images())
    requests = requests_from_proposals(model.propose(output.predictions, 2.0))
    answers = opened(config, folder).answer(output.levels, requests, crops)
    assert not answers.visible.any()
    assert not answers.score.any()


def test_a_lane_passes_more_clicks_than_the_graphs_take(exported, frames) -> None:
    config, _, checkpoint, folder = exported
    x, y = np.linspace(120, 250, 2 * MAX_CLICKS), np.linspace(145, 75, 2 * MAX_CLICKS)
    points = np.stack([x + 5 * np.sin(y / 20), y], axis=1)
    sigma = 2.0 / 1640 * FRAME[0]
    lanes = []
    for predictor in (Predictor(checkpoint=folder), Predictor(config, checkpoint)):
        predictor.set_image(frames[0])
        lane = predictor.complete(points, click_sigma=2.0)
        missed = np.interp(-points[:, 1], -lane.points[:, 1], lane.points[:, 0]) - points[:, 0]
        assert np.abs(missed).max() < 2 * sigma
        lanes.append(predictor.complete(points[:MAX_CLICKS]))
    assert np.allclose(lanes[0].points, lanes[1].points, atol=0.05)
    assert lanes[0].type == lanes[1].type


def test_clicks_are_thinned_evenly_from_top_to_bottom() -> None:
    requests = random_requests(2, 3, clicks=7, seed=1)
    requests.prompt_mask[:] = True
    requests.prompt_mask[0, 0, :5] = False
    requests.prompt_mask[0, 1] = False
    requests.prompts[1, 2, :, 1] = torch.tensor([30.0, 10, 50, 0, 20, 60, 40])
    thinned = spread_clicks(requests, 4)
    assert thinned.prompt_mask.sum(-1).tolist() == [[2, 0, 4], [4, 4, 4]]
    assert thinned.prompts[1, 2, :, 1].tolist() == [0, 20, 40, 60]
    kept, given = thinned.prompts[0, 0, :2].tolist(), requests.prompts[0, 0, 5:].tolist()
    assert sorted(kept) == sorted(given)
    assert spread_clicks(requests, 7) is requests


def test_predictor_finds_the_same_lanes_from_the_folder_alone(exported, frames) -> None:
    config, _, checkpoint, folder = exported
    alone, original = Predictor(checkpoint=folder), Predictor(config, checkpoint)
    for predictor in (alone, original):
        predictor.set_images(frames)
    pairs = list(zip(alone.lanes_of_images(conf=0.0), original.lanes_of_images(conf=0.0), strict=True))
    assert all(theirs for _, theirs in pairs)
    for ours, theirs in pairs:
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert np.allclose(one.points, other.points, atol=0.05)
            assert (one.type, one.colour, one.position) == (other.type, other.colour, other.position)


def test_a_folder_without_the_fovea_is_refused_only_where_one_is_needed(exported, tmp_path: Path) -> None:
    config, model, _, folder = exported
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    (bare / "fovea.onnx").unlink()
    with pytest.raises(UserError) as caught:
        load_model(config, bare)
    assert str(caught.value) == (
        f"{bare}: lacks fovea.onnx, which lanelm.network.fovea=True needs; export the model again, or set "
        "lanelm.network.fovea=False"
    )
    without = deepcopy(config)
    without.lanelm.network.fovea = False
    graphs = load_model(without, bare)
    assert isinstance(graphs, ExportedLaneLM)
    output = model.run_detector(images())
    requests = requests_from_proposals(model.propose(output.predictions, 0.0))
    answers = graphs.answer(output.levels, requests)
    torch.testing.assert_close(answers.xs, model.answer_from_features(output.levels, requests).xs, atol=2e-3, rtol=0)
    assert answers.details is None


def test_the_fovea_is_part_of_the_folder(exported, tmp_path: Path) -> None:
    config, _, _, folder = exported
    parts = {path.stem: read_metadata(path) for path in folder.iterdir()}
    assert set(parts) == {"detector", "look", "prefill", "step", "fovea"}
    assert (parts[FOVEA].part, parts[FOVEA].model_class, parts[FOVEA].batch) == (FOVEA, "LaneLM", None)
    swapped = tmp_path / "swapped"
    shutil.copytree(folder, swapped)
    shutil.copy(swapped / "step.onnx", swapped / "fovea.onnx")
    with pytest.raises(UserError, match=r"fovea\.onnx: .*export the model again"):
        load_model(config, swapped)


def test_damaged_weights_of_the_fovea_are_a_one_line_error(exported, fovea_files, tmp_path: Path) -> None:
    config, _, _, folder = exported
    graph = onnx.load(fovea_files["onnx fp32"])
    for weight in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.ndim == 2:
            weight.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, np.nan), weight.name))
    (tmp_path / "fovea.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(UserError, match=r"fovea\.onnx: \w+ is not finite"):
        opened(config, folder, tmp_path / "fovea.onnx").run_fovea(random_input(2))


def test_results_of_wrong_shapes_are_a_one_line_error(exported, tmp_path: Path) -> None:
    config, _, _, folder = exported
    model = onnx.load(folder / "fovea.onnx")
    swapped = {"seen": "lane", "lane": "seen"}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [swapped.get(name, name) for name in names]
    for output in model.graph.output:
        output.name = swapped.get(output.name, output.name)
    (tmp_path / "fovea.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"fovea\.onnx: seen is 3, not 3x16; export the model again"):
        opened(config, folder, tmp_path / "fovea.onnx").run_fovea(random_input(3))


def random_input(lanes: int) -> FoveaInput:
    g = torch.Generator().manual_seed(lanes)
    return FoveaInput(
        torch.randint(0, 256, (lanes, 2 * STEPS, COLUMNS, 3), dtype=torch.uint8, generator=g),
        torch.randn(lanes, STEPS, ROW_FEATURES, generator=g),
        torch.randn(lanes, LANE_FEATURES, generator=g),
    )


@pytest.mark.parametrize("name", ["torch", "onnx fp32", "onnx fp16", "openvino fp32", "openvino fp16"])
def test_the_graph_takes_any_number_of_lanes_in_every_format(exported, fovea_files, name: str) -> None:
    config, model, _, folder = exported
    graphs = opened(config, folder, fovea_files[name])
    for lanes in (1, 2, 5):
        with torch.no_grad():
            theirs = model.run_fovea(random_input(lanes))
        ours = graphs.run_fovea(random_input(lanes))
        for field, value in vars(theirs).items():
            tolerance = 0.05 if name.endswith("fp16") else 1e-4
            torch.testing.assert_close(getattr(ours, field), value, atol=tolerance, rtol=0)


def test_an_export_without_a_fovea_removes_that_of_an_older_one(tmp_path: Path) -> None:
    for folder, parts in (("old", "detector look prefill step fovea"), ("new", "detector look prefill step")):
        (tmp_path / folder).mkdir()
        for part in parts.split():
            (tmp_path / folder / f"{part}.xml").write_text(folder)
            (tmp_path / folder / f"{part}.bin").write_text(folder)
    replace_graphs(tmp_path / "new", tmp_path / "old", ".xml")
    assert {path.stem for path in (tmp_path / "old").iterdir()} == {"detector", "look", "prefill", "step"}
    assert {path.read_text() for path in (tmp_path / "old").iterdir()} == {"new"}
    assert not list((tmp_path / "new").iterdir())
