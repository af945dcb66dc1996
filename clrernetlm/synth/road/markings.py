"""Markings: lane lines across the road, and arrows, text, zebras and seams on it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.road.projection import Projector
from clrernetlm.synth.road.road import Road

Array = NDArray[np.float64]
Colour = tuple[float, float, float]  # blue, green, red display values 0..255


@dataclass(frozen=True)
class Line:
    """A line painted along the road at `offset` metres; `dash` of every `period` metres is painted.

    `twin` metres separate the two strokes of a double line (0: single); the label runs between them. `bend` (1/m)
    leads the line away from its offset after `bend_from` metres.
    """

    offset: float
    width: float = 0.15
    dash: float = 1.0
    period: float = 1.0
    phase: float = 0.0
    twin: float = 0.0
    colour: Colour = (225.0, 228.0, 230.0)
    strength: float = 0.9
    wear: float = 0.5
    first: float = 0.0
    last: float = 1e9
    bend: float = 0.0
    bend_from: float = 1e9

    def strokes(self) -> list[list[float]]:
        """One row of `Surface.lines` per painted stroke."""
        middles = [self.offset] if self.twin == 0 else [self.offset - self.twin / 2, self.offset + self.twin / 2]
        shared = [self.width / 2, self.dash, self.period, self.phase, *self.colour, self.strength, self.wear]
        return [[middle, *shared, self.first, self.last, self.bend, self.bend_from] for middle in middles]


@dataclass(frozen=True)
class Decal:
    """Polygons (N, 2) of offset and distance in metres, painted (`paint`) or darkening (`shade`) by 0..255."""

    outlines: tuple[Array, ...]
    value: int = 230
    target: str = "paint"


def draw_decals(
    decals: list[Decal], paint: NDArray[np.uint8], shade: NDArray[np.uint8], camera: Camera, road: Road
) -> None:
    """Project the polygons into the (H, W) masks that the ground shader reads."""
    nearest = 1.3
    project = Projector(camera, road)
    reach = 5 * max(camera.width, camera.height)
    for decal in decals:
        mask = paint if decal.target == "paint" else shade
        for outline in decal.outlines:
            distances = np.maximum(outline[:, 1], nearest)
            if distances.max() <= nearest + 0.05:
                continue
            pixels = project(outline[:, 0], distances)
            if np.abs(pixels).max() < reach:
                cv2.fillPoly(mask, [(pixels * 16).astype(np.int32)], [decal.value], cv2.LINE_AA, 4)


def _densify(outline: Array, step: float = 1.5) -> Array:
    """Insert points so that long edges follow the curved road."""
    closed = np.vstack([outline, outline[:1]])
    pieces = []
    for a, b in pairwise(closed):
        count = max(1, int(np.hypot(*(b - a)) / step))
        pieces.append(a + (b - a) * np.linspace(0, 1, count, endpoint=False)[:, None])
    return np.vstack(pieces)


def rectangle(left: float, right: float, near: float, far: float) -> Array:
    """(N, 2) outline of a rectangle on the road, with points along its length to follow curves."""
    count = max(2, min(40, int((far - near) / 1.5) + 1))
    outline = np.empty((2 * count, 2))
    outline[:count, 0], outline[count:, 0] = left, right
    outline[:count, 1] = near + (far - near) / (count - 1) * np.arange(count)
    outline[count:, 1] = outline[count - 1 :: -1, 1]
    return outline


_STRAIGHT = np.array([[-0.08, 0], [0.08, 0], [0.08, 3.6], [0.3, 3.6], [0, 6], [-0.3, 3.6], [-0.08, 3.6]])
_TURN = np.array(
    [[-0.08, 0], [0.08, 0], [0.08, 2.6], [0.45, 3.9], [0.45, 3.3], [0.95, 4.6], [0.45, 5.9], [0.45, 5.1], [-0.08, 3.6]]
)
_SIDE = np.array([[0.08, 1.4], [0.45, 2.7], [0.45, 2.1], [0.95, 3.4], [0.45, 4.7], [0.45, 3.9], [0.08, 2.6]])


def arrow(kind: int, offset: float, distance: float) -> Decal:
    """A lane arrow of 6 m; `kind` 0 straight, 1 right, 2 left, 3 straight and right, 4 straight and left."""
    flip = np.array([-1.0, 1.0])
    shapes = ([_STRAIGHT], [_TURN], [_TURN * flip], [_STRAIGHT, _SIDE], [_STRAIGHT, _SIDE * flip])[kind]
    return Decal(tuple(_densify(shape) + np.array([offset, distance]) for shape in shapes))


def lettering(offset: float, distance: float, rng: np.random.Generator) -> Decal:
    """Stretched characters made of random bars: what road text looks like at a glance."""
    outlines = []
    for row in range(int(rng.integers(1, 4))):
        base = distance + row * 4.0
        for stroke in range(int(rng.integers(4, 8))):
            if stroke % 2:
                x = offset + rng.uniform(-0.7, 0.7)
                low, high = np.sort(rng.uniform(0, 2.6, 2))
                outlines.append(rectangle(x - 0.07, x + 0.07, base + low, base + max(high, low + 0.8)))
            else:
                y = base + rng.uniform(0, 2.5)
                left, right = np.sort(rng.uniform(-0.75, 0.75, 2))
                outlines.append(rectangle(offset + left, offset + max(right, left + 0.4), y, y + 0.3))
    return Decal(tuple(outlines), value=210)


def zebra(left: float, right: float, distance: float, length: float, pitch: float) -> Decal:
    """Bars along the road, `pitch` metres apart, between two offsets."""
    edges = np.arange(left, right, pitch)
    return Decal(tuple(rectangle(x, x + pitch / 2, distance, distance + length) for x in edges), value=225)


def stop_line(left: float, right: float, distance: float, width: float = 0.4) -> Decal:
    """A bar across the lanes."""
    return Decal((rectangle(left, right, distance, distance + width),), value=235)


def chevrons(left: float, right: float, near: float, far: float) -> Decal:
    """Slanted bars of a gore between two offsets."""
    bars = [
        _densify(np.array([[left, z], [right, z + 3], [right, z + 3.8], [left, z + 0.8]]))
        for z in np.arange(near, far, 3.0)
    ]
    return Decal(tuple(bars), value=220)


def patches(left: float, right: float, rng: np.random.Generator) -> list[Decal]:
    """Tar seams, cracks and repaired squares between two offsets, as darker asphalt."""
    decals = []
    for _ in range(int(rng.integers(0, 4))):
        x, z = rng.uniform(left, right), rng.uniform(4, 50)
        size = rng.uniform(0.6, 2.5), rng.uniform(1.5, 12)
        decals.append(Decal((rectangle(x, x + size[0], z, z + size[1]),), int(rng.uniform(20, 80)), "shade"))
    for _ in range(int(rng.integers(0, 6))):  # cracks sealed with tar wander along or across
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
