"""Samples vehicles and draws them as a few dozen shaded polygons that follow the road."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrColour, Float64Array
from clrernetlm.synth.environment.render_context import RenderContext
from clrernetlm.synth.environment.vehicle_shapes import VEHICLE_KINDS, VEHICLE_SHAPES, VehicleShape, vehicle_polygons
from clrernetlm.synth.road.layout import RoadLayout, RoadType

CAR_PAINTS: tuple[BgrColour, ...] = (
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
TRUCK_PAINTS: tuple[BgrColour, ...] = (
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
    paint: BgrColour
    braking: bool
    seed: int

    @property
    def shape(self) -> VehicleShape:
        """Return the dimensions of this kind of vehicle."""
        return VEHICLE_SHAPES[self.kind]


def sample_traffic(rng: np.random.Generator, layout: RoadLayout, density: float) -> list[Vehicle]:
    """Sample vehicles on the lanes and parked beside them; `density` 1 is dense traffic."""
    vehicles: list[Vehicle] = []
    weights = np.array([0.36, 0.16, 0.26, 0.08, 0.05, 0.09])

    def add_vehicle(offset: float, distance: float, oncoming: bool) -> float:
        kind = VEHICLE_KINDS[int(rng.choice(len(VEHICLE_KINDS), p=weights))]
        if distance < 14 and VEHICLE_SHAPES[kind].box and abs(offset) < 2.5:
            kind = "suv"
        paints = TRUCK_PAINTS if VEHICLE_SHAPES[kind].box else CAR_PAINTS
        paint = np.asarray(paints[int(rng.integers(len(paints)))], np.float64) * rng.uniform(0.8, 1.1)
        colour = (float(paint[0]), float(paint[1]), float(paint[2]))
        braking = bool(rng.random() < 0.3)
        vehicles.append(Vehicle(kind, offset, distance, oncoming, colour, braking, int(rng.integers(2**31))))
        return distance + VEHICLE_SHAPES[kind].length

    for left, right, direction in layout.lanes:
        middle = (left + right) / 2
        own_lane = left < 0 < right
        z = float(rng.uniform(7, 12) if density > 0.6 and rng.random() < 0.75 else rng.uniform(12, 60))
        z = max(z, 7.5 if own_lane else 3.5)
        mean = 6 + 9 / max(density, 0.05)
        if not own_lane and rng.random() < density * 0.35:
            z = float(rng.uniform(3.0, 8.0))
        while z < 130:
            if rng.random() < 0.25 + 0.75 * density:
                z = add_vehicle(middle + float(rng.normal(0, 0.22)), z, direction < 0)
            z += 4 + float(rng.exponential(mean))
    for side, parked in enumerate(layout.parked):
        z = float(rng.uniform(5, 12))
        while parked and z < 90:
            edge = layout.left_edge + 1.15 if side == 0 else layout.right_edge - 1.15
            if rng.random() < 0.75:
                z = add_vehicle(edge, z, side == int(layout.left_hand) and rng.random() < 0.5)
            z += float(rng.uniform(0.8, 4))
    return vehicles


def draw_vehicle(context: RenderContext, vehicle: Vehicle) -> None:
    """Draw one vehicle; it hides the light behind it, and its lamps glow at night."""
    v = vehicle
    rng = np.random.default_rng(v.seed)
    s = v.shape
    near_shift, far_shift = context.road.shift([v.distance, v.distance + s.length])
    right_side = (near_shift + v.offset) / v.distance < (far_shift - near_shift) / s.length
    points, parts = vehicle_polygons(v.kind, v.oncoming, bool(right_side), v.seed % 8)
    narrowing = 1 - s.tuck * np.clip((points[:, 1] - s.belt) / (1 - s.belt), 0, 1)
    across = v.offset + points[:, 0] * narrowing * s.width / 2
    pixels = context.project(across, np.maximum(v.distance + points[:, 2] * s.length, 1.3), points[:, 1] * s.height)
    height_px = float(np.ptp(pixels[:, 1]))
    if height_px < 2 or pixels[:, 0].max() < 0 or pixels[:, 0].min() > context.camera.width:
        return
    if context.light.night:
        hull = cv2.convexHull(pixels.astype(np.float32))[:, 0]
        context.shade_polygon(hull.astype(np.float64), v.offset, v.distance, 0.8)
    tint = rng.uniform(0.85, 1.15)
    roles: dict[str, Float64Array] = {
        "body": np.asarray(v.paint),
        "glass": np.array([62.0, 58, 52]) * tint,
        "black": np.array([24.0, 23, 23]),
        "rim": np.array([110.0, 108, 106]) * tint,
        "rear": np.array([46.0, 34, 225] if v.braking else [30.0, 24, 120]),
        "red": np.array([40.0, 35, 150]),
        "front": np.array([225.0, 225, 222]),
        "plate": np.array([215.0, 215, 215] if rng.random() < 0.5 else [150.0, 80, 35]),
    }
    detail = 0 if height_px < 14 else 1 if height_px < 45 else 2
    for start, end, role, shade, level in parts:
        outline = pixels[start:end]
        if level <= detail:
            context.fill_polygon(outline, roles[role], v.distance, shade)
        if role in ("rear", "front") and context.light.night:
            middle = outline.mean(0)
            size = context.camera.focal / max(v.distance, 3)
            if role == "rear":
                power = 2.2 if v.braking else 0.7
                context.add_light(middle, 0.09 * size, np.array([0.12, 0.08, 1.0]) * power)
            else:
                context.add_light(middle, 0.1 * size, np.array([0.9, 0.97, 1.0]) * 7)
    if height_px > 40:
        _shade_vehicle(context, pixels, rng)


def _shade_vehicle(context: RenderContext, pixels: Float64Array, rng: np.random.Generator) -> None:
    """Add light from above, dirt and reflections to a drawn vehicle, whose polygons would otherwise look flat."""
    height, width = context.canvas.shape[:2]
    low = np.clip(np.floor(pixels.min(0)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(pixels.max(0)), 0, (width, height)).astype(int)
    if (high - low < 4).any():
        return
    hull = cv2.convexHull(pixels.astype(np.float32))[:, 0] - low
    view = context.canvas[low[1] : high[1], low[0] : high[0]]
    mask = np.zeros(view.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.round(hull * 16).astype(np.int32), [255], cv2.LINE_8, 4)
    rows = np.linspace(0, 1, 12, dtype=np.float32)
    falls = np.interp(rows, [0, 0.15, 0.5, 0.8, 1], [1.12, 1.05, 1.0, 0.86, 0.68]).astype(np.float32)
    light = np.repeat(falls[:, None], 5, 1) + rng.normal(0, 0.03, (12, 5)).astype(np.float32)
    full = cv2.resize(light, (view.shape[1], view.shape[0]), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(view, (3, 3), 0)
    lit = cv2.multiply(soft, cv2.merge([full, full, full]), dtype=cv2.CV_8U)
    cv2.copyTo(lit, mask, view)


# Chance that cars are parked beside an edge of the road.
PARKED_ON_VERGE: dict[RoadType, float] = {"highway": 0.0, "urban": 0.3, "rural": 0.08, "tunnel": 0.0}
RANDOMIZED_PAINTS: tuple[BgrColour, ...] = (
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


def densify_traffic(rng: np.random.Generator, layout: RoadLayout, vehicles: list[Vehicle]) -> list[Vehicle]:
    """Recolour the `vehicles`, and add some close beside the camera, where they hide the outer lanes."""
    painted = []
    for vehicle in vehicles:
        if rng.random() < 0.6:
            b, g, r = (
                float(v)
                for v in np.asarray(RANDOMIZED_PAINTS[int(rng.integers(len(RANDOMIZED_PAINTS)))])
                * rng.uniform(0.75, 1.15)
            )
            vehicle = replace(vehicle, paint=(b, g, r))
        painted.append(replace(vehicle, braking=bool(rng.random() < 0.25)))
    painted += _park_on_the_verge(rng, layout)
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
            RANDOMIZED_PAINTS[int(rng.integers(len(RANDOMIZED_PAINTS)))],
            bool(rng.random() < 0.3),
            int(rng.integers(2**31)),
        )
        blocked = [
            v for v in painted if abs(v.offset - new.offset) < 2 and v.distance < distance + new.shape.length + 1
        ]
        if not blocked:
            painted.append(new)
    return painted


def _park_on_the_verge(rng: np.random.Generator, layout: RoadLayout) -> list[Vehicle]:
    """Sample rows of cars beside the edges of streets that have no room for parked cars."""
    vehicles: list[Vehicle] = []
    for side, edge in ((-1, layout.left_edge), (1, layout.right_edge)):
        parked = layout.parked[0 if side < 0 else 1] or edge == layout.median
        if parked or rng.random() >= PARKED_ON_VERGE[layout.road_type]:
            continue
        offset, share = edge + side * float(rng.uniform(0.9, 1.4)), float(rng.uniform(0.4, 1.0))
        z = float(rng.uniform(3, 12))
        while z < 80:
            kind = ("sedan", "suv", "van", "hatch")[int(rng.choice(4, p=[0.35, 0.3, 0.1, 0.25]))]
            if rng.random() < share:
                colour = RANDOMIZED_PAINTS[int(rng.integers(len(RANDOMIZED_PAINTS)))]
                seed = int(rng.integers(2**31))
                vehicles.append(Vehicle(kind, offset, z, bool(rng.random() < 0.4), colour, False, seed))
            z += VEHICLE_SHAPES[kind].length + float(rng.uniform(0.6, 3.0))
    return vehicles
