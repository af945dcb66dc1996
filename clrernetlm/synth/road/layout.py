"""Samples the lanes of a road, the lines between them and the ground beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np

from clrernetlm.core.arrays import BgrColour, Float64Array
from clrernetlm.synth.road.cross_section import GroundStrip, asphalt_strip, verge_strip
from clrernetlm.synth.road.markings import RoadLine

RoadType = Literal["highway", "urban", "rural", "tunnel"]
WHITE = (222.0, 226.0, 228.0)
YELLOW = (70.0, 176.0, 214.0)
# Metres painted and metres per period of broken lines in use around the world.
DASHES = ((6.0, 15.0), (6.0, 15.0), (2.0, 6.0), (4.0, 10.0), (3.05, 12.2), (3.0, 12.0), (4.0, 12.0), (6.0, 18.0))


@dataclass(frozen=True)
class BorderPath:
    """Describe how a border departs from its offset.

    It lies `shift` metres further right, then `bend` (1/m) times the square of the metres behind `start`, up to
    `end`; it exists between `first` and `last` metres ahead.
    """

    bend: float = 0.0
    start: float = 0.0
    end: float = 1e9
    first: float = 0.0
    last: float = 1e9
    shift: float = 0.0

    def offset(self, distance: Float64Array) -> Float64Array:
        """Return (N,) metres that the border lies right of its offset at `distance` (N,)."""
        behind = np.clip(distance, self.start, self.end) - self.start
        return self.shift + self.bend * behind * behind


@dataclass
class RoadLayout:
    """Hold a cross section of the road; offsets in metres from the camera, left to right.

    `lines` are all painted lines, `borders` the offsets of the lines between lanes (those that can be labelled),
    `ego_border` the index of the border left of the camera. `lanes` are (left, right, direction +1 away / -1
    oncoming).
    """

    road_type: RoadType
    lines: list[RoadLine] = field(default_factory=list)
    borders: list[float] = field(default_factory=list)
    ego_border: int = 0
    lanes: list[tuple[float, float, int]] = field(default_factory=list)
    strips: list[GroundStrip] = field(default_factory=list)
    left_edge: float = 0.0  # of the paved road, where barriers or kerbs may stand
    right_edge: float = 0.0
    median: float | None = None  # offset of a barrier between the directions
    parked: tuple[bool, bool] = (False, False)
    border_paths: dict[int, BorderPath] = field(default_factory=dict)  # by border: those that do not keep their offset


@dataclass(frozen=True)
class LanePlan:
    """Fix the number of `lanes`, their `width` (m) and the camera's place in them.

    `ego_lane` is the lane of the camera counted from the left, `drift` the metres right of its middle.
    """

    lanes: int
    width: float
    ego_lane: int
    drift: float


def _tinted(colour: np.ndarray) -> BgrColour:
    """Convert an array of blue, green, red to a colour."""
    b, g, r = (float(value) for value in colour)
    return b, g, r


def sample_layout(
    rng: np.random.Generator, road_type: RoadType, wear: float, strength: float, lane_plan: LanePlan | None = None
) -> RoadLayout:
    """Draw a road of a type; `wear` and `strength` set how well its paint is visible.

    A `lane_plan` fixes its lanes.
    """
    count = {"highway": (2, 6), "urban": (1, 5), "rural": (1, 2), "tunnel": (2, 4)}[road_type]
    low, high = {"highway": (3.4, 3.8), "urban": (2.9, 3.6), "rural": (2.8, 3.6), "tunnel": (3.3, 3.7)}[road_type]
    lanes, width = int(rng.integers(*count)), float(rng.uniform(low, high))
    if lane_plan is not None:
        lanes, width = lane_plan.lanes, lane_plan.width
    two_way = road_type == "rural" or (road_type == "urban" and (lanes == 1 or rng.random() < 0.55))
    ego_lane = int(rng.integers(lanes))
    drift = float(np.clip(rng.normal(0, 0.28), -0.8, 0.8))
    if rng.random() < 0.06:  # changing lanes
        drift = float(rng.uniform(-0.48, 0.48) * width)
    if lane_plan is not None:
        ego_lane, drift = lane_plan.ego_lane, lane_plan.drift
    start = -(ego_lane + 0.5) * width - drift
    layout = RoadLayout(road_type)
    forward = [start + k * width for k in range(lanes + 1)]

    dash, period = DASHES[int(rng.integers(len(DASHES)))]
    phase = float(rng.uniform(0, 100))
    thick = float(rng.uniform(0.1, 0.2))
    yellow = _tinted(np.asarray(YELLOW) * rng.uniform(0.85, 1.1, 3))
    white = _tinted(np.asarray(WHITE) * rng.uniform(0.86, 1.08) - (rng.uniform(0, 22), 4, 0))
    common = partial(RoadLine, width=thick, wear=wear, strength=strength)
    solid_inner = road_type == "tunnel" or rng.random() < 0.12

    def inner(offset: float) -> RoadLine:
        jitter = phase + float(rng.uniform(0, 1.2))
        if solid_inner and rng.random() < 0.8:
            return common(offset, colour=white)
        return common(offset, dash=dash, period=period, phase=jitter, colour=white)

    def edge(offset: float, colour: BgrColour, twin: float = 0.0, broken: bool = False) -> RoadLine:
        pattern = {"dash": dash, "period": period, "phase": phase} if broken else {}
        return common(offset, twin=twin, colour=colour, **pattern)

    oncoming: list[float] = []
    if two_way:
        many = 1 if road_type == "rural" else int(rng.integers(1, max(2, lanes + 1)))
        gap = 0.0
        style = rng.random()
        centre_colour = yellow if rng.random() < 0.7 else white
        if style < 0.45:
            layout.lines.append(edge(forward[0], centre_colour, twin=float(rng.uniform(0.25, 0.4))))
        elif style < 0.75:
            layout.lines.append(edge(forward[0], centre_colour))
        else:
            layout.lines.append(edge(forward[0], centre_colour, broken=True))
        oncoming = [forward[0] - gap - k * width for k in range(1, many + 1)]
        layout.lines += [inner(offset) for offset in oncoming[:-1]]
        layout.borders += oncoming[::-1]
        layout.lanes += [(offset, offset + width, -1) for offset in oncoming[::-1]]
        outer_left = oncoming[-1]
        if road_type == "urban" and rng.random() < 0.35:
            layout.borders.pop(0)  # only a kerb there, no line
        else:
            layout.lines.append(edge(outer_left, white))
    else:
        outer_left = forward[0]
        layout.lines.append(edge(outer_left, yellow if rng.random() < 0.4 else white))
    layout.ego_border = len(layout.borders) + ego_lane
    layout.borders += forward
    layout.lanes += [(a, b, 1) for a, b in pairwise(forward)]
    layout.lines += [inner(offset) for offset in forward[1:-1]]
    if lanes > 1 and ego_lane < lanes - 1 and road_type == "urban" and rng.random() < 0.25:
        layout.borders.pop()  # kerb without an edge line on the right
    elif road_type == "highway" and rng.random() < 0.25:  # an exit or a merging lane
        layout.lines.append(edge(forward[-1], white, broken=True))
        bend = float(rng.uniform(0.0004, 0.002))
        ramp = float(rng.uniform(3.0, 4.0))
        layout.lines.append(common(forward[-1] + ramp, colour=white, bend=bend, bend_from=float(rng.uniform(10, 60))))
        forward.append(forward[-1] + ramp)  # that line leads away, so it is not the border of a lane
    else:
        layout.lines.append(edge(forward[-1], white))
    _bound(layout, rng, outer_left, forward[-1], two_way)
    return layout


def _bound(layout: RoadLayout, rng: np.random.Generator, left: float, right: float, two_way: bool) -> None:
    """Asphalt, shoulders and verges; where the edges of the paved layout are."""
    road_type = layout.road_type
    concrete = rng.random() < (0.22 if road_type == "highway" else 0.08)
    grey = float(rng.uniform(118, 165) if concrete else rng.uniform(62, 122))
    tint = rng.normal(0, 2.5, 3) + ((-7, 0, 6) if concrete else (2, 0, -1))
    base = _tinted(grey + tint)
    grain = float(rng.uniform(0.03, 0.1))
    mottle = float(rng.uniform(0.02, 0.08))
    shoulder = {"highway": (0.6, 3.2), "urban": (0.2, 1.0), "rural": (0.1, 1.2), "tunnel": (0.3, 0.9)}[road_type]
    room = [float(rng.uniform(*shoulder)) for _ in range(2)]
    if road_type == "urban":  # room for parked cars
        layout.parked = (two_way and bool(rng.random() < 0.4), bool(rng.random() < 0.4))
        room = [r + 2.2 * parked for r, parked in zip(room, layout.parked, strict=True)]
    if not two_way:
        room[0] = float(rng.uniform(0.3, 1.0))
    layout.left_edge, layout.right_edge = left - room[0], right + room[1]
    kinds = {
        "highway": ["grass", "dry", "soil", "grass"],
        "urban": ["pavement", "pavement", "pavement", "grass", "snow"],
        "rural": ["grass", "grass", "dry", "soil", "snow"],
        "tunnel": ["pavement"],
    }[road_type]
    sides = [kinds[int(rng.integers(len(kinds)))] for _ in range(2)]
    if "snow" in sides or rng.random() < 0.6:
        sides = [min(sides, key=lambda kind: kind != "snow")] * 2
    far_kind = "grass" if sides[0] == "pavement" else sides[0]
    strips = [verge_strip(-60, far_kind, rng)]
    kerb = (150.0, 152.0, 154.0)
    walk = float(rng.uniform(2, 6))
    if sides[0] == "pavement":
        strips += [verge_strip(layout.left_edge - walk, "pavement", rng), GroundStrip(layout.left_edge - 0.3, kerb)]
    else:
        strips += [
            GroundStrip(layout.left_edge - float(rng.uniform(0.1, 0.6)), (92.0, 104.0, 110.0), 0.12, 0.1, 0.12, 0, 0.2)
        ]
    if not two_way and road_type in ("highway", "urban") and rng.random() < 0.7:  # the other carriageway
        layout.median = layout.left_edge
        strip = float(rng.uniform(0.6, 5.0))
        other = asphalt_strip(layout.left_edge - strip - 12, base, grain, mottle)
        strips = [verge_strip(-60, far_kind, rng), other, verge_strip(layout.left_edge - strip, far_kind, rng)]
        first = layout.left_edge - strip - 0.6
        layout.lanes = [(first - 3.6 * k - 3.6, first - 3.6 * k, -1) for k in range(3)][::-1] + layout.lanes
        layout.lines += [
            RoadLine(first, wear=1.0),
            RoadLine(first - 3.6, dash=6, period=15, wear=1.0),
            RoadLine(first - 10.8, wear=1),
        ]
    strips.append(asphalt_strip(layout.left_edge, base, grain, mottle))
    if room[1] > 0.8 and rng.random() < 0.4:  # the shoulder was paved another year
        shade = float(rng.uniform(0.8, 1.15))
        strips.append(asphalt_strip(right + 0.25, _tinted(shade * np.asarray(base)), grain * 1.3, mottle))
    if sides[1] == "pavement":
        strips += [GroundStrip(layout.right_edge, kerb), verge_strip(layout.right_edge + 0.3, "pavement", rng)]
        strips.append(verge_strip(layout.right_edge + walk, "grass", rng))
    else:
        strips.append(GroundStrip(layout.right_edge, (92.0, 104.0, 110.0), 0.12, 0.1, 0.12, 0, 0.2))
        strips.append(verge_strip(layout.right_edge + float(rng.uniform(0.1, 0.6)), sides[1], rng))
    layout.strips = strips
