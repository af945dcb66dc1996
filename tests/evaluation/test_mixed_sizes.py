"""Cameras of several shapes in one data set: training, validation, test, LaneLM and the checks of the data."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clrernetlm.cli import main
from clrernetlm.config import Config, TrainingConfig, load_config
from clrernetlm.config.python_source import to_source
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import read_lines
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets.check import check_data
from clrernetlm.evaluation.prompt_modes import PAPER_MODES, PromptProtocol, clicks_on_labels
from clrernetlm.evaluation.score_detector import score_detector
from clrernetlm.evaluation.score_lanelm import score_lanelm
from clrernetlm.evaluation.score_options import RunOptions, ScoreOutputs
from clrernetlm.evaluation.simulated_clicks import ClickSettings
from clrernetlm.training.train import train
from clrernetlm.training.validation_counts import ValidationTally
from tests.helpers.drawn_roads import write_mixed_roads
from tests.helpers.small_detector import small_config
from tests.helpers.small_lanelm import small_lanelm_config

SIZES = ((410, 148), (320, 180), (640, 360), (240, 135))


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixed_roads(tmp_path_factory.mktemp("mixed"), 2, SIZES)


def any_size(config: Config) -> Config:
    config.evaluation.image_size, config.evaluation.lane_width = None, 30
    return config


@pytest.fixture(scope="module")
def trained(roads: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, str]:
    folder = tmp_path_factory.mktemp("run")
    config = any_size(small_config(roads, folder, epochs=2, validate_every=0))
    return config, str(train(config))


def test_validation_in_training_gives_the_scores_of_test(roads: Path, tmp_path: Path) -> None:
    """Continues from the shipped weights: a new model would not find lanes within seconds."""
    config = load_config("roads_efficientnet_lite0")
    config.data = replace(config.data, root=str(roads), num_workers=0)
    config.training = TrainingConfig(
        init_from="roads_detector", epochs=1, learning_rate=1e-4, work_dir=str(tmp_path / "run"), device="cpu"
    )
    checkpoint = str(train(config))
    scores = score_detector(
        config, checkpoint, ScoreOutputs(report=str(tmp_path / "report.html")), RunOptions(device="cpu")
    )
    assert list(scores["categories"]) == [f"camera_{number}" for number in range(len(SIZES))]
    assert scores["total"]["0.5"]["f1"] > 0.5
    rows = (Path(config.training.work_dir or "") / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/F1@50")
    logged = [row.split(",")[column] for row in rows[1:] if row.split(",")[column]]
    assert float(logged[-1]) == pytest.approx(scores["total"]["0.5"]["f1"], abs=1e-6)
    report = (tmp_path / "report.html").read_text()
    assert "frames scaled to 1640 px wide" in report
    assert "camera_3" in report


def test_one_frame_size_makes_no_difference_to_lanes_scaled_by_hand(roads: Path) -> None:
    config = any_size(Config())
    for number, (width, height) in enumerate(SIZES):
        tally = ValidationTally(config.evaluation)
        image = roads / f"camera_{number}/driver_1/clip.MP4/00000.jpg"
        labels = read_lines(image.with_suffix(".lines.txt"))
        tally.add([Lane(points + np.array([8 * width / 1640, 0])) for points in labels], image, (width, height))
        scores = tally.scores(lambda counts: counts)
        assert scores["F1@50"] > 0.999
        assert 0 < scores["mF1"] < 1


def test_clicks_miss_by_pixels_of_the_canvas(roads: Path, tmp_path: Path) -> None:
    config = any_size(small_lanelm_config(roads, tmp_path, "none.pth"))
    spread = []
    for number, frame in enumerate(SIZES):
        path = f"/camera_{number}/driver_1/clip.MP4/00000.jpg"
        labels = read_lines((roads / path[1:]).with_suffix(".lines.txt"))
        exact, there = clicks_on_labels(config, ClickSettings(noise=0), 4, path, frame, labels)
        missed, _ = clicks_on_labels(config, ClickSettings(noise=16), 4, path, frame, labels)
        spread.append(np.abs(missed - exact)[there][:, 0].max() * 1640 / frame[0])
    assert 8 < min(spread) <= max(spread) <= 16 + 1e-9


def test_lanelm_trains_on_mixed_sizes_and_decodes_in_every_mode(trained: tuple[Config, str], tmp_path: Path) -> None:
    detector, checkpoint = trained
    config = any_size(small_lanelm_config(Path(detector.data.root), tmp_path, checkpoint, epochs=2, validate_every=2))
    config.lanelm.cached_augmentations, config.lanelm.cache = 1, str(tmp_path / "cache")
    document = score_lanelm(config, str(train(config)), PromptProtocol(PAPER_MODES), run=RunOptions(device="cpu"))
    assert list(document["modes"]) == list(PAPER_MODES)
    assert document["detector"]["image_size"] is None
    assert len(document["detector"]["categories"]) == len(SIZES)


def test_automatic_crops_score_like_the_configured_crop_where_that_fits(
    trained: tuple[Config, str], tmp_path: Path
) -> None:
    config, checkpoint = trained
    before = score_detector(config, checkpoint, run=RunOptions(device="cpu"))
    auto = deepcopy(config)
    auto.model.viewport_mode = "auto"
    after = score_detector(auto, checkpoint, ScoreOutputs(out=str(tmp_path)), RunOptions(device="cpu"))
    rows = [json.loads(line) for line in (tmp_path / "viewports.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == (Path(config.data.root) / "list/test.txt").read_text().split()
    still = [Viewport(**row["viewport"]) == config.model.viewport for row in rows]
    assert sum(still) > len(still) / 2  # the roads are drawn with their horizon where the crop expects it
    if all(still):
        assert after["total"] == before["total"]


def test_lanelm_uses_the_crop_of_each_image(trained: tuple[Config, str], tmp_path: Path) -> None:
    detector, checkpoint = trained
    config = any_size(
        small_lanelm_config(Path(detector.data.root), tmp_path, Path(checkpoint), epochs=1, validate_every=0)
    )
    config.model.viewport_mode = "auto"
    weights = str(train(config))
    # A crop that begins far below the horizon: every image that shows lanes needs another one.
    config.model.viewport = replace(config.model.viewport, top=0.7)
    report = tmp_path / "report.html"
    score_lanelm(
        config,
        weights,
        PromptProtocol(("none", "2")),
        ScoreOutputs(out=str(tmp_path / "out"), report=str(report)),
        RunOptions(device="cpu"),
    )
    assert report.exists()
    assert (tmp_path / "out/viewports.jsonl").exists()


def test_a_test_list_without_categories_is_enough(
    trained: tuple[Config, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config, checkpoint = trained
    (tmp_path / "small.py").write_text(to_source(config))
    options = ["--data.test-list", "list/val.txt", "--data.categories", "folders", "--json", str(tmp_path / "a.json")]
    assert main(["test", str(tmp_path / "small.py"), checkpoint, "--device", "cpu", *options]) == 0
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["category_images"] == {f"camera_{number}": 2 for number in range(len(SIZES))}
    assert "camera_2" in capsys.readouterr().out


def test_check_data_lists_the_sizes(roads: Path, tmp_path: Path) -> None:
    report = check_data(roads, contact_sheet=tmp_path / "sheet.jpg", workers=1)
    assert not report.problems
    assert report.frame_sizes == dict.fromkeys(SIZES, 2)
    assert (tmp_path / "sheet.jpg").exists()
