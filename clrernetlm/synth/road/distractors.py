"""Samples features that resemble lane lines but are none; nothing made here is ever labelled."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clrernetlm.synth.road.ground_map import GroundMap, blank, stroke
from clrernetlm.synth.road.layout import RoadLayout, RoadType
from clrernetlm.synth.road.markings import Decal, RoadLine, arrow, chevrons, lettering, rectangle, stop_line, zebra

# Chance that an edge of the road looks like a line.
_KERB_LINES: dict[RoadType, float] = {"highway": 0.12, "urban": 0.4, "rural": 0.12, "tunnel": 0.15}
_KERB_ROOM = 0.75  # metres from a border from which a kerb is not mistaken for its line


@dataclass
class Distractors:
    """Lines and polygons on the road besides its markings."""

    lines: list[RoadLine] = field(default_factory=list)
    decals: list[Decal] = field(default_factory=list)


def sample_distractors(
    rng: np.random.Generator, layout: RoadLayout, ground_map: GroundMap, grey: float, sunny: int, faint: bool
) -> Distractors:
    """Sample distractors for a road; skid marks, sealed cracks and pavement edges go to `ground_map`.

    `grey` is the display value of the pavement, `sunny` the depth 0..255 of shadows; `faint` keeps all distractors
    weak.
    """
    distractors = Distractors()
    opacity = 0.4 if faint else 1.0
    lanes = [(left, right) for left, right, _ in layout.lanes if right > -14 and left < 14]
    if rng.random() < 0.45:
        distractors.lines += _seams(rng, lanes, grey, opacity)
    if rng.random() < 0.3:
        # Removed lines are fainter than present ones.
        typical_strength = float(np.median([line.strength for line in layout.lines]))
        distractors.lines += _removed_markings(
            rng, lanes, grey, opacity * float(np.clip(typical_strength / 0.7, 0.3, 1))
        )
    if rng.random() < 0.25:
        _skid_marks(rng, lanes, ground_map)
    if rng.random() < 0.18:
        _sealed_cracks(rng, lanes, ground_map)
    if rng.random() < 0.15:
        _pavement_edge(rng, lanes, ground_map)
    distractors.lines += _kerb_lines(rng, layout, opacity)
    if layout.road_type == "urban":
        distractors.decals += _street_markings(rng, layout, lanes)
        if rng.random() < 0.06:
            distractors.lines += _tram_rails(rng, lanes)
        if rng.random() < 0.3:
            distractors.decals += _parking_bays(rng, layout)
    elif layout.road_type == "highway" and rng.random() < 0.12:
        distractors.decals.append(_hatched_area(rng, layout))
    if sunny > 110:
        distractors.decals += _cable_shadows(rng, layout, sunny)
    return distractors


def _offset_inside_lane(lanes: list[tuple[float, float]], rng: np.random.Generator, margin: float = 0.55) -> float:
    """Sample an offset inside a lane, `margin` metres away from its lines."""
    left, right = lanes[int(rng.integers(len(lanes)))]
    return float(rng.uniform(left + margin, max(right - margin, left + margin + 0.01)))


def _seams(rng: np.random.Generator, lanes: list[tuple[float, float]], grey: float, opacity: float) -> list[RoadLine]:
    """Sample longitudinal joints and tar seams inside the lanes."""
    lines = []
    for _ in range(int(rng.integers(1, 4))):
        tone = grey * float(rng.uniform(0.15, 0.7))
        first = float(rng.uniform(0, 40)) if rng.random() < 0.4 else 0.0
        last = first + float(rng.uniform(10, 60)) if rng.random() < 0.4 else 1e9
        lines.append(
            RoadLine(
                _offset_inside_lane(lanes, rng),
                float(rng.uniform(0.02, 0.12)),
                colour=(tone, tone, tone),
                strength=float(rng.uniform(0.3, 0.95)) * opacity,
                wear=float(rng.uniform(0.2, 2.2)),
                first=first,
                last=last,
                bend=float(rng.normal(0, 0.0002)) if rng.random() < 0.3 else 0.0,
                bend_from=first,
            )
        )
    return lines


def _removed_markings(
    rng: np.random.Generator, lanes: list[tuple[float, float]], grey: float, opacity: float
) -> list[RoadLine]:
    """Sample the remains of removed markings: ground-off stripes paler or darker than the road, dashed or solid."""
    lines = []
    for _ in range(int(rng.integers(1, 4))):
        tone = float(
            np.clip(grey * (rng.uniform(1.15, 1.5) if rng.random() < 0.6 else rng.uniform(0.5, 0.85)), 15, 235)
        )
        broken = rng.random() < 0.6
        lines.append(
            RoadLine(
                _offset_inside_lane(lanes, rng),
                float(rng.uniform(0.1, 0.3)),
                dash=float(rng.uniform(2, 6)) if broken else 1.0,
                period=float(rng.uniform(7, 15)) if broken else 1.0,
                phase=float(rng.uniform(0, 15)),
                colour=(tone, tone, tone * 1.02),
                strength=float(rng.uniform(0.15, 0.6)) * opacity,
                wear=float(rng.uniform(0.8, 2.4)),
                bend=float(rng.normal(0, 0.0006)) if rng.random() < 0.4 else 0.0,
                bend_from=float(rng.uniform(0, 20)),
            )
        )
    return lines


def _skid_marks(rng: np.random.Generator, lanes: list[tuple[float, float]], ground_map: GroundMap) -> None:
    """Add black marks of braking tyres, in pairs, straight or swerving."""
    mask = blank()
    for _ in range(int(rng.integers(1, 4))):
        near, length = float(rng.uniform(3, 40)), float(rng.uniform(4, 22))
        z = np.linspace(near, near + length, 12)
        u = _offset_inside_lane(lanes, rng) + rng.normal(0, 0.03) * (z - near) + rng.normal(0, 0.004) * (z - near) ** 2
        for side in (-0.75, 0.75) if rng.random() < 0.7 else (0.0,):
            stroke(mask, u + side, z, float(rng.uniform(0.1, 0.25)), int(rng.uniform(120, 255)))
    ground_map.darken(mask, float(rng.uniform(0.15, 0.6)))


def _sealed_cracks(rng: np.random.Generator, lanes: list[tuple[float, float]], ground_map: GroundMap) -> None:
    """Add sealed cracks along the lanes, nearly straight."""
    mask = blank()
    for _ in range(int(rng.integers(1, 5))):
        z = np.arange(float(rng.uniform(1, 20)), 62, 1.3)
        u = _offset_inside_lane(lanes, rng) + np.cumsum(rng.normal(0, 0.07, len(z)))
        stroke(mask, u, z, float(rng.uniform(0.05, 0.12)))
    ground_map.darken(mask, float(rng.uniform(0.3, 0.8)))


def _pavement_edge(rng: np.random.Generator, lanes: list[tuple[float, float]], ground_map: GroundMap) -> None:
    """Add an edge between two tones of pavement, inside a lane."""
    edge = _offset_inside_lane(lanes, rng)
    reach = float(rng.uniform(1.5, 10)) * float(rng.choice([-1, 1]))
    near = 0.0 if rng.random() < 0.6 else float(rng.uniform(4, 30))
    tone = float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.06, 0.3)))
    ground_map.scale(min(edge, edge + reach), max(edge, edge + reach), near, 64, tone)


def _kerb_lines(rng: np.random.Generator, layout: RoadLayout, opacity: float) -> list[RoadLine]:
    """Sample what lies along the edges of roads and looks like a line: pale gutters, kerb stones and painted kerbs."""
    lines = []
    for edge, border, inwards in (
        (layout.left_edge, layout.borders[0], 1),
        (layout.right_edge, layout.borders[-1], -1),
    ):
        if abs(border - edge) < _KERB_ROOM or rng.random() >= _KERB_LINES[layout.road_type]:
            continue
        grey = float(rng.uniform(110, 215))
        kind = rng.random()
        if kind < 0.6:  # a gutter of concrete or stone
            width = float(rng.uniform(0.08, 0.4))
            offset, pattern, colours = edge + inwards * width / 2, (1.0, 1.0), [(grey, grey, grey)]
        else:  # painted stones, often in two colours by turns
            width, offset = float(rng.uniform(0.1, 0.25)), edge - inwards * 0.1
            pattern = (1.0, 2.0) if rng.random() < 0.6 else (1.0, 1.0)
            paints = [(45.0, 45.0, 195.0), (60.0, 175.0, 215.0), (28.0, 28.0, 28.0), (190.0, 120.0, 60.0)]
            colours = [(220.0, 222.0, 222.0), paints[int(rng.integers(len(paints)))]]
            if pattern == (1.0, 1.0):
                colours = colours[-1:] if rng.random() < 0.6 else colours[:1]
        strength, wear = float(rng.uniform(0.5, 1.0)) * opacity, float(rng.uniform(0.0, 1.6))
        lines += [
            RoadLine(offset, width, *pattern, phase=float(k), colour=colour, strength=strength, wear=wear)
            for k, colour in enumerate(colours)
        ]
    return lines


def _tram_rails(rng: np.random.Generator, lanes: list[tuple[float, float]]) -> list[RoadLine]:
    """Sample tram rails: two pairs of a dark groove with a bright edge."""
    left, right = lanes[int(rng.integers(len(lanes)))]
    middle, lines = (left + right) / 2 + float(rng.normal(0, 0.3)), []
    for side in (-0.72, 0.72):
        lines.append(RoadLine(middle + side, 0.1, colour=(40.0, 40.0, 42.0), strength=0.8, wear=0.2))
        lines.append(RoadLine(middle + side + 0.05, 0.04, colour=(165.0, 165.0, 160.0), strength=0.7, wear=0.4))
    return lines


def _street_markings(rng: np.random.Generator, layout: RoadLayout, lanes: list[tuple[float, float]]) -> list[Decal]:
    """Sample symbols, manholes, bars and guide lines of city streets."""
    decals: list[Decal] = []
    left, right = lanes[int(rng.integers(len(lanes)))]
    middle, z = (left + right) / 2, float(rng.uniform(5, 35))
    if rng.random() < 0.12:
        decals.append(lettering(middle, z, rng))
    if rng.random() < 0.1:
        decals.append(arrow(int(rng.integers(5)), middle, z))
    if rng.random() < 0.07:
        decals.append(stop_line(left + 0.2, right - 0.2, z, float(rng.uniform(0.3, 0.6))))
    if rng.random() < 0.06:
        decals.append(zebra(layout.left_edge + 0.4, layout.right_edge - 0.4, z + 6, 3.5, float(rng.uniform(0.9, 1.3))))
    if rng.random() < 0.2:  # manholes
        for _ in range(int(rng.integers(1, 4))):
            turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
            centre = np.array([_offset_inside_lane(lanes, rng), float(rng.uniform(4, 30))])
            disc = centre + 0.33 * np.stack([np.cos(turn), np.sin(turn)], 1)
            decals.append(Decal((disc,), int(rng.uniform(60, 160)), "shade"))
    if rng.random() < 0.05:  # a guide line that turns away over the junction
        s = np.arange(0, 18, 1.0)
        side = float(rng.choice([-1, 1]))
        x, y = middle + side * (s**2) / 40, z + s
        curve, half = np.stack([x, y], 1), np.array([0.06, 0.0])
        pieces = [curve[k : k + 2] for k in range(0, len(s) - 1, 2)]
        bars = [np.vstack([piece - half, piece[::-1] + half]) for piece in pieces]
        decals.append(Decal(tuple(bars), int(rng.uniform(120, 220))))
    return decals


def _parking_bays(rng: np.random.Generator, layout: RoadLayout) -> list[Decal]:
    """Sample bays at the kerb: short bars across, straight or slanted."""
    decals = []
    for side, parked in enumerate(layout.parked):
        if not parked:
            continue
        edge, sign = (layout.left_edge, 1.0) if side == 0 else (layout.right_edge, -1.0)
        inner = edge + sign * 2.1
        pitch = float(rng.choice([2.5, 5.5, 6.0]))
        slant = float(rng.choice([0.0, 0.0, 1.2]))
        bars = [
            np.array([[edge, z], [inner, z + slant], [inner, z + slant + 0.12], [edge, z + 0.12]])
            for z in np.arange(float(rng.uniform(3, 8)), 60, pitch)
        ]
        decals.append(Decal(tuple(bars), int(rng.uniform(90, 220))))
    return decals


def _hatched_area(rng: np.random.Generator, layout: RoadLayout) -> Decal:
    """Sample a hatched area on the shoulder."""
    if layout.right_edge - layout.borders[-1] > 1.5 or rng.random() < 0.5:
        left, right = layout.borders[-1] + 0.4, max(layout.right_edge - 0.2, layout.borders[-1] + 1.0)
    else:
        left, right = layout.left_edge + 0.1, max(layout.borders[0] - 0.3, layout.left_edge + 0.6)
    near = float(rng.uniform(4, 40))
    return chevrons(left, right, near, near + float(rng.uniform(10, 40)))


def _cable_shadows(rng: np.random.Generator, layout: RoadLayout, sunny: int) -> list[Decal]:
    """Sample shadows of cables and rails: thin lines aslant and along the road."""
    decals: list[Decal] = []
    width = float(rng.uniform(0.05, 0.16))
    if rng.random() < 0.22:
        left, right = layout.left_edge - 6, layout.right_edge + 6
        slant = float(rng.normal(0, 9))
        steps = np.linspace(0, 1, 14)
        for z in np.sort(rng.uniform(4, 45, int(rng.integers(1, 5)))):
            sag = 0.6 * np.sin(np.pi * steps)
            middle = np.stack([left + (right - left) * steps, np.maximum(z + slant * steps + sag, 1.4)], 1)
            outline = np.vstack([middle, (middle + np.array([0, width]))[::-1]])
            decals.append(Decal((outline,), int(sunny * rng.uniform(0.4, 0.9)), "shade"))
    if rng.random() < 0.2:
        edge, sign = (layout.left_edge, 1) if rng.random() < 0.5 else (layout.right_edge, -1)
        for k in range(int(rng.integers(1, 3))):
            u = edge + sign * (float(rng.uniform(0.2, 2.2)) + 0.4 * k)
            decals.append(Decal((rectangle(u, u + width, 1.4, 70),), int(sunny * rng.uniform(0.5, 0.95)), "shade"))
    return decals
