"""Whole data sets: golden totals, one pass, many processes, broken files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.evaluation.evaluate_files import evaluate_command
from clrernetlm.metrics import evaluate
from clrernetlm.metrics.evaluator import IMAGES_PER_CHUNK
from clrernetlm.metrics.f1_counts import MF1_THRESHOLDS, Tally

CATEGORIES = ["normal", "crowd", "hlight", "shadow", "noline", "arrow", "curve", "cross", "night"]
LANES = "600.0 590.0 610.0 500.0 620.0 400.0\n900 590 850 400\n"


def run(tree: Path, name: str, **options: object) -> dict:
    return evaluate(tree / "pred", tree / "gt", tree / "gt/list" / f"{name}.txt", **options).to_dict()


@pytest.mark.parametrize("name", ["test", "common", "edge"])
def test_golden_totals_of_the_python_tool(tree: Path, golden: dict, name: str) -> None:
    result = run(tree, name, categories=tree / "gt/list/test_split", workers=1)
    expected = golden["python"][name]
    names = {"tp": "TP", "fp": "FP", "fn": "FN", "precision": "Precision", "recall": "Recall", "f1": "F1_"}
    for key in ("0.1", "0.5", "0.75"):
        assert result["total"][key] == {field: expected[f"{theirs}{key}"] for field, theirs in names.items()}
        for category, figures in result["categories"].items():
            theirs = [value for field, value in expected.items() if field.endswith(f"_{category}_{key}")]
            if theirs and category != "normal":  # this tool also counts images that are in no category
                assert figures[key]["f1"] == theirs[0]


@pytest.mark.parametrize("name", ["test", "common", "edge", "nan"])
def test_golden_totals_of_the_official_tool(tree: Path, golden: dict, name: str) -> None:
    result = run(tree, name, implementation="official", workers=1)
    for key, expected in golden["cpp"][name].items():
        assert {field: result["total"][key][field] for field in ("tp", "fp", "fn")} == expected


def test_golden_counts_and_hits_per_image(tree: Path, golden: dict, tmp_path: Path) -> None:
    for implementation in ("clrernet", "official"):
        out = tmp_path / f"{implementation}.jsonl"
        run(tree, "test", implementation=implementation, per_image=out)
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        entries = {entry["image"]: entry for entry in golden["per_image"]}
        listed = (tree / "gt/list/test.txt").read_text().split()
        assert [line["path"] for line in lines] == listed
        for line in lines:
            entry = entries[line["path"]]
            expected = entry if implementation == "clrernet" else entry["cpp"]
            for field in ("tp", "fp", "fn"):
                assert list(line[field].values()) == expected[field]
            if implementation == "clrernet":
                assert list(line["hits"].values()) == entry["hits"]
            assert np.shape(line["ious"])[:1] == (len(line["hits"]["0.5"]),)


def test_the_json_has_the_documented_keys(tree: Path) -> None:
    document = run(tree, "test", categories=tree / "gt/list/test_split", thresholds=(0.5, 0.75))
    assert {"thresholds", "total", "categories", "mf1", "images"} <= set(document)
    assert document["thresholds"] == [0.5, 0.75]
    assert document["images"] == 62
    assert list(document["categories"]) == CATEGORIES
    for figures in (document["total"], *document["categories"].values()):
        assert list(figures) == ["0.5", "0.75"]
        assert all(list(row) == ["tp", "fp", "fn", "precision", "recall", "f1"] for row in figures.values())
    assert json.loads(json.dumps(document)) == document


def test_mf1_is_the_mean_over_ten_thresholds(tree: Path) -> None:
    every = run(tree, "test", thresholds=MF1_THRESHOLDS)
    assert len(every["total"]) == 10
    assert every["mf1"] == pytest.approx(np.mean([row["f1"] for row in every["total"].values()]), abs=1e-12)
    assert run(tree, "test")["mf1"] == every["mf1"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Write three chunks of images with two lanes each; every third prediction lacks a lane, every fifth its file."""
    names = [f"a/{i:04d}.jpg" for i in range(2 * IMAGES_PER_CHUNK + 20)]
    for i, name in enumerate(names):
        for folder in ("gt", "pred"):
            if folder == "pred" and i % 5 == 0:
                continue
            path = tmp_path / folder / name.replace(".jpg", ".lines.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(LANES if folder == "gt" or i % 3 else LANES.split("\n")[0])
    (tmp_path / "list.txt").write_text("".join(f"/{name} /mask.png 1 1 0 0\n" for name in names))
    (tmp_path / "split").mkdir()
    (tmp_path / "split/test0_normal.txt").write_text("".join(f"{name}\n" for name in names[::2]))
    (tmp_path / "split/test1_crowd.txt").write_text("".join(f"/{name}\n" for name in [*names[:10], "b/other.jpg"]))
    return tmp_path


def test_two_processes_give_the_same_as_one(small: Path) -> None:
    outputs = []
    for workers in (1, 2):
        lines = small / f"{workers}.jsonl"
        options = {"categories": small / "split", "workers": workers, "per_image": lines}
        result = evaluate(small / "pred", small / "gt", small / "list.txt", **options)
        outputs.append((result.to_dict(), lines.read_text()))
    assert outputs[0] == outputs[1]
    document = outputs[0][0]
    labels = 2 * document["images"]
    missing = -(-document["images"] // 5)
    total = document["total"]["0.5"]
    assert document["missing_predictions"] == missing
    assert total["fp"] == 0
    assert total["tp"] + total["fn"] == labels
    assert total["fn"] >= 2 * missing
    # Categories overlap; the image that is not in the list has no files, and is not read.
    assert document["category_images"] == {"normal": document["images"] // 2, "crowd": 10}


def test_a_category_without_labels_counts_false_positives(tmp_path: Path) -> None:
    for folder, text in (("gt", ""), ("pred", LANES)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.lines.txt").write_text(text)
    (tmp_path / "list.txt").write_text("/x.jpg\n")
    (tmp_path / "split").mkdir()
    (tmp_path / "split/test7_cross.txt").write_text("x.jpg\n")
    result = evaluate(tmp_path / "pred", tmp_path / "gt", tmp_path / "list.txt", categories=tmp_path / "split")
    assert result.to_dict()["categories"]["cross"]["0.5"] == {
        "tp": 0, "fp": 2, "fn": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("folder", ["gt", "pred"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3 4\n1 2 3\n", "line 2: 3 values"),
        ("1 2 3 4\n5 6 nan 8\n", "line 2: NaN or infinite"),
        ("1 2 a 4\n", "line 1: not a list of numbers"),
        ("1 2 3.4.5 4\n", "line 1: not a list of numbers"),
        ("1 2 3 - 4\n", "line 1: not a list of numbers"),
    ],
)
def test_malformed_files_are_named(small: Path, folder: str, text: str, message: str) -> None:
    broken = small / folder / f"a/{IMAGES_PER_CHUNK + 2:04d}.lines.txt"
    broken.write_text(text)
    out = small / "lines.jsonl"
    for workers in (1, 2):
        with pytest.raises(UserError) as error:
            evaluate(small / "pred", small / "gt", small / "list.txt", workers=workers, per_image=out)
        assert str(error.value).startswith(f"{broken}, {message}")
    assert not list(small.glob("*lines.jsonl*"))


def test_a_folder_without_predictions_is_refused(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small / "none").mkdir()
    with pytest.raises(UserError, match=r"none: 0 of \d+ prediction files found, among them .*none/a/0000\.lines\.txt"):
        evaluate(small / "none", small / "gt", small / "list.txt", workers=1)
    evaluate_command(small / "pred", small / "gt", small / "list.txt", workers=1)
    assert "of them without a prediction file" in " ".join(capsys.readouterr().out.split())
    # Empty files are predictions of no lanes.
    for line in (small / "list.txt").read_text().splitlines():
        path = small / "none" / line.split()[0].lstrip("/").replace(".jpg", ".lines.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    document = evaluate(small / "none", small / "gt", small / "list.txt", workers=1).to_dict()
    assert document["missing_predictions"] == document["total"]["0.5"]["tp"] == 0


def test_missing_labels_folders_lists_and_categories_are_named(small: Path) -> None:
    (small / "gt/a/0003.lines.txt").unlink()
    (small / "empty.txt").write_text("\n")
    (small / "nothing").mkdir()
    (small / "nothing/x.txt.bak").write_text("")
    arguments = [small / "pred", small / "gt", small / "list.txt"]
    for change, options, message in [
        ({}, {}, "gt/a/0003.lines.txt: cannot be read"),
        ({0: small / "nopred"}, {}, "nopred: no such folder of predictions"),
        ({1: small / "nogt"}, {}, "nogt: no such folder of labels"),
        ({2: small / "nolist.txt"}, {}, "nolist.txt: the image list cannot be read"),
        ({2: small / "empty.txt"}, {}, "empty.txt: no images"),
        ({}, {"categories": small / "nothing"}, "nothing: no category lists"),
        ({}, {"thresholds": (1.5,)}, "thresholds: "),
        ({}, {"implementation": "both"}, "implementation: "),
    ]:
        given = [change.get(i, argument) for i, argument in enumerate(arguments)]
        with pytest.raises(UserError) as error:
            evaluate(*given, workers=1, **options)
        assert message in str(error.value)


def test_command_writes_the_document_and_prints_the_table(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, lines = tmp_path / "out/result.json", tmp_path / "out/lines.jsonl"
    listed, split = tree / "gt/list/test.txt", tree / "gt/list/test_split"
    result = evaluate_command(
        tree / "pred", tree / "gt", listed, split, implementation="official", json=out, per_image=lines, workers=1
    )
    assert json.loads(out.read_text()) == result.to_dict()
    assert len(lines.read_text().splitlines()) == 62
    assert sorted(path.name for path in out.parent.iterdir()) == ["lines.jsonl", "result.json"]
    shown = capsys.readouterr().out
    for text in ("official", "dazzle", "total", f"{100 * result.f1():.2f}", "62 images"):
        assert text in shown


def test_counts_of_no_images_are_zero() -> None:
    tally = Tally((0.5,))
    tally.count([], 0, 0)
    assert tally.at(0.5) == {"tp": 0, "fp": 0, "fn": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}
