"""No command replaces labels, images, lists or other files that are not its own results."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm.cli import main

LABEL = "100 147 150 80\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write a data set of two images with labels and a list."""
    root = tmp_path / "data"
    (root / "list").mkdir(parents=True)
    (root / "clip").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(root / f"clip/{name}.jpg"), np.zeros((148, 410, 3), np.uint8))
        (root / f"clip/{name}.lines.txt").write_text(LABEL)
    (root / "list/test.txt").write_text("/clip/a.jpg\n/clip/b.jpg\n")
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(words: Sequence[object], capsys: pytest.CaptureFixture[str], data: Path) -> str:
    """Return the error of a command that must change no file, with `--overwrite` or without."""
    before, error = contents(data), ""
    for more in ([], ["--overwrite"]):
        assert main([*map(str, words), *more]) == 2
        captured = capsys.readouterr()
        error = captured.err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert captured.out == ""  # before any work
        assert contents(data) == before
    return error


@pytest.mark.parametrize("model", ["roads_detector", "roads"])
def test_test_never_replaces_labels(data: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/clip").symlink_to(data / "clip")
    folders = [data, tmp_path / "link", tmp_path / "inner/../data", tmp_path / "inner"]
    if model == "roads":  # predictions are in folders below
        (tmp_path / "modes").mkdir()
        (tmp_path / "modes/detector").symlink_to(data)
        folders = [tmp_path / "modes"]
    for folder in folders:
        error = refused(["test", model, f"--data.root={data}", "--out", folder], capsys, data)
        assert "clip/a.lines.txt: this run reads that file" in error


def test_a_prediction_never_becomes_the_missing_label(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "clip/a.lines.txt").unlink()
    error = refused(["test", "roads_detector", f"--data.root={data}", "--out", data], capsys, data)
    assert "clip/a.lines.txt: this run reads" in error


def test_hard_links_and_copies_of_labels_are_not_replaced(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = data / "linked"
    (other / "clip").mkdir(parents=True)
    os.link(data / "clip/b.lines.txt", other / "clip/b.lines.txt")
    error = refused(["test", "roads_detector", f"--data.root={data}", "--out", other], capsys, data)
    assert "linked/clip/b.lines.txt: would be overwritten, and is not" in error


@pytest.mark.parametrize("option", ["--json", "--report"])
@pytest.mark.parametrize("name", ["list/test.txt", "clip/a.jpg", "clip/a.lines.txt"])
def test_scores_and_reports_replace_no_other_file(
    data: Path, option: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(["test", "roads_detector", f"--data.root={data}", option, data / name], capsys, data)
    assert f"{data / name}: " in error


def test_two_images_of_one_stem_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "list/test.txt").write_text("/clip/a.jpg\n/clip/a.png\n")
    words = ["test", "roads_detector", f"--data.root={data}", "--out", data.parent / "out"]
    error = refused(words, capsys, data)
    assert "/clip/a.png: its predictions would overwrite those of /clip/a.jpg, clip/a.lines.txt" in error


def test_evaluate_replaces_no_label_or_list(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--pred", data, "--gt", data, "--list", data / "list/test.txt", "--image-size", "410x148"]
    scores, per_image = data.parent / "scores.json", data.parent / "images.jsonl"
    for name in ("list/test.txt", "clip/a.jpg", "clip/a.lines.txt"):
        assert f"{data / name}: " in refused([*words, "--json", data / name], capsys, data)
        assert f"{data / name}: " in refused([*words, "--json", scores, "--per-image", data / name], capsys, data)
    assert "name the same file" in refused([*words, "--json", scores, "--per-image", scores], capsys, data)
    words = [*map(str, [*words, "--json", scores, "--per-image", per_image])]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 2
    assert "scores of an earlier run" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_config_save_replaces_no_other_file(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "saved.py"
    assert main(["config", "roads_dla34", "--save", str(saved)]) == 0
    assert main(["config", "roads_dla34", "--save", str(saved)]) == 2
    assert "a config of an earlier run" in capsys.readouterr().err
    assert main(["config", "roads_dla34", "--save", str(saved), "--overwrite"]) == 0
    assert main(["config", str(saved), "--save", str(saved), "--overwrite"]) == 2
    child, grandchild = tmp_path / "child.py", tmp_path / "grandchild.py"
    for path, base in ((child, "saved"), (grandchild, "child")):
        path.write_text(f"from clrernetlm.config import load_config\nconfig = load_config('{base}.py')\n")
        assert main(["config", str(path), "--save", str(saved), "--overwrite"]) == 2
        assert "saved.py: this run reads that file" in capsys.readouterr().err
    (tmp_path / "theirs.py").write_text("_base_ = 'base.py'\nmodel = dict(type='CLRerNet')\n")
    (tmp_path / "base.py").write_text("train_cfg = dict(max_epochs=3)\n")
    assert main(["config", str(tmp_path / "theirs.py"), "--save", str(tmp_path / "base.py"), "--overwrite"]) == 2
    assert "base.py: this run reads that file" in capsys.readouterr().err
    assert "list/test.txt: would be" in refused(
        ["config", "roads_dla34", "--save", data / "list/test.txt"], capsys, data
    )


def test_check_data_replaces_contact_sheets_of_the_same_data_only(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("list/test.txt", "clip/a.jpg", "clip/a.lines.txt"):
        error = refused(["check-data", data, "--contact-sheet", data / name], capsys, data)
        assert f"{data / name}: would be overwritten, and is not a contact sheet" in error
    other, sheet = data.parent / "other", str(data.parent / "sheet.jpg")
    shutil.copytree(data, other)
    for root, overwrite, code in ((data, [], 0), (data, [], 0), (other, [], 2), (other, ["--overwrite"], 0)):
        assert main(["check-data", str(root), "--contact-sheet", sheet, *overwrite]) == code
    assert cv2.imread(sheet) is not None


def test_synth_keeps_changed_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "roads"
    words = ["synth", str(root), "--train=1", "--val=0", "--test=0", "--size=128x64", "--workers=1"]
    assert main(words) == 0
    whole = contents(root)
    for name, content in ((name, b"changed") for name in whole if name != "synth.json"):
        (root / name).write_bytes(content)
        capsys.readouterr()
        assert main(words) == 2
        assert f"{root / name}: differs from the generated file" in capsys.readouterr().err
        assert contents(root) == whole | {name: content}
        (root / name).unlink()
        assert main(words) == 0
        assert contents(root) == whole


def test_demo_refuses_a_folder_with_other_files(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(data)
    assert main(["demo", "--out", str(data)]) == 2
    assert "was not made by `demo`; name a new folder" in capsys.readouterr().err
    assert contents(data) == before


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints/best.ckpt", "tensorboard/hparams.yaml"])
def test_train_keeps_files_in_its_work_directory(data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (data / name).parent.mkdir(exist_ok=True)
    (data / name).write_text("mine")
    before = contents(data)
    words = ["train", "roads_dla34", f"--data.root={data}", f"--training.work-dir={data}"]
    assert main(words) == 2
    assert f"{data / name}: would be overwritten, and is not a file of a run" in capsys.readouterr().err
    assert contents(data) == before
