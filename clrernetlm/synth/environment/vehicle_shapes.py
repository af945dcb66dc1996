"""Builds the shapes of cars, vans, buses and trucks as shaded polygons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from clrernetlm.core.arrays import Float64Array

# x in half widths, y in heights, z in lengths from the near end; role, shade, detail level (0 always, 2 near only).
Polygon = tuple[Float64Array, str, float, int]
Part = tuple[int, int, str, float, int]  # first corner, one past the last, role, shade, detail level


@dataclass(frozen=True)
class VehicleShape:
    """The dimensions of a vehicle, in metres unless stated.

    `belt` is the share of the height at which the windows begin, `deck` and `roof` the shares of the length at which
    the rear window begins and ends, `tuck` how much narrower the roof is; `box` marks buses and trucks.
    """

    length: float
    width: float
    height: float
    belt: float
    deck: float
    roof: float
    tuck: float
    box: bool = False


VEHICLE_SHAPES = {
    "sedan": VehicleShape(4.6, 1.8, 1.46, 0.68, 0.14, 0.32, 0.26),
    "hatch": VehicleShape(4.1, 1.75, 1.5, 0.66, 0.02, 0.13, 0.22),
    "suv": VehicleShape(4.7, 1.88, 1.72, 0.64, 0.02, 0.1, 0.18),
    "van": VehicleShape(5.2, 1.95, 2.1, 0.55, 0.005, 0.04, 0.1),
    "bus": VehicleShape(11.0, 2.5, 3.1, 0.45, 0.0, 0.005, 0.03, True),
    "truck": VehicleShape(9.0, 2.45, 3.5, 0.45, 0.0, 0.005, 0.0, True),
}
VEHICLE_KINDS = tuple(VEHICLE_SHAPES)


def _rounded(outline: Float64Array, cut: float = 0.16) -> Float64Array:
    """Cut the corners of a polygon (Chaikin's scheme, one pass)."""
    after = np.roll(outline, -1, 0)
    return np.stack([outline + cut * (after - outline), after + cut * (outline - after)], 1).reshape(-1, 3)


def _mirror_outline(points: list[tuple[float, float, float]]) -> Float64Array:
    """Return the corners of the right half, bottom up, and their mirror images."""
    right = np.array(points)
    return np.vstack([right, right[::-1] * (-1, 1, 1)])


def _rectangle(x0: float, x1: float, y0: float, y1: float, z: float = -0.002) -> Float64Array:
    """Return an upright rectangle facing the camera at length z."""
    return np.array([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)])


def _side_outline(points: list[tuple[float, float]], x: float) -> Float64Array:
    """Return the outline of z, y pairs at the side x."""
    return np.array([(x, y, z) for z, y in points])


@dataclass(frozen=True)
class _EndView:
    """The proportions of a vehicle seen from one end: where glass and roof begin at both ends."""

    shape: VehicleShape
    kind: str
    front: bool
    deck: float
    roof: float
    far_deck: float
    far_roof: float
    nose: float  # height of the near end's upper edge

    def depth(self, y: float) -> float:
        """Return how far back the near window's plane lies at height y."""
        belt = self.shape.belt
        return self.deck + (self.roof - self.deck) * (y - belt) / (1 - belt)


def _end_view(kind: str, front: bool) -> _EndView:
    """Return the proportions of a kind of vehicle seen from its `front` or rear."""
    s = VEHICLE_SHAPES[kind]
    bonnet = not s.box and kind != "van"
    front_deck, front_roof = (0.25, 0.4) if bonnet else (0.06, 0.14) if kind == "van" else (0.0, 0.005)
    near = (front_deck, front_roof) if front else (s.deck, s.roof)
    far = (s.deck, s.roof) if front else (front_deck, front_roof)
    nose = s.belt * (0.9 if front and bonnet else 1.0)
    return _EndView(s, kind, front, *near, 1 - far[0], 1 - far[1], nose)


def _side_polygons(c: _EndView, x: float) -> list[Polygon]:
    """Return the side at x = -1 or 1 with its windows, doors and wheels."""
    s, belt = c.shape, c.shape.belt
    lower = [(0.0, 0.15), (0.0, c.nose), (c.deck, belt)]
    upper = [(c.roof, 0.98), (c.roof + 0.03, 1.0), (c.far_roof - 0.03, 1.0), (c.far_roof, 0.98)]
    end = [(c.far_deck, belt), (1.0, belt * 0.93), (1.0, 0.18)]
    polygons: list[Polygon] = [(_rounded(_side_outline([*lower, *upper, *end], x), 0.1), "body", 0.74, 0)]
    polygons.append(
        (_side_outline([(0, belt - 0.12), (0, belt - 0.01), (1, belt - 0.03), (1, belt - 0.1)], x), "body", 0.9, 1)
    )
    polygons.append((_side_outline([(0, 0.15), (0, 0.22), (1, 0.22), (1, 0.15)], x), "black", 1.0, 1))
    if c.kind == "truck":
        for at in np.linspace(0.12, 0.9, 5):
            polygons.append(
                (_side_outline([(at, 0.3), (at, 0.99), (at + 0.004, 0.99), (at + 0.004, 0.3)], x), "body", 0.6, 2)
            )
    else:
        top, pillar_width = (0.8, 0.012) if s.box else (0.955, 0.014)
        span = [
            (c.deck + 0.05, belt + 0.02),
            (c.roof + 0.03, top),
            (c.far_roof - 0.03, top),
            (c.far_deck - 0.06, belt + 0.02),
        ]
        polygons.append((_rounded(_side_outline(span, x), 0.06), "glass", 0.85, 0))
        for at in (0.2, 0.35, 0.5, 0.65, 0.8) if s.box else (0.42, 0.6):
            polygons.append(
                (
                    _side_outline([(at, belt), (at, top), (at + pillar_width, top), (at + pillar_width, belt)], x),
                    "body",
                    0.55,
                    1,
                )
            )
            polygons.append(
                (_side_outline([(at, 0.24), (at, belt), (at + 0.004, belt), (at + 0.004, 0.24)], x), "body", 0.5, 2)
            )
    turn = np.linspace(0, 2 * np.pi, 17)[:-1]
    radius = 0.5 if s.box else 0.33
    for at in (0.18, 0.81):
        for size, role, shade in ((1.16, "black", 0.6), (1.0, "black", 1.25), (0.62, "rim", 0.85), (0.2, "black", 1.6)):
            across, up = np.cos(turn) * radius * size / s.length, (radius + np.sin(turn) * radius * size) / s.height
            polygons.append(
                (_side_outline(list(zip(at + across, up, strict=True)), x), role, shade, 0 if size == 1 else 1)
            )
    return polygons


def _window_polygons(c: _EndView) -> list[Polygon]:
    """Return the near end above the belt: pillars, window and the visible part of the deck."""
    s, belt = c.shape, c.shape.belt
    heights = (
        [(1.0, belt), (1.0, 0.93), (0.985, 0.975), (0.9, 1.0)] if not s.box else [(1.0, belt), (1.0, 0.98), (0.97, 1.0)]
    )
    polygons: list[Polygon] = [(_mirror_outline([(x, y, c.depth(y)) for x, y in heights]), "body", 0.95, 0)]
    if c.kind == "truck" and not c.front:
        polygons.append((_rectangle(-0.97, 0.97, 0.3, 0.985), "body", 0.95, 1))
        polygons.append((_rectangle(-0.01, 0.01, 0.3, 0.98, -0.003), "body", 0.5, 1))
        for x in (-0.6, -0.25, 0.25, 0.6):
            polygons.append((_rectangle(x, x + 0.02, 0.32, 0.97, -0.003), "body", 0.8, 2))
        return polygons
    low, high = belt + 0.035 * (1 - belt), 0.945
    if s.box:
        low, high = (0.36, 0.86) if c.front else (0.5, 0.85)
    glass = [(0.9, low, c.depth(low) - 0.002), (0.88, high, c.depth(high) - 0.002)]
    polygons.append((_rounded(_mirror_outline(glass), 0.07), "glass", 0.7, 0))
    middle = low + 0.55 * (high - low)
    shine = [(0.86, middle, c.depth(middle) - 0.003), (0.84, high - 0.012, c.depth(high - 0.012) - 0.003)]
    polygons.append((_rounded(_mirror_outline(shine), 0.07), "glass", 1.3, 1))
    if not s.box:
        for x in (-0.42, 0.42):  # heads or headrests behind the glass
            head = _rectangle(x - 0.14, x + 0.14, low, low + 0.55 * (high - low), c.depth(low) - 0.004)
            polygons.append((_rounded(head, 0.25), "black", 0.9, 2))
    if not c.front:
        polygons.append((_rectangle(-0.12, 0.12, high - 0.01, high + 0.012, c.depth(high) - 0.004), "red", 1.1, 2))
    if c.deck > 0.01:
        deck = np.array([(-0.95, c.nose, 0), (0.95, c.nose, 0), (0.93, belt, c.deck), (-0.93, belt, c.deck)])
        polygons.append((deck, "body", 1.2, 0))
    return polygons


def _end_polygons(c: _EndView, rng: np.random.Generator) -> list[Polygon]:
    """Return the near end below the belt: bumper, lamps, plate, grille."""
    s, nose = c.shape, c.nose
    if c.kind == "truck" and not c.front:
        return _truck_rear_polygons(s)
    face = [(0.9, 0.13, 0.0), (0.99, 0.22, 0.0), (1.0, nose - 0.16, 0.0), (0.98, nose - 0.04, 0.0), (0.93, nose, 0.0)]
    polygons: list[Polygon] = [(_rounded(_mirror_outline(face), 0.12), "body", 0.92, 0)]
    polygons.append((_mirror_outline([(0.99, nose - 0.12, -0.001), (0.95, nose - 0.01, -0.001)]), "body", 1.07, 1))
    polygons.append((_mirror_outline([(0.93, nose - 0.018, -0.001), (0.91, nose, -0.001)]), "body", 1.3, 2))
    crease = nose - float(rng.uniform(0.2, 0.3))
    if not s.box:
        polygons.append((_rectangle(-0.97, 0.97, crease - 0.008, crease), "body", 0.62, 2))
        polygons.append((_rectangle(-0.98, 0.98, 0.3, 0.31), "body", 0.55, 2))
    bumper_role = "black" if rng.random() < 0.55 else "body"
    polygons.append(
        (
            _rounded(_mirror_outline([(0.9, 0.13, -0.001), (0.97, 0.24, -0.001)]), 0.1),
            bumper_role,
            0.7 if bumper_role == "body" else 1.5,
            1,
        )
    )
    lamp_width, lamp_height = (
        float(rng.uniform(0.2, 0.4)),
        0.05 if c.kind in ("sedan", "hatch") or c.front else float(rng.uniform(0.06, 0.12)),
    )
    lamp_y = nose - 0.1 - 0.5 * lamp_height
    if s.box:
        lamp_y, lamp_height = 0.27, 0.025
    for side in (-1, 1):
        lamp = _rectangle(side * 0.975, side * (0.975 - lamp_width), lamp_y - lamp_height, lamp_y + lamp_height, -0.004)
        lamp[1:3, 1] += 0.02 * float(rng.integers(0, 2))
        polygons.append((_rounded(lamp, 0.14), "front" if c.front else "rear", 1.0, 0))
        inner = _rectangle(
            side * 0.95,
            side * (0.975 - 0.6 * lamp_width),
            lamp_y - 0.35 * lamp_height,
            lamp_y + 0.35 * lamp_height,
            -0.005,
        )
        polygons.append((inner, "front" if c.front else "rear", 1.35, 2))
        polygons.append(
            (_rectangle(side * 0.9, side * 0.7, 0.21, 0.235, -0.004), "red" if not c.front else "rim", 0.9, 2)
        )
    if c.front:
        grille = _rectangle(-0.5, 0.5, lamp_y - 0.12, lamp_y + 0.03, -0.004)
        polygons.append((_rounded(grille, 0.15), "black", 1.2, 1))
        polygons.append((_rectangle(-0.48, 0.48, lamp_y - 0.05, lamp_y - 0.035, -0.005), "rim", 1.2, 2))
    plate_y = nose - 0.26 if rng.random() < 0.5 and not s.box else 0.27
    half = 0.26 / s.width
    if plate_y > 0.3:
        polygons.append((_rounded(_rectangle(-0.4, 0.4, plate_y - 0.06, plate_y + 0.06, -0.003), 0.1), "body", 0.7, 2))
    high = 0.055 / s.height
    polygons.append((_rectangle(-half, half, plate_y - high, plate_y + high, -0.005), "plate", 1.0, 1))
    return polygons


def _truck_rear_polygons(s: VehicleShape) -> list[Polygon]:
    """Return the parts below the doors of a truck: frame, bar, lamps, mud flaps, plate."""
    polygons: list[Polygon] = [
        (_rectangle(-0.97, 0.97, 0.27, 0.31), "body", 0.55, 0),
        (_rectangle(-0.5, 0.5, 0.16, 0.27), "black", 1.2, 0),
    ]
    polygons.append((_rectangle(-0.95, 0.95, 0.13, 0.17, -0.002), "rim", 0.7, 1))
    for side in (-1, 1):
        polygons.append((_rectangle(side * 0.95, side * 0.6, 0.06, 0.2, 0.001), "black", 1.0, 1))
        polygons.append((_rectangle(side * 0.94, side * 0.72, 0.215, 0.25, -0.003), "rear", 1.0, 0))
    for x in (-0.8, -0.4, 0.0, 0.4, 0.8):
        polygons.append((_rectangle(x - 0.07, x + 0.07, 0.14, 0.16, -0.004), "red", 1.2, 2))
    polygons.append((_rectangle(-0.12, 0.12, 0.205, 0.24, -0.004), "plate", 1.0, 1))
    return polygons


@lru_cache(256)
def vehicle_polygons(kind: str, front: bool, right_side: bool, variant: int) -> tuple[Float64Array, list[Part]]:
    """Return all corners (N, 3) of a vehicle seen from its front or rear and one side, and its parts, back to front."""
    rng = np.random.default_rng(variant)
    c, s, x = _end_view(kind, front), VEHICLE_SHAPES[kind], 1.0 if right_side else -1.0
    polygons: list[Polygon] = [(_rectangle(-0.86, 0.86, 0.12, 0.3, 0.02), "black", 0.8, 0)]
    for side in (-1, 1):
        tyre = _rectangle(side * 0.95, side * (0.95 - 0.42 / s.width), 0.0, 0.3, 0.04)
        polygons.append((_rounded(tyre, 0.08), "black", 1.1, 0))
    polygons += _side_polygons(c, x)
    polygons += _window_polygons(c)
    polygons += _end_polygons(c, rng)
    if not s.box:
        at = c.deck + 0.06 if front else c.far_deck - 0.1
        for side in (-1, 1):  # mirrors
            polygons.append(
                (_rounded(_rectangle(side * 1.0, side * 1.13, s.belt + 0.02, s.belt + 0.1, at), 0.2), "body", 0.6, 1)
            )
    ends = np.cumsum([len(corners) for corners, _, _, _ in polygons])
    parts = [
        (int(end) - len(corners), int(end), role, shade, level)
        for end, (corners, role, shade, level) in zip(ends, polygons, strict=True)
    ]
    return np.vstack([corners for corners, _, _, _ in polygons]), parts
