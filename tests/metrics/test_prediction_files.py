"""Prediction files: written image by image, read back unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import read_lines
from clrernetlm.metrics.prediction_files import PredictionWriter, read_predictions
from clrernetlm.reports.worst_images import read_per_image

LANES = [Lane(np.array([[600.123456, 590.0], [610.0, 400.5]]), 0.75), Lane(np.array([[1.0, 2], [3, 4]]), 0.2)]


def write_all(writer: PredictionWriter, *paths: str) -> None:
    for path in paths:
        writer.write(path, LANES)


def test_round_trip(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path, min_score=0.5) as writer:
        writer.write("/drive/x.jpg", LANES)
        writer.write("drive/empty.jpg", [])
    lanes = read_lines(tmp_path / "drive/x.lines.txt")
    assert [lane.tolist() for lane in lanes] == [[[600.12346, 590.0], [610.0, 400.5]]]
    assert read_lines(tmp_path / "drive/empty.lines.txt") == []
    first, second = read_predictions(tmp_path / "predictions.jsonl")
    assert (first.path, second.path, second.lanes) == ("drive/x.jpg", "drive/empty.jpg", [])
    assert [lane.score for lane in first.lanes] == [0.75, 0.2]
    np.testing.assert_array_equal(first.lanes[0].points, lanes[0])


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path) as writer:
        writer.write("x.jpg", LANES)
    before = writer.predictions_file.read_text()
    with pytest.raises(UserError), PredictionWriter(tmp_path, overwrite=True) as writer:
        write_all(writer, "y.jpg", "../z.jpg")
    assert writer.predictions_file.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".clrernetlm-results.jsonl",
        "predictions.jsonl",
        "x.lines.txt",
        "y.lines.txt",
    ]


def test_paths_outside_the_folder_are_refused(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "out") as writer, pytest.raises(UserError, match=r"\.\."):
        writer.write("/../x.jpg", LANES)
    assert not (tmp_path / "x.lines.txt").exists()


@pytest.mark.parametrize(
    "row",
    [
        "[" * 90_000,
        '{"path": "a.jpg", "lanes": [{"score": ' + "9" * 400 + ', "points": []}]}',
        '{"path": "a\\u0000.jpg", "lanes": []}',
        '{"path": 5, "lanes": []}',
    ],
    ids=["nested", "digits", "nul", "number"],
)
def test_hostile_rows_are_named(row: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(UserError, match="line 1: not a prediction"):
        list(read_predictions(path))


def test_a_line_that_never_ends_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    with open(path, "wb") as file:
        file.truncate(1_000_000_000)  # of zeros, which take no room on the disk
    with pytest.raises(UserError, match=r"predictions\.jsonl: a line of more than 10 MB; check"):
        list(read_predictions(path))
    with pytest.raises(UserError, match=r"predictions\.jsonl: a line of more than 10 MB; check"):
        list(read_per_image(path))
