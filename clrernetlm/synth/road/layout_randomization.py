"""Changes sampled layouts: left-hand traffic, edges without lines, and areas between the directions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.synth.road.coloured_lanes import lay_strip
from clrernetlm.synth.road.layout import RoadLayout, RoadType
from clrernetlm.synth.road.markings import Decal, RoadLine, chevrons

LEFT_HAND_TRAFFIC = 0.25  # share of roads on which cars drive on the left
CENTRE_AREA = 0.15  # share of roads for both directions that keep them apart
# Chance that an edge of the road has no line.
UNMARKED_EDGE: dict[RoadType, float] = {"highway": 0.02, "urban": 0.16, "rural": 0.25, "tunnel": 0.0}
_MOST_SHOULDER = 1.4  # metres beside the outer border up to which the edge of the pavement is the edge of the lane
_AT_BORDER = 0.3  # metres within which a line belongs to a border


def randomize_layout(rng: np.random.Generator, layout: RoadLayout) -> None:
    """Change some layouts in place, before anything else is derived from them."""
    if rng.random() < CENTRE_AREA:
        add_centre_area(rng, layout)
    remove_edge_lines(rng, layout)
    if rng.random() < LEFT_HAND_TRAFFIC:
        mirror(layout)


def mirror(layout: RoadLayout) -> None:
    """Exchange left and right of a layout in place: traffic then drives on the other side."""
    count = len(layout.borders)
    layout.left_hand = not layout.left_hand
    layout.lines = [replace(line, offset=-line.offset, bend=-line.bend) for line in layout.lines]
    layout.borders = [-border for border in layout.borders[::-1]]
    layout.ego_border = count - 2 - layout.ego_border
    layout.border_paths = {
        count - 1 - index: replace(path, bend=-path.bend, shift=-path.shift)
        for index, path in layout.border_paths.items()
    }
    layout.lanes = [(-right, -left, direction) for left, right, direction in layout.lanes[::-1]]
    strips = sorted(layout.strips, key=lambda strip: strip.left)
    outermost = strips[0].left
    layout.strips = [
        replace(strip, left=-strips[i + 1].left if i + 1 < len(strips) else outermost)
        for i, strip in reversed(list(enumerate(strips)))
    ]
    layout.left_edge, layout.right_edge = -layout.right_edge, -layout.left_edge
    layout.median = None if layout.median is None else -layout.median
    layout.parked = layout.parked[::-1]
    if layout.fork is not None:
        fork = layout.fork
        layout.fork = replace(fork, offset=-fork.offset, side=-fork.side, bend=-fork.bend, verge=-fork.verge)
    layout.decals = [
        replace(decal, outlines=tuple(outline * (-1.0, 1.0) for outline in decal.outlines)) for decal in layout.decals
    ]


def remove_edge_lines(rng: np.random.Generator, layout: RoadLayout) -> None:
    """Leave out the outer lines of some roads; the edge of the pavement or its kerb then is the border."""
    for index, edge in ((0, layout.left_edge), (len(layout.borders) - 1, layout.right_edge)):
        border = layout.borders[index]
        chosen = rng.random() < UNMARKED_EDGE[layout.road_type]
        lines = [line for line in layout.lines if abs(line.offset - border) < _AT_BORDER]
        parked = layout.parked[0 if index == 0 else 1]
        if not chosen or not lines or parked or abs(edge - border) > _MOST_SHOULDER or edge == layout.median:
            continue
        if layout.lanes[0][0] < border - _AT_BORDER and index == 0:  # a carriageway beyond
            continue
        layout.lines = [line for line in layout.lines if abs(line.offset - border) >= _AT_BORDER]
        layout.borders[index] = edge
        layout.lanes = [
            (edge if abs(left - border) < 1e-6 else left, edge if abs(right - border) < 1e-6 else right, direction)
            for left, right, direction in layout.lanes
        ]


def add_centre_area(rng: np.random.Generator, layout: RoadLayout) -> None:
    """Keep the directions of a road apart by a hatched area, a raised island or a lane for turning, in place."""
    directions = [direction for *_, direction in layout.lanes]
    if layout.median is not None or -1 not in directions or layout.road_type == "tunnel":
        return
    first = directions.index(1)
    right = layout.lanes[first][0]
    at_centre = [line for line in layout.lines if abs(line.offset - right) < _AT_BORDER]
    index = int(np.argmin(np.abs(np.asarray(layout.borders) - right)))
    if not at_centre or abs(layout.borders[index] - right) > 1e-6:
        return
    kind = ("hatched", "island", "turning lane")[int(rng.choice(3, p=[0.4, 0.2, 0.4]))]
    width = float(rng.uniform(2.8, 3.8) if kind == "turning lane" else rng.uniform(0.8, 3.2))
    left = right - width
    _move_left_of(layout, right, width)
    layout.borders.insert(index, left)
    layout.ego_border += 1
    model = replace(at_centre[0], twin=0.0, dash=1.0, period=1.0, bend=0.0, bend_from=1e9, offset=right)
    layout.lines += _centre_lines(rng, model, left, right, kind)
    if kind == "hatched":
        bars = chevrons(left + 0.15, right - 0.15, 2.0, 90.0)
        layout.decals.append(Decal(bars.outlines, int(rng.uniform(120, 230) * min(1.0, model.strength / 0.7))))
    elif kind == "island":
        grey = float(rng.uniform(110, 190))
        layout.strips = lay_strip(layout.strips, left + 0.25, right - 0.25, (grey, grey, grey))


def _move_left_of(layout: RoadLayout, offset: float, metres: float) -> None:
    """Move everything left of an offset further left in place; the pavement under the offset becomes wider."""
    at = offset - 1e-3
    layout.lines = [
        replace(line, offset=line.offset - metres) if line.offset < offset - _AT_BORDER else line
        for line in layout.lines
        if abs(line.offset - offset) >= _AT_BORDER
    ]
    layout.borders = [border - metres if border < at else border for border in layout.borders]
    layout.lanes = [
        (left - metres, right - metres, direction) if left < at else (left, right, direction)
        for left, right, direction in layout.lanes
    ]
    outermost = min(strip.left for strip in layout.strips)
    layout.strips = [
        replace(strip, left=strip.left - metres) if outermost < strip.left < at else strip for strip in layout.strips
    ]
    layout.left_edge -= metres


def _centre_lines(rng: np.random.Generator, model: RoadLine, left: float, right: float, kind: str) -> list[RoadLine]:
    """Return the lines on both sides of a centre area: two solid ones, or pairs with the broken ones inside."""
    if kind != "turning lane":
        return [replace(model, offset=left), model]
    gap, phase = float(rng.uniform(0.25, 0.36)), float(rng.uniform(0, 9))
    broken = replace(model, dash=3.0, period=float(rng.choice([6.0, 9.0, 12.0])), phase=phase)
    return [
        replace(model, offset=left - gap / 2),
        replace(broken, offset=left + gap / 2),
        replace(broken, offset=right - gap / 2),
        replace(model, offset=right + gap / 2),
    ]
