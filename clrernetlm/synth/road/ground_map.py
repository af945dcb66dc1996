"""Ground: a map of the road seen from above that tones the pavement and covers its paint, and painting on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.road.surface import profile_offsets

SIZE = 512  # cells a side; along the road the map begins anew after its length
PER_METRE = (8.0, 16.0)  # cells along and across the road
REACH = SIZE / PER_METRE[1] / 2  # metres to either side
LENGTH = SIZE / PER_METRE[0]  # metres along the road
NEUTRAL = 64  # the tone that leaves the ground as it is

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]


def _across() -> Floats:
    return np.ones(len(profile_offsets()), np.float32)


@dataclass
class Ground:
    """`tone` (SIZE, SIZE) float32 multiplies the pavement, `cover` (SIZE, SIZE) uint8 lays `cover_colour` over all of
    it, paint too; rows by metres ahead, columns by offset. `across` multiplies the colours by `profile_offsets`."""

    tone: Floats = field(default_factory=lambda: np.ones((SIZE, SIZE), np.float32))
    cover: Image = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.uint8))
    cover_colour: tuple[float, float, float] = (40.0, 40.0, 40.0)
    across: Floats = field(default_factory=_across)

    def relief(self) -> Image:
        """(2, SIZE, SIZE) uint8 for `Surface.relief`: tone (`NEUTRAL` = 1) and cover."""
        return np.stack([np.clip(np.round(self.tone * NEUTRAL), 0, 255).astype(np.uint8), self.cover])

    def scale(self, left: float, right: float, near: float, far: float, factor: float) -> None:
        """Multiply the tone of a rectangle in metres, cut off at the rim of the map."""
        x0, x1 = (int(np.clip((u + REACH) * PER_METRE[1], 0, SIZE)) for u in (left, right))
        y0, y1 = (int(np.clip(z * PER_METRE[0], 0, SIZE)) for z in (near, far))
        self.tone[y0:y1, x0:x1] *= factor

    def limit(self, left: float, right: float) -> None:
        """Take the tone away outside two offsets in metres."""
        x0, x1 = (int(np.clip((u + REACH) * PER_METRE[1], 0, SIZE)) for u in (left, right))
        self.tone[:, :x0], self.tone[:, x1:] = 1, 1

    def darken(self, mask: Image, strength: float) -> None:
        """Multiply the tone by 1 - `strength` where `mask` (SIZE, SIZE) is 255; a negative strength brightens."""
        self.tone *= 1 - np.float32(strength / 255) * mask


def blank() -> Image:
    """(SIZE, SIZE) uint8 zeros to draw on."""
    return np.zeros((SIZE, SIZE), np.uint8)


def stroke(mask: Image, u: NDArray[np.float64], z: NDArray[np.float64], width: float, value: int = 255) -> None:
    """Draw a curve through offsets and distances in metres, `width` metres wide, at least a cell."""
    points = np.stack([(u + REACH) * PER_METRE[1], z * PER_METRE[0]], -1)
    cv2.polylines(
        mask, [np.round(points * 16).astype(np.int32)], False, [value], max(1, round(width * 12)), cv2.LINE_AA, 4
    )


def blot(mask: Image, u: float, z: float, half_width: float, half_length: float, value: int = 255) -> None:
    """Draw a filled ellipse; metres."""
    centre = (round((u + REACH) * PER_METRE[1] * 16), round(z * PER_METRE[0] * 16))
    axes = (max(8, round(half_width * PER_METRE[1] * 16)), max(8, round(half_length * PER_METRE[0] * 16)))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, [value], -1, cv2.LINE_AA, 4)
