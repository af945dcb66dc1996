"""Roadside: barriers, rails, walls, poles, lamps, signs, bridges, trees and houses, each painted where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.environment.canvas import Stage
from clrernetlm.synth.environment.light import light_at
from clrernetlm.synth.environment.sprites import (
    FACADE_CELL,
    FACADE_COLUMNS,
    FACADE_KINDS,
    FACADE_ROWS,
    facades,
    stamp,
    trees,
)

Array = NDArray[np.float64]
Colour = tuple[float, float, float]


class Thing(Protocol):
    """Something that stands `distance` metres ahead; painted in falling order of `depth_key`."""

    @property
    def distance(self) -> float: ...

    @property
    def depth_key(self) -> float: ...

    def paint(self, stage: Stage) -> None: ...


class _Upright:
    """What stands at one distance."""

    distance: float

    @property
    def depth_key(self) -> float:
        return self.distance


@dataclass(frozen=True)
class Wall:
    """A piece of barrier along the road: between two distances at `offset`, from `low` to `high` metres.

    `bands` are (low, high, shade) shares of the height; `post` > 0 paints a post of that width at the near end.
    """

    offset: float
    distance: float
    far: float
    low: float
    high: float
    colour: Colour
    bands: tuple[tuple[float, float, float], ...] = ((0.0, 1.0, 1.0),)
    post: float = 0.0

    @property
    def depth_key(self) -> float:
        """What stands on the road before a wall hides it, even when the near end of the wall is nearer."""
        return self.far

    def paint(self, stage: Stage) -> None:
        colour, rise = self.colour, self.high - self.low
        bands = self.bands if self.distance < 50 else ((0.0, 1.0, 1.0),)
        shares = np.array([(low, low, high, high) for low, high, _ in bands])
        z = np.array([self.distance, self.far, self.far, self.distance])
        pixels = stage.project(self.offset, np.tile(z, len(bands)), (self.low + rise * shares).ravel())
        if pixels[:, 0].max() < 0 or pixels[:, 0].min() > stage.camera.width:
            return
        if self.post > 0:
            ends = np.array([self.distance, self.distance + self.post, self.distance + self.post, self.distance])
            post = stage.project(self.offset, ends, np.array([0.0, 0.0, self.high, self.high]))
            stage.fill(post, colour, self.distance, 0.75)
        for k, (_, _, shade) in enumerate(bands):
            stage.fill(pixels[4 * k : 4 * k + 4], colour, self.distance, shade)
        if stage.light.night:
            outline = stage.project(self.offset, z, np.array([self.low, self.low, self.high, self.high]))
            stage.cover(outline, self.offset, (self.distance + self.far) / 2, 0.8)


@dataclass(frozen=True)
class Pole(_Upright):
    """A post of `height` m; `arm` metres of boom to the side at its top, with a lamp when `lamp` (linear colour)."""

    offset: float
    distance: float
    height: float
    width: float = 0.14
    arm: float = 0.0
    colour: Colour = (120.0, 122.0, 124.0)
    lamp: Colour | None = None

    def paint(self, stage: Stage) -> None:
        half = self.width / 2
        u = np.array([-half, half, half * 0.6, -half * 0.6]) + self.offset
        stage.fill(stage.project(u, self.distance, np.array([0, 0, 1, 1]) * self.height), self.colour, self.distance)
        tip = self.offset + self.arm
        if self.arm and self.distance < 130:
            ends = np.array([self.offset, tip, tip, self.offset])
            heights = self.height + np.array([-0.06, 0.25, 0.37, 0.06])
            stage.fill(stage.project(ends, self.distance, heights), self.colour, self.distance)
            head = np.array([tip - 0.5, tip + 0.3, tip + 0.3, tip - 0.5])
            stage.fill(
                stage.project(head, self.distance, self.height + np.array([0.2, 0.3, 0.42, 0.42])),
                self.colour,
                self.distance,
                1.2,
            )
        if self.lamp is not None and stage.light.night:
            size = stage.camera.focal / self.distance
            stage.shine(stage.project(tip, self.distance, self.height + 0.25)[0], 0.15 * size, self.lamp)


@dataclass(frozen=True)
class Board(_Upright):
    """A sign: a rectangle facing the camera on one or two posts, with bars of text."""

    offset: float
    distance: float
    width: float
    low: float
    high: float
    colour: Colour
    seed: int
    posts: tuple[float, ...] = (0.0,)
    glow: float = 0.0

    def paint(self, stage: Stage) -> None:
        rng = np.random.default_rng(self.seed)
        for post in self.posts:
            Pole(self.offset + post, self.distance, self.high, 0.16).paint(stage)
        self._plate(stage, -0.5, 0.5, 0, 1, np.array([225.0, 225, 225]))
        self._plate(stage, -0.48, 0.48, 0.03, 0.97, np.asarray(self.colour))
        rows = int(rng.integers(1, 4))
        for row in range(rows):
            base = 0.12 + 0.8 * row / rows
            left = rng.uniform(-0.42, -0.2)
            while left < 0.3:
                right = left + rng.uniform(0.06, 0.22)
                self._plate(stage, left, right, base, base + 0.5 / rows, np.array([225.0, 228, 228]))
                left = right + rng.uniform(0.03, 0.1)
        if self.glow > 0 and stage.light.night:
            u = self.offset + np.array([-0.48, 0.48, 0.48, -0.48]) * self.width
            outline = stage.project(u, self.distance, np.array([self.low, self.low, self.high, self.high]))
            stage.gleam(outline, np.asarray(self.colour) / 255 * 0.35 * self.glow)

    def _plate(self, stage: Stage, left: float, right: float, low: float, high: float, colour: Array) -> None:
        u = self.offset + np.array([left, right, right, left]) * self.width
        h = self.low + np.array([low, low, high, high]) * (self.high - self.low)
        outline = stage.project(u, self.distance, h)
        stage.fill(outline, colour, self.distance)
        if (left, right) == (-0.5, 0.5):
            stage.cover(outline, self.offset, self.distance, 2.0 + 3 * self.glow)


@dataclass(frozen=True)
class Bridge(_Upright):
    """A deck across the road on pillars, seen from below: its face, its dark underside and the pillars."""

    distance: float
    depth: float
    clearance: float
    thickness: float
    pillars: tuple[float, ...]
    colour: Colour

    def paint(self, stage: Stage) -> None:
        u, tint = np.array([-220.0, 220.0]), np.asarray(self.colour)
        far, low, high = self.distance + self.depth, self.clearance, self.clearance + self.thickness
        for pillar in self.pillars:
            for z in (far, self.distance + 0.5):
                ends = pillar + np.array([-0.7, 0.7, 0.7, -0.7])
                outline = stage.project(ends, z, np.array([0, 0, low, low]))
                stage.fill(outline, tint * (0.55 if z == far else 0.8), z)
                stage.cover(outline, pillar, z, 0.6)
        near_low, far_low = stage.project(u, self.distance, low), stage.project(u, far, low)
        near_high = stage.project(u, self.distance, high)
        under, face = np.vstack([near_low, far_low[::-1]]), np.vstack([near_low, near_high[::-1]])
        stage.cover(np.vstack([far_low, near_high[::-1]]), 0.0, self.distance, 0.25)
        stage.fill(under, tint * 0.32, far)
        stage.fill(face, tint, self.distance)
        rail = np.vstack([near_high, stage.project(u[::-1], self.distance, high + 0.9)])
        stage.fill(rail, tint * 0.8, self.distance)
        lip = np.vstack([near_low, stage.project(u[::-1], self.distance, low + 0.25)])
        stage.fill(lip, tint * 0.7, self.distance)


@dataclass(frozen=True)
class Tree(_Upright):
    """A tree or hedge of `height` and `width` metres; `tint` multiplies its leaves."""

    offset: float
    distance: float
    height: float
    width: float
    kind: int
    tint: Colour
    flip: bool = False

    def paint(self, stage: Stage) -> None:
        foot, head = stage.project(self.offset, self.distance, np.array([-0.1, self.height]))
        half = self.width / 2 / self.height * float(np.hypot(*(head - foot)))
        box = (float(foot[0]) - half, float(head[1]), float(foot[0]) + half, float(foot[1]))
        if box[2] < 0 or box[0] > stage.camera.width or box[3] < 0:
            return
        clear = float(np.exp(-3 * self.distance / stage.visibility))
        tint = np.asarray(self.tint)
        if stage.light.night:  # the light map is too coarse for leaves: the light is painted in
            level = light_at(stage.light, self.offset, self.distance) * 0.45
            tint = tint * np.sqrt(level / np.asarray(stage.light.ambient))
        colour = (float(tint[0]), float(tint[1]), float(tint[2]))
        stamp(stage.canvas, trees()[self.kind], box, colour, stage.fog, clear, self.flip)


@dataclass(frozen=True)
class House(_Upright):
    """A block beside the road: the wall along the street and the one that faces the camera."""

    offset: float  # of the wall along the road
    distance: float
    depth: float  # metres along the road
    width: float  # metres away from the road
    height: float
    seed: int
    lit: float = 0.0
    tint: float = 1.0
    inner: float = field(default=0.8)  # shade of the wall along the road

    def paint(self, stage: Stage) -> None:
        side = 1.0 if self.offset > 0 else -1.0
        outer, rows = self.offset + side * self.width, max(2, round(self.height / 3.1))
        u = np.array([self.offset, outer]) if side > 0 else np.array([outer, self.offset])
        heights = np.array([self.height, self.height, -1, -1])
        front = stage.project(u[[0, 1, 1, 0]], self.distance, heights)
        near, far = max(self.distance, 3.0), self.distance + self.depth
        z = np.array([far, near, near, far]) if side > 0 else np.array([near, far, far, near])
        along = stage.project(self.offset, z, heights)
        stage.hang(self._wall(self.width, rows, front), front, self.distance, self.tint)
        stage.hang(self._wall(self.depth, rows, along), along, self.distance, self.tint * self.inner)
        if stage.light.night:
            stage.cover(front, self.offset, self.distance, 0.5 + 0.8 * self.lit)
            stage.cover(along, self.offset, (self.distance + far) / 2, 0.5 + 0.8 * self.lit)

    def _wall(self, metres: float, rows: int, corners: Array) -> NDArray[np.uint8]:
        """The lower left part of a facade, as fine as its corners (4, 2) in pixels can show."""
        columns, rows = min(FACADE_COLUMNS, max(2, round(metres / 3))), min(rows, FACADE_ROWS)
        size = max(float(np.hypot(*(corners[1] - corners[0]))) / columns, float(np.ptp(corners[:, 1])) / rows, 1.0)
        level = int(np.clip(np.log2(FACADE_CELL[1] / size) + 0.3, 0, 3))
        wall = facades(self.lit > 0)[self.seed % FACADE_KINDS][level]
        high, wide = wall.shape[0] * rows // FACADE_ROWS, wall.shape[1] * columns // FACADE_COLUMNS
        return wall[wall.shape[0] - high :, :wide]


@dataclass(frozen=True)
class Tunnel:
    """A tunnel all around the road: walls at two offsets, a ceiling, rows of lamps at its edges."""

    left: float
    right: float
    height: float
    colour: Colour
    lamp: Colour
    pitch: float
    seed: int
    distance: float = 400.0

    @property
    def depth_key(self) -> float:
        return 1e9  # everything else stands in it

    def paint(self, stage: Stage) -> None:
        rng = np.random.default_rng(self.seed)
        colour, top = self.colour, self.height
        ends = np.concatenate([[0.6], np.arange(4.0, 44, 6), np.geomspace(46, self.distance, 14)])
        u = np.array([self.left, self.right, self.right, self.left])
        cap = stage.project(u, self.distance, np.array([0.0, 0.0, top, top]))
        stage.fill(cap, (235.0, 238.0, 240.0) if rng.random() < 0.4 else colour, self.distance)
        for near, far in zip(ends[-2::-1], ends[:0:-1], strict=True):
            z, shade = np.array([near, far, far, near]), float(rng.uniform(0.93, 1.05))
            stage.fill(stage.project(u, z[[0, 0, 1, 1]], top), colour, near, 0.42 * shade)
            for wall in (self.left, self.right):
                for low, high, tone in ((0.0, 0.9, 0.62), (0.9, 0.7 * top, 1.05), (0.7 * top, top, 0.7)):
                    stage.fill(stage.project(wall, z, np.array([low, low, high, high])), colour, near, tone * shade)
        rows = np.arange(3.0, 200, self.pitch)[::-1]
        for offset in (self.left + 0.8, self.right - 0.8):
            for row in rows:
                size = stage.camera.focal / row
                bar = stage.project(
                    offset + np.array([-0.15, 0.15, 0.15, -0.15]), row + np.array([0, 0, 1.2, 1.2]), top - 0.1
                )
                stage.fill(bar, (250.0, 250.0, 250.0), row)
                stage.shine(bar.mean(0), 0.16 * size, self.lamp)
