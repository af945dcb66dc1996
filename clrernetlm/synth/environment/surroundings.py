"""Surroundings: hills, tree lines, walls, cables and close traffic as they stand along real roads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from clrernetlm.synth.environment.backdrop import Curtain
from clrernetlm.synth.environment.canvas import Stage
from clrernetlm.synth.environment.roadside_objects import Bridge, Colour, Pole, Thing
from clrernetlm.synth.environment.roadside_placement import barrier
from clrernetlm.synth.environment.traffic import Vehicle
from clrernetlm.synth.road.layout import Layout

# Blue, green and red at the foot and at the top.
_SLOPES: tuple[tuple[Colour, Colour], ...] = (
    ((92.0, 128.0, 142.0), (104.0, 146.0, 166.0)),  # dry grass
    ((44.0, 84.0, 74.0), (52.0, 98.0, 88.0)),  # grass
    ((88.0, 104.0, 118.0), (100.0, 118.0, 132.0)),  # earth
    ((112.0, 116.0, 120.0), (124.0, 128.0, 132.0)),  # rock, concrete
)
_SEEN = (0.25, 0.2, 0.15, 0.4)  # share of nothing, one side, other side and both


@dataclass(frozen=True)
class Cables:
    """Power lines along the road at `offset` m between poles at `distances`, at several `heights` m."""

    offset: float
    distance: float
    distances: tuple[float, ...]
    heights: tuple[float, ...]

    @property
    def depth_key(self) -> float:
        return self.distance

    def paint(self, stage: Stage) -> None:
        ends = np.asarray(self.distances)
        share = np.linspace(0, 1, 9)
        for height in self.heights:
            for near, far in pairwise(ends):
                z = near + (far - near) * share
                points = stage.project(self.offset, z, height - 3.2 * share * (1 - share))
                tone = stage.air((58.0, 58.0, 60.0), float(near))
                thick = 2 if near < 20 and stage.camera.width > 1200 else 1
                cv2.polylines(
                    stage.canvas, [np.round(points * 16).astype(np.int32)], False, tone, thick, cv2.LINE_AA, 4
                )


def surround(rng: np.random.Generator, layout: Layout, things: list[Thing], season: Colour) -> list[Thing]:
    """The `things` beside a road, and what closes the view to its sides."""
    if layout.place == "tunnel":
        return things
    left, right = layout.left_edge, layout.right_edge
    if layout.median is not None:
        left -= 18.0
    sides = ((), (-1,), (1,), (-1, 1))[int(rng.choice(4, p=_SEEN))]
    added: list[Thing] = []
    for side in sides:
        edge = left if side < 0 else right
        if layout.place == "urban":
            if rng.random() < 0.5:
                added.append(tree_line(rng, side, edge + side * float(rng.uniform(2, 9)), season))
        else:
            added += _flank(rng, side, edge, season)
    if layout.place == "highway":
        for side, edge in ((-1, layout.left_edge), (1, layout.right_edge)):
            if rng.random() < 0.3:  # right beside the outer lane
                added += barrier(
                    rng, edge + side * float(rng.uniform(0.0, 0.5)), ("concrete", "concrete", "panels", "rail")
                )
        if rng.random() < 0.15:
            added.append(_overpass(rng, layout))
    if rng.random() < (0.15 if layout.place == "highway" else 0.35):
        added += _power(rng, -1 if rng.random() < 0.5 else 1, left, right)
    return things + added


def tree_line(rng: np.random.Generator, side: int, offset: float, season: Colour) -> Curtain:
    """Trees without a gap."""
    height = float(rng.uniform(3, 14))
    shade = float(rng.uniform(0.35, 0.95))
    b, g, r = (float(v) for v in np.asarray(season) * shade * rng.uniform(0.85, 1.1, 3))
    near = 1.5 if rng.random() < 0.6 else float(rng.uniform(6, 50))
    return Curtain(
        offset,
        near,
        float(rng.uniform(120, 300)),
        height,
        float(rng.uniform(0, 2)),
        float(rng.uniform(0.2, 0.5)),
        float(rng.uniform(3, 9)),
        (b * 0.5, g * 0.5, r * 0.5),
        (b * 1.1, g * 1.15, r * 1.15),
        float(rng.uniform(0.16, 0.34)),
        float(rng.uniform(0.9, 2.4)),
        int(rng.integers(2**31)),
    )


def _flank(rng: np.random.Generator, side: int, edge: float, season: Colour) -> list[Thing]:
    """A slope beside the road, with or without trees on it, or trees alone."""
    kind = rng.random()
    away = edge + side * float(rng.gamma(2.0, 2.0))
    if kind < 0.4:
        return [tree_line(rng, side, away + side * 1.5, season)]
    foot, top = _SLOPES[int(rng.choice(4, p=[0.35, 0.35, 0.15, 0.15]))]
    vary = float(rng.uniform(0.7, 1.1))
    height = float(rng.uniform(1.5, 12))
    run = height * float(rng.uniform(0.9, 2.2))
    slope = Curtain(
        away,
        1.5 if rng.random() < 0.6 else float(rng.uniform(5, 40)),
        float(rng.uniform(90, 260)),
        height,
        run,
        float(rng.uniform(0.1, 0.5)),
        float(rng.uniform(25, 80)),
        (foot[0] * vary, foot[1] * vary, foot[2] * vary),
        (top[0] * vary, top[1] * vary, top[2] * vary),
        float(rng.uniform(0.05, 0.15)),
        float(rng.uniform(0.6, 2.5)),
        int(rng.integers(2**31)),
    )
    if kind < 0.65:
        return [slope]
    trees = tree_line(rng, side, away + side * run * 0.6, season)
    return [replace(trees, height=trees.height + height * 0.8), slope]


def _overpass(rng: np.random.Generator, layout: Layout) -> Bridge:
    """A bridge across the road, often near."""
    grey = float(rng.uniform(70, 175))
    pillars = (layout.left_edge - 1.2, layout.right_edge + 1.5, layout.left_edge - 20, layout.right_edge + 16)
    return Bridge(
        float(rng.uniform(12, 160)),
        float(rng.uniform(5, 30)),
        float(rng.uniform(4.8, 8.5)),
        float(rng.uniform(1.0, 2.6)),
        pillars,
        (grey, grey + 2, grey + 4),
    )


def _power(rng: np.random.Generator, side: int, left: float, right: float) -> list[Thing]:
    """Power poles along one side and their cables."""
    edge = left if side < 0 else right
    offset, pitch = edge + side * float(rng.uniform(0.8, 6)), float(rng.uniform(22, 45))
    height = float(rng.uniform(7, 12))
    stands = np.arange(float(rng.uniform(4, pitch)), 190, pitch)
    colour = ((62.0, 76.0, 88.0), (120.0, 122.0, 124.0), (48.0, 52.0, 56.0))[int(rng.integers(3))]
    poles: list[Thing] = [Pole(offset, float(z), height, 0.28, colour=colour) for z in stands]
    heights = tuple(float(height - h) for h in rng.uniform(0.1, 3.2, int(rng.integers(2, 6))))
    return [*poles, Cables(offset, 170.0, (max(2.0, float(stands[0] - pitch)), *map(float, stands)), heights)]


_PAINTS: tuple[Colour, ...] = (
    (226.0, 226.0, 226.0),
    (198.0, 198.0, 196.0),
    (150.0, 148.0, 146.0),
    (92.0, 90.0, 88.0),
    (40.0, 38.0, 37.0),
    (24.0, 23.0, 23.0),
    (86.0, 48.0, 30.0),
    (128.0, 84.0, 44.0),
    (34.0, 30.0, 128.0),
    (40.0, 40.0, 76.0),
    (60.0, 74.0, 54.0),
    (110.0, 138.0, 156.0),
    (42.0, 120.0, 190.0),
)


def crowd(rng: np.random.Generator, layout: Layout, vehicles: list[Vehicle]) -> list[Vehicle]:
    """The `vehicles` in other colours, and some close beside the camera, where they cut the outer lanes."""
    painted = []
    for vehicle in vehicles:
        if rng.random() < 0.6:
            b, g, r = (float(v) for v in np.asarray(_PAINTS[int(rng.integers(len(_PAINTS)))]) * rng.uniform(0.75, 1.15))
            vehicle = replace(vehicle, paint=(b, g, r))
        painted.append(replace(vehicle, braking=bool(rng.random() < 0.25)))
    for left, right, direction in layout.lanes:
        middle = (left + right) / 2
        if left < 0 < right or abs(middle) > 5.5 or rng.random() > 0.14:
            continue
        distance = float(rng.uniform(0.8, 5.0))
        kind = ("sedan", "suv", "van", "truck", "hatch")[int(rng.choice(5, p=[0.3, 0.3, 0.12, 0.13, 0.15]))]
        new = Vehicle(
            kind,
            middle + float(rng.normal(0, 0.2)),
            distance,
            direction < 0,
            _PAINTS[int(rng.integers(len(_PAINTS)))],
            bool(rng.random() < 0.3),
            int(rng.integers(2**31)),
        )
        blocked = [
            v for v in painted if abs(v.offset - new.offset) < 2 and v.distance < distance + new.shape.length + 1
        ]
        if not blocked:
            painted.append(new)
    return painted
