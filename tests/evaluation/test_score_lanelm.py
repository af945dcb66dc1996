"""`clrernetlm test` with LaneLM: all modes from one detector pass, for any batch size, also without lanes."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clrernetlm.cli import main
from clrernetlm.config import Config
from clrernetlm.config.python_source import to_source
from clrernetlm.core.errors import UserError
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import read_lines
from clrernetlm.datasets.culane import read_labels
from clrernetlm.evaluation.prompt_modes import PAPER_MODES, PromptProtocol, predict_modes
from clrernetlm.evaluation.score_detector import score_detector
from clrernetlm.evaluation.score_lanelm import score_lanelm
from clrernetlm.evaluation.score_options import RunOptions, ScoreOutputs
from clrernetlm.evaluation.simulated_clicks import ClickSettings
from clrernetlm.metrics.prediction_files import PREDICTIONS_FILE, Prediction, read_predictions
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase
from clrernetlm.weights.build_models import build_lanelm, save_lanelm
from tests.helpers.drawn_roads import describe_lanes, write_drawn_roads
from tests.helpers.lanelm_networks import small_network
from tests.helpers.small_detector import small_config
from tests.helpers.small_lanelm import random_lanelm_detector, solid_white_detector, with_fovea

IMAGES = 5
ALL = PromptProtocol(PAPER_MODES)


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write five images, the last of them without lanes, in two categories."""
    root = write_drawn_roads(tmp_path_factory.mktemp("roads"), IMAGES)
    paths = (root / "list/test.txt").read_text().split()
    (root / paths[-1].lstrip("/")).with_suffix(".lines.txt").write_text("")
    (root / "list/bare.txt").write_text(paths[-1] + "\n")
    (root / "list/test_split").mkdir()
    (root / "list/test_split/test0_normal.txt").write_text("\n".join(paths[:-1]) + "\n")
    (root / "list/test_split/test1_cross.txt").write_text(paths[-1] + "\n")
    return root


def settings_of(roads: Path, work_dir: Path) -> Config:
    config = small_config(roads, work_dir)
    config.task, config.lanelm.network, config.model.decode.conf_threshold = "lanelm", small_network(), 0.5
    return config


@pytest.fixture
def config(roads: Path, tmp_path: Path) -> Config:
    return settings_of(roads, tmp_path)


@pytest.fixture(scope="module")
def model(roads: Path) -> LaneLMDetectorBase:
    return random_lanelm_detector(settings_of(roads, roads))


@pytest.fixture(scope="module")
def checkpoint(model: LaneLMDetectorBase, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "lanelm.pth"
    save_lanelm(model, path)
    return str(path)


def predictions(folder: Path) -> dict[str, Prediction]:
    return {prediction.path: prediction for prediction in read_predictions(folder / PREDICTIONS_FILE)}


def all_lanes(folder: Path) -> list[Lane]:
    return [lane for prediction in predictions(folder).values() for lane in prediction.lanes]


def same_lanes(one: Path, other: Path) -> bool:
    """Whether two folders hold the same lanes of the same images, and at least one."""
    ours, theirs = all_lanes(one), all_lanes(other)
    counts = [[(path, len(p.lanes)) for path, p in predictions(folder).items()] for folder in (one, other)]
    return (
        counts[0] == counts[1]
        and len(ours) > 0
        and all(
            lane.score == pytest.approx(twin.score, abs=1e-4)
            and lane.points.shape == twin.points.shape
            and np.abs(lane.points - twin.points).max() < 0.01
            for lane, twin in zip(ours, theirs, strict=True)
        )
    )


@pytest.fixture(scope="module")
def reference(roads: Path, checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Run all modes with all images in one batch; returns the folder of predictions and the JSON document."""
    folder = tmp_path_factory.mktemp("reference")
    return folder, score_lanelm(
        settings_of(roads, folder), checkpoint, ALL, ScoreOutputs(out=str(folder)), RunOptions(device="cpu")
    )


def copied(config: Config, model: LaneLMDetectorBase) -> LaneLMDetectorBase:
    """Return a model with the same weights and other settings."""
    other = build_lanelm(config).eval()
    other.load_state_dict(model.state_dict())
    return other


def test_the_json_holds_the_detector_every_mode_and_the_protocol(reference, config, checkpoint):
    folder, document = reference
    assert [*document["modes"]] == [*PAPER_MODES]
    assert document["lanelm"] == document["modes"]["none"]
    evaluate_keys = {"thresholds", "total", "categories", "mf1", "images", "category_images", "semantics"}
    for result in (document["detector"], *document["modes"].values()):
        assert evaluate_keys <= result.keys()
        assert result["images"] == IMAGES
        assert result["category_images"] == {"normal": IMAGES - 1, "cross": 1}
    assert document["protocol"]["noise"] == 5.0
    assert document["protocol"]["seed"] == 0
    assert document["protocol"]["prompts"] == [*PAPER_MODES]
    own = score_detector(config, checkpoint, run=RunOptions(device="cpu"))
    assert document["detector"] == own, "the detector's figures are those of a test of the detector"
    counts = document["verification"]
    assert counts["true"] + counts["false"] > IMAGES
    assert document["calibration"]["lanelm"]["lanes"] == len(all_lanes(folder / "none"))
    json.dumps(document, allow_nan=False)


def test_modes_scored_together_equal_modes_scored_alone(reference, config, model, tmp_path):
    folder, _ = reference
    for mode in PAPER_MODES:
        log = predict_modes(config, model, PromptProtocol((mode,)), "test", tmp_path, overwrite=True)
        assert same_lanes(folder / mode, tmp_path / mode), mode
        assert bool(log.true) == (mode == "none")


@pytest.mark.parametrize("batch_size", [1, 2])
def test_results_do_not_depend_on_the_batch_size(reference, config, model, tmp_path, batch_size):
    folder, document = reference
    config.data.batch_size = batch_size
    log = predict_modes(config, model, ALL, "test", tmp_path)
    for name in ("detector", *PAPER_MODES):
        assert same_lanes(folder / name, tmp_path / name), name
    counts = log.verification(config)
    assert counts["lanelm"]["configured"] == document["verification"]["lanelm"]["configured"]


def test_clicked_lanes_are_kept_at_any_confidence(config, model, roads, tmp_path):
    config.model.decode.conf_threshold = config.lanelm.decode.proposal_threshold = 1.0
    config.lanelm.decode.lane_threshold = 1.0
    model = copied(config, model)
    log = predict_modes(config, model, ALL, "test", tmp_path)
    drawn = 0
    for path, prediction in predictions(tmp_path / "4").items():
        lines = read_lines(tmp_path / "4" / Path(path).with_suffix(".lines.txt"))
        assert len(lines) == len(prediction.lanes) <= len(read_labels(str(roads / path)))
        drawn += len(lines)
    assert drawn > 0
    assert not all_lanes(tmp_path / "none"), "without proposals there is no question"
    assert not all_lanes(tmp_path / "start")
    counts = log.verification(config)
    assert (counts["true"], counts["false"], counts["lanelm"]["best"]) == (0, 0, None)
    # Without proposals clicks have none with either setting.
    predict_modes(config, model, PromptProtocol(("4",), use_proposals=False), "test", tmp_path / "bare")
    assert same_lanes(tmp_path / "4", tmp_path / "bare/4")


def test_proposals_change_the_lanes_of_clicks(reference, config, model, tmp_path):
    folder, _ = reference
    predict_modes(config, model, PromptProtocol(("4",), use_proposals=False), "test", tmp_path)
    assert not same_lanes(folder / "4", tmp_path / "4")


def test_a_split_without_labels_is_scored(config, checkpoint, tmp_path):
    config.data.test_list = "list/bare.txt"
    document = score_lanelm(config, checkpoint, ALL, ScoreOutputs(out=str(tmp_path)), RunOptions(device="cpu"))
    for mode in ("1", "2", "4"):
        assert not predictions(tmp_path / mode).popitem()[1].lanes
    assert document["verification"]["true"] == 0
    assert document["verification"]["detector"]["best"] is None
    assert document["modes"]["2"]["total"]["0.5"]["f1"] == 0


def test_start_points_are_those_of_the_detectors_lanes(reference, config, model, tmp_path):
    folder, _ = reference
    found = predictions(folder / "start")
    for path, prediction in predictions(folder / "detector").items():
        certain = [lane for lane in prediction.lanes if lane.score >= 0.5]
        assert len(found[path].lanes) <= len(certain)
    # LaneLM's threshold, not the detector's, decides which lanes exist.
    config.lanelm.decode.lane_threshold = 1.0
    predict_modes(config, model, PromptProtocol(("start",), starts="lanelm"), "test", tmp_path)
    assert all_lanes(tmp_path / "start"), "a sweep looks at them"
    assert not any(read_lines(path) for path in (tmp_path / "start").rglob("*.lines.txt"))


def test_click_noise_and_seed_change_the_lanes(config, model, tmp_path):
    def written(name: str, **settings: float) -> Path:
        protocol = PromptProtocol(("2",), ClickSettings(**settings), use_proposals=False)
        predict_modes(config, model, protocol, "test", tmp_path / name)
        return tmp_path / name / "2"

    noisy = written("noisy", noise=8)
    assert same_lanes(noisy, written("again", noise=8))
    assert not same_lanes(noisy, written("still", noise=0))
    assert not same_lanes(noisy, written("other", noise=8, seed=1))


def test_shuffled_features_change_only_the_lanes_of_lanelm(reference, config, model, tmp_path):
    folder, _ = reference
    protocol = replace(ALL, shuffle_images=True)
    config.data.batch_size = 4  # the fifth image is alone in its batch
    predict_modes(config, model, protocol, "test", tmp_path)
    assert same_lanes(folder / "detector", tmp_path / "detector")
    for mode in PAPER_MODES:
        assert not same_lanes(folder / mode, tmp_path / mode), mode
    config.data.batch_size = 1
    with pytest.raises(UserError, match=r"shuffle_images: the first batch holds one image"):
        predict_modes(config, model, protocol, "test", tmp_path, overwrite=True)


def test_the_plain_variant_decodes_a_lane_and_takes_no_prompts(config, tmp_path):
    config.lanelm.variant = "plain"
    torch.manual_seed(0)
    model = build_lanelm(config).eval()
    log = predict_modes(config, model, PromptProtocol(), "test", tmp_path)
    assert len(predictions(tmp_path / "none")) == IMAGES
    assert log.verification(config)["true"] == 0
    with pytest.raises(UserError, match="plain takes no prompts"):
        predict_modes(config, model, PromptProtocol(("2",)), "test", tmp_path, overwrite=True)


def test_the_command_writes_scores_predictions_and_a_report(config, checkpoint, tmp_path, capsys):
    settings = tmp_path / "small.py"
    settings.write_text(to_source(config))
    scores, report = tmp_path / "scores.json", tmp_path / "report.html"
    words = ["test", str(settings), checkpoint, "--device", "cpu", "--split", "val", "--prompts", "none", "2"]
    words += ["--noise", "3", "--prompt-places", "anywhere", "--seed", "7", "--out", str(tmp_path / "out")]
    assert main([*words, "--json", str(scores), "--report", str(report)]) == 0
    document = json.loads(scores.read_text())
    assert [*document["modes"]] == ["none", "2"]
    asked = {"split": "val", "noise": 3.0, "prompt_places": "anywhere", "seed": 7, "questions": True}
    assert asked.items() <= document["protocol"].items()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detector", "none", "2"}
    page = report.read_text()
    assert page.count("<img") == 3 * page.count('<div class="pictures beside">') > 0
    assert page.count("<svg") == 4
    assert "2 clicks" in page
    assert not re.search(r"(src|href)=\"(?!data:)|<script|@import|url\(", page)
    printed = capsys.readouterr().out
    assert "LaneLM: best confidence" in printed
    assert "choose it on validation images" not in printed, "these are the validation images"


@pytest.fixture(scope="module")
def described_roads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write four images: lanes of two with types, colours, positions and hidden points, without them the others'."""
    root = write_drawn_roads(tmp_path_factory.mktemp("described"), 4)
    describe_lanes(root, [1, 2])
    return root


def test_types_colours_positions_and_visibility_are_scored_where_labels_have_them(described_roads, tmp_path, capsys):
    config = with_fovea(settings_of(described_roads, tmp_path))
    save_lanelm(solid_white_detector(config), tmp_path / "fovea.pth")
    report = tmp_path / "report.html"
    document = score_lanelm(
        config,
        str(tmp_path / "fovea.pth"),
        PromptProtocol(("none", "4"), ClickSettings(noise=0)),
        ScoreOutputs(report=str(report)),
        RunOptions(device="cpu"),
    )
    labels = sum(
        len(read_lines(path.with_suffix("").with_suffix(".lines.txt")))
        for path in described_roads.rglob("*.lanes.json")
    )
    found = document["modes"]["4"]["attributes"]
    assert 0 < found["lanes"] <= labels
    assert found["type"] == {"lanes": found["lanes"], "right": 0.0, "confusion": {"dashed": {"solid": found["lanes"]}}}
    assert found["colour"]["right"] == 1.0
    assert found["position"]["lanes"] == found["lanes"]
    assert found["position"]["right"] > 0
    assert (found["hidden"]["recall"], found["hidden"]["precision"]) == (0.0, None)
    assert 0 < found["hidden"]["hidden"] < found["hidden"]["points"]
    assert "right attributes of lanes" in capsys.readouterr().out
    page = report.read_text()
    assert "Type, colour, position and visibility" in page
    assert page.count('<table class="confusion">') == 2
    json.dumps(document, allow_nan=False)


def test_a_model_without_types_prints_no_attributes(config, checkpoint, described_roads, tmp_path, capsys):
    config.data.root = str(described_roads)
    report = tmp_path / "report.html"
    outputs, run = ScoreOutputs(report=str(report)), RunOptions(device="cpu")
    document = score_lanelm(config, checkpoint, PromptProtocol(), outputs, run)
    assert "attributes" not in document["lanelm"]
    assert "right attributes" not in capsys.readouterr().out
    assert "Type, colour" not in report.read_text()


def test_labels_without_attributes_print_none(config, tmp_path, capsys):
    save_lanelm(solid_white_detector(with_fovea(config)), tmp_path / "fovea.pth")
    document = score_lanelm(config, str(tmp_path / "fovea.pth"), PromptProtocol(), run=RunOptions(device="cpu"))
    assert document["lanelm"]["total"]["0.5"]["tp"] > 0
    assert "attributes" not in document["lanelm"]
    assert "right attributes" not in capsys.readouterr().out


def test_errors_are_one_line(config, roads, checkpoint, tmp_path, capsys):
    settings, detector = tmp_path / "small.py", tmp_path / "detector.py"
    settings.write_text(to_source(config))
    config.task = "clrernet"
    detector.write_text(to_source(config))

    def error(*words: str) -> str:
        assert main(["test", *words, "--device", "cpu"]) == 2
        message = capsys.readouterr().err.splitlines()
        assert len(message) == 1
        return message[0]

    assert "is a detector, which takes no prompts" in error(str(detector), checkpoint, "--prompts", "2")
    assert "is a detector, which takes no prompts" in error(str(detector), checkpoint, "--shuffle-images")
    assert "'5' is not one of" in error(str(settings), checkpoint, "--prompts", "5")
    assert "prompts: 2 2 names one twice" in error(str(settings), checkpoint, "--prompts", "2", "2")
    assert "noise: -1 pixels" in error(str(settings), checkpoint, "--noise", "-1")
    assert "no such checkpoint" in error(str(settings), str(tmp_path / "none.ckpt"))
