"""Predictor with a detector and with LaneLM, with and without clicks."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm import Predictor, UserError
from clrernetlm.config import Config, LaneLMTrainingRequestsConfig
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import read_lines
from clrernetlm.inference.click_coordinates import prompts_of_clicks
from clrernetlm.inference.detect_images import detect
from clrernetlm.training.train import train
from tests.helpers.drawn_roads import drawn_lanes, write_drawn_roads
from tests.helpers.small_lanelm import small_lanelm_config, write_detector

ROADS = 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, str, Path]:
    """Train LaneLM for a few steps on a detector of random weights that finds lanes of every length."""
    root = write_drawn_roads(tmp_path_factory.mktemp("roads"), ROADS)
    folder = tmp_path_factory.mktemp("lanelm")
    detector = write_detector(folder / "detector.pth")
    config = small_lanelm_config(root, folder, detector, epochs=25, learning_rate=3e-3, validate_every=0)
    config.lanelm.training_requests = LaneLMTrainingRequestsConfig(input_noise=5 / 800, label_sigma=1.5)
    config.lanelm.cached_augmentations, config.lanelm.cache = 1, str(folder / "cache")
    config.data.batch_size = 2
    config.lanelm.decode.lane_threshold = 0.02
    config.model.decode.conf_threshold = 0.2
    return config, str(train(config)), root / "driver_1/clip.MP4"


@pytest.fixture(scope="module")
def predictor(trained: tuple[Config, str, Path]) -> Predictor:
    predictor = Predictor(*trained[:2])
    predictor.set_image(picture(trained, 0))
    return predictor


def picture(trained: tuple[Config, str, Path], index: int) -> np.ndarray:
    return cv2.imread(str(trained[2] / f"{index:05d}.jpg"))


def labels(index: int) -> list[np.ndarray]:
    """Return the lanes of an image, (N, 2) x, y in its pixels, bottom first."""
    return drawn_lanes(np.random.default_rng([0, index]))


def same(a: Lane, b: Lane) -> None:
    assert a.score == pytest.approx(b.score, abs=1e-4)
    np.testing.assert_allclose(a.points, b.points, atol=0.01)


def test_lanes_are_in_pixels_of_the_image_best_first(predictor: Predictor) -> None:
    lanes = predictor.lanes()
    assert lanes
    scores = [lane.score for lane in lanes]
    assert scores == sorted(scores, reverse=True)
    for lane in lanes:
        assert (np.diff(lane.points[:, 1]) < 0).all()
        assert lane.points[:, 1].min() >= 0.45 * 148 - 3
        assert lane.points[:, 1].max() <= 148
    assert len(predictor.lanes(conf=0.0)) >= len(lanes) >= len(predictor.lanes(conf=0.99))


def test_detections_are_those_of_the_detector_alone(trained: tuple[Config, str, Path], predictor: Predictor) -> None:
    config, checkpoint, _ = trained
    alone = Predictor(Config(model=config.model), checkpoint)
    alone.set_image(picture(trained, 0))
    assert len(alone.lanes()) == len(predictor.detections()) > 0
    for a, b in zip(alone.lanes(), predictor.detections(), strict=True):
        same(a, b)
        assert a.position == b.position
    assert len(predictor.detections(conf=0.0)) >= len(predictor.detections())


def test_all_lanes_are_numbered_from_the_own_car_outwards(predictor: Predictor) -> None:
    for lanes in (predictor.lanes(), predictor.detections()):
        positions = [lane.position for lane in lanes]
        assert sorted(positions) == [number for number in range(-len(lanes), len(lanes) + 1) if number in positions]
        assert {-1, 1} & set(positions)
    for label in labels(0):
        clicked = predictor.complete(label[[3, 12]])
        assert clicked.position is not None
        assert (clicked.position > 0) == (clicked.points[0, 0] > 410 / 2)


def test_a_completed_lane_passes_near_its_clicks(trained: tuple[Config, str, Path]) -> None:
    predictor = Predictor(*trained[:2])
    misses = []
    for index in range(ROADS):
        predictor.set_image(picture(trained, index))
        for label in labels(index):
            clicks = label[[len(label) // 6, len(label) // 2]]
            lane = predictor.complete(clicks)
            assert 0 <= lane.score <= 1
            misses += list(np.abs(lane.x_at(clicks[:, 1], margin=10) - clicks[:, 0]))
    assert np.nanmedian(misses) < 8
    assert np.isnan(misses).mean() < 0.2


@pytest.mark.parametrize("use_detector", [True, False])
def test_many_lanes_at_once_are_the_lanes_one_by_one(predictor: Predictor, use_detector: bool) -> None:
    sets = [label[5 : 5 + 8 * count : 8] for count, label in enumerate(labels(0), start=1)]
    sets.append(labels(0)[0][::10])  # more points than in any training request
    assert len({len(points) for points in sets}) > 2
    together = predictor.complete_many(sets, use_detector)
    for points, lane in zip(sets, together, strict=True):
        same(predictor.complete(points, use_detector), lane)


def test_the_order_of_the_clicks_does_not_matter(predictor: Predictor) -> None:
    clicks = labels(0)[0][[3, 12, 20]]
    same(predictor.complete(clicks), predictor.complete(clicks[[2, 0, 1]].tolist()))


def test_clicks_outside_the_crop_are_ignored(predictor: Predictor) -> None:
    clicks = labels(0)[0][[3, 12]]
    above, beside = [200.0, 10.0], [-50.0, 120.0]
    same(predictor.complete(clicks), predictor.complete([above, *clicks, beside, [np.nan, 90.0]]))


def test_clicks_in_images_of_a_batch(trained: tuple[Config, str, Path]) -> None:
    predictor = Predictor(*trained[:2])
    images = [picture(trained, 0), cv2.resize(picture(trained, 1), (820, 296)), picture(trained, 2)]
    predictor.set_images(images)
    clicks = 2 * labels(1)[0][[3, 12]]
    [within] = predictor.complete_many([clicks], image=1)
    lanes = predictor.lanes_of_images()
    predictor.set_image(images[1])
    same(predictor.complete(clicks), within)
    for a, b in zip(predictor.lanes(), lanes[1], strict=True):
        same(a, b)
    with pytest.raises(UserError, match="image: 1, but 1 were given"):
        predictor.complete_many([clicks], image=1)


def test_complete_without_clicks_is_an_error(predictor: Predictor) -> None:
    assert predictor.complete_many([]) == []
    with pytest.raises(UserError, match="images: none"):
        predictor.set_images([])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "shape"),
        ([100.0, 120.0], "shape"),
        (np.zeros((2, 3)), "shape"),
        (np.zeros((0, 2)), "none of 0"),
        ([["a", "b"]], "not an array of numbers"),
        ([[1.0, 2.0], [3.0]], "not an array of numbers"),
        ([[np.nan, 120.0], [np.inf, 120.0]], "none of 2 is in the part that the network sees"),
        ([[100.0, 20.0]], "x 0 to 410 and y 67 to 148 of this 410x148 image"),
        ([[100.0, 149.0], [411.0, 120.0]], "none of 2"),
    ],
)
def test_invalid_clicks_are_a_one_line_error(predictor: Predictor, points: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        predictor.complete(points)  # type: ignore[arg-type]
    assert str(refused.value).startswith("points: ")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="points of lane 1: "):
        predictor.complete_many([labels(0)[0][:2], points])  # type: ignore[list-item]


def test_clicks_on_the_border_of_the_image_count(trained: tuple[Config, str, Path]) -> None:
    view = trained[0].model.viewport
    prompts, there = prompts_of_clicks([[[0, 148], [410, 67]], [[205, 148]]], view, (410, 148))
    assert there.tolist() == [[True, True], [True, False]]
    assert prompts[0].tolist() == [[0, 64], [160, 0]]
    assert prompts[1, 0].tolist() == [80, 64]


def test_a_detector_names_the_model_that_takes_clicks(trained: tuple[Config, str, Path]) -> None:
    config, checkpoint, _ = trained
    detector = Predictor(Config(model=config.model, name="my_detector"), checkpoint)
    detector.set_image(picture(trained, 0))
    with pytest.raises(UserError, match=r"^complete: my_detector is a detector.*configs/lanelm"):
        detector.complete([[100.0, 120.0]])


def test_a_click_before_an_image_is_a_clear_error(trained: tuple[Config, str, Path]) -> None:
    with pytest.raises(UserError, match="call set_image"):
        Predictor(*trained[:2]).complete([[100.0, 120.0]])


def test_the_plain_variant_has_lanes_but_takes_no_clicks(trained: tuple[Config, str, Path]) -> None:
    config = small_lanelm_config(Path(), Path(), Path())
    config.lanelm.variant = "plain"
    predictor = Predictor(config, "random")
    predictor.set_image(picture(trained, 0))
    assert len(predictor.lanes()) <= 1
    with pytest.raises(UserError, match=r"lanelm\.variant plain takes no clicks"):
        predictor.complete([[100.0, 120.0]])


def test_detect_takes_lanelm_too(trained: tuple[Config, str, Path], predictor: Predictor, tmp_path: Path) -> None:
    config, checkpoint, images = trained
    found = detect(config, checkpoint, [str(images / "00000.jpg"), str(images / "00001.jpg")], str(tmp_path))
    assert len(found) == 2
    for a, b in zip(found[str(images / "00000.jpg")], predictor.lanes(), strict=True):
        same(a, b)
    rows = json.loads((tmp_path / "lanes.json").read_text())
    assert [len(row["lanes"]) for row in rows] == [len(lanes) for lanes in found.values()]
    assert len(read_lines(tmp_path / "00000.lines.txt")) == len(found[str(images / "00000.jpg")])
    assert (tmp_path / "00000.jpg").exists()
