"""Frames of any size: errors weigh the same on small and large frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_files import read_lines, write_lines
from clrernetlm.metrics import evaluate, lane_ious
from clrernetlm.metrics.frame_scale import canvas_size, frame_scale
from clrernetlm.metrics.sweep import scored_ious

LABEL = np.array([[300.0, 922.0], [500.0, 700.0], [640.0, 500.0], [750.0, 400.0]])  # on a frame 1640 wide, 16:9
OFF = np.array([9.0, 0.0])
FRAMES = ((512, 288), (1280, 720), (2560, 1440))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Write the same image and lanes at several sizes, a folder each; predictions are off by 9 pixels of 1640."""
    lines, rows = [], []
    for width, height in FRAMES:
        name, scale = f"w{width}/a", width / 1640
        (tmp_path / "gt" / f"w{width}").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / f"gt/{name}.jpg"), np.zeros((height, width, 3), np.uint8))
        moved = (LABEL + OFF) * scale
        write_lines(tmp_path / f"gt/{name}.lines.txt", [LABEL * scale], decimals=9)
        write_lines(tmp_path / f"pred/{name}.lines.txt", [moved], decimals=9)
        (written,) = read_lines(tmp_path / f"pred/{name}.lines.txt")
        rows.append({"path": f"/{name}.jpg", "lanes": [{"score": 0.7, "points": written.tolist()}]})
        lines.append(f"/{name}.jpg\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(root: Path, **options: object) -> dict:
    return evaluate(root / "pred", root / "gt", root / "list.txt", workers=1, **options).to_dict()


def test_the_canvas_is_1640_wide_and_keeps_the_shape() -> None:
    assert canvas_size(None, (1280, 720)) == (1640, 922)
    assert canvas_size(None, (1640, 590)) == (1640, 590)
    assert frame_scale(None, (820, 295)) == 2
    assert (canvas_size((1640, 590), (1280, 720)), frame_scale((1640, 590), (1280, 720))) == ((1640, 590), 1)


def test_an_error_weighs_the_same_on_every_frame_size(mixed: Path) -> None:
    lines = mixed / "lines.jsonl"
    document = run(mixed, image_size=None, per_image=lines)
    expected = lane_ious([LABEL + OFF], [LABEL], image_size=(1640, 922))[0, 0]
    found = [json.loads(line)["ious"][0][0] for line in lines.read_text().splitlines()]
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert document["image_size"] is None
    assert document["total"]["0.5"]["tp"] == len(FRAMES)
    assert json.loads(json.dumps(document)) == document
    # In pixels of the frames, as with one size for all, the same miss is small on some of them.
    run(mixed, image_size=(2560, 1440), per_image=lines, overwrite=True)
    assert np.ptp([json.loads(line)["ious"][0][0] for line in lines.read_text().splitlines()]) > 0.1


def test_the_sweep_compares_on_the_same_canvas(mixed: Path) -> None:
    lines = mixed / "lines.jsonl"
    run(mixed, image_size=None, per_image=lines)
    swept = scored_ious(mixed / "predictions.jsonl", mixed / "gt", mixed / "list.txt", image_size=None)
    for line, (scores, ious) in zip(lines.read_text().splitlines(), swept, strict=True):
        assert scores.tolist() == [0.7]
        assert ious.tolist() == json.loads(line)["ious"]


def test_a_missing_image_is_a_one_line_error(mixed: Path) -> None:
    (mixed / "gt/w1280/a.jpg").unlink()
    with pytest.raises(UserError, match=r"w1280/a\.jpg: no such image; .* set one size") as error:
        run(mixed, image_size=None)
    assert "\n" not in str(error.value)
    run(mixed, image_size=(2560, 1440))  # one size needs no image


def test_frames_larger_than_the_canvas_are_refused(mixed: Path) -> None:
    larger = r"w1280/a\.jpg: a frame of 1280x720 is larger than the 1640x590 .*set image_size .*auto"
    with pytest.raises(UserError, match=larger):
        run(mixed)
    with pytest.raises(UserError, match=larger):
        list(scored_ious(mixed / "predictions.jsonl", mixed / "gt", mixed / "list.txt"))
    (mixed / "gt/w1280/a.jpg").unlink()
    with pytest.raises(UserError, match=r"a\.jpg: labels that reach x = .*, y = .* are larger than the 1640x590"):
        run(mixed)


def test_lanes_outside_a_fitting_frame_do_not_enlarge_it(tmp_path: Path) -> None:
    for folder in ("gt", "pred"):
        write_lines(tmp_path / folder / "a.lines.txt", [np.array([[1400.0, 590], [1900, 640]]), LABEL * [1, 0.5]])
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with pytest.raises(UserError, match="labels that reach x = 1900, y = 640"):
        run(tmp_path)
    cv2.imwrite(str(tmp_path / "gt/a.jpg"), np.zeros((590, 1640, 3), np.uint8))
    assert run(tmp_path)["total"]["0.5"]["tp"] == 2
    write_lines(tmp_path / "gt/a.lines.txt", [np.array([[1400.0, 590], [1900, 480]]), LABEL * [1, 0.5]])
    (tmp_path / "gt/a.jpg").unlink()
    assert run(tmp_path)["total"]["0.5"]["fn"] <= 1


def test_top_level_folders_become_categories(mixed: Path) -> None:
    (mixed / "list.txt").write_text((mixed / "list.txt").read_text() + "loose.jpg\n")
    (mixed / "gt/loose.lines.txt").write_text("")
    document = run(mixed, categories="folders", image_size=(2560, 1440))
    assert document["category_images"] == {"w512": 1, "w1280": 1, "w2560": 1, ".": 1}
