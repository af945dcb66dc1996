"""Repaints lanes for roadworks: temporary lines beside the old ones, and beacons or barriers along a closed lane."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from clrernetlm.core.arrays import BgrColour
from clrernetlm.synth.environment.roadside_objects import BarrierSegment, Pole, SceneObject
from clrernetlm.synth.road.layout import RoadLayout
from clrernetlm.synth.road.markings import RoadLine

ROADWORKS_SHARE = 0.07  # of randomized roads
_DASHES = ((1.0, 3.0), (1.0, 5.0), (2.0, 6.0), (3.0, 9.0))  # metres painted and metres per period of temporary lines
_LEAST_DASH = 0.2  # metres; shorter pieces are studs
_LEAST_BRIGHTNESS = 100.0  # display value; darker lines are outlines


@dataclass(frozen=True)
class Roadworks:
    """What roadworks add to a road besides its temporary lines, which are those of the layout.

    `old_lines` are visible but guide nobody. `closed` are the offsets in metres between which no car drives.
    """

    old_lines: list[RoadLine] = field(default_factory=list)
    objects: list[SceneObject] = field(default_factory=list)
    closed: tuple[float, float] = (0.0, 0.0)


def add_roadworks(rng: np.random.Generator, layout: RoadLayout) -> Roadworks:
    """Repaint all lines of the own carriageway of `layout` in place, and return old lines and beacons.

    The temporary lines lie at the borders of the layout; the old lines lie beside them, and some cross them.
    """
    colour, solid = _sample_temporary_colour(rng), rng.random() < 0.4
    dash, period = _DASHES[int(rng.integers(len(_DASHES)))]
    width, strength = float(rng.uniform(0.09, 0.2)), float(rng.uniform(0.75, 1.0))
    wear = float(rng.uniform(-0.4, 0.8))
    shift = float(rng.choice([-1, 1])) * float(rng.uniform(0.55, 1.4))
    bend, bend_from = (float(rng.normal(0, 0.0015)), float(rng.uniform(5, 35))) if rng.random() < 0.3 else (0.0, 1e9)
    ghost = float(rng.uniform(0.25, 0.95))  # strength that the old lines have left
    kept: list[RoadLine] = []
    temporary: list[RoadLine] = []
    old: list[RoadLine] = []
    for line in layout.lines:
        if not layout.left_edge <= line.offset <= layout.right_edge:
            kept.append(line)
            continue
        moved = line.offset + shift
        if layout.left_edge + 0.1 < moved < layout.right_edge - 0.1:
            faded = replace(line, offset=moved, strength=line.strength * ghost)
            old.append(faded if line.bend else replace(faded, bend=bend, bend_from=bend_from))
        if line.dash < _LEAST_DASH or max(line.colour) < _LEAST_BRIGHTNESS:
            continue
        outer = line.dash >= line.period
        pattern = (1.0, 1.0) if solid or outer else (dash, period)
        temporary.append(
            replace(
                line,
                colour=colour,
                width=width,
                dash=pattern[0],
                period=pattern[1],
                strength=strength,
                wear=wear,
                twin=0.0,
            )
        )
    layout.lines = kept + temporary
    objects, closed = _close_lane(rng, layout)
    return Roadworks(old, objects, closed)


def _sample_temporary_colour(rng: np.random.Generator) -> BgrColour:
    """Sample the paint of temporary lines: orange, yellow or white."""
    kind, brightness = rng.random(), float(rng.uniform(0.85, 1.08))
    if kind < 0.5:
        return float(rng.uniform(15, 60)), float(rng.uniform(75, 100)) * brightness, 228 * brightness
    if kind < 0.9:
        return float(rng.uniform(20, 80)), 178 * brightness, 218 * brightness
    return 222 * brightness, 226 * brightness, 226 * brightness


def _close_lane(rng: np.random.Generator, layout: RoadLayout) -> tuple[list[SceneObject], tuple[float, float]]:
    """Place a row of beacons or a barrier on one side of the own lane; return also the offsets of the closed lanes."""
    if rng.random() < 0.3:
        return [], (0.0, 0.0)
    right = bool(rng.random() < 0.5)
    border = layout.borders[min(layout.ego_border + right, len(layout.borders) - 1)]
    side = 1 if right else -1
    offset = border + side * float(rng.uniform(0.35, 0.9))
    closed = (offset, layout.right_edge) if right else (layout.left_edge, offset)
    if rng.random() < 0.35:
        return _temporary_barrier(rng, offset), closed
    height, width = float(rng.uniform(0.6, 1.1)), float(rng.uniform(0.12, 0.3))
    colour = ((40.0, 95.0, 225.0), (50.0, 60.0, 205.0), (215.0, 218.0, 220.0))[int(rng.integers(3))]
    distances = np.arange(float(rng.uniform(3, 14)), 110.0, float(rng.uniform(3.5, 14)))
    beacons: list[SceneObject] = [Pole(offset, float(z), height, width, colour=colour) for z in distances]
    return beacons, closed


def _temporary_barrier(rng: np.random.Generator, offset: float) -> list[SceneObject]:
    """Place movable walls of concrete, or of red and white plastic, along an offset."""
    plastic = rng.random() < 0.4
    grey = float(rng.uniform(140, 205))
    ends = np.concatenate([np.arange(float(rng.uniform(2, 10)), 50.0, 4.0), np.geomspace(54, 180, 6)])
    red: BgrColour = (50.0, 55.0, 190.0)
    pale: BgrColour = (grey, grey, grey)
    bands = ((0.0, 0.3, 0.75), (0.3, 1.0, 1.0))
    return [
        BarrierSegment(offset, float(near), float(far), 0.0, 0.8, red if plastic and k % 2 else pale, bands)
        for k, (near, far) in enumerate(pairwise(ends))
    ]
