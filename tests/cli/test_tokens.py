"""`clrernetlm tokens`: a label file as letters and numbers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm.cli import main


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Write two lanes in an 800x320 image, which with a viewport of all rows are network pixels."""
    path = tmp_path / "road.lines.txt"
    path.write_text("100 312 100 160\n700 200 100 0\n")
    cv2.imwrite(str(tmp_path / "road.png"), np.zeros((320, 800, 3), np.uint8))
    (tmp_path / "whole.py").write_text(
        "from clrernetlm.config.schema import ClrernetConfig, Config\n"
        "from clrernetlm.core.viewport import Viewport\n\n"
        "config = Config(model=ClrernetConfig(viewport=Viewport(top=0.0)))\n"
    )
    return path


def output(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    assert main(["tokens", *map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


def test_letters_are_drawn_at_the_positions_of_the_lanes(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = labels.with_name("whole.py")
    out = output(capsys, labels, "--config", config, "--steps", 8, "--bins", 40)
    assert "frame 800x320 -> input 800x320, 8 rows, 40 bins of 20 px" in out[0]
    assert out[2:10] == [
        "  0    0.0 |     B                                  |",
        "  1   40.0 |           B                            |",
        "  2   80.0 |                 B                      |",
        "  3  120.0 |                       B                |",
        "  4  160.0 |     A                       B          |",
        "  5  200.0 |     A                             B    |",
        "  6  240.0 |     A                                  |",
        "  7  280.0 |     A                                  |",
    ]
    assert out[10:] == ["A 4 rows, t 4..7", "  x 5 5 5 5", "B 6 rows, t 0..5", "  x 5 11 17 23 29 35"]


def test_small_letters_mark_rows_below_the_label_and_stars_mark_crossings(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels.write_text("300 200 300 0\n700 320 100 0\n")
    out = output(capsys, labels, "--config", labels.with_name("whole.py"), "--steps", 6, "--bins", 8)
    grid = [line.split("|")[1] for line in out[2:8]]
    assert ["".join(row.split()) for row in grid] == ["BA", "BA", "*", "AB", "aB", "aB"]


def test_one_lane_can_be_selected(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = output(capsys, labels, "--config", labels.with_name("whole.py"), "--lane", 2)
    assert not any("A" in line for line in out[1:])
    tokens = " ".join(out[out.index("B 30 rows, t 0..29") + 1 :]).replace("x", "").split()
    assert tokens == [str(100 + 24 * t) for t in range(30)]


def test_the_frame_can_be_given_and_an_empty_road_has_no_lane(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "alone.lines.txt"
    path.write_text("")
    out = output(capsys, path, "--frame", "1640x590")
    assert "frame 1640x590 -> input 800x320" in out[0]
    assert out[1:] == ["no lane"]
    path.write_text("-50 590 -10 300\n")
    assert output(capsys, path, "--frame", "1640x590")[-1] == "A on no row: padding"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("{}/none.lines.txt", "none.lines.txt: cannot be read (No such file or directory)"),
        (
            "{}/alone.lines.txt",
            "no image alone.* beside it to tell the frame's size; give it as --frame",
        ),
        ("{}/road.lines.txt --lane 3", "road.lines.txt: no lane 3; it has 2"),
        ("{}/road.lines.txt --lane 0", "no lane 0"),
        ("{}/road.lines.txt --steps 1", "steps: 1 is out of range; use 2 to 1000"),
        ("{}/road.lines.txt --steps 100000000", "steps: 100000000 is out of range; use 2 to 1000"),
        ("{}/road.lines.txt --bins 100000000", "bins: 100000000 is out of range; use 2 to 65536"),
        ("{}/road.lines.txt --frame 16", "--frame: 16 is not WIDTHxHEIGHT"),
        ("{}/road.lines.txt --config no_such", "no_such: no such config"),
        ("{}/odd.lines.txt", "odd.lines.txt, line 1: 3 values"),
        ("", "tokens: FILE missing"),
    ],
)
def test_user_errors_are_one_line(labels: Path, words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels.with_name("alone.lines.txt").write_text("1 2 3 4\n")
    labels.with_name("odd.lines.txt").write_text("1 2 3\n")
    assert main(["tokens", *words.format(labels.parent).split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err


def test_a_lane_that_turns_back_is_shown_as_in_training(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels.write_text("100 320 100 160 400 161 400 250\n")
    assert main(["tokens", str(labels), "--config", str(labels.with_name("whole.py")), "--steps", "8"]) == 0
    captured = capsys.readouterr()
    assert f"{labels}, line 1: the lane turns back" in captured.err
    assert "A 4 rows, t 4..7" in captured.out
