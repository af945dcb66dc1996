"""Samples the lanes of a road, the lines between them and the ground beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import BgrColour, Float64Array
from clrernetlm.synth.road.cross_section import GroundStrip, asphalt_strip, verge_strip
from clrernetlm.synth.road.markings import Decal, RoadLine

RoadType = Literal["highway", "urban", "rural", "tunnel"]
WHITE = (222.0, 226.0, 228.0)
YELLOW = (70.0, 176.0, 214.0)
# Metres painted and metres per period of broken lines in use around the world.
DASHES = ((6.0, 15.0), (6.0, 15.0), (2.0, 6.0), (4.0, 10.0), (3.05, 12.2), (3.0, 12.0), (4.0, 12.0), (6.0, 18.0))


@dataclass(frozen=True)
class BorderPath:
    """The departure of a border from its offset.

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


@dataclass(frozen=True)
class RoadFork:
    """A fork: everything beyond `offset` on one `side` (-1 left, 1 right) departs from the road.

    It moves by `bend` (1/m) times the square of the metres behind `start`. Between the branches, within `paved` metres
    of either, the ground is that at `offset`; further away it is that at the offset `verge`.
    """

    offset: float
    side: int
    bend: float
    start: float
    paved: float
    verge: float

    def shift(self, offset: ArrayLike, distance: ArrayLike) -> Float64Array:
        """Return (...) metres to the right by which ground at offsets and distances (...) has moved."""
        behind = np.maximum(np.asarray(distance, np.float64) - self.start, 0.0)
        beyond = (np.asarray(offset, np.float64) - self.offset) * self.side > 0
        return np.where(beyond, self.bend * behind * behind, 0.0)

    def bend_line(self, line: RoadLine) -> RoadLine:
        """Return a line that departs with its branch; lines of the road, and those that bend already, unchanged."""
        if line.bend or (line.offset - self.offset) * self.side <= 0:
            return line
        return replace(line, bend=self.bend, bend_from=self.start)


@dataclass
class RoadLayout:
    """A cross section of the road; offsets in metres from the camera, left to right.

    `lines` are all painted lines, `borders` the offsets of the lines between lanes (those that can be labelled),
    `ego_border` the index of the border left of the camera. `lanes` are (left, right, direction +1 away / -1
    oncoming). `decals` are paint that belongs to the layout, such as hatched areas. `left_hand`: cars drive left.
    Offsets of what lies beyond a `fork` are those before it.
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
    decals: list[Decal] = field(default_factory=list)
    left_hand: bool = False
    fork: RoadFork | None = None

    @property
    def own_pavement(self) -> GroundStrip:
        """Return the strip of ground under the camera."""
        return max((strip for strip in self.strips if strip.left < 0), key=lambda strip: strip.left)


@dataclass(frozen=True)
class LanePlan:
    """The number of `lanes`, their `width` (m) and the camera's position in them.

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


@dataclass(frozen=True)
class _LineStyle:
    """The common style of the lines of one road; `rng` draws the phase of each line."""

    rng: np.random.Generator
    width: float
    dash: float
    period: float
    phase: float
    yellow: BgrColour
    white: BgrColour
    wear: float
    strength: float
    solid_inner: bool

    def line(
        self, offset: float, colour: BgrColour, twin: float = 0.0, bend: float = 0.0, bend_from: float = 1e9
    ) -> RoadLine:
        """Return a solid line."""
        return RoadLine(
            offset,
            width=self.width,
            wear=self.wear,
            strength=self.strength,
            colour=colour,
            twin=twin,
            bend=bend,
            bend_from=bend_from,
        )

    def broken(self, offset: float, colour: BgrColour, phase: float) -> RoadLine:
        """Return a broken line."""
        return replace(self.line(offset, colour), dash=self.dash, period=self.period, phase=phase)

    def inner(self, offset: float) -> RoadLine:
        """Sample a line between two lanes of the same direction: mostly broken."""
        phase = self.phase + float(self.rng.uniform(0, 1.2))
        if self.solid_inner and self.rng.random() < 0.8:
            return self.line(offset, self.white)
        return self.broken(offset, self.white, phase)


def _sample_line_style(rng: np.random.Generator, solid: bool, wear: float, strength: float) -> _LineStyle:
    """Sample the pattern and colours of the lines of one road; `solid` forces solid lines between lanes."""
    dash, period = DASHES[int(rng.integers(len(DASHES)))]
    phase = float(rng.uniform(0, 100))
    width = float(rng.uniform(0.1, 0.2))
    yellow = _tinted(np.asarray(YELLOW) * rng.uniform(0.85, 1.1, 3))
    white = _tinted(np.asarray(WHITE) * rng.uniform(0.86, 1.08) - (rng.uniform(0, 22), 4, 0))
    solid_inner = solid or bool(rng.random() < 0.12)
    return _LineStyle(rng, width, dash, period, phase, yellow, white, wear, strength, solid_inner)


def sample_layout(
    rng: np.random.Generator, road_type: RoadType, wear: float, strength: float, lane_plan: LanePlan | None = None
) -> RoadLayout:
    """Sample a road of a type; `wear` and `strength` set how well its paint is visible.

    A `lane_plan` fixes its lanes.
    """
    count = {"highway": (2, 6), "urban": (1, 5), "rural": (1, 2), "tunnel": (2, 4)}[road_type]
    low, high = {"highway": (3.4, 3.8), "urban": (2.9, 3.6), "rural": (2.8, 3.6), "tunnel": (3.3, 3.7)}[road_type]
    lanes, width = int(rng.integers(*count)), float(rng.uniform(low, high))
    if lane_plan is not None:
        lanes, width = lane_plan.lanes, lane_plan.width
    two_way = road_type == "rural" or (road_type == "urban" and (lanes == 1 or bool(rng.random() < 0.55)))
    ego_lane = int(rng.integers(lanes))
    drift = float(np.clip(rng.normal(0, 0.28), -0.8, 0.8))
    if rng.random() < 0.06:  # changing lanes
        drift = float(rng.uniform(-0.48, 0.48) * width)
    if lane_plan is not None:
        ego_lane, drift = lane_plan.ego_lane, lane_plan.drift
    start = -(ego_lane + 0.5) * width - drift
    layout = RoadLayout(road_type)
    forward = [start + k * width for k in range(lanes + 1)]
    style = _sample_line_style(rng, road_type == "tunnel", wear, strength)
    if two_way:
        left = _add_oncoming_lanes(layout, rng, style, forward[0], width, lanes)
    else:
        left = forward[0]
        layout.lines.append(style.line(left, style.yellow if rng.random() < 0.4 else style.white))
    layout.ego_border = len(layout.borders) + ego_lane
    layout.borders += forward
    layout.lanes += [(a, b, 1) for a, b in pairwise(forward)]
    layout.lines += [style.inner(offset) for offset in forward[1:-1]]
    right = _add_right_edge(layout, rng, style, forward[-1], ego_lane < lanes - 1)
    _add_ground_strips(layout, rng, left, right, two_way)
    return layout


def _add_oncoming_lanes(
    layout: RoadLayout, rng: np.random.Generator, style: _LineStyle, centre: float, width: float, lanes: int
) -> float:
    """Add the centre line and the lanes of oncoming traffic; return the offset of their outer edge.

    `centre` is the offset of the centre line, `lanes` the number of lanes in the own direction.
    """
    count = 1 if layout.road_type == "rural" else int(rng.integers(1, max(2, lanes + 1)))
    kind = rng.random()
    colour = style.yellow if rng.random() < 0.7 else style.white
    if kind < 0.45:
        layout.lines.append(style.line(centre, colour, twin=float(rng.uniform(0.25, 0.4))))
    elif kind < 0.75:
        layout.lines.append(style.line(centre, colour))
    else:
        layout.lines.append(style.broken(centre, colour, style.phase))
    offsets = [centre - k * width for k in range(1, count + 1)]
    layout.lines += [style.inner(offset) for offset in offsets[:-1]]
    layout.borders += offsets[::-1]
    layout.lanes += [(offset, offset + width, -1) for offset in offsets[::-1]]
    if layout.road_type == "urban" and rng.random() < 0.35:
        layout.borders.pop(0)  # only a kerb there, no line
    else:
        layout.lines.append(style.line(offsets[-1], style.white))
    return offsets[-1]


def _add_right_edge(
    layout: RoadLayout, rng: np.random.Generator, style: _LineStyle, offset: float, lane_on_the_right: bool
) -> float:
    """Add the right edge line, a kerb without a line, or a ramp; return the offset of the rightmost line.

    `lane_on_the_right`: the camera is not in the rightmost lane.
    """
    if lane_on_the_right and layout.road_type == "urban" and rng.random() < 0.25:
        layout.borders.pop()  # kerb without an edge line on the right
        return offset
    if layout.road_type == "highway" and rng.random() < 0.25:  # an exit or a merging lane
        layout.lines.append(style.broken(offset, style.white, style.phase))
        bend = float(rng.uniform(0.0004, 0.002))
        ramp = offset + float(rng.uniform(3.0, 4.0))  # leads away, so it is not the border of a lane
        layout.lines.append(style.line(ramp, style.white, bend=bend, bend_from=float(rng.uniform(10, 60))))
        return ramp
    layout.lines.append(style.line(offset, style.white))
    return offset


def _add_ground_strips(layout: RoadLayout, rng: np.random.Generator, left: float, right: float, two_way: bool) -> None:
    """Add asphalt, shoulders and verges, and set the edges of the paved road.

    `left` and `right` are the offsets of the outermost lines.
    """
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
        width = float(rng.uniform(0.6, 5.0))
        other = asphalt_strip(layout.left_edge - width - 12, base, grain, mottle)
        strips = [verge_strip(-60, far_kind, rng), other, verge_strip(layout.left_edge - width, far_kind, rng)]
        _add_other_carriageway(layout, width)
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


def _add_other_carriageway(layout: RoadLayout, width: float) -> None:
    """Add a barrier on the left edge and three oncoming lanes beyond a median `width` metres wide."""
    layout.median = layout.left_edge
    first = layout.left_edge - width - 0.6
    layout.lanes = [(first - 3.6 * k - 3.6, first - 3.6 * k, -1) for k in range(3)][::-1] + layout.lanes
    layout.lines += [
        RoadLine(first, wear=1.0),
        RoadLine(first - 3.6, dash=6, period=15, wear=1.0),
        RoadLine(first - 10.8, wear=1),
    ]
