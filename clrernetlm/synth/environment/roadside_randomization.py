"""Adds objects that close the view beside real roads: slopes, tree lines, barriers, overpasses, power lines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.core.arrays import BgrColour
from clrernetlm.synth.environment.backdrop import Backdrop
from clrernetlm.synth.environment.roadside_objects import Bridge, Pole, PowerLines, SceneObject
from clrernetlm.synth.environment.roadside_placement import place_barrier
from clrernetlm.synth.road.layout import RoadLayout

# Colours at the foot and at the top.
_SLOPES: tuple[tuple[BgrColour, BgrColour], ...] = (
    ((92.0, 128.0, 142.0), (104.0, 146.0, 166.0)),  # dry grass
    ((44.0, 84.0, 74.0), (52.0, 98.0, 88.0)),  # grass
    ((88.0, 104.0, 118.0), (100.0, 118.0, 132.0)),  # earth
    ((112.0, 116.0, 120.0), (124.0, 128.0, 132.0)),  # rock, concrete
)
_SIDE_CHANCES = (0.25, 0.2, 0.15, 0.4)  # chance of neither side, the left, the right and both


def add_backdrops(
    rng: np.random.Generator, layout: RoadLayout, objects: list[SceneObject], season: BgrColour
) -> list[SceneObject]:
    """Return `objects` and further backdrops, barriers, overpasses and power lines."""
    if layout.road_type == "tunnel":
        return objects
    left, right = layout.left_edge, layout.right_edge
    if layout.median is not None:
        left, right = (left, right + 18.0) if layout.left_hand else (left - 18.0, right)
    sides = ((), (-1,), (1,), (-1, 1))[int(rng.choice(4, p=_SIDE_CHANCES))]
    added: list[SceneObject] = []
    for side in sides:
        edge = left if side < 0 else right
        if layout.road_type == "urban":
            if rng.random() < 0.5:
                added.append(tree_backdrop(rng, side, edge + side * float(rng.uniform(2, 9)), season))
        else:
            added += _slope_or_trees(rng, side, edge, season)
    if layout.road_type == "highway":
        for side, edge in ((-1, layout.left_edge), (1, layout.right_edge)):
            if rng.random() < 0.3:  # right beside the outer lane
                added += place_barrier(
                    rng, edge + side * float(rng.uniform(0.0, 0.5)), ("concrete", "concrete", "panels", "rail")
                )
        if rng.random() < 0.15:
            added.append(_overpass(rng, layout))
    if rng.random() < (0.15 if layout.road_type == "highway" else 0.35):
        added += _power_poles(rng, -1 if rng.random() < 0.5 else 1, left, right)
    return objects + added


def tree_backdrop(rng: np.random.Generator, side: int, offset: float, season: BgrColour) -> Backdrop:
    """Sample a continuous line of trees."""
    height = float(rng.uniform(3, 14))
    shade = float(rng.uniform(0.35, 0.95))
    b, g, r = (float(v) for v in np.asarray(season) * shade * rng.uniform(0.85, 1.1, 3))
    near = 1.5 if rng.random() < 0.6 else float(rng.uniform(6, 50))
    return Backdrop(
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


def _slope_or_trees(rng: np.random.Generator, side: int, edge: float, season: BgrColour) -> list[SceneObject]:
    """Sample a slope beside the road, with or without trees on it, or trees alone."""
    kind = rng.random()
    foot_offset = edge + side * float(rng.gamma(2.0, 2.0))
    if kind < 0.4:
        return [tree_backdrop(rng, side, foot_offset + side * 1.5, season)]
    foot, top = _SLOPES[int(rng.choice(4, p=[0.35, 0.35, 0.15, 0.15]))]
    brightness = float(rng.uniform(0.7, 1.1))
    height = float(rng.uniform(1.5, 12))
    run = height * float(rng.uniform(0.9, 2.2))
    slope = Backdrop(
        foot_offset,
        1.5 if rng.random() < 0.6 else float(rng.uniform(5, 40)),
        float(rng.uniform(90, 260)),
        height,
        run,
        float(rng.uniform(0.1, 0.5)),
        float(rng.uniform(25, 80)),
        (foot[0] * brightness, foot[1] * brightness, foot[2] * brightness),
        (top[0] * brightness, top[1] * brightness, top[2] * brightness),
        float(rng.uniform(0.05, 0.15)),
        float(rng.uniform(0.6, 2.5)),
        int(rng.integers(2**31)),
    )
    if kind < 0.65:
        return [slope]
    trees = tree_backdrop(rng, side, foot_offset + side * run * 0.6, season)
    return [replace(trees, height=trees.height + height * 0.8), slope]


def _overpass(rng: np.random.Generator, layout: RoadLayout) -> Bridge:
    """Sample a bridge across the road, often near."""
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


def _power_poles(rng: np.random.Generator, side: int, left: float, right: float) -> list[SceneObject]:
    """Sample power poles along one side and their cables."""
    edge = left if side < 0 else right
    offset, pitch = edge + side * float(rng.uniform(0.8, 6)), float(rng.uniform(22, 45))
    height = float(rng.uniform(7, 12))
    distances = np.arange(float(rng.uniform(4, pitch)), 190, pitch)
    colour = ((62.0, 76.0, 88.0), (120.0, 122.0, 124.0), (48.0, 52.0, 56.0))[int(rng.integers(3))]
    poles: list[SceneObject] = [Pole(offset, float(z), height, 0.28, colour=colour) for z in distances]
    heights = tuple(float(height - h) for h in rng.uniform(0.1, 3.2, int(rng.integers(2, 6))))
    return [*poles, PowerLines(offset, 170.0, (max(2.0, float(distances[0] - pitch)), *map(float, distances)), heights)]
