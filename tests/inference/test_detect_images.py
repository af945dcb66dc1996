"""Detection in images through the public functions, with a detector that was trained for a few steps."""

import json
from copy import deepcopy
from dataclasses import replace

import cv2
import numpy as np
import pytest

from clrernetlm import Predictor, UserError
from clrernetlm.cli.size_and_crop import fix_given_crop
from clrernetlm.config import Config
from clrernetlm.core.lane_files import read_lines
from clrernetlm.core.overwrite_rules import RESULTS_LOG, ResultFolder
from clrernetlm.core.sources import find_inputs, result_names
from clrernetlm.inference.detect_images import detect, detect_images
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.small_detector import small_config, train_detector


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = write_drawn_roads(tmp_path_factory.mktemp("roads"), 8)
    config = small_config(root, tmp_path_factory.mktemp("run"), epochs=40, learning_rate=3e-3, validate_every=0)
    config.model.decode.conf_threshold = 0.2
    return config, str(train_detector(config)), root / "driver_1/clip.MP4"


def test_a_folder_becomes_text_json_and_overlays(trained, tmp_path):
    config, checkpoint, images = trained
    found = detect(config, checkpoint, [str(images)], str(tmp_path / "out"))
    assert len(found) == 8
    rows = json.loads((tmp_path / "out/lanes.json").read_text())
    assert [row["image"] for row in rows] == list(found)
    assert sum(len(row["lanes"]) for row in rows) == sum(map(len, found.values())) > 0
    for row in rows:
        stem = row["image"].split("/")[-1].removesuffix(".jpg")
        assert len(read_lines(tmp_path / f"out/{stem}.lines.txt")) == len(row["lanes"])
        overlay = cv2.imread(str(tmp_path / f"out/{stem}.jpg"))
        assert overlay.shape == cv2.imread(row["image"]).shape
        for lane in row["lanes"]:
            assert 0.2 <= lane["score"] <= 1
            assert np.diff([y for _, y in lane["points"]]).max() < 0  # bottom first


def test_crops_are_recorded_and_one_camera_has_one_crop(trained, tmp_path):
    config, checkpoint, images = trained
    auto = deepcopy(config)
    auto.model.viewport_mode = "auto"
    # Below the horizon there is only road, and half of a lane is enough to find it.
    auto.model.viewport = replace(auto.model.viewport, top=0.62)
    for one_camera in (False, True):
        detect(auto, checkpoint, [str(images)], str(tmp_path / "out"), one_camera=one_camera)
        rows = json.loads((tmp_path / "out/lanes.json").read_text())
        seen = {tuple(row["viewport"].items()) for row in rows}
        assert all(dict(view)["right"] == 1 for view in seen)
        assert len(seen) == 1 or not one_camera
    detect(config, checkpoint, [str(images / "00000.jpg")], str(tmp_path / "fixed"), one_camera=True)
    (row,) = json.loads((tmp_path / "fixed/lanes.json").read_text())
    assert row["viewport"] == {"left": 0, "top": 0.45, "right": 1, "bottom": 1}


def test_a_crop_can_be_given_image_by_image(trained):
    config, checkpoint, images = trained
    predictor = Predictor(config, checkpoint)
    assert predictor.viewport == config.model.viewport
    image, given = cv2.imread(str(images / "00000.jpg")), replace(config.model.viewport, top=0.3)
    predictor.set_image(image, given)
    assert (predictor.viewport, predictor.viewports) == (given, [given])
    other = Predictor(fix_given_crop(deepcopy(config), ["--model.viewport.top", "0.3"], "0.3"), checkpoint)
    other.set_image(image)
    for mine, theirs in zip(predictor.lanes(0.05), other.lanes(0.05), strict=True):
        np.testing.assert_array_equal(mine.points, theirs.points)
    assert predictor.calibrate([image]) == config.model.viewport
    with pytest.raises(UserError, match="images: sizes 410x148, 820x296; calibrate one camera"):
        predictor.calibrate([image, cv2.resize(image, (820, 296))])


def test_a_batch_equals_its_images_one_by_one(trained):
    config, checkpoint, images = trained
    predictor = Predictor(config, checkpoint)
    batch = [cv2.imread(str(path)) for path in sorted(images.glob("*.jpg"))][:3]
    batch[1] = cv2.resize(batch[1], (820, 296))  # sizes may differ inside a batch
    predictor.set_images(batch)
    together = predictor.lanes_of_images()
    for image, lanes in zip(batch, together, strict=True):
        predictor.set_image(image)
        alone = predictor.lanes()
        assert [lane.score for lane in alone] == pytest.approx([lane.score for lane in lanes], abs=1e-4)
        for a, b in zip(alone, lanes, strict=True):
            np.testing.assert_allclose(a.points, b.points, atol=0.05)


def test_thresholds_need_no_second_run_and_keep_the_best_lanes(trained):
    config, checkpoint, images = trained
    predictor = Predictor(config, checkpoint)
    predictor.set_image(cv2.imread(str(images / "00000.jpg")))
    few, many = predictor.lanes(conf=0.5), predictor.lanes(conf=0.05)
    assert [lane.score for lane in few] == [lane.score for lane in many if lane.score >= 0.5]


@pytest.mark.parametrize(
    "image", [None, np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)]
)
def test_arrays_that_are_no_images_are_refused(trained, image):
    config, checkpoint, _ = trained
    with pytest.raises(UserError, match="image"):
        Predictor(config, checkpoint).set_image(image)


def test_lanes_before_set_image_is_a_clear_error(trained):
    config, checkpoint, _ = trained
    with pytest.raises(UserError, match="call set_image"):
        Predictor(config, checkpoint).lanes()


def test_a_truncated_image_is_named_and_the_others_are_processed(trained, tmp_path):
    config, checkpoint, images = trained
    good = tmp_path / "good.jpg"
    good.write_bytes((images / "00000.jpg").read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    with pytest.raises(UserError, match=r"broken\.jpg: 1 of 2 images cannot be decoded"):
        detect(config, checkpoint, [str(tmp_path)], str(tmp_path / "out"))
    assert (tmp_path / "out/good.lines.txt").exists()


@pytest.mark.parametrize("conf", [None, 0.9999])
def test_an_image_without_lanes_still_gets_its_files(trained, tmp_path, conf):
    config, checkpoint, _ = trained
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((148, 410, 3), np.uint8))
    detect(config, checkpoint, [str(tmp_path / "black.png")], str(tmp_path / "out"), conf=conf)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"black.lines.txt", "black.jpg", "lanes.json", RESULTS_LOG}


def test_a_second_run_replaces_its_own_results_and_never_a_label(trained, tmp_path):
    config, checkpoint, images = trained
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        cv2.imwrite(str(folder / "x.png"), cv2.imread(str(images / "00000.jpg")))
    photo, other, out = str(tmp_path / "x.png"), str(tmp_path / "other/x.png"), tmp_path / "out"
    for conf in (0.2, 0.9):
        detect(config, checkpoint, [photo], str(out), conf=conf)
    with pytest.raises(UserError, match=r"x\.lines\.txt: a result of .*x\.png.*`overwrite=True`"):
        detect(config, checkpoint, [other], str(out))
    detect(config, checkpoint, [other], str(out), overwrite=True)
    lines = out / "x.lines.txt"
    lines.write_text("1 2 3 4\n")  # corrected by hand: a label now
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"x\.lines\.txt: would be overwritten, and is not"):
            detect(config, checkpoint, [other], str(out), overwrite=overwrite)
    assert lines.read_text() == "1 2 3 4\n"


@pytest.mark.parametrize("overwrite", [False, True])
def test_inputs_and_labels_beside_them_are_not_replaced(trained, tmp_path, overwrite):
    config, checkpoint, images = trained
    before = {path: path.read_bytes() for path in images.iterdir()}
    with pytest.raises(UserError, match=r"00000\.(jpg|lines\.txt): "):
        detect(config, checkpoint, [str(images)], str(images), overwrite=overwrite)
    (tmp_path / "link").symlink_to(images)
    with pytest.raises(UserError, match=r"00000\.(jpg|lines\.txt): "):
        detect(config, checkpoint, [str(images / "00000.jpg")], str(tmp_path / "link"), overwrite=overwrite)
    cv2.imwrite(str(tmp_path / "00001.png"), cv2.imread(str(images / "00000.jpg")))
    with pytest.raises(UserError, match=r"00001\.lines\.txt: would be overwritten"):  # the label of 00001.jpg
        detect(config, checkpoint, [str(tmp_path / "00001.png")], str(images), overwrite=overwrite)
    assert {path: path.read_bytes() for path in images.iterdir()} == before


def test_inputs_are_checked_before_any_work(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").write_bytes(b"")
    assert find_inputs([str(tmp_path / "a")]).images == [tmp_path / "a/x.jpg"]
    with pytest.raises(UserError, match="no such file"):
        find_inputs([str(tmp_path / "c")])
    both = find_inputs([str(tmp_path / "a"), str(tmp_path / "b")]).images
    assert result_names(both) == ["a-x", "b-x"]
    (tmp_path / "a/x.png").write_bytes(b"")
    with pytest.raises(UserError, match="would overwrite"):
        result_names(find_inputs([str(tmp_path / "a")]).images)
    with pytest.raises(UserError, match="none given"):
        find_inputs([])


def test_interrupting_keeps_the_lanes_of_finished_images(tmp_path, capsys):
    class Stopping:
        config, viewport, number = Config(), Config().model.viewport, 0

        def set_image(self, image, viewport):
            self.number += 1
            if self.number == 3:
                raise KeyboardInterrupt

        def lanes(self, conf):
            return []

    images = {tmp_path / f"{number}.png": f"deep/{number}" for number in range(4)}
    for path in images:
        cv2.imwrite(str(path), np.zeros((148, 410, 3), np.uint8))
    with pytest.raises(KeyboardInterrupt):
        detect_images(Stopping(), images, ResultFolder(tmp_path / "out"))
    rows = json.loads((tmp_path / "out/lanes.json").read_text())
    assert [row["image"] for row in rows] == [str(path) for path in list(images)[:2]]
    assert sorted(path.name for path in (tmp_path / "out/deep").iterdir()) == [
        "0.jpg", "0.lines.txt", "1.jpg", "1.lines.txt",
    ]  # fmt: skip
    assert "0 lanes in 2 images, stopped" in capsys.readouterr().out
    (tmp_path / "none").mkdir()
    stopping = Stopping()
    stopping.number = 2
    with pytest.raises(KeyboardInterrupt):
        detect_images(stopping, images, ResultFolder(tmp_path / "none"))
    assert list((tmp_path / "none").iterdir()) == []


def test_folders_in_folders_give_results_in_folders(trained, tmp_path):
    config, checkpoint, images = trained
    for place in ("in/a.jpg", "in/day/a.jpg", "in/day/late/a.jpg", "in/day/._a.jpg"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes((images / "00000.jpg").read_bytes())
    out = tmp_path / "in/lanes"
    for _ in range(2):  # the second time without its own results
        found = detect(config, checkpoint, [str(tmp_path / "in")], str(out))
        assert [path.removeprefix(f"{tmp_path}/in/") for path in found] == ["a.jpg", "day/a.jpg", "day/late/a.jpg"]
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.lines.txt")} == {
        "a.lines.txt", "day/a.lines.txt", "day/late/a.lines.txt",
    }  # fmt: skip
