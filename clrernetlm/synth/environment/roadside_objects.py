"""Defines and draws barriers, poles, signs, bridges, trees, buildings, tunnels and power lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrColour, BgrImage, Float64Array
from clrernetlm.synth.environment.light import light_at
from clrernetlm.synth.environment.render_context import RenderContext
from clrernetlm.synth.environment.sprites import (
    FACADE_CELL,
    FACADE_COLUMNS,
    FACADE_KINDS,
    FACADE_ROWS,
    draw_sprite,
    facade_sprites,
    tree_sprites,
)


class SceneObject(Protocol):
    """An object that stands `distance` metres ahead; objects are drawn in descending order of `depth_key`."""

    @property
    def distance(self) -> float:
        """Return the distance of the near end in metres."""

    @property
    def depth_key(self) -> float:
        """Return the sorting key in metres; larger values are drawn first."""

    def draw(self, context: RenderContext) -> None:
        """Draw the object onto the canvas of `context`."""


class _Upright:
    """Base class of objects that stand at one distance."""

    distance: float

    @property
    def depth_key(self) -> float:
        return self.distance


@dataclass(frozen=True)
class BarrierSegment:
    """A piece of barrier along the road: between two distances at `offset`, from `low` to `high` metres.

    `bands` are (low, high, shade) shares of the height; `post` > 0 draws a post of that width at the near end. The far
    end lies `far_shift` metres further right.
    """

    offset: float
    distance: float
    far: float
    low: float
    high: float
    colour: BgrColour
    bands: tuple[tuple[float, float, float], ...] = ((0.0, 1.0, 1.0),)
    post: float = 0.0
    far_shift: float = 0.0

    @property
    def depth_key(self) -> float:
        """Return the far end: objects on the road hide a barrier even if its near end is nearer."""
        return self.far

    def draw(self, context: RenderContext) -> None:
        colour, rise = self.colour, self.high - self.low
        bands = self.bands if self.distance < 50 else ((0.0, 1.0, 1.0),)
        shares = np.array([(low, low, high, high) for low, high, _ in bands])
        z = np.array([self.distance, self.far, self.far, self.distance])
        u = self.offset + np.array([0.0, self.far_shift, self.far_shift, 0.0])
        pixels = context.project(np.tile(u, len(bands)), np.tile(z, len(bands)), (self.low + rise * shares).ravel())
        if pixels[:, 0].max() < 0 or pixels[:, 0].min() > context.camera.width:
            return
        if self.post > 0:
            ends = np.array([self.distance, self.distance + self.post, self.distance + self.post, self.distance])
            post = context.project(self.offset, ends, np.array([0.0, 0.0, self.high, self.high]))
            context.fill_polygon(post, colour, self.distance, 0.75)
        for k, (_, _, shade) in enumerate(bands):
            context.fill_polygon(pixels[4 * k : 4 * k + 4], colour, self.distance, shade)
        if context.light.night:
            outline = context.project(u, z, np.array([self.low, self.low, self.high, self.high]))
            context.shade_polygon(outline, self.offset, (self.distance + self.far) / 2, 0.8)


@dataclass(frozen=True)
class Pole(_Upright):
    """A post of `height` m; `arm` is the length (m) of a boom to the side at its top.

    It carries a lamp if `lamp` (linear colour) is set.
    """

    offset: float
    distance: float
    height: float
    width: float = 0.14
    arm: float = 0.0
    colour: BgrColour = (120.0, 122.0, 124.0)
    lamp: BgrColour | None = None

    def draw(self, context: RenderContext) -> None:
        half = self.width / 2
        u = np.array([-half, half, half * 0.6, -half * 0.6]) + self.offset
        context.fill_polygon(
            context.project(u, self.distance, np.array([0, 0, 1, 1]) * self.height), self.colour, self.distance
        )
        tip = self.offset + self.arm
        if self.arm and self.distance < 130:
            ends = np.array([self.offset, tip, tip, self.offset])
            heights = self.height + np.array([-0.06, 0.25, 0.37, 0.06])
            context.fill_polygon(context.project(ends, self.distance, heights), self.colour, self.distance)
            head = np.array([tip - 0.5, tip + 0.3, tip + 0.3, tip - 0.5])
            context.fill_polygon(
                context.project(head, self.distance, self.height + np.array([0.2, 0.3, 0.42, 0.42])),
                self.colour,
                self.distance,
                1.2,
            )
        if self.lamp is not None and context.light.night:
            size = context.camera.focal / self.distance
            context.add_light(context.project(tip, self.distance, self.height + 0.25)[0], 0.15 * size, self.lamp)


@dataclass(frozen=True)
class Sign(_Upright):
    """A sign: a rectangle facing the camera on posts, with bars of text."""

    offset: float
    distance: float
    width: float
    low: float
    high: float
    colour: BgrColour
    seed: int
    posts: tuple[float, ...] = (0.0,)
    glow: float = 0.0

    def draw(self, context: RenderContext) -> None:
        rng = np.random.default_rng(self.seed)
        for post in self.posts:
            Pole(self.offset + post, self.distance, self.high, 0.16).draw(context)
        self._plate(context, -0.5, 0.5, 0, 1, np.array([225.0, 225, 225]))
        self._plate(context, -0.48, 0.48, 0.03, 0.97, np.asarray(self.colour))
        rows = int(rng.integers(1, 4))
        for row in range(rows):
            base = 0.12 + 0.8 * row / rows
            left = rng.uniform(-0.42, -0.2)
            while left < 0.3:
                right = left + rng.uniform(0.06, 0.22)
                self._plate(context, left, right, base, base + 0.5 / rows, np.array([225.0, 228, 228]))
                left = right + rng.uniform(0.03, 0.1)
        if self.glow > 0 and context.light.night:
            u = self.offset + np.array([-0.48, 0.48, 0.48, -0.48]) * self.width
            outline = context.project(u, self.distance, np.array([self.low, self.low, self.high, self.high]))
            context.mark_emissive(outline, np.asarray(self.colour) / 255 * 0.35 * self.glow)

    def _plate(
        self, context: RenderContext, left: float, right: float, low: float, high: float, colour: Float64Array
    ) -> None:
        """Draw a rectangle given in shares of the sign's width and height."""
        u = self.offset + np.array([left, right, right, left]) * self.width
        h = self.low + np.array([low, low, high, high]) * (self.high - self.low)
        outline = context.project(u, self.distance, h)
        context.fill_polygon(outline, colour, self.distance)
        if (left, right) == (-0.5, 0.5):
            context.shade_polygon(outline, self.offset, self.distance, 2.0 + 3 * self.glow)


@dataclass(frozen=True)
class Bridge(_Upright):
    """A deck across the road on pillars, seen from below: its face, its dark underside and the pillars."""

    distance: float
    depth: float
    clearance: float
    thickness: float
    pillars: tuple[float, ...]
    colour: BgrColour

    def draw(self, context: RenderContext) -> None:
        u, tint = np.array([-220.0, 220.0]), np.asarray(self.colour)
        far, low, high = self.distance + self.depth, self.clearance, self.clearance + self.thickness
        for pillar in self.pillars:
            for z in (far, self.distance + 0.5):
                ends = pillar + np.array([-0.7, 0.7, 0.7, -0.7])
                outline = context.project(ends, z, np.array([0, 0, low, low]))
                context.fill_polygon(outline, tint * (0.55 if z == far else 0.8), z)
                context.shade_polygon(outline, pillar, z, 0.6)
        near_low, far_low = context.project(u, self.distance, low), context.project(u, far, low)
        near_high = context.project(u, self.distance, high)
        under, face = np.vstack([near_low, far_low[::-1]]), np.vstack([near_low, near_high[::-1]])
        context.shade_polygon(np.vstack([far_low, near_high[::-1]]), 0.0, self.distance, 0.25)
        context.fill_polygon(under, tint * 0.32, far)
        context.fill_polygon(face, tint, self.distance)
        rail = np.vstack([near_high, context.project(u[::-1], self.distance, high + 0.9)])
        context.fill_polygon(rail, tint * 0.8, self.distance)
        lip = np.vstack([near_low, context.project(u[::-1], self.distance, low + 0.25)])
        context.fill_polygon(lip, tint * 0.7, self.distance)


@dataclass(frozen=True)
class Tree(_Upright):
    """A tree or hedge of `height` and `width` metres; `tint` multiplies its leaves."""

    offset: float
    distance: float
    height: float
    width: float
    kind: int
    tint: BgrColour
    flip: bool = False

    def draw(self, context: RenderContext) -> None:
        foot, head = context.project(self.offset, self.distance, np.array([-0.1, self.height]))
        half = self.width / 2 / self.height * float(np.hypot(*(head - foot)))
        box = (float(foot[0]) - half, float(head[1]), float(foot[0]) + half, float(foot[1]))
        if box[2] < 0 or box[0] > context.camera.width or box[3] < 0:
            return
        clear = float(np.exp(-3 * self.distance / context.visibility))
        tint = np.asarray(self.tint)
        if context.light.night:  # the light map is too coarse for leaves: their colour is lit instead
            level = light_at(context.light, self.offset, self.distance) * 0.45
            tint = tint * np.sqrt(level / np.asarray(context.light.ambient))
        colour = (float(tint[0]), float(tint[1]), float(tint[2]))
        draw_sprite(context.canvas, tree_sprites()[self.kind], box, colour, context.fog, clear, self.flip)


@dataclass(frozen=True)
class Building(_Upright):
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

    def draw(self, context: RenderContext) -> None:
        side = 1.0 if self.offset > 0 else -1.0
        outer, rows = self.offset + side * self.width, max(2, round(self.height / 3.1))
        u = np.array([self.offset, outer]) if side > 0 else np.array([outer, self.offset])
        heights = np.array([self.height, self.height, -1, -1])
        front = context.project(u[[0, 1, 1, 0]], self.distance, heights)
        near, far = max(self.distance, 3.0), self.distance + self.depth
        z = np.array([far, near, near, far]) if side > 0 else np.array([near, far, far, near])
        along = context.project(self.offset, z, heights)
        context.draw_texture(self._wall(self.width, rows, front), front, self.distance, self.tint)
        context.draw_texture(self._wall(self.depth, rows, along), along, self.distance, self.tint * self.inner)
        if context.light.night:
            context.shade_polygon(front, self.offset, self.distance, 0.5 + 0.8 * self.lit)
            context.shade_polygon(along, self.offset, (self.distance + far) / 2, 0.5 + 0.8 * self.lit)

    def _wall(self, metres: float, rows: int, corners: Float64Array) -> BgrImage:
        """Return the lower left part of a facade at the resolution that its corners (4, 2) in pixels can show."""
        columns, rows = min(FACADE_COLUMNS, max(2, round(metres / 3))), min(rows, FACADE_ROWS)
        size = max(float(np.hypot(*(corners[1] - corners[0]))) / columns, float(np.ptp(corners[:, 1])) / rows, 1.0)
        level = int(np.clip(np.log2(FACADE_CELL[1] / size) + 0.3, 0, 3))
        wall = facade_sprites(self.lit > 0)[self.seed % FACADE_KINDS][level]
        height, width = wall.shape[0] * rows // FACADE_ROWS, wall.shape[1] * columns // FACADE_COLUMNS
        return wall[wall.shape[0] - height :, :width]


@dataclass(frozen=True)
class Tunnel:
    """A tunnel around the road: walls at two offsets, a ceiling, rows of lamps at its edges."""

    left: float
    right: float
    height: float
    colour: BgrColour
    lamp: BgrColour
    pitch: float
    seed: int
    distance: float = 400.0

    @property
    def depth_key(self) -> float:
        """Return the sorting key: a tunnel is drawn before all other objects."""
        return 1e9  # everything else stands inside the tunnel

    def draw(self, context: RenderContext) -> None:
        rng = np.random.default_rng(self.seed)
        colour, top = self.colour, self.height
        ends = np.concatenate([[0.6], np.arange(4.0, 44, 6), np.geomspace(46, self.distance, 14)])
        u = np.array([self.left, self.right, self.right, self.left])
        cap = context.project(u, self.distance, np.array([0.0, 0.0, top, top]))
        context.fill_polygon(cap, (235.0, 238.0, 240.0) if rng.random() < 0.4 else colour, self.distance)
        for near, far in zip(ends[-2::-1], ends[:0:-1], strict=True):
            z, shade = np.array([near, far, far, near]), float(rng.uniform(0.93, 1.05))
            context.fill_polygon(context.project(u, z[[0, 0, 1, 1]], top), colour, near, 0.42 * shade)
            for wall in (self.left, self.right):
                for low, high, tone in ((0.0, 0.9, 0.62), (0.9, 0.7 * top, 1.05), (0.7 * top, top, 0.7)):
                    context.fill_polygon(
                        context.project(wall, z, np.array([low, low, high, high])), colour, near, tone * shade
                    )
        rows = np.arange(3.0, 200, self.pitch)[::-1]
        for offset in (self.left + 0.8, self.right - 0.8):
            for row in rows:
                size = context.camera.focal / row
                bar = context.project(
                    offset + np.array([-0.15, 0.15, 0.15, -0.15]), row + np.array([0, 0, 1.2, 1.2]), top - 0.1
                )
                context.fill_polygon(bar, (250.0, 250.0, 250.0), row)
                context.add_light(bar.mean(0), 0.16 * size, self.lamp)


@dataclass(frozen=True)
class PowerLines:
    """Power lines along the road at `offset` m between poles at `distances`, at several `heights` m."""

    offset: float
    distance: float
    distances: tuple[float, ...]
    heights: tuple[float, ...]

    @property
    def depth_key(self) -> float:
        return self.distance

    def draw(self, context: RenderContext) -> None:
        ends = np.asarray(self.distances)
        share = np.linspace(0, 1, 9)
        for height in self.heights:
            for near, far in pairwise(ends):
                z = near + (far - near) * share
                points = context.project(self.offset, z, height - 3.2 * share * (1 - share))
                tone = context.through_haze((58.0, 58.0, 60.0), float(near))
                thickness = 2 if near < 20 and context.camera.width > 1200 else 1
                cv2.polylines(
                    context.canvas, [np.round(points * 16).astype(np.int32)], False, tone, thickness, cv2.LINE_AA, 4
                )
