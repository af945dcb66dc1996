"""Changed layouts: left-hand traffic, unmarked edges and areas between the directions keep truth and paint together."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest

from clrernetlm.synth.road.cross_section import cross_section_profile
from clrernetlm.synth.road.layout import RoadLayout, sample_layout
from clrernetlm.synth.road.layout_randomization import add_centre_area, mirror, randomize_layout, remove_edge_lines
from clrernetlm.synth.road.line_attributes import line_attributes

DISTANCES = np.geomspace(5, 60, 20)
MIRRORED = {"solid-dashed": "dashed-solid", "dashed-solid": "solid-dashed"}


def _layout(seed: int) -> tuple[np.random.Generator, RoadLayout]:
    rng = np.random.default_rng([seed, 51])
    return rng, sample_layout(rng, ("highway", "urban", "rural")[seed % 3], 0.3, 1.0)


def _types(layout: RoadLayout) -> list[str]:
    return [line_attributes(layout, border, DISTANCES)[0] for border in range(len(layout.borders))]


@pytest.mark.parametrize("seed", range(12))
def test_mirrored_roads_have_the_same_lines_in_reverse_order(seed):
    rng, layout = _layout(seed)
    add_centre_area(rng, layout)
    original, types = deepcopy(layout), _types(layout)
    mirror(layout)
    assert layout.left_hand
    assert layout.borders[layout.ego_border] < 0 < layout.borders[layout.ego_border + 1]
    assert _types(layout) == [MIRRORED.get(kind, kind) for kind in types[::-1]]
    profiles = [cross_section_profile(road.strips, [], 0.0, 0.0)[:, :3] for road in (layout, original)]
    assert (profiles[0] != profiles[1][::-1]).any(1).sum() <= 2 * len(layout.strips)  # an entry beside each change
    mirror(layout)
    assert layout.borders == original.borders
    assert layout.ego_border == original.ego_border
    assert [line.offset for line in layout.lines] == [line.offset for line in original.lines]
    np.testing.assert_array_equal(profiles[1], cross_section_profile(layout.strips, [], 0.0, 0.0)[:, :3])


def test_an_unmarked_edge_is_labelled_where_the_pavement_ends():
    count = 0
    for seed in range(120):
        rng, layout = _layout(seed)
        before = list(layout.borders)
        remove_edge_lines(rng, layout)
        for index in (0, len(before) - 1):
            if layout.borders[index] != before[index]:
                count += 1
                assert layout.borders[index] in (layout.left_edge, layout.right_edge)
                assert line_attributes(layout, index, DISTANCES) == ("edge", "unknown")
                assert any(layout.borders[index] in lane[:2] for lane in layout.lanes)
    assert count > 10


def test_a_centre_area_lies_between_the_directions_and_both_its_sides_are_painted():
    count, types = 0, set()
    for seed in range(90):
        rng, layout = _layout(seed)
        before = len(layout.borders)
        add_centre_area(rng, layout)
        if len(layout.borders) == before:
            continue
        count += 1
        assert layout.borders == sorted(layout.borders)
        assert layout.borders[layout.ego_border] < 0 < layout.borders[layout.ego_border + 1]
        assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(layout.lanes))
        sides = [index for index, (a, b) in enumerate(pairwise(layout.lanes)) if b[0] - a[1] > 0.5]
        assert len(sides) == 1
        oncoming, own = layout.lanes[sides[0]], layout.lanes[sides[0] + 1]
        assert (oncoming[2], own[2]) == (-1, 1)
        for offset in (oncoming[1], own[0]):
            index = int(np.abs(np.array(layout.borders) - offset).argmin())
            assert layout.borders[index] == pytest.approx(offset)
            types.add(line_attributes(layout, index, DISTANCES)[0])
    assert count > 15
    assert {"solid", "solid-dashed", "dashed-solid"} <= types


def test_changes_repeat_with_the_seed():
    changed, drivers = 0, []
    for seed in range(60):
        layouts = []
        for _ in range(2):
            rng, layout = _layout(seed)
            randomize_layout(rng, layout)
            layouts.append(layout)
        assert layouts[0].lines == layouts[1].lines
        assert layouts[0].borders == layouts[1].borders
        changed += layouts[0].borders != _layout(seed)[1].borders
        drivers.append(layouts[0].left_hand)
    assert changed > 10
    assert 0.1 < np.mean(drivers) < 0.4
