"""Type and colour of labelled lines are those of the paint along them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clrernetlm.synth.road.cross_section import asphalt_strip
from clrernetlm.synth.road.layout import BorderPath, RoadLayout
from clrernetlm.synth.road.line_attributes import line_attributes, paint_contrast
from clrernetlm.synth.road.markings import RoadLine

DISTANCES = np.geomspace(5, 100, 30)
YELLOW = (70.0, 170.0, 210.0)
SOLID = RoadLine(0.0, wear=0.0)
DASHED = replace(SOLID, dash=3.0, period=9.0)
DOT = replace(SOLID, width=0.11, dash=0.11, period=14.6)
WORN = replace(SOLID, strength=0.2, wear=4.0)


def _road(*lines: RoadLine, grey: float = 80.0) -> RoadLayout:
    """A road of two lanes that meet at offset 0; only the line between them is given."""
    layout = RoadLayout("highway", list(lines), [-3.5, 0.0, 3.5], 0, [(-3.5, 0.0, 1), (0.0, 3.5, 1)])
    layout.strips = [asphalt_strip(-10.0, (grey, grey, grey))]
    layout.left_edge, layout.right_edge = -5.0, 5.0
    return layout


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([SOLID], ("solid", "white")),
        ([DASHED], ("dashed", "white")),
        ([replace(SOLID, colour=YELLOW)], ("solid", "yellow")),
        ([replace(SOLID, colour=(220.0, 90.0, 60.0))], ("solid", "other")),
        ([replace(SOLID, twin=0.3, colour=YELLOW)], ("double-solid", "yellow")),
        ([replace(DASHED, twin=0.3)], ("double-dashed", "white")),
        ([replace(SOLID, offset=-0.15), replace(DASHED, offset=0.15)], ("solid-dashed", "white")),
        ([replace(DASHED, offset=-0.15), replace(SOLID, offset=0.15)], ("dashed-solid", "white")),
        ([replace(SOLID, twin=0.2, width=0.18)], ("solid", "white")),  # no gap is left between the strokes
        ([replace(DOT, phase=1.22 * k) for k in range(4)], ("dots", "white")),
        ([DOT], ("unknown", "unknown")),  # one stud every 14.6 m is no line
        ([DASHED, DOT], ("dashed", "white")),
        ([SOLID, replace(DOT, offset=0.18)], ("solid", "white")),
        ([replace(DASHED, offset=-1e-4, width=0.28, colour=(30.0,) * 3), DASHED], ("dashed", "white")),  # outlined
        ([WORN], ("unknown", "unknown")),
        ([WORN, replace(DASHED, offset=1.0)], ("unknown", "unknown")),  # the other line is elsewhere
        ([replace(SOLID, last=60.0), replace(DASHED, first=60.0)], ("solid", "white")),  # most of its points
        ([replace(SOLID, last=9.0), replace(SOLID, first=40.0)], ("solid", "white")),  # a gap
        ([replace(SOLID, last=5.5)], ("unknown", "unknown")),
    ],
)
def test_paint_between_two_lanes(lines: list[RoadLine], expected: tuple[str, str]) -> None:
    assert line_attributes(_road(*lines), 1, DISTANCES) == expected


def test_an_unpainted_line_is_an_edge_at_the_edge_of_the_road() -> None:
    road = _road()
    assert [line_attributes(road, border, DISTANCES)[0] for border in range(3)] == ["edge", "unknown", "edge"]
    road.lanes.insert(0, (-12.0, -8.0, -1))  # the other carriageway, beyond the median
    assert line_attributes(road, 0, DISTANCES) == ("edge", "unknown")
    road.lanes.insert(1, (-4.8, -3.5, -1))
    assert line_attributes(road, 0, DISTANCES) == ("unknown", "unknown")


def test_a_border_is_followed_along_its_path() -> None:
    bend, start = 0.002, 10.0
    road = _road(replace(DASHED, bend=bend, bend_from=start), replace(SOLID, offset=3.5))
    road.border_paths[1] = BorderPath(bend, start, 100.0)
    assert line_attributes(road, 1, DISTANCES) == ("dashed", "white")
    assert line_attributes(road, 2, DISTANCES) == ("solid", "white")


def test_contrast_falls_with_wear_and_with_bright_pavement() -> None:
    contrast = [paint_contrast(replace(SOLID, wear=wear), _road()) for wear in (0.0, 1.0, 2.0, 3.0, 4.0)]
    assert contrast == sorted(contrast, reverse=True)
    assert contrast[0] > 10 * contrast[-1]
    assert paint_contrast(SOLID, _road(grey=200.0)) < 0.15 * contrast[0]
    assert paint_contrast(replace(SOLID, colour=(40.0, 40.0, 40.0)), _road()) == 0
