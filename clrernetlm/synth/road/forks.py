"""Forks: lanes that end, begin or lead away from the road."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.synth.road.layout import Layout, Turn
from clrernetlm.synth.road.markings import Line

_SAME = 0.35  # metres within which strokes belong to one border, as those of a double line do


def fork(layout: Layout, rng: np.random.Generator) -> None:
    """Now and then, let an outer lane end or begin, or label the line of a ramp; lines and `turns` stay one."""
    ramps = [line for line in layout.lines if line.bend > 0 and line.bend_from < 1e6]
    if ramps:
        _label_ramp(layout, ramps[0])
        return
    lanes_ahead = sum(direction > 0 for *_, direction in layout.lanes)
    if layout.place == "tunnel" or lanes_ahead < 2 or rng.random() > 0.12:
        return
    count = len(layout.borders)
    right = layout.ego + 2 < count and (layout.ego == count - lanes_ahead - 1 or rng.random() < 0.7)
    outer, inner = (count - 1, count - 2) if right else (0, 1)
    if not right and (len(layout.lanes) > lanes_ahead or layout.ego < 1):  # oncoming traffic beyond, or the own lane
        return
    if outer == inner or {outer, inner} == {layout.ego, layout.ego + 1}:
        return
    away = layout.borders[inner] - layout.borders[outer]  # metres from the outer border to the inner one
    start = float(rng.uniform(8, 60))
    length = float(rng.uniform(25, 80))
    bend = away / length**2
    if rng.random() < 0.6:
        _end_lane(layout, outer, inner, start, start + length, bend)
    else:
        _begin_lane(layout, outer, inner, start, start + length, -bend)


def _at(line: Line, offset: float) -> bool:
    return abs(line.offset - offset) < _SAME


def _cut(line: Line, first: float = 0.0, last: float = 1e9) -> Line:
    return replace(line, first=max(line.first, first), last=min(line.last, last))


def _end_lane(layout: Layout, outer: int, inner: int, start: float, end: float, bend: float) -> None:
    """The outer border bends inwards from `start` and takes the place of the inner one at `end` metres."""
    old = layout.borders[outer], layout.borders[inner]
    lines: list[Line] = []
    for line in layout.lines:
        if _at(line, old[0]):
            lines.append(_cut(replace(line, bend=bend, bend_from=start), last=end))
            lines.append(_cut(replace(line, offset=line.offset + old[1] - old[0]), first=end))
        else:
            lines.append(_cut(line, last=start + 0.7 * (end - start)) if _at(line, old[1]) else line)
    layout.lines = [line for line in lines if line.last > line.first]
    layout.turns[outer] = Turn(bend, start, end)
    layout.turns[inner] = Turn(last=start + 0.7 * (end - start))


def _begin_lane(layout: Layout, outer: int, inner: int, start: float, end: float, bend: float) -> None:
    """The outer border runs in the inner one's place up to `start` and is in its own from `end` metres on."""
    old = layout.borders[outer], layout.borders[inner]
    lines: list[Line] = []
    first = start + 0.7 * (end - start)
    for line in layout.lines:
        if _at(line, old[0]):
            near = replace(line, offset=line.offset + old[1] - old[0], bend=bend, bend_from=start)
            lines += [_cut(near, last=end), _cut(line, first=end)]
        else:
            lines.append(_cut(line, first=first) if _at(line, old[1]) else line)
    layout.lines = [line for line in lines if line.last > line.first]
    layout.turns[outer] = Turn(bend, start, end, shift=old[1] - old[0])
    layout.turns[inner] = Turn(first=first)


def _label_ramp(layout: Layout, ramp: Line) -> None:
    """The outer line of a ramp becomes the last border, up to where it leaves what is paved."""
    room = max(layout.right_edge - 0.3 - ramp.offset, 0.1)
    last = ramp.bend_from + float(np.sqrt(room / ramp.bend))
    layout.lines = [_cut(line, last=last) if line.bend > 0 and line.bend_from < 1e6 else line for line in layout.lines]
    layout.turns[len(layout.borders)] = Turn(ramp.bend, ramp.bend_from, last=last)
    layout.borders.append(ramp.offset)
