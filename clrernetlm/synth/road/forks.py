"""Changes lanes along the road: lanes that end, begin or leave as a ramp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.synth.road.layout import BorderPath, RoadLayout
from clrernetlm.synth.road.layout_randomization import mirror
from clrernetlm.synth.road.markings import RoadLine

_BORDER_TOLERANCE = 0.35  # metres within which strokes belong to one border, as those of a double line do


def add_fork(layout: RoadLayout, rng: np.random.Generator) -> None:
    """Let an outer lane end or begin in some layouts, and label the line of a ramp.

    Changes `layout` in place; its lines and `border_paths` stay consistent.
    """
    if layout.left_hand:
        mirror(layout)
        add_fork(layout, rng)
        mirror(layout)
        return
    ramps = [line for line in layout.lines if line.bend > 0 and line.bend_from < 1e6]
    if ramps:
        _label_ramp(layout, ramps[0])
        return
    lanes_ahead = sum(direction > 0 for *_, direction in layout.lanes)
    if layout.road_type == "tunnel" or lanes_ahead < 2 or rng.random() > 0.12:
        return
    count = len(layout.borders)
    right = layout.ego_border + 2 < count and (layout.ego_border == count - lanes_ahead - 1 or rng.random() < 0.7)
    outer, inner = (count - 1, count - 2) if right else (0, 1)
    oncoming_or_own_lane_on_the_left = len(layout.lanes) > lanes_ahead or layout.ego_border < 1
    if not right and oncoming_or_own_lane_on_the_left:
        return
    if outer == inner or {outer, inner} == {layout.ego_border, layout.ego_border + 1}:
        return
    away = layout.borders[inner] - layout.borders[outer]  # metres from the outer border to the inner one
    start = float(rng.uniform(8, 60))
    length = float(rng.uniform(25, 80))
    bend = away / length**2
    if rng.random() < 0.6:
        _end_lane(layout, outer, inner, start, start + length, bend)
    else:
        _begin_lane(layout, outer, inner, start, start + length, -bend)


def _belongs_to(line: RoadLine, offset: float) -> bool:
    """Test whether a line is part of the border at `offset` metres."""
    return abs(line.offset - offset) < _BORDER_TOLERANCE


def _clip_line(line: RoadLine, first: float = 0.0, last: float = 1e9) -> RoadLine:
    """Restrict a line to distances between `first` and `last` metres."""
    return replace(line, first=max(line.first, first), last=min(line.last, last))


def _end_lane(layout: RoadLayout, outer: int, inner: int, start: float, end: float, bend: float) -> None:
    """Bend the outer border inwards from `start` until it replaces the inner one at `end` metres."""
    old = layout.borders[outer], layout.borders[inner]
    lines: list[RoadLine] = []
    for line in layout.lines:
        if _belongs_to(line, old[0]):
            lines.append(_clip_line(replace(line, bend=bend, bend_from=start), last=end))
            lines.append(_clip_line(replace(line, offset=line.offset + old[1] - old[0]), first=end))
        else:
            lines.append(_clip_line(line, last=start + 0.7 * (end - start)) if _belongs_to(line, old[1]) else line)
    layout.lines = [line for line in lines if line.last > line.first]
    layout.border_paths[outer] = BorderPath(bend, start, end)
    layout.border_paths[inner] = BorderPath(last=start + 0.7 * (end - start))


def _begin_lane(layout: RoadLayout, outer: int, inner: int, start: float, end: float, bend: float) -> None:
    """Let the outer border leave the inner one at `start` and reach its own offset at `end` metres."""
    old = layout.borders[outer], layout.borders[inner]
    lines: list[RoadLine] = []
    first = start + 0.7 * (end - start)
    for line in layout.lines:
        if _belongs_to(line, old[0]):
            near = replace(line, offset=line.offset + old[1] - old[0], bend=bend, bend_from=start)
            lines += [_clip_line(near, last=end), _clip_line(line, first=end)]
        else:
            lines.append(_clip_line(line, first=first) if _belongs_to(line, old[1]) else line)
    layout.lines = [line for line in lines if line.last > line.first]
    layout.border_paths[outer] = BorderPath(bend, start, end, shift=old[1] - old[0])
    layout.border_paths[inner] = BorderPath(first=first)


def _label_ramp(layout: RoadLayout, ramp: RoadLine) -> None:
    """Make the outer line of a ramp the last border, up to where it leaves the pavement."""
    room = max(layout.right_edge - 0.3 - ramp.offset, 0.1)
    last = ramp.bend_from + float(np.sqrt(room / ramp.bend))
    layout.lines = [
        _clip_line(line, last=last) if line.bend > 0 and line.bend_from < 1e6 else line for line in layout.lines
    ]
    layout.border_paths[len(layout.borders)] = BorderPath(ramp.bend, ramp.bend_from, last=last)
    layout.borders.append(ramp.offset)
