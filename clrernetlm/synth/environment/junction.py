"""Crossing: crossroads, arrows in the lanes, and the shadows that things cast on the road."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.synth.environment.roadside_objects import Bridge, House, Pole, Thing
from clrernetlm.synth.environment.traffic import Vehicle
from clrernetlm.synth.environment.weather import Weather
from clrernetlm.synth.road.layout import Layout
from clrernetlm.synth.road.markings import Decal, arrow, lettering, rectangle, stop_line, zebra


def sample_arrows(rng: np.random.Generator, layout: Layout) -> list[Decal]:
    """Arrows and text in the lanes of the own direction, in rows."""
    decals = []
    ahead = [(left + right) / 2 for left, right, direction in layout.lanes if direction > 0]
    for z in np.arange(float(rng.uniform(5, 16)), 80, float(rng.uniform(18, 45))):
        for middle in ahead:
            if rng.random() < 0.8:
                decals.append(arrow(int(rng.integers(5)), middle, z))
            elif rng.random() < 0.4:
                decals.append(lettering(middle, z, rng))
    return decals


def sample_crossing(
    rng: np.random.Generator, layout: Layout, vehicles: list[Vehicle]
) -> tuple[tuple[float, float], list[Vehicle], list[Decal]]:
    """Where the crossing street lies; its zebras and stop lines; the vehicles that stay."""
    start, width = float(rng.uniform(-4, 26)), float(rng.uniform(14, 34))
    near, far = start, start + width
    left, right = layout.left_edge + 0.4, layout.right_edge - 0.4
    decals = []
    pitch = float(rng.uniform(0.9, 1.3))
    if rng.random() < 0.85 and near > 4:
        decals.append(zebra(left, right, near - 4.5, 4.0, pitch))
        decals.append(stop_line(layout.lanes[-1][0] if len(layout.lanes) < 2 else left, right, near - 6.5))
    if rng.random() < 0.85:
        decals.append(zebra(left, right, far + 0.5, 4.0, pitch))
    for side in (left - 5.0, right + 1.0):
        if rng.random() < 0.7:
            bars = np.arange(near + 1, far - 1, pitch)
            decals.append(Decal(tuple(rectangle(side, side + 4.0, z, z + pitch / 2) for z in bars), 215))
    layout.lines = [
        piece
        for line in layout.lines
        for piece in (replace(line, last=near - 6.5), replace(line, first=far + 6.0))
        if piece.last > 1.5
    ]
    clear = [v for v in vehicles if v.distance > far or v.distance + v.shape.length < near - 6]
    return (near, far), clear, decals


def reaches(thing: Thing, between: tuple[float, float]) -> bool:
    """Whether a thing stands in the crossing street."""
    if isinstance(thing, House):
        return thing.distance < between[1] and thing.distance + thing.depth > between[0]
    return between[0] - 3 < thing.depth_key and thing.distance < between[1] + 3


def thing_shadows(things: list[Thing], weather: Weather, sunny: int) -> list[Decal]:
    """Shadows that bridges, poles and trees cast across the road."""
    decals = []
    for thing in things:
        if isinstance(thing, Bridge):
            z = thing.distance + abs(weather.lean)
            decals.append(Decal((rectangle(-40, 40, z, z + thing.depth),), max(170, sunny), "shade"))
        if sunny > 110 and isinstance(thing, Pole) and thing.distance < 90:
            tip = thing.offset + weather.lean * thing.height
            half = thing.width * 0.6
            z, slant = thing.distance, 0.3 * thing.height
            shape = np.array(
                [[thing.offset, z - half], [tip, z + slant - half], [tip, z + slant + half], [thing.offset, z + half]]
            )
            decals.append(Decal((shape,), sunny, "shade"))
    return decals
