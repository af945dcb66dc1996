"""Draws the ground into the image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clrernetlm.core.arrays import BgrImage, ByteArray, ByteMask, Float32Array, Int16Array, Int32Array
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.road.cross_section import profile_offsets
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.ground_kernels import shade_ground
from clrernetlm.synth.road.layout import RoadFork
from clrernetlm.synth.textures import ground_tiles


@dataclass
class GroundAppearance:
    """The appearance of the ground; colours are display values 0..255.

    `profiles` is (2, N, PROFILE_COLUMNS): the cross section of the road by offset, and the one between the `junction`
    distances in metres ahead (a crossing street). `lines` is (L, 14): offset, half width, dash, period, phase, blue,
    green, red, strength, wear, first and last metre ahead, bend (1/m) and where the bend starts.
    """

    profiles: Float32Array
    lines: Float32Array
    junction: tuple[float, float] = (1e9, 1e9)
    fog: tuple[float, float, float] = (200.0, 200.0, 200.0)
    visibility: float = 1e9  # metres
    leaf_shadow: float = 0.0  # strength of the shadows of leaves, 0..1
    leaf_shadow_from: float = 0.0  # offsets between which they fall
    leaf_shadow_to: float = 0.0
    leaf_shadow_slant: float = 0.4
    leaf_shadow_size: float = 1.0
    leaf_shadow_threshold: float = 0.0
    shadow_colour: tuple[float, float, float] = (0.55, 0.47, 0.42)
    paint_colour: tuple[float, float, float] = (222.0, 226.0, 228.0)
    relief: ByteArray = field(default_factory=lambda: np.zeros((2, 1, 1), np.uint8))  # `GroundMap.relief`
    cover_colour: tuple[float, float, float] = (40.0, 40.0, 40.0)
    fork: RoadFork | None = None
    texture_shift: Int32Array = field(default_factory=lambda: np.zeros(8, np.int32))


def draw_ground(
    canvas: BgrImage,
    paint: ByteMask,
    shade: ByteMask,
    camera: Camera,
    road: RoadGeometry,
    appearance: GroundAppearance,
    rows: int | None = None,
) -> None:
    """Draw every pixel of the first `rows` (default all) of `canvas` (H, W, 3) that shows the ground.

    `paint` (H, W) is further road paint in `paint_colour`, `shade` (H, W) the cast shadows, both 0..255.
    """
    table, lowest, per_slope = road.table(camera, appearance.visibility)
    cx, cy = camera.centre
    lens = np.array([cx, cy, 1 / camera.focal, camera.k1, road.bank, lowest, per_slope], np.float32)
    leaf_shadow = np.array(
        [
            appearance.leaf_shadow,
            appearance.leaf_shadow_from,
            appearance.leaf_shadow_to,
            appearance.leaf_shadow_slant,
            appearance.leaf_shadow_size,
            appearance.leaf_shadow_threshold,
        ]
    )
    air = np.array(
        [
            *appearance.fog,
            *appearance.shadow_colour,
            *appearance.junction,
            *appearance.paint_colour,
            *appearance.cover_colour,
        ]
    )
    lines = appearance.lines[np.argsort(appearance.lines[:, 0])].astype(np.float32)
    shade_ground(
        canvas,
        paint,
        shade,
        camera.rotation.astype(np.float32),
        lens,
        table,
        appearance.profiles.astype(np.float32),
        lines,
        _lines_near(lines),
        ground_tiles(),
        appearance.texture_shift.astype(np.int32),
        air.astype(np.float32),
        leaf_shadow.astype(np.float32),
        canvas.shape[0] if rows is None else rows,
        appearance.relief,
        _fork_fields(appearance.fork),
    )


def _fork_fields(fork: RoadFork | None) -> Float32Array:
    """Return the (6,) fields of a fork for the shader."""
    fields = (0.0, 1.0, 0.0, 1e9, 0.0, 0.0)
    if fork is not None:
        fields = (fork.offset, float(fork.side), fork.bend, fork.start, fork.paved, fork.verge)
    return np.array(fields, np.float32)


def _lines_near(lines: Float32Array) -> Int16Array:
    """Return (N, 2) per profile entry: first and one past the last of the sorted lines that may be painted there."""
    offsets = profile_offsets()[:, None]
    bent = lines[:, 12] * np.square(np.maximum(np.minimum(lines[:, 11], 700) - lines[:, 13], 0))
    left, right = lines[:, 0] + np.minimum(bent, 0), lines[:, 0] + np.maximum(bent, 0)
    close = (offsets > left - lines[:, 1] - 0.5) & (offsets < right + lines[:, 1] + 0.5)
    first = np.argmax(close, 1)
    last = lines.shape[0] - np.argmax(close[:, ::-1], 1)
    return np.stack([first, np.where(close.any(1), last, first)], 1).astype(np.int16)
