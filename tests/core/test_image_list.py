"""Image lists as editors, shells and other systems write them give the same names in every reader."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.core.fast_lane_reader import read_lane_points
from clrernetlm.core.image_list import list_rows, read_image_list, read_images
from clrernetlm.core.lane_files import MAX_LANE_FILE_BYTES, read_lines
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets import CropResize, CulaneDataset, check_data
from clrernetlm.datasets.culane import read_labels
from clrernetlm.deploy.export.quantisation import calibration_inputs
from clrernetlm.metrics import evaluate
from clrernetlm.metrics.categories import folder_categories, read_categories
from clrernetlm.metrics.prediction_files import read_predictions
from tests.helpers.small_culane import write_culane
from tests.helpers.timing import cpu_time_ratio

MARKED = {
    "utf-8": (codecs.BOM_UTF8, "utf-8"),
    "utf-16-le": (codecs.BOM_UTF16_LE, "utf-16-le"),
    "utf-16-be": (codecs.BOM_UTF16_BE, "utf-16-be"),
    "utf-32-le": (codecs.BOM_UTF32_LE, "utf-32-le"),
    "utf-16-le without a mark": (b"", "utf-16-le"),
    "utf-16-be without a mark": (b"", "utf-16-be"),
}


def encoded(text: str, encoding: str) -> bytes:
    mark, codec = MARKED[encoding]
    return mark + text.encode(codec)


@pytest.mark.parametrize("encoding", MARKED)
def test_unicode_encodings_are_read_everywhere(tmp_path: Path, encoding: str) -> None:
    names = write_culane(tmp_path, images=2, size=(328, 118))
    lists = {name: (tmp_path / "list" / name).read_text() for name in ("train_gt.txt", "test.txt")}
    for name, text in lists.items():
        (tmp_path / "list" / name).write_bytes(encoded(text.replace("\n", "\r\n"), encoding))
    (tmp_path / "list/test_split").mkdir()
    (tmp_path / "list/test_split/test0_normal.txt").write_bytes(encoded(lists["test.txt"], encoding))
    label = (tmp_path / names[0][1:]).with_suffix(".lines.txt")
    lanes = read_lines(label)
    label.write_bytes(encoded(label.read_text().replace("\n", "\r\n"), encoding))

    dataset = CulaneDataset(tmp_path, "list/train_gt.txt", lambda sample, rng: sample)
    assert [dataset.image_path(i) for i in range(2)] == names
    for read in (read_lines(label), read_labels(str(label.with_suffix("").with_suffix(".jpg"))), dataset[0]["lanes"]):
        np.testing.assert_array_equal(read, lanes)
    np.testing.assert_array_equal(read_lane_points(label)[0], np.concatenate(lanes))
    assert check_data(tmp_path, contact_sheet=None, workers=1).problems == []
    assert list(read_images(tmp_path / "list/test.txt")) == [name[1:] for name in names]
    assert read_categories(tmp_path / "list/test_split") == {"normal": [name[1:] for name in names]}
    result = evaluate(
        tmp_path, tmp_path, tmp_path / "list/test.txt", categories=tmp_path / "list/test_split", workers=1
    )
    assert (result.total.images, result.categories["normal"].images) == (2, 2)
    assert len(calibration_inputs(str(tmp_path / "list/test.txt"), Viewport(width=64, height=32))) == 2
    row = '{"path": "/a.jpg", "lanes": []}\n'
    (tmp_path / "predictions.jsonl").write_bytes(encoded(row, encoding))
    assert [prediction.path for prediction in read_predictions(tmp_path / "predictions.jsonl")] == ["a.jpg"]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("/a b/c d.jpg", ["/a b/c d.jpg"]),
        ("/a b/c d.JPG /m 1/c d.png 1 0 1 1", ["/a b/c d.JPG", "/m 1/c d.png", "1", "0", "1", "1"]),
        ("/a b.jpg 1 0", ["/a b.jpg", "1", "0"]),
        ("/clip 1/0.jpg /masks/0.png", ["/clip 1/0.jpg", "/masks/0.png"]),
        ('"/a b.jpg"', ["/a b.jpg"]),
        ("/a b.jpg\t/m.png\t1\t0", ["/a b.jpg", "/m.png", "1", "0"]),
        ("driver\\clip\\0.jpg", ["driver/clip/0.jpg"]),
        ("\\driver\\0.jpg masks\\0.png 1 1", ["/driver/0.jpg", "masks/0.png", "1", "1"]),
        ("./driver/./0.jpg", ["driver/0.jpg"]),
        ("/driver//0.jpg", ["/driver/0.jpg"]),
        ("ROOT/driver/0.jpg ROOT/masks/0.png", ["/driver/0.jpg", "/masks/0.png"]),
        ("/driver/0.jpg", ["/driver/0.jpg"]),
        ("/a.jpg /b", ["/a.jpg", "/b"]),
        ("/no/suffix", ["/no/suffix"]),
    ],
)
def test_odd_file_names_are_read_correctly(tmp_path: Path, line: str, row: list[str]) -> None:
    path = tmp_path / "list.txt"
    path.write_text(line.replace("ROOT", str(tmp_path)) + "\n")
    assert list(list_rows(path, tmp_path)) == [(1, [column.encode() for column in row])]


def test_absolute_and_odd_names_give_the_same_images_in_every_reader(tmp_path: Path) -> None:
    root = tmp_path / "my data"
    names = write_culane(root, images=3, masks=False, flags=False, size=(328, 118))
    written = [f"{root}{names[0]}", f".{names[1]}", names[2].replace("/", "\\")]
    for name in ("train_gt.txt", "test.txt"):
        (root / "list" / name).write_text("\r\n".join(written))
    link = tmp_path / "link"
    link.symlink_to(root)
    for folder in (root, link):
        dataset = CulaneDataset(folder, "list/test.txt", CropResize(Viewport(width=64, height=32)), test_mode=True)
        assert [dataset[i]["metainfo"]["path"].lstrip("/") for i in range(3)] == [name[1:] for name in names]
        assert check_data(folder, contact_sheet=None, workers=1).problems == []
        assert list(folder_categories(folder / "list/test.txt", folder)) == ["driver_1"]
        assert evaluate(folder, folder, folder / "list/test.txt", workers=1).total.at(0.5)["tp"] == 12


def test_hidden_files_of_macos_are_no_images_and_no_lists(tmp_path: Path) -> None:
    names = write_culane(tmp_path, images=2, masks=False, flags=False, size=(328, 118))
    ghost = names[0].replace("00000", "._00000")
    (tmp_path / ghost[1:]).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (tmp_path / "list/test.txt").write_text(f"{ghost}\n{names[0]}\n")
    (tmp_path / "list/._test.txt").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (tmp_path / "list/test_split").mkdir()
    (tmp_path / "list/test_split/._test0_normal.txt").write_bytes(b"\0\5\x16\7")
    (tmp_path / "list/test_split/test0_normal.txt").write_text(names[0])
    report = check_data(tmp_path, contact_sheet=None, workers=1)
    assert (report.problems, report.lists["list/test.txt"]) == ([], 1)
    assert list(read_images(tmp_path / "list/test.txt")) == [names[0][1:]]
    assert list(read_categories(tmp_path / "list/test_split")) == ["normal"]
    assert len(calibration_inputs(str(tmp_path), Viewport(width=64, height=32))) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"/a.jpg\n/b\0.jpg\n", "line 2: a NUL byte"),
        (b"/\0a\0.\0j\0p\0g\0\n\0\0\0", "line 1: a NUL byte"),
        ("/a.jpg\n".encode("utf-16-le") + b"/", "line 1: a NUL byte"),
        (codecs.BOM_UTF16_LE + b"/\0a", "begins as UTF-16 and does not go on so"),
        (b"/a.jpg\n/" + b"x" * 20_000 + b"\n", "line 2: 20001 bytes; write one image a line"),
    ],
)
def test_files_that_are_no_lists_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"list\.txt.*{message}"):
        list(list_rows(tmp_path / "list.txt"))


def test_names_with_thousands_of_suffixes_are_parsed_fast(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"a a.jpg {'x.jpg ' * 1600}!\n" * 20)
    assert len(list(list_rows(tmp_path / "list.txt"))) == 20
    # A pattern that tries every suffix as the end of a name takes thousands of times as long.
    splitting = partial(re.findall, r"\S+", (tmp_path / "list.txt").read_text())
    assert cpu_time_ratio(lambda: list(list_rows(tmp_path / "list.txt")), splitting) < 100


def test_folders_in_a_list_are_named(tmp_path: Path) -> None:
    names = write_culane(tmp_path, images=1, masks=False, flags=False, size=(328, 118))
    (tmp_path / "list/test.txt").write_text(f"{os.path.dirname(names[0])}\n")
    with pytest.raises(UserError, match=r"clip_0\.MP4: no such image"):
        CulaneDataset(tmp_path, "list/test.txt", lambda sample, rng: sample, test_mode=True)[0]
    problems = check_data(tmp_path, contact_sheet=None, workers=1).problems
    assert [str(problem) for problem in problems if "clip_0.MP4: no such image" in str(problem)]


def refused(read: Callable[[Path], object], path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(path)


def test_absurd_label_files_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((118, 328, 3), np.uint8))[1].tobytes())
    (tmp_path / "list").mkdir()
    (tmp_path / "list/a.txt").write_text("/a.jpg\n")
    label = tmp_path / "a.lines.txt"
    for text, message in (
        ("1 2 3 4\n" * 400_000, "400000 lanes, more than 1000"),
        ("1 " * MAX_LANE_FILE_BYTES, "larger than 8 MB"),
    ):
        label.write_text(text)
        for read in (read_lines, read_lane_points, lambda path: read_labels(str(tmp_path / "a.jpg"))):
            refuse = partial(refused, read, label, rf"a\.lines\.txt: {message}")
            assert cpu_time_ratio(refuse, lambda: label.read_text().split()) < 10  # its numbers are not parsed
        assert message in str(check_data(tmp_path, contact_sheet=None, workers=1).problems)


def test_the_message_about_a_list_of_many_columns_stays_short(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("/a.jpg /a.png" + " 1" * 4000 + "\n/b.jpg\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: expected `/image /mask 0\|1 \(4000 times\)`") as caught:
        read_image_list(path)
    assert len(str(caught.value)) < 300 + len(str(path))
