"""Samples shadows on the road: of objects, vehicles, buildings and leaves."""

from __future__ import annotations

import numpy as np

from clrernetlm.synth.environment.roadside_objects import Bridge, Pole, SceneObject
from clrernetlm.synth.environment.traffic import Vehicle
from clrernetlm.synth.environment.weather_sampling import Weather
from clrernetlm.synth.road.layout import RoadLayout
from clrernetlm.synth.road.markings import Decal, rectangle


def object_shadows(objects: list[SceneObject], weather: Weather, sunny: int) -> list[Decal]:
    """Return the shadows of bridges and poles across the road; `sunny` is their depth 0..255."""
    decals = []
    for item in objects:
        if isinstance(item, Bridge):
            z = item.distance + abs(weather.lean)
            decals.append(Decal((rectangle(-40, 40, z, z + item.depth),), max(170, sunny), "shade"))
        if sunny > 110 and isinstance(item, Pole) and item.distance < 90:
            tip = item.offset + weather.lean * item.height
            half = item.width * 0.6
            z, slant = item.distance, 0.3 * item.height
            shape = np.array(
                [[item.offset, z - half], [tip, z + slant - half], [tip, z + slant + half], [item.offset, z + half]]
            )
            decals.append(Decal((shape,), sunny, "shade"))
    return decals


def vehicle_shadows(vehicles: list[Vehicle], lean: float, strength: int) -> list[Decal]:
    """Return the shadows of vehicles: dark beneath, and cast sideways by `lean` metres per metre of height."""
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


def building_shadows(rng: np.random.Generator, layout: RoadLayout, sunny: int) -> list[Decal]:
    """Sample hard shadows of buildings, walls and overpasses on parts of the road; `sunny` is their depth 0..255."""
    if sunny < 110 or rng.random() < 0.6:
        return []
    decals = []
    depth = int(np.clip(sunny * float(rng.uniform(0.75, 1.1)), 0, 235))
    side = float(rng.choice([-1, 1]))
    edge = layout.left_edge if side < 0 else layout.right_edge
    reach = edge - side * float(rng.uniform(0.5, 11))
    z = float(rng.uniform(-12, 10))
    while z < 90:
        length = float(rng.uniform(6, 45))
        skew = float(rng.normal(0, 4))
        corners = rectangle(min(edge + side * 8, reach), max(edge + side * 8, reach), max(z, 1.3), max(z + length, 1.5))
        corners[:, 1] += skew * (corners[:, 0] == reach)
        decals.append(Decal((corners,), depth, "shade"))
        z += length + float(rng.uniform(0, 25))
    return decals


def sample_leaf_shadow(
    rng: np.random.Generator, forced: bool, weather: Weather, layout: RoadLayout
) -> tuple[float, tuple[float, float]]:
    """Sample the depth 0..1 of the shadow of leaves, and the offsets in metres between which it lies.

    It lies on the side of the sun; `forced` draws a deep shadow in any weather.
    """
    depth = float(rng.uniform(0.7, 0.95)) if forced else 0.0
    if depth == 0 and weather.sunny > 0.5 and rng.random() < 0.25:
        depth = float(rng.uniform(0.4, 0.9))
    reach = float(rng.uniform(2, 16))
    if weather.lean < 0:
        return depth, (layout.right_edge - reach, layout.right_edge + 6)
    return depth, (layout.left_edge - 6, layout.left_edge + reach)
