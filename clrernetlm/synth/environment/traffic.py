"""Traffic: vehicles as a few dozen shaded polygons that follow the road."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.environment.canvas import Stage
from clrernetlm.synth.environment.vehicle import KINDS, SHAPES, Shape, template
from clrernetlm.synth.road.layout import Layout
from clrernetlm.synth.road.markings import Decal, rectangle

Array = NDArray[np.float64]
Colour = tuple[float, float, float]
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
        while z < 130:
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


def paint_vehicle(stage: Stage, vehicle: Vehicle) -> None:
    """Paint one vehicle; its light hides those behind it, its lamps shine at night."""
    v = vehicle
    rng = np.random.default_rng(v.seed)
    s = v.shape
    here, ahead = stage.road.shift([v.distance, v.distance + s.length])
    right_side = (here + v.offset) / v.distance < (ahead - here) / s.length
    points, parts = template(v.kind, v.oncoming, bool(right_side), v.seed % 8)
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
