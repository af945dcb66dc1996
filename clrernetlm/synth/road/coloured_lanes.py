"""Colours lanes for buses and bicycles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.core.arrays import BgrColour
from clrernetlm.synth.road.cross_section import GroundStrip
from clrernetlm.synth.road.layout import RoadLayout, RoadType

# Share of roads with a coloured lane.
COLOURED_LANES: dict[RoadType, float] = {"highway": 0.05, "urban": 0.17, "rural": 0.05, "tunnel": 0.0}
# Colours relative to the grey of the pavement: red, terracotta, green, blue, buff.
_TINTS: tuple[BgrColour, ...] = (
    (0.5, 0.5, 1.15),
    (0.6, 0.75, 1.2),
    (0.65, 1.1, 0.6),
    (1.35, 0.9, 0.55),
    (0.6, 1.0, 1.2),
)


def colour_lane(rng: np.random.Generator, layout: RoadLayout) -> None:
    """Colour one lane, or the outer part of an outer lane, of some layouts in place; lines and labels stay."""
    if rng.random() >= COLOURED_LANES[layout.road_type]:
        return
    lanes = [lane for lane in layout.lanes if lane[0] > layout.left_edge - 0.1 and lane[1] < layout.right_edge + 0.1]
    if not lanes:
        return
    number = (0, -1, int(rng.integers(len(lanes))))[int(rng.choice(3, p=[0.25, 0.45, 0.3]))]
    left, right, _ = lanes[number]
    if rng.random() < 0.3:  # a lane for bicycles
        width = float(rng.uniform(1.1, 1.8))
        left, right = (left, left + width) if number == 0 else (right - width, right)
    inset = float(rng.choice([0.0, 0.15, 0.3]))
    tint = np.asarray(_TINTS[int(rng.integers(len(_TINTS)))]) ** float(rng.uniform(0.35, 1.1))
    b, g, r = (float(v) for v in np.clip(np.asarray(layout.own_pavement.colour) * tint, 5, 235))
    colour: BgrColour = (b, g, r)
    layout.strips = lay_strip(layout.strips, left + inset, right - inset, colour)


def lay_strip(strips: list[GroundStrip], left: float, right: float, colour: BgrColour) -> list[GroundStrip]:
    """Return `strips` with another colour between two offsets in metres; the materials stay."""
    ordered = sorted(strips, key=lambda strip: strip.left)
    under = [strip for strip in ordered if strip.left <= left] or ordered[:1]
    beyond = [strip for strip in ordered if strip.left <= right] or ordered[:1]
    painted = [replace(strip, colour=colour) if left < strip.left < right else strip for strip in ordered]
    return [*painted, replace(under[-1], left=left, colour=colour), replace(beyond[-1], left=right)]
