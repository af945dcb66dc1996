"""Vehicle: the shapes of cars, vans, buses and trucks as shaded polygons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# x in half widths, y in heights, z in lengths from the near end; role, shade, detail level (0 always, 2 near only).
Polygon = tuple[Array, str, float, int]
Part = tuple[int, int, str, float, int]  # first corner, one past the last, role, shade, detail level


@dataclass(frozen=True)
class Shape:
    """Metres; `belt` is the share of the height at which the windows begin, `deck` and `roof` the shares of the length
    at which the rear window begins and ends, `tuck` how much narrower the roof is."""

    length: float
    width: float
    height: float
    belt: float
    deck: float
    roof: float
    tuck: float
    box: bool = False


SHAPES = {
    "sedan": Shape(4.6, 1.8, 1.46, 0.68, 0.14, 0.32, 0.26),
    "hatch": Shape(4.1, 1.75, 1.5, 0.66, 0.02, 0.13, 0.22),
    "suv": Shape(4.7, 1.88, 1.72, 0.64, 0.02, 0.1, 0.18),
    "van": Shape(5.2, 1.95, 2.1, 0.55, 0.005, 0.04, 0.1),
    "bus": Shape(11.0, 2.5, 3.1, 0.45, 0.0, 0.005, 0.03, True),
    "truck": Shape(9.0, 2.45, 3.5, 0.45, 0.0, 0.005, 0.0, True),
}
KINDS = tuple(SHAPES)


def _rounded(outline: Array, cut: float = 0.16) -> Array:
    """Cut the corners of a polygon (Chaikin's scheme, one pass)."""
    after = np.roll(outline, -1, 0)
    return np.stack([outline + cut * (after - outline), after + cut * (outline - after)], 1).reshape(-1, 3)


def _mirrored(points: list[tuple[float, float, float]]) -> Array:
    """Corners of the right half, bottom up, and their mirror images."""
    right = np.array(points)
    return np.vstack([right, right[::-1] * (-1, 1, 1)])


def _bar(x0: float, x1: float, y0: float, y1: float, z: float = -0.002) -> Array:
    return np.array([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)])


def _side(points: list[tuple[float, float]], x: float) -> Array:
    """z, y pairs at the side x."""
    return np.array([(x, y, z) for z, y in points])


@dataclass(frozen=True)
class _Cut:
    """Lengths of one vehicle seen from one end: where glass and roof begin at the near and at the far end."""

    shape: Shape
    kind: str
    front: bool
    deck: float
    roof: float
    far_deck: float
    far_roof: float
    nose: float  # height of the near end's upper edge

    def depth(self, y: float) -> float:
        """How far back the near window's plane lies at height y."""
        belt = self.shape.belt
        return self.deck + (self.roof - self.deck) * (y - belt) / (1 - belt)


def _cut(kind: str, front: bool) -> _Cut:
    s = SHAPES[kind]
    bonnet = not s.box and kind != "van"
    front_deck, front_roof = (0.25, 0.4) if bonnet else (0.06, 0.14) if kind == "van" else (0.0, 0.005)
    near = (front_deck, front_roof) if front else (s.deck, s.roof)
    far = (s.deck, s.roof) if front else (front_deck, front_roof)
    nose = s.belt * (0.9 if front and bonnet else 1.0)
    return _Cut(s, kind, front, *near, 1 - far[0], 1 - far[1], nose)


def _flank(c: _Cut, x: float) -> list[Polygon]:
    """The side at x = -1 or 1 with its windows, doors and wheels."""
    s, belt = c.shape, c.shape.belt
    lower = [(0.0, 0.15), (0.0, c.nose), (c.deck, belt)]
    upper = [(c.roof, 0.98), (c.roof + 0.03, 1.0), (c.far_roof - 0.03, 1.0), (c.far_roof, 0.98)]
    end = [(c.far_deck, belt), (1.0, belt * 0.93), (1.0, 0.18)]
    polygons: list[Polygon] = [(_rounded(_side([*lower, *upper, *end], x), 0.1), "body", 0.74, 0)]
    polygons.append((_side([(0, belt - 0.12), (0, belt - 0.01), (1, belt - 0.03), (1, belt - 0.1)], x), "body", 0.9, 1))
    polygons.append((_side([(0, 0.15), (0, 0.22), (1, 0.22), (1, 0.15)], x), "black", 1.0, 1))
    if c.kind == "truck":
        for at in np.linspace(0.12, 0.9, 5):
            polygons.append((_side([(at, 0.3), (at, 0.99), (at + 0.004, 0.99), (at + 0.004, 0.3)], x), "body", 0.6, 2))
    else:
        top, wide = (0.8, 0.012) if s.box else (0.955, 0.014)
        span = [
            (c.deck + 0.05, belt + 0.02),
            (c.roof + 0.03, top),
            (c.far_roof - 0.03, top),
            (c.far_deck - 0.06, belt + 0.02),
        ]
        polygons.append((_rounded(_side(span, x), 0.06), "glass", 0.85, 0))
        for at in (0.2, 0.35, 0.5, 0.65, 0.8) if s.box else (0.42, 0.6):
            polygons.append((_side([(at, belt), (at, top), (at + wide, top), (at + wide, belt)], x), "body", 0.55, 1))
            polygons.append(
                (_side([(at, 0.24), (at, belt), (at + 0.004, belt), (at + 0.004, 0.24)], x), "body", 0.5, 2)
            )
    turn = np.linspace(0, 2 * np.pi, 17)[:-1]
    radius = 0.5 if s.box else 0.33
    for at in (0.18, 0.81):
        for size, role, shade in ((1.16, "black", 0.6), (1.0, "black", 1.25), (0.62, "rim", 0.85), (0.2, "black", 1.6)):
            across, up = np.cos(turn) * radius * size / s.length, (radius + np.sin(turn) * radius * size) / s.height
            polygons.append((_side(list(zip(at + across, up, strict=True)), x), role, shade, 0 if size == 1 else 1))
    return polygons


def _cabin(c: _Cut) -> list[Polygon]:
    """The near end above the belt: pillars, window and what can be seen of the deck."""
    s, belt = c.shape, c.shape.belt
    heights = (
        [(1.0, belt), (1.0, 0.93), (0.985, 0.975), (0.9, 1.0)] if not s.box else [(1.0, belt), (1.0, 0.98), (0.97, 1.0)]
    )
    polygons: list[Polygon] = [(_mirrored([(x, y, c.depth(y)) for x, y in heights]), "body", 0.95, 0)]
    if c.kind == "truck" and not c.front:
        polygons.append((_bar(-0.97, 0.97, 0.3, 0.985), "body", 0.95, 1))
        polygons.append((_bar(-0.01, 0.01, 0.3, 0.98, -0.003), "body", 0.5, 1))
        for x in (-0.6, -0.25, 0.25, 0.6):
            polygons.append((_bar(x, x + 0.02, 0.32, 0.97, -0.003), "body", 0.8, 2))
        return polygons
    low, high = belt + 0.035 * (1 - belt), 0.945
    if s.box:
        low, high = (0.36, 0.86) if c.front else (0.5, 0.85)
    glass = [(0.9, low, c.depth(low) - 0.002), (0.88, high, c.depth(high) - 0.002)]
    polygons.append((_rounded(_mirrored(glass), 0.07), "glass", 0.7, 0))
    middle = low + 0.55 * (high - low)
    shine = [(0.86, middle, c.depth(middle) - 0.003), (0.84, high - 0.012, c.depth(high - 0.012) - 0.003)]
    polygons.append((_rounded(_mirrored(shine), 0.07), "glass", 1.3, 1))
    if not s.box:
        for x in (-0.42, 0.42):  # heads or headrests behind the glass
            head = _bar(x - 0.14, x + 0.14, low, low + 0.55 * (high - low), c.depth(low) - 0.004)
            polygons.append((_rounded(head, 0.25), "black", 0.9, 2))
    if not c.front:
        polygons.append((_bar(-0.12, 0.12, high - 0.01, high + 0.012, c.depth(high) - 0.004), "red", 1.1, 2))
    if c.deck > 0.01:
        deck = np.array([(-0.95, c.nose, 0), (0.95, c.nose, 0), (0.93, belt, c.deck), (-0.93, belt, c.deck)])
        polygons.append((deck, "body", 1.2, 0))
    return polygons


def _face(c: _Cut, rng: np.random.Generator) -> list[Polygon]:
    """The near end below the belt: bumper, lamps, plate, grille."""
    s, nose = c.shape, c.nose
    if c.kind == "truck" and not c.front:
        return _tail(s)
    face = [(0.9, 0.13, 0.0), (0.99, 0.22, 0.0), (1.0, nose - 0.16, 0.0), (0.98, nose - 0.04, 0.0), (0.93, nose, 0.0)]
    polygons: list[Polygon] = [(_rounded(_mirrored(face), 0.12), "body", 0.92, 0)]
    polygons.append((_mirrored([(0.99, nose - 0.12, -0.001), (0.95, nose - 0.01, -0.001)]), "body", 1.07, 1))
    polygons.append((_mirrored([(0.93, nose - 0.018, -0.001), (0.91, nose, -0.001)]), "body", 1.3, 2))
    crease = nose - float(rng.uniform(0.2, 0.3))
    if not s.box:
        polygons.append((_bar(-0.97, 0.97, crease - 0.008, crease), "body", 0.62, 2))
        polygons.append((_bar(-0.98, 0.98, 0.3, 0.31), "body", 0.55, 2))
    plastic = "black" if rng.random() < 0.55 else "body"
    polygons.append(
        (
            _rounded(_mirrored([(0.9, 0.13, -0.001), (0.97, 0.24, -0.001)]), 0.1),
            plastic,
            0.7 if plastic == "body" else 1.5,
            1,
        )
    )
    wide, tall = (
        float(rng.uniform(0.2, 0.4)),
        0.05 if c.kind in ("sedan", "hatch") or c.front else float(rng.uniform(0.06, 0.12)),
    )
    lamp_y = nose - 0.1 - 0.5 * tall
    if s.box:
        lamp_y, tall = 0.27, 0.025
    for side in (-1, 1):
        lamp = _bar(side * 0.975, side * (0.975 - wide), lamp_y - tall, lamp_y + tall, -0.004)
        lamp[1:3, 1] += 0.02 * float(rng.integers(0, 2))
        polygons.append((_rounded(lamp, 0.14), "front" if c.front else "rear", 1.0, 0))
        inner = _bar(side * 0.95, side * (0.975 - 0.6 * wide), lamp_y - 0.35 * tall, lamp_y + 0.35 * tall, -0.005)
        polygons.append((inner, "front" if c.front else "rear", 1.35, 2))
        polygons.append((_bar(side * 0.9, side * 0.7, 0.21, 0.235, -0.004), "red" if not c.front else "rim", 0.9, 2))
    if c.front:
        grille = _bar(-0.5, 0.5, lamp_y - 0.12, lamp_y + 0.03, -0.004)
        polygons.append((_rounded(grille, 0.15), "black", 1.2, 1))
        polygons.append((_bar(-0.48, 0.48, lamp_y - 0.05, lamp_y - 0.035, -0.005), "rim", 1.2, 2))
    plate_y = nose - 0.26 if rng.random() < 0.5 and not s.box else 0.27
    half = 0.26 / s.width
    if plate_y > 0.3:
        polygons.append((_rounded(_bar(-0.4, 0.4, plate_y - 0.06, plate_y + 0.06, -0.003), 0.1), "body", 0.7, 2))
    high = 0.055 / s.height
    polygons.append((_bar(-half, half, plate_y - high, plate_y + high, -0.005), "plate", 1.0, 1))
    return polygons


def _tail(s: Shape) -> list[Polygon]:
    """What hangs below the doors of a truck: frame, bar, lamps, mud flaps, plate."""
    polygons: list[Polygon] = [
        (_bar(-0.97, 0.97, 0.27, 0.31), "body", 0.55, 0),
        (_bar(-0.5, 0.5, 0.16, 0.27), "black", 1.2, 0),
    ]
    polygons.append((_bar(-0.95, 0.95, 0.13, 0.17, -0.002), "rim", 0.7, 1))
    for side in (-1, 1):
        polygons.append((_bar(side * 0.95, side * 0.6, 0.06, 0.2, 0.001), "black", 1.0, 1))
        polygons.append((_bar(side * 0.94, side * 0.72, 0.215, 0.25, -0.003), "rear", 1.0, 0))
    for x in (-0.8, -0.4, 0.0, 0.4, 0.8):
        polygons.append((_bar(x - 0.07, x + 0.07, 0.14, 0.16, -0.004), "red", 1.2, 2))
    polygons.append((_bar(-0.12, 0.12, 0.205, 0.24, -0.004), "plate", 1.0, 1))
    return polygons


@lru_cache(256)
def template(kind: str, front: bool, right_side: bool, variant: int) -> tuple[Array, list[Part]]:
    """All corners (N, 3) of a vehicle seen from its front or rear and one side, and its parts, back to front."""
    rng = np.random.default_rng(variant)
    c, s, x = _cut(kind, front), SHAPES[kind], 1.0 if right_side else -1.0
    polygons: list[Polygon] = [(_bar(-0.86, 0.86, 0.12, 0.3, 0.02), "black", 0.8, 0)]
    for side in (-1, 1):
        tyre = _bar(side * 0.95, side * (0.95 - 0.42 / s.width), 0.0, 0.3, 0.04)
        polygons.append((_rounded(tyre, 0.08), "black", 1.1, 0))
    polygons += _flank(c, x)
    polygons += _cabin(c)
    polygons += _face(c, rng)
    if not s.box:
        at = c.deck + 0.06 if front else c.far_deck - 0.1
        for side in (-1, 1):  # mirrors
            polygons.append(
                (_rounded(_bar(side * 1.0, side * 1.13, s.belt + 0.02, s.belt + 0.1, at), 0.2), "body", 0.6, 1)
            )
    ends = np.cumsum([len(corners) for corners, _, _, _ in polygons])
    parts = [
        (int(end) - len(corners), int(end), role, shade, level)
        for end, (corners, role, shade, level) in zip(ends, polygons, strict=True)
    ]
    return np.vstack([corners for corners, _, _, _ in polygons]), parts
