"""Finds the type and colour of labelled lines: what is painted along them and can be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from clrernetlm.core.arrays import BgrColour, Float64Array
from clrernetlm.core.lane_attributes import LaneColour, LaneType
from clrernetlm.synth.road.cross_section import profile_offsets
from clrernetlm.synth.road.ground_map import GroundMap
from clrernetlm.synth.road.layout import BorderPath, RoadLayout
from clrernetlm.synth.road.markings import RoadLine

# `paint_contrast` from which a line counts as painted, judged by eye: below it only specks are left in the image.
LEAST_CONTRAST = 0.14
LEAST_PAINTED = 0.12  # share of a label's points that must have paint; less is what a removed line has left

_BESIDE = 0.35  # metres from the label within which strokes belong to its line
_ASIDE = 0.06  # metres from the label from which a stroke lies left or right of it
_LEAST_GAP = 0.04  # metres between two strokes; closer ones look like one
_DOT_LENGTH = 0.15  # metres of paint up to which a piece is a dot
_LEAST_DOTS = 0.2  # per metre of a line of dots; single studs farther apart are no line
_DARK = 100.0  # display value of the brightest channel below which paint is the dark outline around a line
_YELLOWNESS = 70.0  # display value by which yellow paint has more red than blue
_LEAST_GREEN = 0.5  # of the red that yellow paint has in green; orange paint has less
_LEAST_TONE = 30.0  # display value of the darkest pavement
_TYPICAL_WIDTH = 0.12  # metres
_MOST_WIDTH = 1.5  # typical widths up to which a wider line is seen better
_LANE_STEP = 0.5  # metres beside a line at which a lane is looked for
_NOISE_DEVIATION = 1.37  # of the noise by which paint wears off in `ground_kernels`


def line_attributes(
    layout: RoadLayout, border: int, distances: Float64Array, ground_map: GroundMap | None = None
) -> tuple[LaneType, LaneColour]:
    """Return type and colour of the line of a border, labelled at (N,) `distances` in metres ahead.

    A line without visible paint is an `edge` at the edge of the road, and `unknown` between lanes; its colour is
    unknown. Where a line changes along the road, the type at most of its points counts.
    """
    path = layout.border_paths.get(border, BorderPath())
    middle = layout.borders[border] + path.offset(distances)
    near, far = distances.min() - 1, distances.max() + 1
    strokes = [
        (line, offset)
        for line in layout.lines
        for offset in line.stroke_offsets()
        if line.last > near and line.first < far and np.abs(offset + _bend(line, distances) - middle).min() < _BESIDE
    ]
    strokes = [(line, offset) for line, offset in strokes if paint_contrast(line, layout, ground_map) >= LEAST_CONTRAST]
    types: Counter[LaneType] = Counter()
    colours: Counter[LaneColour] = Counter()
    if strokes:
        # (S, N): metres right of the label, and whether the stroke lies beside it there.
        aside = np.stack([offset + _bend(line, distances) - middle for line, offset in strokes])
        beside = np.abs(aside) < _BESIDE
        for row, (line, _) in zip(beside, strokes, strict=True):
            row &= (distances >= line.first) & (distances <= line.last)
            colours[_colour(line.colour)] += int(row.sum())
        patterns = [column.tobytes() for column in beside.T]
        for pattern, count in Counter(patterns).items():
            chosen = np.flatnonzero(np.frombuffer(pattern, bool))
            if len(chosen):
                here = patterns.index(pattern)  # strokes change their distance from the label slowly, if at all
                kind = _type([strokes[i][0] for i in chosen], aside[chosen, here])
                types.update({} if kind is None else {kind: count})
    if sum(types.values()) < max(1, LEAST_PAINTED * len(distances)):
        return ("edge" if _is_road_edge(layout, border) else "unknown"), "unknown"
    return types.most_common(1)[0][0], colours.most_common(1)[0][0]


def paint_contrast(line: RoadLine, layout: RoadLayout, ground_map: GroundMap | None = None) -> float:
    """Return the mean difference of a painted piece of a line from the pavement, as a share of the pavement's tone.

    Wear, and snow over the line (`ground_map`), are counted, light is not. Wide lines count more than narrow ones.
    Zero for the dark outline of a line.
    """
    if max(line.colour) < _DARK:
        return 0.0
    strip = max((s for s in layout.strips if s.left <= line.offset), key=lambda s: s.left, default=layout.strips[0])
    pavement, cover = np.asarray(strip.colour), 0.0
    if ground_map is not None:
        pavement = pavement * np.interp(line.offset, profile_offsets(), ground_map.across)
        cover = ground_map.mean_cover(line.offset)
    difference = float(np.abs(np.asarray(line.colour) - pavement).max()) / max(float(pavement.max()), _LEAST_TONE)
    width = min(line.width / _TYPICAL_WIDTH, _MOST_WIDTH)
    return difference * width * line.strength * _unworn(round(line.wear, 2)) * (1 - cover)


@lru_cache(1024)
def _unworn(wear: float) -> float:
    """Return the mean share of paint that is left at a `wear`, as `ground_kernels` wears it off."""
    noise = _NOISE_DEVIATION * np.linspace(-2.5, 2.5, 101)
    weights = np.exp(-0.5 * np.square(noise / _NOISE_DEVIATION))
    left = np.clip((noise + 2.2 - wear) * 0.8 + 0.15, 0.04, 1)
    return float((left * weights).sum() / weights.sum())


def _bend(line: RoadLine, distances: Float64Array) -> Float64Array:
    """Return (N,) metres that a line lies right of its offset."""
    return line.bend * np.square(np.maximum(distances - line.bend_from, 0))


def _type(lines: Sequence[RoadLine], places: Float64Array) -> LaneType | None:
    """Return the type of strokes that lie (S,) metres right of a label; None for a few studs alone."""
    strokes = [
        (place, line.width, line.dash < line.period)
        for line, place in zip(lines, places.tolist(), strict=True)
        if not _is_dots(line)
    ]
    if not strokes:
        return "dots" if sum(1 / line.period for line in lines) >= _LEAST_DOTS else None
    left = [stroke for stroke in strokes if stroke[0] < -_ASIDE]
    right = [stroke for stroke in strokes if stroke[0] > _ASIDE]
    if left and right:
        (at_left, left_width, _), (at_right, right_width, _) = max(left), min(right)
        if at_right - at_left - (left_width + right_width) / 2 >= _LEAST_GAP:
            broken = all(stroke[2] for stroke in left), all(stroke[2] for stroke in right)
            pairs: dict[tuple[bool, bool], LaneType] = {
                (False, False): "double-solid",
                (True, True): "double-dashed",
                (False, True): "solid-dashed",
                (True, False): "dashed-solid",
            }
            return pairs[broken]
    return "dashed" if all(broken for *_, broken in strokes) else "solid"


def _is_dots(line: RoadLine) -> bool:
    """Test whether a line consists of dots or studs."""
    return line.dash < line.period and line.dash <= _DOT_LENGTH


def _colour(colour: BgrColour) -> LaneColour:
    """Name the colour of paint; orange, red, blue and green are `other`."""
    blue, green, red = colour
    if max(colour) - min(colour) <= _YELLOWNESS:
        return "white"
    yellow = red - blue > _YELLOWNESS and green - blue > _YELLOWNESS / 2 and green >= _LEAST_GREEN * red
    return "yellow" if yellow else "other"


def _is_road_edge(layout: RoadLayout, border: int) -> bool:
    """Test whether no lane of the own carriageway lies on one side of a border."""
    offset = layout.borders[border]
    lanes = [lane for lane in layout.lanes if lane[1] > layout.left_edge and lane[0] < layout.right_edge]
    beside = [any(left < offset + step < right for left, right, _ in lanes) for step in (-_LANE_STEP, _LANE_STEP)]
    return not all(beside)
