"""Computes the light on the ground by day and by night, and the glare in the lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import BgrColour, Float32Array
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.sensor import LIGHT_MAP_STEP, light_map_shape
from clrernetlm.synth.road.geometry import RoadGeometry


@dataclass(frozen=True)
class Lamp:
    """A street lamp at `offset`, `distance` and `height` (m).

    `power` lights the road; `colour` is linear, 1 = white.
    """

    offset: float
    distance: float
    height: float
    power: float
    colour: BgrColour


@dataclass(frozen=True)
class Light:
    """Linear light, 1 = daylight as drawn.

    `sun` is X/Z, Y/Z of the sun's direction, `glare` the strength of its glare in the lens.
    """

    night: bool = False
    ambient: BgrColour = (1.0, 1.0, 1.0)
    headlight: float = 0.0
    headlight_colour: BgrColour = (1.0, 0.97, 0.92)
    headlight_reach: float = 18.0  # metres
    headlight_width: float = 1.8
    lamps: tuple[Lamp, ...] = ()  # all of one colour
    sun: tuple[float, float] = (0.0, 0.3)
    glare: float = 0.0
    glare_colour: BgrColour = (0.75, 0.9, 1.0)
    veil: float = 0.0  # stray light over the whole image
    bloom: float = 1.0
    wet: float = 0.0  # strength of reflections in the road, 0..1
    headlight_spill: float = 0.1  # share of the beam that falls beside it


def _lamp_falloff(
    u: Float32Array, z: Float32Array, offset: Any, distance: Any, height: Any, power: Any
) -> Float32Array:
    """Return the light of lamps (numbers or arrays) on the ground; it falls with the cube of distance over height."""
    near = 1 / (1 + ((u - offset * 0.75) ** 2 + (z - distance) ** 2) / height**2)
    return np.asarray(power * near * np.sqrt(near), np.float32)


def light_at(light: Light, offset: ArrayLike, distance: ArrayLike) -> Float32Array:
    """Return (..., 3) linear light on the ground at offsets and distances (...) in metres."""
    if isinstance(offset, float) and isinstance(distance, float):
        return light_at(light, np.array([offset]), np.array([distance]))[0]
    u, z = np.broadcast_arrays(np.asarray(offset, np.float32), np.asarray(distance, np.float32))
    result = np.empty((*u.shape, 3), np.float32)
    result[:] = light.ambient
    if light.headlight > 0:
        width = light.headlight_width + 0.1 * z
        near = np.clip((z - 2.0) / 4, 0.05, 1)
        beam = near * np.exp(-(((u - 0.2) / width) ** 4)) / (1 + (z / light.headlight_reach) ** 2.4)
        spill = light.headlight_spill / (1 + (u / 6) ** 2) / (1 + (z / 12) ** 2)
        result += (light.headlight * (beam + spill))[..., None] * np.asarray(light.headlight_colour, np.float32)
    if light.lamps and u.size == 1:  # all lamps at once: objects are lit at one position at a time
        lamp = np.array([(v.offset, v.distance, v.height, v.power) for v in light.lamps], np.float32).T
        result += np.sum(_lamp_falloff(u, z, *lamp)) * np.asarray(light.lamps[0].colour, np.float32)
        return result
    for v in light.lamps:
        fall = _lamp_falloff(u, z, v.offset, v.distance, v.height, v.power)
        result += fall[..., None] * np.asarray(v.colour, np.float32)
    return result


def gain_map(light: Light, camera: Camera, road: RoadGeometry) -> Float32Array:
    """Return (rows, columns, 3) linear light on the ground behind each pixel of the light map."""
    shape = light_map_shape(camera.height, camera.width)
    if not light.night:
        return np.broadcast_to(np.asarray(light.ambient, np.float32), (*shape, 3)).copy()
    half = (-(-shape[0] // 2), -(-shape[1] // 2))  # light is smooth: every second pixel is enough
    y, x = np.mgrid[0 : half[0], 0 : half[1]] * (2.0 * LIGHT_MAP_STEP)
    right, up, _ = camera.rays(x, y)
    table, lowest, per_slope = road.table(camera)
    at = np.clip((up - road.bank * right - lowest) * per_slope, 0, len(table) - 1).astype(np.int32)
    z = np.minimum(table[at, 2], 90)
    u = (right.astype(np.float32) - table[at, 0]) * np.minimum(table[at, 1], 90)
    lit = light_at(light, u, z)
    lit[at >= len(table) - 1] = light.ambient
    enlarged = cv2.resize(lit, (2 * half[1], 2 * half[0]), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(enlarged[: shape[0], : shape[1]])


def bloom(emission: Float32Array, strength: float) -> Float32Array:
    """Return the light (h, w, 3) of lamps with the halos that lens and windscreen add."""
    if not emission.any():
        return emission
    small = cv2.resize(emission, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    smaller = cv2.resize(small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    size = (emission.shape[1], emission.shape[0])
    near = cv2.resize(cv2.GaussianBlur(small, (0, 0), 2.0), size)
    far = cv2.resize(cv2.GaussianBlur(smaller, (0, 0), 6.0), size)
    halo = cv2.resize(cv2.blur(smaller, (41, 41)), size)
    glow = cv2.GaussianBlur(emission, (3, 3), 0) + strength * (0.35 * near + 0.35 * far + 0.15 * halo)
    linear: Float32Array = glow.astype(np.float32)
    return linear


def glare_map(light: Light, camera: Camera) -> Float32Array:
    """Return (rows, columns, 3) light added by stray light and by a sun in or near the image."""
    shape = light_map_shape(camera.height, camera.width)
    glow = np.full((*shape, 3), light.veil, np.float32)
    if light.glare > 0:
        x, y, _ = camera.project([light.sun[0], light.sun[1], 1.0])
        rows = (np.arange(shape[0], dtype=np.float32)[:, None] * LIGHT_MAP_STEP - float(y)) / camera.width
        columns = (np.arange(shape[1], dtype=np.float32)[None] * LIGHT_MAP_STEP - float(x)) / camera.width
        r2 = rows**2 + columns**2
        disc = 6 * np.exp(-r2 / 0.0009) + 0.9 * np.exp(-r2 / 0.012) + 0.35 / (1 + r2 / 0.03)
        angle = np.arctan2(rows, columns)
        disc *= 1 + 0.12 * np.cos(7 * angle + 1) * np.exp(-r2 / 0.05)
        below = np.clip(rows * 6, 0, 1) * np.exp(-((columns / (0.05 + 0.25 * np.abs(rows))) ** 2))
        glow += (light.glare * (disc + 0.35 * below))[..., None] * np.asarray(light.glare_colour, np.float32)
    return glow


def wet_road_reflection(lit: Float32Array, horizon: tuple[float, float], step: int, wet: float) -> Float32Array:
    """Return the (h, w, 3) light that a wet road below the horizon adds by reflecting the scene.

    `lit` (h, w, 3) is the light of the scene; `horizon` its row (image pixels) at the left and right side; a pixel of
    `lit` spans `step` image pixels.
    """
    h, w = lit.shape[:2]
    level = np.linspace(horizon[0] / step, horizon[1] / step, w, dtype=np.float32)[None]
    rows = np.arange(h, dtype=np.float32)[:, None]
    below = rows - level
    source = np.clip(level - 0.9 * below, 0, h - 1).astype(np.float32)
    columns = np.broadcast_to(np.arange(w, dtype=np.float32)[None], (h, w))
    reflected = cv2.remap(cv2.blur(lit, (3, 15)), np.ascontiguousarray(columns), source, cv2.INTER_LINEAR)
    depth = np.clip(below / np.maximum(h - level, 1), 0, 1)
    strength = wet * np.clip(below / 3, 0, 1) * (0.05 + 0.4 * np.power(1 - depth, 3))
    light: Float32Array = (reflected * strength[..., None]).astype(np.float32)
    return light
