"""Surface: what the ground looks like, and painting it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.road.road import Road
from clrernetlm.synth.road.shader import PROFILE_REACH, PROFILE_STEP, shade_ground
from clrernetlm.synth.textures import ground_tiles

PROFILE_COLUMNS = 8  # blue, green, red, grain, mottling, wear, foliage, edge roughness (m)

Floats = NDArray[np.float32]


def profile_offsets() -> NDArray[np.float64]:
    """(N,) offsets u in metres at which a profile is given."""
    return np.arange(-PROFILE_REACH, PROFILE_REACH + PROFILE_STEP / 2, PROFILE_STEP)


@dataclass
class Surface:
    """What the ground looks like; colours are display values 0..255.

    `profiles` is (2, N, PROFILE_COLUMNS): the cross-section of the road by offset, and the one between `cross`
    metres ahead (a crossing street). `lines` is (L, 14): offset, half width, dash, period, phase, blue, green, red,
    strength, wear, first and last metre ahead, bend (1/m) and where the bend starts.
    """

    profiles: Floats
    lines: Floats
    cross: tuple[float, float] = (1e9, 1e9)
    fog: tuple[float, float, float] = (200.0, 200.0, 200.0)
    visibility: float = 1e9  # metres
    dapple: float = 0.0  # strength of the shadows of leaves, 0..1
    dapple_from: float = 0.0  # offsets between which they fall
    dapple_to: float = 0.0
    dapple_slant: float = 0.4
    dapple_size: float = 1.0
    dapple_threshold: float = 0.0
    shadow_colour: tuple[float, float, float] = (0.55, 0.47, 0.42)
    paint_colour: tuple[float, float, float] = (222.0, 226.0, 228.0)
    relief: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((2, 1, 1), np.uint8))  # `Ground.relief`
    cover_colour: tuple[float, float, float] = (40.0, 40.0, 40.0)
    texture_shift: NDArray[np.int32] = field(default_factory=lambda: np.zeros(8, np.int32))


def paint_ground(
    canvas: NDArray[np.uint8],
    paint: NDArray[np.uint8],
    shade: NDArray[np.uint8],
    camera: Camera,
    road: Road,
    s: Surface,
    rows: int | None = None,
) -> None:
    """Paint every pixel of the first `rows` (default all) of `canvas` (H, W, 3) that sees the ground.

    `paint` (H, W) is further road paint in `paint_colour`, `shade` (H, W) the cast shadows, both 0..255.
    """
    table, lowest, per_slope = road.table(camera, s.visibility)
    cx, cy = camera.centre
    lens = np.array([cx, cy, 1 / camera.focal, camera.k1, road.bank, lowest, per_slope], np.float32)
    dapple = np.array([s.dapple, s.dapple_from, s.dapple_to, s.dapple_slant, s.dapple_size, s.dapple_threshold])
    air = np.array([*s.fog, *s.shadow_colour, *s.cross, *s.paint_colour, *s.cover_colour])
    lines = s.lines[np.argsort(s.lines[:, 0])].astype(np.float32)
    shade_ground(
        canvas,
        paint,
        shade,
        camera.rotation.astype(np.float32),
        lens,
        table,
        s.profiles.astype(np.float32),
        lines,
        _lines_near(lines),
        ground_tiles(),
        s.texture_shift.astype(np.int32),
        air.astype(np.float32),
        dapple.astype(np.float32),
        canvas.shape[0] if rows is None else rows,
        s.relief,
    )


def _lines_near(lines: Floats) -> NDArray[np.int16]:
    """(N, 2) per profile entry: first and one past the last of the sorted lines that may be painted there."""
    offsets = profile_offsets()[:, None]
    bent = lines[:, 12] * np.square(np.maximum(700 - lines[:, 13], 0))
    left, right = lines[:, 0] + np.minimum(bent, 0), lines[:, 0] + np.maximum(bent, 0)
    close = (offsets > left - lines[:, 1] - 0.5) & (offsets < right + lines[:, 1] + 0.5)
    first = np.argmax(close, 1)
    last = lines.shape[0] - np.argmax(close[:, ::-1], 1)
    return np.stack([first, np.where(close.any(1), last, first)], 1).astype(np.int16)
