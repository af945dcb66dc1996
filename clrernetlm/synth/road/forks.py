"""Changes lanes along the road: lanes that end, begin, leave as a ramp, or lead elsewhere from a fork on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.synth.road.layout import BorderPath, RoadFork, RoadLayout, RoadType
from clrernetlm.synth.road.layout_randomization import mirror
from clrernetlm.synth.road.markings import Decal, RoadLine

_BORDER_TOLERANCE = 0.35  # metres within which strokes belong to one border, as those of a double line do
_LEAST_BRIGHTNESS = 100.0  # display value of the brightest channel; darker lines are outlines


SPLITS: dict[RoadType, float] = {"highway": 0.14, "urban": 0.06, "rural": 0.06, "tunnel": 0.0}  # share of roads
_NEAR_NOSE = 14.0  # metres ahead up to which both lines of a gore are labelled
_MOST_SHIFT = 40.0  # metres to the side up to which the lines of a departing branch are drawn


def add_fork(layout: RoadLayout, rng: np.random.Generator) -> None:
    """Let an outer lane end or begin, or the road split, in some layouts, and label the line of a ramp.

    Changes `layout` in place; its lines and `border_paths` stay consistent.
    """
    if layout.left_hand:
        mirror(layout)
        add_fork(layout, rng)
        mirror(layout)
        return
    ramps = [line for line in layout.lines if line.bend > 0 and line.bend_from < 1e6]
    if ramps:
        if rng.random() < 0.6:
            _straighten_ramp(layout, ramps[0])
            _split_road(rng, layout, len(layout.borders) - 2, 1)
        else:
            _label_ramp(layout, ramps[0])
        return
    if rng.random() < SPLITS[layout.road_type]:
        _split_anywhere(rng, layout)
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


def _straighten_ramp(layout: RoadLayout, ramp: RoadLine) -> None:
    """Turn the line of a ramp into the last border of a straight lane."""
    layout.lines = [
        replace(line, bend=0.0, bend_from=1e9) if line.bend > 0 and line.bend_from < 1e6 else line
        for line in layout.lines
    ]
    layout.lanes.append((layout.borders[-1], ramp.offset, 1))
    layout.borders.append(ramp.offset)


def _split_anywhere(rng: np.random.Generator, layout: RoadLayout) -> None:
    """Split the road at a border beside which at least one lane departs; the own lane stays."""
    if layout.border_paths or any(line.bend for line in layout.lines):
        return
    last, ego = len(layout.borders) - 1, layout.ego_border
    choices = [] if layout.parked[0] else [(index, -1) for index in range(1, ego + 1)]
    choices += [] if layout.parked[1] else [(index, 1) for index in range(ego + 1, last)]
    if not choices:
        return
    index, side = choices[int(rng.integers(len(choices)))]
    _split_road(rng, layout, index, side)


def _split_road(rng: np.random.Generator, layout: RoadLayout, index: int, side: int) -> None:
    """Let everything beyond a border on one `side` (-1, 1) depart from some distance on, in place.

    The line of the border splits in two solid ones around a gore. The departing one is a border of its own if the gore
    begins near the camera: only then it is one of the lines that a driver sees beside the lane.
    """
    low, high = (0.0012, 0.0045) if layout.road_type == "highway" else (0.002, 0.012)
    bend = side * float(np.exp(rng.uniform(np.log(low), np.log(high))))
    offset, start = layout.borders[index], float(rng.uniform(1, 14) if rng.random() < 0.5 else rng.uniform(14, 45))
    verge = (layout.right_edge + 1.5) if side > 0 else (layout.left_edge - 1.5)
    fork = RoadFork(offset, side, bend, start, float(rng.uniform(0.4, 2.5)), verge)
    last = start + float(np.sqrt(_MOST_SHIFT / abs(bend)))
    layout.decals = [_move_decal(decal, fork) for decal in layout.decals]
    at_border = [line for line in layout.lines if _belongs_to(line, offset)]
    lines = [
        _clip_line(fork.bend_line(line), last=last if (line.offset - offset) * side > 0 else 1e9)
        for line in layout.lines
        if not _belongs_to(line, offset)
    ]
    lines += [_clip_line(line, last=start) for line in at_border]
    if at_border:
        widest = max(at_border, key=lambda line: line.width * (max(line.colour) > _LEAST_BRIGHTNESS))
        solid = replace(widest, offset=offset, twin=0.0, dash=1.0, period=1.0, bend=0.0, bend_from=1e9)
        departing = replace(solid, bend=bend, bend_from=start)
        lines += [_clip_line(solid, first=start), _clip_line(departing, first=start, last=last)]
        if rng.random() < 0.65:
            layout.decals.append(_gore_hatching(rng, fork, widest.strength))
    layout.lines = [line for line in lines if line.last > line.first]
    beyond = range(index) if side < 0 else range(index + 1, len(layout.borders))
    layout.border_paths.update({number: BorderPath(bend, start, last=last) for number in beyond})
    if at_border and start < _NEAR_NOSE:
        _insert_border(layout, index + (side > 0), offset, BorderPath(bend, start, first=start, last=last))
    layout.fork = fork


def _move_decal(decal: Decal, fork: RoadFork) -> Decal:
    """Return paint where the fork leads it."""
    moved = (outline + np.stack([fork.shift(*outline.T), np.zeros(len(outline))], 1) for outline in decal.outlines)
    return replace(decal, outlines=tuple(moved))


def _insert_border(layout: RoadLayout, index: int, offset: float, path: BorderPath) -> None:
    """Insert a border with a path before the border `index`, in place."""
    layout.borders.insert(index, offset)
    layout.border_paths = {number + (number >= index): old for number, old in layout.border_paths.items()}
    layout.border_paths[index] = path
    layout.ego_border += index <= layout.ego_border


def _gore_hatching(rng: np.random.Generator, fork: RoadFork, strength: float) -> Decal:
    """Return bars between the two branches, from where they are 0.4 m apart until the gore is too wide."""
    near, far = (fork.start + float(np.sqrt(gap / abs(fork.bend))) for gap in (0.4, float(rng.uniform(2.5, 5.0))))
    pitch, thickness = float(rng.uniform(2.0, 5.0)), float(rng.uniform(0.4, 1.0))
    slant = float(rng.uniform(-2.0, 3.0))
    z = np.arange(near, min(far, fork.start + 80.0), pitch)
    rows = z[:, None] + np.array([0.0, slant, slant + thickness, thickness])
    gap = np.abs(fork.bend) * np.square(np.maximum(rows - fork.start, 0.0))
    along = np.array([0.12, -0.12, -0.12, 0.12]) + gap * np.array([0.0, 1.0, 1.0, 0.0])
    outlines = np.stack([fork.offset + fork.side * along, rows], -1)
    return Decal(tuple(outlines), int(rng.uniform(130, 235) * min(1.0, strength / 0.7)))
