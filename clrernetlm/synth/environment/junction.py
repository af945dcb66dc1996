"""Samples junctions: the crossing street, its markings, and arrows in the lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.synth.environment.roadside_objects import Building, SceneObject
from clrernetlm.synth.environment.traffic import Vehicle
from clrernetlm.synth.road.layout import RoadLayout
from clrernetlm.synth.road.markings import Decal, arrow, lettering, rectangle, stop_line, zebra


def sample_lane_arrows(rng: np.random.Generator, layout: RoadLayout) -> list[Decal]:
    """Sample rows of arrows and text in the lanes of the own direction."""
    decals = []
    ahead = [(left + right) / 2 for left, right, direction in layout.lanes if direction > 0]
    for z in np.arange(float(rng.uniform(5, 16)), 80, float(rng.uniform(18, 45))):
        for middle in ahead:
            if rng.random() < 0.8:
                decals.append(arrow(int(rng.integers(5)), middle, z))
            elif rng.random() < 0.4:
                decals.append(lettering(middle, z, rng))
    return decals


def sample_junction(
    rng: np.random.Generator, layout: RoadLayout, vehicles: list[Vehicle]
) -> tuple[tuple[float, float], list[Vehicle], list[Decal]]:
    """Sample a crossing street: its distances, its zebra crossings and stop lines, and the vehicles that remain.

    Clips the lines of `layout` in place.
    """
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


def stands_in_junction(item: SceneObject, between: tuple[float, float]) -> bool:
    """Test whether an object stands in the crossing street."""
    if isinstance(item, Building):
        return item.distance < between[1] and item.distance + item.depth > between[0]
    return between[0] - 3 < item.depth_key and item.distance < between[1] + 3
