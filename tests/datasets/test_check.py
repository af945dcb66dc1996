"""check_data: a clean data set is clean, and every planted defect is found at its place."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_attribute_files import attributes_path, write_attributes
from clrernetlm.core.lane_attributes import HiddenRange, LaneAttributes
from clrernetlm.core.lane_files import read_lines
from clrernetlm.datasets import check_data
from clrernetlm.synth import generate_dataset
from tests.helpers.small_culane import frame, write_culane

CLIP = "driver_1/clip_0.MP4"
GOOD = "100 590 120 500 140 400"


def problems(root: Path, **options: object) -> list[str]:
    report = check_data(root, contact_sheet=None, workers=1, **options)  # type: ignore[arg-type]
    assert report.exit_code == (1 if report.problems else 0)
    return [str(problem).removeprefix(f"{root}/") for problem in report.problems]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_culane(tmp_path, images=4)
    return tmp_path


def test_a_clean_data_set(root: Path) -> None:
    report = check_data(root, contact_sheet=root / "sheet.jpg", sample=3)
    assert report.problems == []
    assert report.exit_code == 0
    assert report.lists == {"list/test.txt": 4, "list/train_gt.txt": 4}
    assert dict(report.lane_counts) == {4: 4}
    assert dict(report.frame_sizes) == {(1640, 590): 4}
    sheet = cv2.imread(str(root / "sheet.jpg"))
    assert sheet is not None
    assert sheet.shape[1] == 4 * 480


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3", "3 values; x and y must come in pairs"),
        ("10 590 abc 500", "not a list of numbers"),
        ("10 590 nan 500", "NaN or infinite"),
        ("10 590", "a lane of 1 points"),
        ("", "a lane of 0 points"),
        ("10 590 10 590 20 500", "the same point twice"),
        ("10 590 20 590 30 500", "two points on row y = 590"),
        ("10 590 20 500 30 550", "y goes down and up again at y = 500"),
        ("10 590 20 500 30 400 200 405 300 505", "the lane turns back: it has several x on one row"),
        ("10 640 20 500 30 400", "y outside the frame of 1640x590"),
        ("-90 590 -80 500 -70 400", "the whole lane is outside the frame"),
    ],
)
def test_a_broken_label_line_is_named(root: Path, line: str, message: str) -> None:
    (root / CLIP / "00001.lines.txt").write_text(f"{GOOD}\n{line}\n{GOOD}\n{GOOD}\n{GOOD}\n")
    found = [problem for problem in problems(root) if problem.startswith(f"{CLIP}/00001.lines.txt, line 2")]
    assert len(found) == 1
    assert found[0].startswith(f"{CLIP}/00001.lines.txt, line 2: {message}")


def test_lanes_that_start_at_the_top_are_counted_without_a_problem(root: Path) -> None:
    (root / CLIP / "00001.lines.txt").write_text("10 400 20 500 30 590\n" + f"{GOOD}\n" * 3)
    report = check_data(root, contact_sheet=None)
    assert (report.problems, report.top_first) == ([], 1)


def test_every_broken_line_is_named(root: Path) -> None:
    (root / CLIP / "00001.lines.txt").write_text(f"{GOOD}\n1\n{GOOD}\n1 2\nx\n{GOOD}\n{GOOD}\n")
    assert [problem.split(":")[0].split(", ")[-1] for problem in problems(root)] == ["line 2", "line 4", "line 5"]


def test_lanes_and_flags_must_agree_and_fit(root: Path) -> None:
    (root / CLIP / "00001.lines.txt").write_text(f"{GOOD}\n" * 5)
    found = problems(root)
    assert any("5 lanes, but max_lanes is 4; set model.max_lanes=5" in problem for problem in found)
    assert any("train_gt.txt, line 2 flags 4" in problem for problem in found)
    assert not any("max_lanes" in problem for problem in problems(root, max_lanes=5))


@pytest.mark.parametrize("victim", ["jpg", "lines.txt", "mask"])
def test_missing_files(root: Path, victim: str) -> None:
    path = f"laneseg/{CLIP}/00002.png" if victim == "mask" else f"{CLIP}/00002.{victim}"
    (root / path).unlink()
    found = problems(root)
    assert len(found) == 1
    assert found[0].startswith(f"{path}: no ")


def test_broken_images(root: Path) -> None:
    cut, text = root / CLIP / "00001.jpg", root / CLIP / "00002.jpg"
    cut.write_bytes(cut.read_bytes()[:5000])
    text.write_text("not an image")
    found = problems(root)
    assert found[0].startswith(f"{CLIP}/00001.jpg: the JPEG is cut off")
    assert found[1].startswith(f"{CLIP}/00002.jpg: not a readable image")
    assert len(found) == 2


def test_damage_inside_a_jpeg_is_found_by_decoding(root: Path) -> None:
    path = root / CLIP / "00001.jpg"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xff\xda", b"\xff\xd9\xff\xda", 1))  # ends before its first pixel
    assert problems(root) == []
    assert problems(root, decode=True)[0].startswith(f"{CLIP}/00001.jpg: not a readable image")


def test_masks_of_the_wrong_size_or_with_strange_numbers(root: Path) -> None:
    masks = root / "laneseg" / CLIP
    cv2.imwrite(str(masks / "00000.png"), np.zeros((100, 200), np.uint8))
    cv2.imwrite(str(masks / "00001.png"), np.full((590, 1640), 7, np.uint8))
    cv2.imwrite(str(masks / "00002.png"), np.full((590, 1640), 255, np.uint8))  # "ignore" is fine
    found = problems(root)
    assert len(found) == 2
    assert "200x100, but its image is 1640x590" in found[0]
    assert "lane number 7, but max_lanes is 4" in found[1]


def test_broken_lists(root: Path) -> None:
    lines = (root / "list/train_gt.txt").read_text().splitlines()
    lines[1] += " 1"
    lines[3] = lines[0]
    (root / "list/train_gt.txt").write_text("\n".join([*lines, "/only.jpg"]))
    (root / "list/val.txt").write_text("\n")
    found = problems(root)
    assert any(problem.startswith("list/train_gt.txt, line 2: expected `/image /mask 0|1") for problem in found)
    assert any(problem.startswith("list/train_gt.txt, line 5: expected") for problem in found)
    assert any(problem.startswith("list/train_gt.txt, line 4: /driver_1") for problem in found)
    assert any(problem.startswith("list/val.txt: the image list is empty") for problem in found)
    assert len(found) == 4


def test_frame_differences_must_match_the_list(root: Path) -> None:
    np.savez(root / "list/train_diffs.npz", data=np.zeros(9))
    assert problems(root)[0].startswith("list/train_diffs.npz: 9 differences for the 4 images")


def test_a_list_without_any_label_counts_as_unlabelled(root: Path) -> None:
    (root / "extra").mkdir()
    cv2.imwrite(str(root / "extra/0.jpg"), frame(0, (320, 180)))
    (root / "list/test_split").mkdir()
    (root / "list/test_split/test9_extra.txt").write_text("/extra/0.jpg\n")
    assert problems(root) == []


def test_several_processes_find_the_same_problems(tmp_path: Path) -> None:
    names = write_culane(tmp_path, images=70, masks=False, size=(328, 118))
    (tmp_path / names[66][1:]).with_suffix(".lines.txt").write_text("1\n")
    reports = [check_data(tmp_path, contact_sheet=None, workers=workers) for workers in (1, 2)]
    assert reports[0].problems == reports[1].problems != []


def test_the_report_prints_problems_and_a_summary(root: Path) -> None:
    (root / CLIP / "00001.jpg").unlink()
    out = io.StringIO()
    check_data(root, contact_sheet=None).print(Console(file=out, width=200))
    assert "00001.jpg: no such image" in out.getvalue()
    assert "1640x590" in out.getvalue()


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        check_data(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no image list"):
        check_data(tmp_path)


def test_small_generated_data_sets_have_no_problems(tmp_path: Path) -> None:
    generate_dataset(tmp_path / "roads", 2, 0, 1, size=(128, 64), workers=1, progress=False)
    report = check_data(tmp_path / "roads", contact_sheet=None)
    assert report.problems == []
    assert report.lists["list/test.txt"] == 1
    assert sorted(count for name, count in report.lists.items() if "test_split" in name) == [0] * 8 + [1]
    assert report.lists["list/val.txt"] == 0


def test_an_empty_list_is_a_problem_in_other_data_sets(tmp_path: Path) -> None:
    (tmp_path / "list/test_split").mkdir(parents=True)
    for name in ("list/test.txt", "list/test_split/test0_normal.txt"):
        (tmp_path / name).write_text("\n")
    (problem,) = check_data(tmp_path, contact_sheet=None).problems
    assert str(problem) == f"{tmp_path}/list/test.txt: the image list is empty; write one image path per line"


def _describe(root: Path, image: int, **changes: object) -> Path:
    """Write attributes for the four lanes of an image, of which the last is the given one."""
    lines = root / CLIP / f"{image:05d}.lines.txt"
    counts = [len(points) for points in read_lines(lines)]
    path = Path(attributes_path(lines))
    lanes = [LaneAttributes(count, "dashed", "white", position) for position, count in enumerate(counts, start=1)]
    write_attributes(path, [*lanes[:-1], replace(lanes[-1], **changes)], (1640, 590))  # type: ignore[arg-type]
    return path


def test_types_and_colours_of_lanes_are_counted(root: Path) -> None:
    plain = check_data(root, contact_sheet=root / "plain.jpg", sample=4)
    for image in range(3):
        _describe(root, image, type="edge", colour="unknown", hidden=(HiddenRange(0, 5, "bonnet"),))
    report = check_data(root, contact_sheet=root / "sheet.jpg", sample=4)
    assert report.problems == plain.problems == []
    assert (plain.described, report.described) == (0, 3)
    assert dict(report.types) == {"dashed": 9, "edge": 3}
    assert dict(report.colours) == {"white": 9, "unknown": 3}
    console = Console(file=io.StringIO(), width=100)
    report.print(console)
    assert "dashed 9, edge 3" in console.file.getvalue()  # type: ignore[attr-defined]
    tiles = [np.hsplit(cv2.imread(str(root / name)), 4) for name in ("plain.jpg", "sheet.jpg")]
    changed = [bool((np.abs(a.astype(int) - b) > 60).any()) for a, b in zip(*tiles, strict=True)]
    assert changed == [True, True, True, False]


def test_the_contact_sheet_shows_lanes_whose_attributes_are_wrong(root: Path) -> None:
    check_data(root, contact_sheet=root / "plain.jpg", sample=4)
    _describe(root, 0).write_text("{}")
    check_data(root, contact_sheet=root / "sheet.jpg", sample=4)
    plain, wrong = (cv2.imread(str(root / name)) for name in ("plain.jpg", "sheet.jpg"))
    caption = len(plain) - 24
    assert np.array_equal(plain[: caption - 8], wrong[: caption - 8])  # not the block that compression mixes
    assert not np.array_equal(plain[caption:], wrong[caption:])


def test_attributes_of_other_labels_are_named(root: Path) -> None:
    first, second, third = (_describe(root, image) for image in range(3))
    text = first.read_text()
    first.write_text(text.replace('"points": ', '"points": 1', 1))
    second.write_text(text.replace("dashed", "zigzag", 1))
    third.write_text(text.replace("1640", "1280"))
    found = problems(root)
    assert len(found) == 3
    assert found[0].startswith(f"{CLIP}/00000.lanes.json: lane 1, points: 1")
    assert "but line 1 of 00000.lines.txt has" in found[0]
    assert found[1].startswith(f"{CLIP}/00001.lanes.json: lane 1, type: 'zigzag'; use one of solid")
    assert found[2].startswith(f"{CLIP}/00002.lanes.json: size: 1280x590, but the image has 1640x590 pixels")
