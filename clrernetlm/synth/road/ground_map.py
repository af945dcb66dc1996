"""Maps the road from above: a tone that multiplies the pavement, and a cover such as snow over it."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from clrernetlm.core.arrays import ByteArray, ByteMask, Float32Array, Float64Array
from clrernetlm.synth.road.cross_section import profile_offsets

SIZE = 512  # cells per side; along the road the map repeats after its length
PER_METRE = (8.0, 16.0)  # cells along and across the road
REACH = SIZE / PER_METRE[1] / 2  # metres to either side
LENGTH = SIZE / PER_METRE[0]  # metres along the road
NEUTRAL = 64  # the tone that leaves the ground as it is


def _across() -> Float32Array:
    """Return ones at `profile_offsets`."""
    return np.ones(len(profile_offsets()), np.float32)


@dataclass
class GroundMap:
    """The maps that modify the ground.

    `tone` (SIZE, SIZE) float32 multiplies the pavement, `cover` (SIZE, SIZE) uint8 is the opacity of `cover_colour`
    over everything, paint included; rows by metres ahead, columns by offset. `across` multiplies the colours at
    `profile_offsets`.
    """

    tone: Float32Array = field(default_factory=lambda: np.ones((SIZE, SIZE), np.float32))
    cover: ByteMask = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.uint8))
    cover_colour: tuple[float, float, float] = (40.0, 40.0, 40.0)
    across: Float32Array = field(default_factory=_across)

    def relief(self) -> ByteArray:
        """Return (2, SIZE, SIZE) uint8 for `GroundAppearance.relief`: tone (`NEUTRAL` = 1) and cover."""
        return np.stack([np.clip(np.round(self.tone * NEUTRAL), 0, 255).astype(np.uint8), self.cover])

    def mean_cover(self, offset: float) -> float:
        """Return the mean opacity 0..1 of the cover along an offset in metres; 0 beyond the map."""
        column = int((offset + REACH) * PER_METRE[1])
        return float(self.cover[:, column].mean()) / 255 if 0 <= column < SIZE else 0.0

    def scale(self, left: float, right: float, near: float, far: float, factor: float) -> None:
        """Multiply the tone of a rectangle in metres, clipped to the map."""
        x0, x1 = (int(np.clip((u + REACH) * PER_METRE[1], 0, SIZE)) for u in (left, right))
        y0, y1 = (int(np.clip(z * PER_METRE[0], 0, SIZE)) for z in (near, far))
        self.tone[y0:y1, x0:x1] *= factor

    def limit(self, left: float, right: float) -> None:
        """Reset the tone outside two offsets in metres."""
        x0, x1 = (int(np.clip((u + REACH) * PER_METRE[1], 0, SIZE)) for u in (left, right))
        self.tone[:, :x0], self.tone[:, x1:] = 1, 1

    def darken(self, mask: ByteMask, strength: float) -> None:
        """Multiply the tone by 1 - `strength` where `mask` (SIZE, SIZE) is 255; a negative strength brightens."""
        self.tone *= 1 - np.float32(strength / 255) * mask


def blank() -> ByteMask:
    """Return (SIZE, SIZE) uint8 zeros to draw on."""
    return np.zeros((SIZE, SIZE), np.uint8)


def stroke(mask: ByteMask, u: Float64Array, z: Float64Array, width: float, value: int = 255) -> None:
    """Draw a curve through offsets and distances in metres, `width` metres wide, at least one cell."""
    points = np.stack([(u + REACH) * PER_METRE[1], z * PER_METRE[0]], -1)
    cv2.polylines(
        mask, [np.round(points * 16).astype(np.int32)], False, [value], max(1, round(width * 12)), cv2.LINE_AA, 4
    )


def blot(mask: ByteMask, u: float, z: float, half_width: float, half_length: float, value: int = 255) -> None:
    """Draw a filled ellipse; all sizes in metres."""
    centre = (round((u + REACH) * PER_METRE[1] * 16), round(z * PER_METRE[0] * 16))
    axes = (max(8, round(half_width * PER_METRE[1] * 16)), max(8, round(half_length * PER_METRE[0] * 16)))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, [value], -1, cv2.LINE_AA, 4)
