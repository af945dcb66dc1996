"""Describes lane lines along the road, and arrows, text, zebra crossings and bars on it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrColour, ByteMask, Float64Array
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.projection import RoadProjector


@dataclass(frozen=True)
class RoadLine:
    """A line painted along the road at `offset` metres; `dash` of every `period` metres is painted.

    `twin` metres separate the two strokes of a double line (0: single); the label runs between them. `bend` (1/m)
    leads the line away from its offset after `bend_from` metres.
    """

    offset: float
    width: float = 0.15  # metres
    dash: float = 1.0
    period: float = 1.0
    phase: float = 0.0  # metres
    twin: float = 0.0
    colour: BgrColour = (225.0, 228.0, 230.0)
    strength: float = 0.9  # opacity of unworn paint, 0..1
    wear: float = 0.5  # 0 is fresh; at 2.4 about half of the line has worn off
    first: float = 0.0  # metres ahead between which the line exists
    last: float = 1e9
    bend: float = 0.0
    bend_from: float = 1e9

    def strokes(self) -> list[list[float]]:
        """Return one row of `GroundAppearance.lines` per painted stroke."""
        shared = [self.width / 2, self.dash, self.period, self.phase, *self.colour, self.strength, self.wear]
        return [[middle, *shared, self.first, self.last, self.bend, self.bend_from] for middle in self.stroke_offsets()]

    def stroke_offsets(self) -> list[float]:
        """Return the offset in metres of the middle of every painted stroke."""
        return [self.offset] if self.twin == 0 else [self.offset - self.twin / 2, self.offset + self.twin / 2]


@dataclass(frozen=True)
class Decal:
    """Polygons (N, 2) of offset and distance in metres, painted (`paint`) or darkening (`shade`) by 0..255."""

    outlines: tuple[Float64Array, ...]
    value: int = 230
    target: str = "paint"


def draw_decals(decals: list[Decal], paint: ByteMask, shade: ByteMask, camera: Camera, road: RoadGeometry) -> None:
    """Project the polygons into the (H, W) masks for the ground shader."""
    nearest = 1.3
    project = RoadProjector(camera, road)
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


def _densify(outline: Float64Array, step: float = 1.5) -> Float64Array:
    """Insert points so that long edges follow the curved road."""
    closed = np.vstack([outline, outline[:1]])
    pieces = []
    for a, b in pairwise(closed):
        count = max(1, int(np.hypot(*(b - a)) / step))
        pieces.append(a + (b - a) * np.linspace(0, 1, count, endpoint=False)[:, None])
    return np.vstack(pieces)


def rectangle(left: float, right: float, near: float, far: float) -> Float64Array:
    """Return the (N, 2) outline of a rectangle on the road, with points along its length to follow curves."""
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
    """Return a lane arrow of 6 m; `kind` 0 straight, 1 right, 2 left, 3 straight and right, 4 straight and left."""
    flip = np.array([-1.0, 1.0])
    shapes = ([_STRAIGHT], [_TURN], [_TURN * flip], [_STRAIGHT, _SIDE], [_STRAIGHT, _SIDE * flip])[kind]
    return Decal(tuple(_densify(shape) + np.array([offset, distance]) for shape in shapes))


def lettering(offset: float, distance: float, rng: np.random.Generator) -> Decal:
    """Return stretched characters made of random bars, similar to road text seen briefly."""
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
    """Return bars along the road, `pitch` metres apart, between two offsets."""
    edges = np.arange(left, right, pitch)
    return Decal(tuple(rectangle(x, x + pitch / 2, distance, distance + length) for x in edges), value=225)


def stop_line(left: float, right: float, distance: float, width: float = 0.4) -> Decal:
    """Return a bar across the lanes."""
    return Decal((rectangle(left, right, distance, distance + width),), value=235)


def chevrons(left: float, right: float, near: float, far: float) -> Decal:
    """Return the slanted bars of a gore between two offsets."""
    bars = [
        _densify(np.array([[left, z], [right, z + 3], [right, z + 3.8], [left, z + 0.8]]))
        for z in np.arange(near, far, 3.0)
    ]
    return Decal(tuple(bars), value=220)
