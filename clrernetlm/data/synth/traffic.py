"""Traffic: vehicles as a few dozen shaded polygons that follow the road."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.data.synth.layout import Layout
from clrernetlm.data.synth.markings import Decal, rectangle
from clrernetlm.data.synth.stage import Stage

Array = NDArray[np.float64]
Colour = tuple[float, float, float]
# A polygon: (x, y, z) with x in half widths, y in heights, z in lengths from the near end; role; shade; detail level.
Polygon = tuple[Array, str, float, int]


@dataclass(frozen=True)
class Shape:
    """Metres, and where the cabin is in shares of length (`deck`: near end to glass foot, `roof`: to glass top)."""

    length: float
    width: float
    height: float
    belt: float  # share of the height at which the windows begin
    deck: float
    roof: float
    tuck: float  # how much narrower the roof is
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
PAINTS: tuple[Colour, ...] = (
    (208, 208, 206),
    (225, 226, 226),
    (178, 178, 176),
    (132, 130, 128),
    (96, 94, 92),
    (38, 37, 36),
    (28, 27, 27),
    (96, 66, 44),
    (40, 36, 118),
    (58, 58, 84),
    (62, 76, 56),
    (150, 152, 152),
    (150, 160, 168),
)
TRUCK_PAINTS: tuple[Colour, ...] = (
    (215, 216, 214),
    (190, 192, 190),
    (128, 96, 72),
    (66, 66, 126),
    (104, 124, 90),
    (222, 224, 224),
    (110, 108, 104),
)


@dataclass(frozen=True)
class Vehicle:
    """A vehicle whose near end is `distance` metres ahead, its middle at `offset`."""

    kind: str
    offset: float
    distance: float
    oncoming: bool
    paint: Colour
    braking: bool
    seed: int

    @property
    def shape(self) -> Shape:
        return SHAPES[self.kind]


def sample_traffic(rng: np.random.Generator, layout: Layout, density: float) -> list[Vehicle]:
    """Vehicles on the lanes and parked beside them; `density` 1 is dense traffic."""
    vehicles: list[Vehicle] = []
    weights = np.array([0.36, 0.16, 0.26, 0.08, 0.05, 0.09])

    def place(offset: float, distance: float, oncoming: bool) -> float:
        kind = KINDS[int(rng.choice(len(KINDS), p=weights))]
        if distance < 14 and SHAPES[kind].box and abs(offset) < 2.5:
            kind = "suv"
        paints = TRUCK_PAINTS if SHAPES[kind].box else PAINTS
        paint = np.asarray(paints[int(rng.integers(len(paints)))], np.float64) * rng.uniform(0.8, 1.1)
        colour = (float(paint[0]), float(paint[1]), float(paint[2]))
        braking = bool(rng.random() < 0.3)
        vehicles.append(Vehicle(kind, offset, distance, oncoming, colour, braking, int(rng.integers(2**31))))
        return distance + SHAPES[kind].length

    for left, right, direction in layout.lanes:
        middle = (left + right) / 2
        here = left < 0 < right
        z = float(rng.uniform(7, 12) if density > 0.6 and rng.random() < 0.75 else rng.uniform(12, 60))
        z = max(z, 7.5 if here else 3.5)
        mean = 6 + 9 / max(density, 0.05)
        if not here and rng.random() < density * 0.35:
            z = float(rng.uniform(3.0, 8.0))
        while z < 160:
            if rng.random() < 0.25 + 0.75 * density:
                z = place(middle + float(rng.normal(0, 0.22)), z, direction < 0)
            z += 4 + float(rng.exponential(mean))
    for side, parked in enumerate(layout.parked):
        z = float(rng.uniform(5, 12))
        while parked and z < 90:
            edge = layout.left_edge + 1.15 if side == 0 else layout.right_edge - 1.15
            if rng.random() < 0.75:
                z = place(edge, z, side == 0 and rng.random() < 0.5)
            z += float(rng.uniform(0.8, 4))
    return vehicles


def shadows(vehicles: list[Vehicle], lean: float, strength: int) -> list[Decal]:
    """Shadows on the road: dark beneath, and cast sideways by `lean` metres per metre of height."""
    decals = []
    for v in (vehicle for vehicle in vehicles if vehicle.distance < 90):
        half, length, height = v.shape.width / 2, v.shape.length, v.shape.height
        near, far = v.distance - 0.15, v.distance + length
        if strength and abs(lean) > 0.05:
            reach = lean * height * 0.8
            sides = (v.offset - half + min(reach, 0), v.offset + half + max(reach, 0))
            decals.append(Decal((rectangle(*sides, near, far),), strength, "shade"))
        decals.append(Decal((rectangle(v.offset - half - 0.1, v.offset + half + 0.1, near - 0.1, far),), 150, "shade"))
        decals.append(Decal((rectangle(v.offset - half, v.offset + half, near + 0.1, far),), 225, "shade"))
    return decals


def _outline(points: list[tuple[float, float]], z: float = 0.0) -> Array:
    """x, y pairs of the right half, bottom up -> a symmetric polygon at depth z."""
    right = np.array([(x, y, z) for x, y in points])
    return np.vstack([right, right[::-1] * (-1, 1, 1)])


def _bar(x0: float, x1: float, y0: float, y1: float, z: float = -0.002) -> Array:
    return np.array([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)])


def _side(points: list[tuple[float, float]], x: float) -> Array:
    """z, y pairs at the side x."""
    return np.array([(x, y, z) for z, y in points])


@lru_cache(256)
def _polygons(
    kind: str, front: bool, right_side: bool, variant: int
) -> tuple[Array, list[tuple[int, int, str, float, int]]]:
    """All corners (N, 3) of a kind of vehicle, and its polygons: first, last corner, role, shade, detail level."""
    rng = np.random.default_rng(variant)
    s = SHAPES[kind]
    belt, x = s.belt, 1.0 if right_side else -1.0
    deck = 0.25 if front and s.deck < 0.2 and not s.box and kind != "van" else s.deck
    roof = deck + 0.15 if front and not s.box else s.roof
    end_deck, end_roof = (0.86, 0.7) if not front else (1 - s.deck, 1 - s.roof)
    polygons: list[Polygon] = [(_bar(-0.9, 0.9, 0.06, 0.3, 0.06), "black", 1, 0)]
    nose = 0.9 * belt if front and not s.box else belt
    body = [(0.0, 0.17), (0.0, nose), (deck, belt), (end_deck, belt), (1, belt * 0.95), (1, 0.2)]
    polygons.append(
        (_side([*body[:3], (roof, 0.98), (roof + 0.03, 1), (end_roof - 0.03, 1), *body[3:]], x), "body", 0.72, 0)
    )
    polygons.append((_side([(0, belt - 0.1), (0, belt), (1, belt), (1, belt - 0.1)], x * 1.001), "body", 0.86, 1))
    polygons.append((_side([(0, 0.16), (0, 0.24), (1, 0.24), (1, 0.16)], x * 1.002), "black", 1.0, 1))
    if kind != "truck":
        top = 0.95 if not s.box else 0.8
        span = [(deck + 0.045, belt + 0.02), (roof + 0.02, top), (end_roof - 0.02, top), (end_deck - 0.05, belt + 0.02)]
        polygons.append((_side(span, x * 1.003), "glass", 0.9, 0))
        for at in (0.45, 0.62) if not s.box else (0.2, 0.35, 0.5, 0.65, 0.8):
            polygons.append(
                (_side([(at, belt), (at, top), (at + 0.012, top), (at + 0.012, belt)], x * 1.004), "body", 0.6, 2)
            )
    else:
        for at in np.linspace(0.12, 0.9, 5):
            polygons.append(
                (_side([(at, 0.25), (at, 0.99), (at + 0.004, 0.99), (at + 0.004, 0.25)], x * 1.003), "body", 0.6, 2)
            )
    turn = np.linspace(0, 2 * np.pi, 13)[:-1]
    radius = 0.33 if not s.box else 0.5
    for at in (0.18, 0.81):
        for size, role, shade in ((1.14, "black", 0.7), (1.0, "black", 1.2), (0.62, "rim", 0.8), (0.2, "black", 1.5)):
            ring = [
                (at + np.cos(a) * radius * size / s.length, (radius + np.sin(a) * radius * size) / s.height)
                for a in turn
            ]
            polygons.append((_side(ring, x * 1.006), role, shade, 1))
    for side in (-1, 1):
        polygons.append((_bar(side * 0.93, side * (0.93 - 0.24 / s.width * 1.6), 0.0, 0.25, 0.03), "black", 0.8, 0))
    # The near end: cabin with its window, the deck before it, and the face.
    cabin = [(1.0, belt), (1.0, 0.93), (0.985, 0.975), (0.93, 1.0)]
    if s.box:
        cabin = [(1.0, belt), (1.0, 0.985), (0.985, 1.0)]
    depth = lambda y: deck + (roof - deck) * (y - belt) / (1 - belt)  # noqa: E731
    half = np.array([(px, py, depth(py)) for px, py in cabin])
    polygons.append((np.vstack([half, half[::-1] * (-1, 1, 1)]), "body", 0.95, 0))
    if kind == "truck" and not front:
        polygons.append((_outline([(0.97, 0.27), (0.97, 0.985)]), "body", 0.95, 1))
        polygons.append((_bar(-0.01, 0.01, 0.27, 0.98), "body", 0.5, 1))
        polygons.append((_bar(-0.97, 0.97, 0.255, 0.275), "red", 0.6, 1))
    else:
        low, high = belt + 0.04 * (1 - belt), 0.94
        if s.box:
            low, high = (0.36, 0.86) if front else (0.5, 0.85)
        glass = np.array([(0.88, low, depth(low) - 0.002), (0.87, high, depth(high) - 0.002)])
        polygons.append((np.vstack([glass, glass[::-1] * (-1, 1, 1)]), "glass", 0.75, 0))
        middle = (low + high) / 2
        upper = np.array([(0.87, middle, depth(middle) - 0.003), (0.86, high, depth(high) - 0.003)])
        polygons.append((np.vstack([upper, upper[::-1] * (-1, 1, 1)]), "glass", 1.25, 1))
    if deck > 0.01:
        polygons.append(
            (np.array([(-0.93, nose, 0), (0.93, nose, 0), (0.9, belt, deck), (-0.9, belt, deck)]), "body", 1.2, 0)
        )
    face = [(0.94, 0.16), (0.995, 0.24), (1.0, nose - 0.16), (0.97, nose - 0.03), (0.93, nose)]
    polygons.append((_outline(face), "body", 0.9, 0))
    polygons.append((_outline([(0.99, nose - 0.1), (0.93, nose)]), "body", 1.08, 1))
    polygons.append((_outline([(0.92, nose - 0.02), (0.9, nose)]), "body", 1.3, 2))
    polygons.append((_outline([(0.96, 0.16), (0.99, 0.27)]), "body" if rng.random() < 0.5 else "black", 0.62, 1))
    polygons.append((_bar(-0.75, 0.75, 0.12, 0.19), "black", 1.0, 1))
    lamp_y = nose - (0.1 if not s.box else 0.2)
    tall = 0.055 if kind in ("sedan", "hatch") or front else 0.1
    if s.box:
        lamp_y, tall = 0.27, 0.03
    for side in (-1, 1):
        lamp = _bar(side * 0.97, side * (0.97 - rng.uniform(0.2, 0.42)), lamp_y - tall, lamp_y + tall)
        polygons.append((lamp, "front" if front else "rear", 1.0, 0))
    if front:
        polygons.append((_bar(-0.5, 0.5, nose - 0.22, nose - 0.1), "black", 1.1, 1))
    plate_y = nose - 0.27 if rng.random() < 0.5 and not s.box else 0.26
    plate = 0.26 / s.width * 2
    polygons.append((_bar(-plate / 2, plate / 2, plate_y - 0.035, plate_y + 0.035, -0.004), "plate", 1.0, 1))
    ends = np.cumsum([len(corners) for corners, _, _, _ in polygons])
    parts = [
        (int(end) - len(corners), int(end), role, shade, level)
        for end, (corners, role, shade, level) in zip(ends, polygons, strict=True)
    ]
    return np.vstack([corners for corners, _, _, _ in polygons]), parts


def paint_vehicle(stage: Stage, vehicle: Vehicle) -> None:
    """Paint one vehicle; its light hides those behind it, its lamps shine at night."""
    v = vehicle
    rng = np.random.default_rng(v.seed)
    s = v.shape
    here, ahead = stage.road.shift([v.distance, v.distance + s.length])
    right_side = (here + v.offset) / v.distance < (ahead - here) / s.length
    points, parts = _polygons(v.kind, v.oncoming, bool(right_side), v.seed % 6)
    narrow = 1 - s.tuck * np.clip((points[:, 1] - s.belt) / (1 - s.belt), 0, 1)
    across = v.offset + points[:, 0] * narrow * s.width / 2
    pixels = stage.project(across, np.maximum(v.distance + points[:, 2] * s.length, 1.3), points[:, 1] * s.height)
    tall = float(np.ptp(pixels[:, 1]))
    if tall < 2 or pixels[:, 0].max() < 0 or pixels[:, 0].min() > stage.camera.width:
        return
    if stage.light.night:
        hull = cv2.convexHull(pixels.astype(np.float32))[:, 0]
        stage.cover(hull.astype(np.float64), v.offset, v.distance, 0.8)
    tint = rng.uniform(0.85, 1.15)
    roles: dict[str, Array] = {
        "body": np.asarray(v.paint),
        "glass": np.array([62.0, 58, 52]) * tint,
        "black": np.array([24.0, 23, 23]),
        "rim": np.array([110.0, 108, 106]) * tint,
        "rear": np.array([46.0, 34, 225] if v.braking else [30.0, 24, 120]),
        "red": np.array([40.0, 35, 150]),
        "front": np.array([225.0, 225, 222]),
        "plate": np.array([215.0, 215, 215] if rng.random() < 0.5 else [150.0, 80, 35]),
    }
    detail = 0 if tall < 14 else 1 if tall < 45 else 2
    for start, end, role, shade, level in parts:
        outline = pixels[start:end]
        if level <= detail:
            stage.fill(outline, roles[role], v.distance, shade)
        if role in ("rear", "front") and stage.light.night:
            middle = outline.mean(0)
            size = stage.camera.focal / max(v.distance, 3)
            if role == "rear":
                power = 2.2 if v.braking else 0.7
                stage.shine(middle, 0.09 * size, np.array([0.12, 0.08, 1.0]) * power)
            else:
                stage.shine(middle, 0.1 * size, np.array([0.9, 0.97, 1.0]) * 7)
    if tall > 40:
        _finish(stage, pixels, rng)


def _finish(stage: Stage, pixels: Array, rng: np.random.Generator) -> None:
    """Light from above, dirt and reflections over a painted vehicle: flat polygons look like toys without."""
    height, width = stage.canvas.shape[:2]
    low = np.clip(np.floor(pixels.min(0)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(pixels.max(0)), 0, (width, height)).astype(int)
    if (high - low < 4).any():
        return
    hull = cv2.convexHull(pixels.astype(np.float32))[:, 0] - low
    view = stage.canvas[low[1] : high[1], low[0] : high[0]]
    mask = np.zeros(view.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.round(hull * 16).astype(np.int32), [255], cv2.LINE_8, 4)
    rows = np.linspace(0, 1, 12, dtype=np.float32)
    falls = np.interp(rows, [0, 0.15, 0.5, 0.8, 1], [1.12, 1.05, 1.0, 0.86, 0.68]).astype(np.float32)
    light = np.repeat(falls[:, None], 5, 1) + rng.normal(0, 0.03, (12, 5)).astype(np.float32)
    full = cv2.resize(light, (view.shape[1], view.shape[0]), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(view, (3, 3), 0)
    lit = cv2.multiply(soft, cv2.merge([full, full, full]), dtype=cv2.CV_8U)
    cv2.copyTo(lit, mask, view)
