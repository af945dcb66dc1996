"""Samples the pavement: its material, its repairs, and the traces of traffic on it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from clrernetlm.core.arrays import Float32Array
from clrernetlm.synth.road.cross_section import GroundStrip, profile_offsets
from clrernetlm.synth.road.ground_map import LENGTH, PER_METRE, REACH, SIZE, GroundMap, blank, blot, stroke
from clrernetlm.synth.road.layout import RoadLayout
from clrernetlm.synth.road.markings import Decal, RoadLine, rectangle

_PAVED_WEAR = 0.035  # the `wear` of `asphalt_strip`


def randomize_pavement(
    rng: np.random.Generator, layout: RoadLayout, ground_map: GroundMap, faint: bool
) -> list[RoadLine]:
    """Repave `layout` in place and return dark joints; slabs, wheel tracks and dirt go to `ground_map`.

    `faint` keeps seams weak, for roads whose lanes are hardly visible.
    """
    concrete = bool(rng.random() < (0.5 if layout.road_type == "highway" else 0.15))
    grey = _randomize_colour(rng, layout, concrete)
    ground_map.across *= _lengthwise_streaks(rng)
    joints: list[RoadLine] = []
    lanes = [lane for lane in layout.lanes if lane[1] > -REACH and lane[0] < REACH]
    _vary_lane_tones(rng, lanes, ground_map)
    _add_wheel_tracks(rng, lanes, ground_map)
    strength = 0.45 if faint else 1.0
    if concrete and rng.random() < 0.85:
        joints = _concrete_slabs(rng, lanes, ground_map, grey, strength)
    elif rng.random() < 0.3:
        joints = _lengthwise_joints(rng, lanes, grey, strength * 0.8)
    if rng.random() < 0.45:
        _add_patches(rng, ground_map)
    if rng.random() < (0.3 if concrete else 0.55):
        _add_cracks(rng, ground_map, concrete)
    if rng.random() < 0.3:
        _add_crosswise_bars(rng, layout, ground_map)
    if rng.random() < 0.35:
        _add_stains(rng, ground_map)
    _add_edge_dirt(rng, layout, ground_map)
    return joints


def _randomize_colour(rng: np.random.Generator, layout: RoadLayout, concrete: bool) -> float:
    """Give the paved strips another grey, from nearly black to glaring; return the grey of the own lanes."""
    if concrete:
        grey = float(np.clip(rng.normal(140, 28), 80, 210))
        tint = np.array([-0.06, 0.0, 0.05]) * rng.uniform(-0.4, 1.3)
    else:
        grey = float(np.clip(rng.gamma(5.0, 15.0) + 28, 32, 175))
        tint = np.array([0.03, 0.0, -0.02]) * rng.uniform(-1.5, 1.5)
    grain, mottle = float(rng.uniform(0.02, 0.11)), float(rng.uniform(0.015, 0.08))
    base = np.asarray(layout.own_pavement.colour)

    def repaved(strip: GroundStrip) -> GroundStrip:
        """Recolour a paved strip, keeping its ratio to the own lanes."""
        if strip.wear != _PAVED_WEAR:
            return strip
        ratio = np.asarray(strip.colour) / base
        b, g, r = (float(v) for v in grey * (1 + tint) * ratio)
        return replace(strip, colour=(b, g, r), grain=grain, mottle=mottle)

    layout.strips = [repaved(strip) for strip in layout.strips]
    return grey


def _lengthwise_streaks(rng: np.random.Generator) -> Float32Array:
    """Return fine streaks along the road: grooves, brushing, drips."""
    u = profile_offsets()
    noise = rng.standard_normal(len(u)).astype(np.float32)
    depth = float(rng.gamma(1.5, 0.012))
    fine = depth * noise
    broad = cv2.GaussianBlur(rng.standard_normal((1, len(u))).astype(np.float32), (0, 0), 4)[0]
    streaks = 1 + fine + float(rng.gamma(1.5, 0.03)) * broad * 2
    if rng.random() < 0.12:  # saw-cut grooves
        pitch = int(rng.integers(2, 5))
        streaks[::pitch] *= 1 - float(rng.uniform(0.04, 0.14))
    gain: Float32Array = np.clip(streaks, 0.7, 1.3).astype(np.float32)
    return gain


def _vary_lane_tones(rng: np.random.Generator, lanes: list[tuple[float, float, int]], ground_map: GroundMap) -> None:
    """Give lanes the tones of pavements from different years."""
    u = profile_offsets()
    spread = 0.22 if rng.random() < 0.25 else 0.04
    shift = float(rng.uniform(-0.45, 0.45)) if rng.random() < 0.6 else 0.0
    for left, right, _ in lanes:
        tone = float(np.clip(np.exp(rng.normal(0, spread)), 0.6, 1.5))
        ground_map.across[(u > left + shift) & (u <= right + shift)] *= tone


def _add_wheel_tracks(rng: np.random.Generator, lanes: list[tuple[float, float, int]], ground_map: GroundMap) -> None:
    """Add wheel tracks, dark or polished, and the band of oil between them."""
    u = profile_offsets()
    intensity = float(rng.choice([0.4, 1.0, 1.8], p=[0.3, 0.45, 0.25]))
    wheel, oil = float(rng.normal(0.02, 0.1)) * intensity, abs(float(rng.normal(0, 0.12))) * intensity
    tyre_width, oil_width = float(rng.uniform(0.22, 0.5)), float(rng.uniform(0.3, 0.8))
    for left, right, _ in lanes:
        middle = (left + right) / 2 + float(rng.normal(0, 0.1))
        amount = float(rng.uniform(0.4, 1.2))
        inside = np.clip(np.minimum(u - left, right - u) / 0.3, 0, 1)
        tyres = sum(np.exp(-(((u - middle - side) / tyre_width) ** 2)) for side in (-0.85, 0.85))
        band = np.exp(-(((u - middle) / oil_width) ** 2))
        ground_map.across *= np.clip(1 - amount * inside * (wheel * tyres + oil * band), 0.45, 1.4).astype(np.float32)


def _lengthwise_joints(
    rng: np.random.Generator, lanes: list[tuple[float, float, int]], grey: float, strength: float
) -> list[RoadLine]:
    """Return longitudinal joints beside the markings, dark with tar or dirt."""
    distance_to_marking = float(rng.uniform(0.12, 0.45)) * float(rng.choice([-1, 1]))
    joints = []
    tone = grey * float(rng.uniform(0.25, 0.75))
    colour = (tone, tone, tone)
    half = float(rng.uniform(0.012, 0.045))
    for edge in sorted({round(edge, 3) for lane in lanes for edge in lane[:2]}):
        if rng.random() < 0.8:
            joints.append(
                RoadLine(
                    edge + distance_to_marking,
                    half * 2,
                    colour=colour,
                    strength=strength * float(rng.uniform(0.4, 0.95)),
                    wear=float(rng.uniform(0.3, 2.0)),
                )
            )
    return joints


def _concrete_slabs(
    rng: np.random.Generator, lanes: list[tuple[float, float, int]], ground_map: GroundMap, grey: float, strength: float
) -> list[RoadLine]:
    """Add concrete slabs of slightly different tones with joints across; return the joints along the road."""
    pitch = float(rng.choice([3.7, 4.0, 4.6, 5.0, 6.0]))
    rows = round(LENGTH / pitch)
    pitch = LENGTH / rows
    spread, renewed = float(rng.uniform(0.0, 0.05)), float(rng.uniform(0, 0.06))
    depth = float(rng.uniform(0.05, 0.4))
    stagger = float(rng.uniform(0, pitch))
    for left, right, _ in lanes:
        phase = stagger if rng.random() < 0.3 else 0.0
        for row in range(rows):
            near = phase + row * pitch
            tone = float(np.exp(rng.normal(0, spread)))
            if rng.random() < renewed:
                tone *= float(rng.uniform(0.72, 1.22))
            ground_map.scale(left, right, near, near + pitch, tone)
            joint_width = 1 / PER_METRE[0] * (2 if rng.random() < 0.1 else 1)
            ground_map.scale(left, right, near, near + joint_width, 1 - depth * float(rng.uniform(0.4, 1)))
    return _lengthwise_joints(rng, lanes, grey, strength)


def _add_patches(rng: np.random.Generator, ground_map: GroundMap) -> None:
    """Add rectangles and whole lengths of newer pavement, darker or paler."""
    for _ in range(int(rng.integers(1, 5))):
        u, z = float(rng.uniform(-9, 9)), float(rng.uniform(3, 55))
        width, length = float(rng.uniform(0.5, 4.5)), float(np.exp(rng.uniform(0, 3.3)))
        tone = float(np.exp(rng.normal(-0.08, 0.16)))
        ground_map.scale(u, u + width, z, z + length, tone)
        if rng.random() < 0.4:  # its edge is sealed
            for x in (u, u + width):
                ground_map.scale(x - 0.05, x + 0.05, z, z + length, 0.75)


def _add_cracks(rng: np.random.Generator, ground_map: GroundMap, concrete: bool) -> None:
    """Add cracks, bare or sealed with tar, that meander along, across and aslant."""
    mask = blank()
    width = float(rng.uniform(0.04, 0.08 if concrete else 0.15))
    for _ in range(int(rng.integers(1, 8))):
        steps = int(rng.integers(5, 16))
        turn = (0.0, 1.2) if rng.random() < 0.6 else (0.7, float(rng.normal(0, 0.3)))
        walk = np.cumsum(rng.normal(0, [0.16, 0.25], (steps, 2)) + turn, 0)
        stroke(mask, walk[:, 0] + rng.uniform(-9, 9), walk[:, 1] + rng.uniform(2, 50), width)
    ground_map.darken(mask, float(rng.uniform(0.12, 0.65)))


def _add_crosswise_bars(rng: np.random.Generator, layout: RoadLayout, ground_map: GroundMap) -> None:
    """Add expansion joints, trenches and the ends of bridges: bars across the whole road."""
    for _ in range(int(rng.integers(1, 4))):
        z, width = float(rng.uniform(4, 60)), float(rng.choice([0.12, 0.3, 0.8]))
        tone = float(rng.uniform(0.45, 0.85) if rng.random() < 0.75 else rng.uniform(1.1, 1.4))
        ground_map.scale(layout.left_edge, layout.right_edge, z, z + width, tone)
    if rng.random() < 0.4:  # another pavement begins
        near = float(rng.uniform(8, 50))
        ground_map.scale(layout.left_edge, layout.right_edge, near, LENGTH, float(np.exp(rng.normal(0, 0.18))))


def _add_stains(rng: np.random.Generator, ground_map: GroundMap) -> None:
    """Add spots of oil and water, and broad areas of dirt."""
    mask = blank()
    for _ in range(int(rng.integers(3, 40))):
        size = float(rng.uniform(0.06, 0.3))
        blot(mask, float(rng.uniform(-8, 8)), float(rng.uniform(2, 50)), size, size * float(rng.uniform(0.8, 2.5)))
    ground_map.darken(mask, float(rng.uniform(0.1, 0.5)))
    coarse = rng.standard_normal((16, 12)).astype(np.float32)
    cloud = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    ground_map.tone *= np.clip(1 + float(rng.uniform(0.01, 0.08)) * cloud, 0.7, 1.3)


def _add_edge_dirt(rng: np.random.Generator, layout: RoadLayout, ground_map: GroundMap) -> None:
    """Add dirt, which accumulates outside the wheel tracks: beside the outer lanes."""
    u = profile_offsets()
    if rng.random() < 0.5:
        tone = float(rng.uniform(0.7, 1.15))
        for side, edge in ((-1, layout.left_edge), (1, layout.right_edge)):
            depth = np.clip(1 - (edge - u) * side / float(rng.uniform(0.3, 1.2)), 0, 1)
            ground_map.across *= (1 + (tone - 1) * np.where((edge - u) * side > 0, depth, 0)).astype(np.float32)


def sample_pavement_damage(left: float, right: float, rng: np.random.Generator) -> list[Decal]:
    """Sample tar seams, cracks and repaired squares between two offsets, as darker asphalt."""
    decals = []
    for _ in range(int(rng.integers(0, 4))):
        x, z = rng.uniform(left, right), rng.uniform(4, 50)
        size = rng.uniform(0.6, 2.5), rng.uniform(1.5, 12)
        decals.append(Decal((rectangle(x, x + size[0], z, z + size[1]),), int(rng.uniform(20, 80)), "shade"))
    for _ in range(int(rng.integers(0, 6))):  # cracks sealed with tar meander along or across
        along = rng.random() < 0.65
        steps = int(rng.integers(5, 14))
        x, z = rng.uniform(left, right), rng.uniform(3, 40)
        walk = np.cumsum(rng.normal(0, [0.12, 0.25], (steps, 2)) + ([0, 1.3] if along else [0.7, 0]), 0)
        middle = walk + np.array([x, z])
        half = rng.uniform(0.015, 0.05)
        side = np.array([half, 0.0]) if along else np.array([0.0, half * 2])
        outline = np.vstack([middle - side, (middle + side)[::-1]])
        outline[:, 0] = np.clip(outline[:, 0], left, right)
        decals.append(Decal((outline,), int(rng.uniform(70, 150)), "shade"))
    if rng.random() < 0.3:  # joints of concrete slabs or bridges
        pitch = rng.uniform(5, 25)
        joints = np.arange(rng.uniform(2, 2 + pitch), 90, pitch)
        decals.append(Decal(tuple(rectangle(left, right, z, z + 0.06) for z in joints), 90, "shade"))
    return decals
