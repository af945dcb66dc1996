"""Charts: labels of marked points stay inside the axes and off the curves and each other."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from clrernetlm.reports.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER_WIDTH,
    LINE_HEIGHT,
    RIGHT,
    TOP,
    WIDTH,
    Series,
    line_chart,
)

LABEL = "best F1 64.04 at 0.43"
FALLING = [(0.05, 0.85), (0.15, 0.74), (0.45, 0.76), (0.61, 0.67), (0.65, 0.58), (0.65, 0.5)]
STEEP = [(0.0, 0.99), (0.9, 0.98), (0.95, 0.93), (0.97, 0.6)]
RISING = [(0.05, 0.55), (0.43, 0.64), (0.5, 0.4), (0.55, 0.0), (0.95, 0.0)]
HIGH = [(0.0, 0.98), (0.5, 1.0), (1.0, 0.1)]


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Return left, top, right, bottom of every label."""
    found = []
    for text in ElementTree.fromstring(svg).iter("text"):
        if "value" in text.get("class", "").split() and text.text == LABEL:
            x, y, width = float(text.get("x", "")), float(text.get("y", "")), LETTER_WIDTH * len(LABEL)
            left = x if text.get("text-anchor") == "start" else x - width
            found.append((left, y + 4 - LINE_HEIGHT, left + width, y + 4))
    return found


@pytest.mark.parametrize(
    ("lines", "marked"), [([FALLING], [3]), ([STEEP], [2]), ([RISING], [1]), ([HIGH], [1]), ([FALLING, STEEP], [3, 2])]
)
def test_labels_overlap_neither_curves_nor_each_other(
    lines: list[list[tuple[float, float]]], marked: list[int]
) -> None:
    series = [Series("ours", line, line[index], LABEL) for line, index in zip(lines, marked, strict=True)]
    svg = line_chart(series, "title", "x", "y")
    labels = boxes(svg)
    assert len(labels) == len(lines)
    for left, top, right, bottom in labels:
        assert left >= LEFT
        assert top >= TOP
        assert right <= WIDTH - RIGHT
        assert bottom <= HEIGHT - BOTTOM
    for line in ElementTree.fromstring(svg).iter("polyline"):
        corners = [tuple(map(float, corner.split(","))) for corner in line.get("points", "").split()]
        for (x0, y0), (x1, y1) in pairwise(corners):
            for step in range(101):
                x, y = x0 + (x1 - x0) * step / 100, y0 + (y1 - y0) * step / 100
                assert not any(left < x < right and top < y < bottom for left, top, right, bottom in labels)
    if len(labels) == 2:
        (a, b, c, d), (e, f, g, h) = labels
        assert c <= e or g <= a or d <= f or h <= b


def test_a_curve_without_points_or_mark_is_drawn() -> None:
    svg = line_chart([Series("", []), Series("b", [(0.5, 0.5)], (0.5, 0.5), "x")], "title", "x", "y")
    assert svg.count("<polyline") == 2
    assert svg.count("<circle") == 1


def test_axes_of_scores_are_in_percent() -> None:
    series = [Series("", [(0.25, 0.852)], None, "")]
    for percent, count in (("", 0), ("y", 1), ("xy", 2)):
        assert line_chart(series, "t", "x", "y", percent=percent).count(">80</text>") == count
