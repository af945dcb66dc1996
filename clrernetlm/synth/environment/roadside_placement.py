"""Places objects beside a road of a given type."""

from __future__ import annotations

import numpy as np

from clrernetlm.core.arrays import BgrColour
from clrernetlm.synth.environment.roadside_objects import (
    BarrierSegment,
    Bridge,
    Building,
    Pole,
    SceneObject,
    Sign,
    Tree,
    Tunnel,
)
from clrernetlm.synth.environment.sprites import TREE_KINDS
from clrernetlm.synth.road.layout import RoadLayout

RAIL = ((0.0, 0.3, 0.85), (0.3, 0.5, 0.55), (0.5, 0.8, 0.95), (0.8, 1.0, 1.15))
CONCRETE = ((0.0, 0.3, 0.72), (0.3, 0.94, 0.95), (0.94, 1.0, 1.15))
PANELS = ((0.0, 0.18, 0.7), (0.18, 0.55, 0.95), (0.55, 0.57, 0.7), (0.57, 0.97, 1.0), (0.97, 1.0, 0.75))
FENCE = ((0.08, 0.14, 0.9), (0.45, 0.5, 0.9), (0.9, 1.0, 1.0))
KERB = ((0.0, 1.0, 0.8),)
SIGN_COLOURS: tuple[BgrColour, ...] = (
    (60.0, 110.0, 20.0),
    (150.0, 80.0, 20.0),
    (40.0, 40.0, 190.0),
    (60.0, 170.0, 215.0),
)


def _segment_distances(rng: np.random.Generator, far: float = 260.0) -> np.ndarray:
    """Return the distances at which pieces of a barrier meet: every 4 m nearby, longer far off."""
    start = 0.6
    near = np.arange(3.0 + float(rng.uniform(0, 1)), 42.0, 4.0)
    return np.concatenate([[start], near, np.geomspace(46, far, 9)])


def place_barrier(rng: np.random.Generator, offset: float, kinds: tuple[str, ...]) -> list[SceneObject]:
    """Place a barrier of one of the `kinds` along the road."""
    kind = kinds[int(rng.integers(len(kinds)))]
    grey = float(rng.uniform(120, 190))
    low, high, bands, post = {
        "rail": (0.42, 0.78, RAIL, 0.12),
        "concrete": (0.0, float(rng.uniform(0.75, 1.1)), CONCRETE, 0.0),
        "panels": (0.0, float(rng.uniform(2.2, 4.5)), PANELS, 0.2),
        "fence": (0.0, float(rng.uniform(0.8, 1.3)), FENCE, 0.06),
        "kerb": (0.0, 0.16, KERB, 0.0),
    }[kind]
    tint = rng.normal(0, 5, 3)
    if kind in ("fence", "panels") and rng.random() < 0.5:
        tint = tint + ((-25, 6, -32) if rng.random() < 0.5 else (4, -4, -14))
    b, g, r = (float(v) for v in np.clip(grey + tint, 30, 235))
    z = _segment_distances(rng)
    shades = 1 + rng.normal(0, 0.05 if kind == "panels" else 0.02, len(z))
    return [
        BarrierSegment(offset, float(a), float(c), low, high, (b * s, g * s, r * s), bands, post if a < 60 else 0.0)
        for a, c, s in zip(z[:-1], z[1:], shades[:-1], strict=True)
    ]


def _foliage_colour(rng: np.random.Generator, season: BgrColour) -> BgrColour:
    """Vary the colour of leaves in a season."""
    b, g, r = (float(v) for v in np.asarray(season) * rng.uniform(0.75, 1.2) * rng.uniform(0.9, 1.1, 3))
    return b, g, r


def place_trees(
    rng: np.random.Generator, side: int, edge: float, season: BgrColour, near: float, gap: float, typical_height: float
) -> list[SceneObject]:
    """Place trees along one `side` (-1, 1) of the road beyond `edge` metres, about every `gap` metres."""
    objects: list[SceneObject] = []
    z = near
    while z < 230:
        height = float(typical_height * rng.uniform(0.6, 1.25))
        offset = edge + side * float(rng.gamma(1.6, 2.5) + 1.5)
        hedge = rng.random() < 0.15
        kind = TREE_KINDS + int(rng.integers(2)) if hedge else int(rng.integers(TREE_KINDS))
        if hedge:
            height *= 0.3
        width = height * float(rng.uniform(0.7, 1.05) * (3.0 if hedge else 1.0))
        objects.append(Tree(offset, z, height, width, kind, _foliage_colour(rng, season), bool(rng.random() < 0.5)))
        z += float(rng.exponential(gap)) * (1 + z / 50) + 0.8
    return objects


def place_buildings(
    rng: np.random.Generator, side: int, edge: float, night: bool, typical_height: float
) -> list[SceneObject]:
    """Place a row of buildings along one side."""
    objects: list[SceneObject] = []
    z = float(rng.uniform(-5, 25))
    while z < 260:
        depth, width = float(rng.uniform(10, 40)), float(rng.uniform(10, 30))
        height = float(np.clip(rng.gamma(2.5, typical_height / 2.5), 4, 90))
        lit = float(rng.uniform(0.05, 0.4)) if night else 0.0
        offset = edge + side * float(rng.uniform(0, 5))
        if z + depth > 6:
            shade = float(rng.uniform(0.55, 1.0))
            objects.append(
                Building(
                    offset,
                    max(z, 3.5),
                    z + depth - max(z, 3.5),
                    width,
                    height,
                    int(rng.integers(2**31)),
                    lit,
                    float(rng.uniform(0.7, 1.1)),
                    shade,
                )
            )
        z += depth + float(rng.exponential(9))
    return objects


def place_lamps(rng: np.random.Generator, side: int, edge: float, colour: BgrColour | None) -> list[SceneObject]:
    """Place street lamps in a row; `colour` is their light at night."""
    pitch, height = float(rng.uniform(22, 42)), float(rng.uniform(7, 11))
    arm = -side * float(rng.uniform(1.2, 3.0))
    start = float(rng.uniform(6, 6 + pitch))
    return [Pole(edge + side * 0.7, z, height, 0.16, arm, lamp=colour) for z in np.arange(start, 260, pitch)]


def _tunnel(rng: np.random.Generator, layout: RoadLayout) -> Tunnel:
    """Sample a tunnel around the whole road."""
    grey, warm = float(rng.uniform(130, 215)), float(rng.uniform(-10, 40))
    power = float(rng.uniform(3, 9))
    lamp = (power * float(rng.uniform(0.4, 1.0)), power * 0.9, power)
    left, right = layout.left_edge - 0.6, layout.right_edge + 0.6
    colour = (grey - warm, grey, grey)
    seed = int(rng.integers(2**31))
    return Tunnel(left, right, float(rng.uniform(4.6, 6.5)), colour, lamp, float(rng.choice([4, 6, 10])), seed)


def _sample_trees(
    rng: np.random.Generator,
    side: int,
    edge: float,
    season: BgrColour,
    near: tuple[float, float],
    gap: tuple[float, float],
    typical_height: tuple[float, float],
) -> list[SceneObject]:
    """Call `place_trees` with distance, gaps and heights drawn from ranges."""
    return place_trees(
        rng,
        side,
        edge,
        season,
        float(rng.uniform(*near)),
        float(rng.uniform(*gap)),
        float(rng.uniform(*typical_height)),
    )


def _beside_highway(
    rng: np.random.Generator, side: int, edge: float, outer: bool, season: BgrColour, night: bool
) -> list[SceneObject]:
    """Place objects on one side beyond `edge` metres; `outer`: no other carriageway on that side."""
    objects: list[SceneObject] = []
    wooded = rng.random() < 0.75
    if outer and rng.random() < 0.75:
        objects += place_barrier(rng, edge + side * 0.4, ("rail", "rail", "rail", "concrete", "panels", "fence"))
    if wooded:
        objects += _sample_trees(rng, side, edge + side * float(rng.uniform(2, 14)), season, (12, 30), (2, 10), (4, 12))
    if rng.random() < 0.2:
        objects += place_buildings(rng, side, edge + side * float(rng.uniform(20, 45)), night, 20)
    return objects


def _beside_urban_street(
    rng: np.random.Generator, side: int, edge: float, outer: bool, season: BgrColour, night: bool
) -> list[SceneObject]:
    """Place objects as `_beside_highway` does, in a town."""
    objects: list[SceneObject] = []
    wooded = rng.random() < 0.75
    if outer:
        objects += place_barrier(rng, edge, ("kerb", "kerb", "kerb", "fence"))
    if wooded:
        objects += _sample_trees(rng, side, edge + side * 1.0, season, (9, 22), (4, 14), (4, 9))
    if rng.random() < 0.8:
        objects += place_buildings(
            rng, side, edge + side * float(rng.uniform(5, 16)), night, float(rng.choice([7, 14, 30]))
        )
    return objects


def _beside_country_road(
    rng: np.random.Generator, side: int, edge: float, outer: bool, season: BgrColour, night: bool
) -> list[SceneObject]:
    """Place objects as `_beside_highway` does, in the country."""
    objects: list[SceneObject] = []
    wooded = rng.random() < 0.9
    if rng.random() < 0.35:
        objects += place_barrier(rng, edge + side * 0.8, ("rail", "fence"))
    if wooded:
        objects += _sample_trees(rng, side, edge + side * float(rng.uniform(1, 8)), season, (10, 30), (2, 10), (4, 11))
    if rng.random() < 0.2:
        objects += place_buildings(rng, side, edge + side * float(rng.uniform(8, 25)), night, 6)
    return objects


def _signs(rng: np.random.Generator, side: int, edge: float) -> list[SceneObject]:
    """Sample up to two signs at one side."""
    signs: list[SceneObject] = []
    for _ in range(int(rng.integers(0, 3))):
        size, z = float(rng.uniform(0.6, 1.6)), float(rng.uniform(14, 90))
        colour = SIGN_COLOURS[int(rng.integers(len(SIGN_COLOURS)))]
        top = 2.0 + size * float(rng.uniform(0.6, 1.3))
        signs.append(Sign(edge + side * 1.2, z, size, 2.0, top, colour, int(rng.integers(2**31)), glow=0.3))
    return signs


def _gantry(rng: np.random.Generator, left: float, right: float) -> list[SceneObject]:
    """Sample signs on a beam across the road."""
    z, width = float(rng.uniform(28, 140)), float(rng.uniform(3, 7))
    objects: list[SceneObject] = [Pole(left - 0.6, z, 6.5, 0.3), Pole(right + 0.6, z, 6.5, 0.3)]
    objects.append(BarrierSegment(left - 0.6, z, z + 0.01, 6.0, 6.4, (110, 112, 114)))
    colour = SIGN_COLOURS[int(rng.integers(2))]
    for _ in range(int(rng.integers(1, 3))):
        u = float(rng.uniform(left, right))
        objects.append(Sign(u, z, width, 5.2, 5.2 + width * 0.5, colour, int(rng.integers(2**31)), (), 0.4))
    return objects


def _bridge(rng: np.random.Generator, left: float, right: float) -> Bridge:
    """Sample a bridge over the road."""
    z, depth = float(rng.uniform(18, 130)), float(rng.uniform(6, 24))
    grey = float(rng.uniform(95, 165))
    pillars = (left - 2.0, right + 2.5, left - 24, right + 22)
    clearance, thickness = float(rng.uniform(5, 7.5)), float(rng.uniform(1.0, 2.4))
    return Bridge(z, depth, clearance, thickness, pillars, (grey, grey + 2, grey + 4))


def _billboard(rng: np.random.Generator, left: float, right: float) -> Sign:
    """Sample a lit billboard beside the road."""
    side = int(rng.choice([-1, 1]))
    b, g, r = (float(v) for v in rng.choice([[230, 170, 60], [60, 60, 235], [120, 230, 90], [235, 235, 235]]))
    edge = right if side > 0 else left
    width = float(rng.uniform(3, 9))
    offset, z = edge + side * float(rng.uniform(6, 14)), float(rng.uniform(35, 110))
    return Sign(offset, z, width, 6.0, 6.0 + width * 0.45, (b, g, r), int(rng.integers(2**31)), (0.0,), 1.5)


def sample_roadside(
    rng: np.random.Generator, layout: RoadLayout, season: BgrColour, night: bool, lamp: BgrColour | None, bridge: bool
) -> list[SceneObject]:
    """Sample all objects beside the road, in any order."""
    road_type = layout.road_type
    if road_type == "tunnel":
        return [_tunnel(rng, layout)]
    objects: list[SceneObject] = []
    left, right = layout.left_edge, layout.right_edge
    median_side = 1 if layout.left_hand else -1
    if layout.median is not None:
        objects += place_barrier(rng, layout.median, ("rail", "concrete", "fence", "rail"))
        left, right = (left, right + 18.0) if layout.left_hand else (left - 18.0, right)
        if rng.random() < 0.3:
            beyond = layout.median + median_side
            objects += place_trees(rng, median_side, beyond, season, float(rng.uniform(8, 14)), 7.0, 2.2)
    place_side = {"highway": _beside_highway, "urban": _beside_urban_street, "rural": _beside_country_road}[road_type]
    for side, edge in ((-1, left), (1, right)):
        objects += place_side(rng, side, edge, side != median_side or layout.median is None, season, night)
        if rng.random() < (0.3 if road_type == "rural" else 0.65) or (
            night and lamp is not None and side != median_side
        ):
            objects += place_lamps(rng, side, edge, lamp)
        objects += _signs(rng, side, edge)
    if rng.random() < (0.3 if road_type == "highway" else 0.12):
        objects += _gantry(rng, left, right)
    if bridge:
        objects.append(_bridge(rng, left, right))
    if night and rng.random() < 0.35:
        objects.append(_billboard(rng, left, right))
    return objects
