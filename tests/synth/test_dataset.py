"""Generated data sets: the layout, the bytes, and errors."""

from __future__ import annotations

import os
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm.core import notices
from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_attribute_files import attributes_path, read_attributes, require_matching_attributes
from clrernetlm.core.lane_files import read_lines
from clrernetlm.synth import CATEGORIES, generate_dataset
from clrernetlm.synth import dataset as synth_dataset
from clrernetlm.synth.randomization import RANDOMIZATION_GROUPS, parse_randomization

SIZE = (328, 118)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "roads"
    generate_dataset(folder, 6, 3, 10, seed=4, size=SIZE, workers=1, progress=False)
    return folder


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_lists_name_images_labels_and_masks_that_exist(root):
    for name, count in (("train_gt", 6), ("val_gt", 3)):
        rows = (root / "list" / f"{name}.txt").read_text().splitlines()
        assert len(rows) == count
        assert [row.split()[0] for row in rows] == (root / "list" / f"{name[:-3]}.txt").read_text().split()
        for row in rows:
            path, mask, *exist = row.split()
            assert path.startswith("/driver_")
            assert mask.startswith("/laneseg_label_w16/")
            image = cv2.imread(str(root / path[1:]))
            assert image.shape == (SIZE[1], SIZE[0], 3)
            ids = cv2.imread(str(root / mask[1:]), cv2.IMREAD_UNCHANGED)
            assert ids.shape == image.shape[:2]
            assert [int(number in ids) for number in (1, 2, 3, 4)] == [int(e) for e in exist]
            lanes = read_lines(root / path[1:].replace(".jpg", ".lines.txt"))
            assert len(lanes) == sum(int(e) for e in exist)
            for points in lanes:
                assert (np.diff(points[:, 1]) < 0).all()


def test_attributes_lie_beside_every_label_and_fit_it(root):
    labels = sorted(root.glob("driver_*/**/*.lines.txt"))
    assert len(labels) == 19
    for path in labels:
        attributes = read_attributes(attributes_path(path))
        counts = [len(points) for points in read_lines(path)]
        require_matching_attributes(attributes, attributes_path(path), path, counts, SIZE)
        assert all(lane.hidden is not None for lane in attributes.lanes)
        positions = [lane.position for lane in attributes.lanes]
        assert positions == sorted(positions)


def test_missing_attributes_are_written_by_the_same_call(tmp_path):
    generate_dataset(tmp_path, 1, 0, 1, seed=4, size=SIZE, workers=1, progress=False)
    complete = _bytes(tmp_path)
    attributes = list(tmp_path.rglob("*.lanes.json"))
    assert len(attributes) == 2
    for path in attributes:
        path.unlink()
    generate_dataset(tmp_path, 1, 0, 1, seed=4, size=SIZE, workers=1, progress=False)
    assert _bytes(tmp_path) == complete


def test_test_split_holds_every_image_once_and_every_category(root):
    tests = (root / "list" / "test.txt").read_text().split()
    assert len(tests) == 10
    files = sorted((root / "list" / "test_split").iterdir())
    assert [file.name for file in files] == [f"test{i}_{name}.txt" for i, name in enumerate(CATEGORIES)]
    listed = [file.read_text().split() for file in files]
    assert all(listed)
    assert sorted(chain.from_iterable(listed)) == sorted(tests)
    for image in listed[7]:  # crossroads
        assert read_lines(root / image[1:].replace(".jpg", ".lines.txt")) == []


def test_no_training_image_is_skipped_for_small_differences(root):
    data = np.load(root / "list" / "train_diffs.npz")["data"]
    assert data.shape == (6,)
    assert (data > 15).all()


def test_two_processes_write_the_same_bytes_as_one(root, tmp_path):
    generate_dataset(tmp_path / "again", 6, 3, 10, seed=4, size=SIZE, workers=2, progress=False)
    assert _bytes(tmp_path / "again") == _bytes(root)


loaded: list[str] = []
generate_image = synth_dataset.generate_image


def generate_if_loaded(spec, **settings):
    assert loaded, "generated in a new interpreter"
    return generate_image(spec, **settings)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems start new interpreters")
def test_worker_processes_import_nothing_again(tmp_path, monkeypatch):
    """A new interpreter without memory for the libraries would print a traceback."""
    monkeypatch.setattr(synth_dataset, "generate_image", generate_if_loaded)
    monkeypatch.setitem(globals(), "loaded", ["all"])
    generate_dataset(tmp_path / "roads", 2, 0, 0, size=SIZE, workers=2, progress=False)


def test_a_split_may_be_empty(tmp_path):
    generate_dataset(tmp_path / "test only", 0, 0, 1, seed=4, size=SIZE, workers=1, progress=False)
    assert len(np.load(tmp_path / "test only" / "list" / "train_diffs.npz")["data"]) == 0
    assert (tmp_path / "test only" / "list" / "train_gt.txt").read_text() == ""
    assert len((tmp_path / "test only" / "list" / "test.txt").read_text().split()) == 1


def test_another_seed_gives_other_images(root, tmp_path):
    generate_dataset(tmp_path / "other", 1, 0, 0, seed=5, size=SIZE, workers=1, progress=False)
    first = "driver_01/00000.MP4/00000.jpg"
    assert (tmp_path / "other" / first).read_bytes() != (root / first).read_bytes()


def test_an_interrupted_run_is_completed_by_the_same_call(tmp_path, monkeypatch):
    made = []

    def stop_after_two(spec, **settings):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(spec)
        return real(spec, **settings)

    real = synth_dataset.generate_image
    monkeypatch.setattr(synth_dataset, "generate_image", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        generate_dataset(tmp_path / "roads", 3, 0, 0, seed=1, size=SIZE, workers=1, progress=False)
    assert not (tmp_path / "roads" / "list").exists()
    monkeypatch.undo()
    generate_dataset(tmp_path / "roads", 3, 0, 0, seed=1, size=SIZE, workers=1, progress=False)
    generate_dataset(tmp_path / "whole", 3, 0, 0, seed=1, size=SIZE, workers=1, progress=False)
    assert _bytes(tmp_path / "roads") == _bytes(tmp_path / "whole")


def test_categories_follow_culane_and_none_is_left_out():
    counts = Counter(synth_dataset.sample_categories(2, 3468, 0))
    assert set(counts) == set(CATEGORIES)
    for name, images in CATEGORIES.items():
        assert abs(counts[name] - images / 10) <= 2
    assert sum(Counter(synth_dataset.sample_categories(0, 5, 0)).values()) == 5
    assert set(synth_dataset.sample_categories(2, 9, 1)) == set(CATEGORIES)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        generate_dataset(tmp_path, 1, 0, 0, size=SIZE, workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_data_set_of_other_settings_is_refused(root):
    with pytest.raises(UserError, match="other settings"):
        generate_dataset(root, 6, 3, 10, seed=99, size=SIZE, workers=1, progress=False)


@pytest.mark.parametrize(
    "request_",
    [
        {"train": 0, "val": 0, "test": 0},
        {"train": -1, "val": 2, "test": 0},
        {"train": 1, "val": 100_000_000, "test": 0},
        {"train": 1, "val": 0, "test": 0, "workers": 100_000_000},
        {"train": 1, "val": 0, "test": 0, "size": (10, 590)},
        {"train": 1, "val": 0, "test": 0, "quality": (95, 60)},
        {"train": 1, "val": 0, "test": 0, "seed": -1},
    ],
)
def test_impossible_requests_are_refused_before_anything_is_written(tmp_path, request_):
    with pytest.raises(UserError):
        generate_dataset(tmp_path / "new", **request_, progress=False)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_reported_in_one_line(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        generate_dataset(tmp_path / "new", 1, 0, 0, size=SIZE, workers=1, progress=False)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_reported_in_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be"):
        generate_dataset(tmp_path / "new", 1, 0, 0, size=SIZE, workers=1, progress=False)


def test_the_former_name_of_the_randomization_gives_the_same_bytes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notices, "_printed", set())
    groups = parse_randomization(["all", "no-cameras"])
    generate_dataset(tmp_path / "old", 1, 0, 0, size=SIZE, workers=1, progress=False, realism=groups)
    assert "realism is now called randomization" in capsys.readouterr().err
    generate_dataset(tmp_path / "new", 1, 0, 0, size=SIZE, workers=1, progress=False, randomization=groups)
    assert _bytes(tmp_path / "old") == _bytes(tmp_path / "new")


def test_groups_are_chosen_by_name_and_excluded_with_no():
    assert parse_randomization(["none"]) == frozenset()
    assert parse_randomization(["light", "paint"]) == {"light", "paint"}
    assert parse_randomization(["all", "no-paint"]) == set(RANDOMIZATION_GROUPS) - {"paint"}
    with pytest.raises(UserError, match=r"^randomization: fog: no such group; use all, none, or any of cameras, .*no-"):
        parse_randomization(["all", "fog"])
