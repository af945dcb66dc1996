"""Pavement: what years of traffic leave on concrete and asphalt, and how they were laid."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.road.cross_section import Zone
from clrernetlm.synth.road.ground_map import LENGTH, PER_METRE, REACH, SIZE, Ground, blank, blot, stroke
from clrernetlm.synth.road.layout import Layout
from clrernetlm.synth.road.markings import Line
from clrernetlm.synth.road.surface import profile_offsets

Floats = NDArray[np.float32]
_PAVED_WEAR = 0.035  # what `section.asphalt` gives its zones


def lay_pavement(rng: np.random.Generator, layout: Layout, ground: Ground, faint: bool) -> list[Line]:
    """Repave the `layout`: new colours, and slabs, tracks, seams and dirt on the `ground`; gives dark joints.

    `faint` keeps seams weak, for roads whose lanes can hardly be told.
    """
    concrete = bool(rng.random() < (0.5 if layout.place == "highway" else 0.15))
    grey = _recolour(rng, layout, concrete)
    ground.across *= _streaks(rng)
    joints: list[Line] = []
    lanes = [lane for lane in layout.lanes if lane[1] > -REACH and lane[0] < REACH]
    _tone_lanes(rng, lanes, ground)
    _wear_lanes(rng, lanes, ground)
    strength = 0.45 if faint else 1.0
    if concrete and rng.random() < 0.85:
        joints = _slabs(rng, lanes, ground, grey, strength)
    elif rng.random() < 0.3:
        joints = _joints(rng, lanes, grey, strength * 0.8)
    if rng.random() < 0.45:
        _patch(rng, ground)
    if rng.random() < (0.3 if concrete else 0.55):
        _crack(rng, ground, concrete)
    if rng.random() < 0.3:
        _cross(rng, layout, ground)
    if rng.random() < 0.35:
        _stain(rng, ground)
    _edges(rng, layout, ground)
    return joints


def _recolour(rng: np.random.Generator, layout: Layout, concrete: bool) -> float:
    """Give the paved zones another grey, from nearly black to glaring; the grey of the own lanes."""
    if concrete:
        grey = float(np.clip(rng.normal(140, 28), 80, 210))
        tint = np.array([-0.06, 0.0, 0.05]) * rng.uniform(-0.4, 1.3)
    else:
        grey = float(np.clip(rng.gamma(5.0, 15.0) + 28, 32, 175))
        tint = np.array([0.03, 0.0, -0.02]) * rng.uniform(-1.5, 1.5)
    grain, mottle = float(rng.uniform(0.02, 0.11)), float(rng.uniform(0.015, 0.08))
    own = max((zone for zone in layout.zones if zone.left < 0), key=lambda zone: zone.left)
    base = np.asarray(own.colour)

    def repaved(zone: Zone) -> Zone:
        if zone.wear != _PAVED_WEAR:
            return zone
        ratio = np.asarray(zone.colour) / base
        b, g, r = (float(v) for v in grey * (1 + tint) * ratio)
        return replace(zone, colour=(b, g, r), grain=grain, mottle=mottle)

    layout.zones = [repaved(zone) for zone in layout.zones]
    return grey


def _streaks(rng: np.random.Generator) -> Floats:
    """Fine streaks along the road: grooves, brushing, drips."""
    u = profile_offsets()
    noise = rng.standard_normal(len(u)).astype(np.float32)
    depth = float(rng.gamma(1.5, 0.012))
    fine = depth * noise
    broad = cv2.GaussianBlur(rng.standard_normal((1, len(u))).astype(np.float32), (0, 0), 4)[0]
    streaks = 1 + fine + float(rng.gamma(1.5, 0.03)) * broad * 2
    if rng.random() < 0.12:  # saw-cut grooves
        pitch = int(rng.integers(2, 5))
        streaks[::pitch] *= 1 - float(rng.uniform(0.04, 0.14))
    return np.clip(streaks, 0.7, 1.3).astype(np.float32)


def _tone_lanes(rng: np.random.Generator, lanes: list[tuple[float, float, int]], ground: Ground) -> None:
    """Lanes paved in different years."""
    u = profile_offsets()
    spread = 0.22 if rng.random() < 0.25 else 0.04
    shift = float(rng.uniform(-0.45, 0.45)) if rng.random() < 0.6 else 0.0
    for left, right, _ in lanes:
        tone = float(np.clip(np.exp(rng.normal(0, spread)), 0.6, 1.5))
        ground.across[(u > left + shift) & (u <= right + shift)] *= tone


def _wear_lanes(rng: np.random.Generator, lanes: list[tuple[float, float, int]], ground: Ground) -> None:
    """Tyre tracks, dark or polished, and the band of oil between them."""
    u = profile_offsets()
    strong = float(rng.choice([0.4, 1.0, 1.8], p=[0.3, 0.45, 0.25]))
    wheel, oil = float(rng.normal(0.02, 0.1)) * strong, abs(float(rng.normal(0, 0.12))) * strong
    narrow, wide = float(rng.uniform(0.22, 0.5)), float(rng.uniform(0.3, 0.8))
    for left, right, _ in lanes:
        middle = (left + right) / 2 + float(rng.normal(0, 0.1))
        amount = float(rng.uniform(0.4, 1.2))
        inside = np.clip(np.minimum(u - left, right - u) / 0.3, 0, 1)
        tyres = sum(np.exp(-(((u - middle - side) / narrow) ** 2)) for side in (-0.85, 0.85))
        band = np.exp(-(((u - middle) / wide) ** 2))
        ground.across *= np.clip(1 - amount * inside * (wheel * tyres + oil * band), 0.45, 1.4).astype(np.float32)


def _joints(
    rng: np.random.Generator, lanes: list[tuple[float, float, int]], grey: float, strength: float
) -> list[Line]:
    """Longitudinal joints beside the markings, dark with tar or dirt."""
    beside = float(rng.uniform(0.12, 0.45)) * float(rng.choice([-1, 1]))
    joints = []
    tone = grey * float(rng.uniform(0.25, 0.75))
    colour = (tone, tone, tone)
    half = float(rng.uniform(0.012, 0.045))
    for edge in sorted({round(edge, 3) for lane in lanes for edge in lane[:2]}):
        if rng.random() < 0.8:
            joints.append(
                Line(
                    edge + beside,
                    half * 2,
                    colour=colour,
                    strength=strength * float(rng.uniform(0.4, 0.95)),
                    wear=float(rng.uniform(0.3, 2.0)),
                )
            )
    return joints


def _slabs(
    rng: np.random.Generator, lanes: list[tuple[float, float, int]], ground: Ground, grey: float, strength: float
) -> list[Line]:
    """Concrete slabs: joints across and along, slabs of slightly other tones, some replaced."""
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
            ground.scale(left, right, near, near + pitch, tone)
            wide = 1 / PER_METRE[0] * (2 if rng.random() < 0.1 else 1)
            ground.scale(left, right, near, near + wide, 1 - depth * float(rng.uniform(0.4, 1)))
    return _joints(rng, lanes, grey, strength)


def _patch(rng: np.random.Generator, ground: Ground) -> None:
    """Rectangles and whole lengths paved anew, darker or paler."""
    for _ in range(int(rng.integers(1, 5))):
        u, z = float(rng.uniform(-9, 9)), float(rng.uniform(3, 55))
        wide, long = float(rng.uniform(0.5, 4.5)), float(np.exp(rng.uniform(0, 3.3)))
        tone = float(np.exp(rng.normal(-0.08, 0.16)))
        ground.scale(u, u + wide, z, z + long, tone)
        if rng.random() < 0.4:  # its edge is sealed
            for x in (u, u + wide):
                ground.scale(x - 0.05, x + 0.05, z, z + long, 0.75)


def _crack(rng: np.random.Generator, ground: Ground, concrete: bool) -> None:
    """Cracks, bare or sealed with tar, that wander along, across and aslant."""
    mask = blank()
    width = float(rng.uniform(0.04, 0.08 if concrete else 0.15))
    for _ in range(int(rng.integers(1, 8))):
        steps = int(rng.integers(5, 16))
        turn = (0.0, 1.2) if rng.random() < 0.6 else (0.7, float(rng.normal(0, 0.3)))
        walk = np.cumsum(rng.normal(0, [0.16, 0.25], (steps, 2)) + turn, 0)
        stroke(mask, walk[:, 0] + rng.uniform(-9, 9), walk[:, 1] + rng.uniform(2, 50), width)
    ground.darken(mask, float(rng.uniform(0.12, 0.65)))


def _cross(rng: np.random.Generator, layout: Layout, ground: Ground) -> None:
    """Expansion joints, trenches and the ends of bridges: bars across the whole road."""
    for _ in range(int(rng.integers(1, 4))):
        z, wide = float(rng.uniform(4, 60)), float(rng.choice([0.12, 0.3, 0.8]))
        tone = float(rng.uniform(0.45, 0.85) if rng.random() < 0.75 else rng.uniform(1.1, 1.4))
        ground.scale(layout.left_edge, layout.right_edge, z, z + wide, tone)
    if rng.random() < 0.4:  # another pavement begins
        near = float(rng.uniform(8, 50))
        ground.scale(layout.left_edge, layout.right_edge, near, LENGTH, float(np.exp(rng.normal(0, 0.18))))


def _stain(rng: np.random.Generator, ground: Ground) -> None:
    """Spots of oil and water, and broad clouds of dirt."""
    mask = blank()
    for _ in range(int(rng.integers(3, 40))):
        size = float(rng.uniform(0.06, 0.3))
        blot(mask, float(rng.uniform(-8, 8)), float(rng.uniform(2, 50)), size, size * float(rng.uniform(0.8, 2.5)))
    ground.darken(mask, float(rng.uniform(0.1, 0.5)))
    coarse = rng.standard_normal((16, 12)).astype(np.float32)
    cloud = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    ground.tone *= np.clip(1 + float(rng.uniform(0.01, 0.08)) * cloud, 0.7, 1.3)


def _edges(rng: np.random.Generator, layout: Layout, ground: Ground) -> None:
    """Dirt gathers where nobody drives: beside the outer lanes."""
    u = profile_offsets()
    if rng.random() < 0.5:
        tone = float(rng.uniform(0.7, 1.15))
        for side, edge in ((-1, layout.left_edge), (1, layout.right_edge)):
            depth = np.clip(1 - (edge - u) * side / float(rng.uniform(0.3, 1.2)), 0, 1)
            ground.across *= (1 + (tone - 1) * np.where((edge - u) * side > 0, depth, 0)).astype(np.float32)
