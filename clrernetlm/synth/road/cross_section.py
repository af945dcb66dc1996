"""Describes the materials across the road, from the verge on the left to the verge on the right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clrernetlm.core.arrays import BgrColour, Float32Array, Float64Array
from clrernetlm.synth.road.ground_kernels import PROFILE_REACH, PROFILE_STEP

PROFILE_COLUMNS = 8  # blue, green, red, grain, mottling, wear, foliage, edge roughness (m)


@dataclass(frozen=True)
class GroundStrip:
    """A strip of ground in one material; it begins at `left` (m) and ends at the next strip."""

    left: float
    colour: BgrColour
    # Strengths of the four ground textures, as shares of the colour.
    grain: float = 0.05
    mottle: float = 0.05
    wear: float = 0.03
    foliage: float = 0.0
    edge_roughness: float = 0.0  # metres by which the edges of the strip vary


def asphalt_strip(left: float, colour: BgrColour, grain: float = 0.06, mottle: float = 0.05) -> GroundStrip:
    """Return a strip of asphalt or concrete."""
    return GroundStrip(left, colour, grain, mottle, 0.035)


def verge_strip(left: float, kind: str, rng: np.random.Generator) -> GroundStrip:
    """Return the ground beside a road: `grass`, `dry`, `soil`, `pavement` or `snow`."""
    brightness = float(rng.uniform(0.75, 1.15))
    base, grain, mottle, wear, foliage, edge_roughness = _VERGES[kind]
    colour = (
        base[0] * brightness * rng.uniform(0.9, 1.1),
        base[1] * brightness,
        base[2] * brightness * rng.uniform(0.9, 1.1),
    )
    return GroundStrip(left, colour, grain, mottle, wear, foliage, edge_roughness)


_VERGES: dict[str, tuple[BgrColour, float, float, float, float, float]] = {
    "grass": ((48.0, 96.0, 84.0), 0.12, 0.1, 0.16, 0.16, 0.18),
    "dry": ((88.0, 132.0, 144.0), 0.12, 0.12, 0.14, 0.14, 0.2),
    "soil": ((92.0, 112.0, 126.0), 0.12, 0.13, 0.12, 0.05, 0.25),
    "pavement": ((132.0, 136.0, 140.0), 0.05, 0.05, 0.05, 0.0, 0.0),
    "snow": ((226.0, 222.0, 218.0), 0.03, 0.04, 0.06, 0.04, 0.3),
}


def cross_section_profile(
    strips: list[GroundStrip], lanes: list[tuple[float, float]], wheel_tracks: float, oil_stain: float
) -> Float32Array:
    """Return (N, PROFILE_COLUMNS) for `GroundAppearance.profiles`.

    `lanes` are the edges (m) of the lanes that wheels have worn. `wheel_tracks` darkens (negative: polishes) the two
    wheel tracks of each lane, `oil_stain` the band of oil between them.
    """
    u = profile_offsets()
    result = np.empty((len(u), PROFILE_COLUMNS), np.float32)
    ordered = sorted(strips, key=lambda strip: strip.left)
    for i, strip in enumerate(ordered):
        span = u >= strip.left if i else np.ones(len(u), bool)
        result[span] = [*strip.colour, strip.grain, strip.mottle, strip.wear, strip.foliage, strip.edge_roughness]
    for left, right in lanes:
        middle, inside = (left + right) / 2, (u > left - 0.2) & (u < right + 0.2)
        wheel = sum(np.exp(-(((u - middle - side) / 0.3) ** 2)) for side in (-0.8, 0.8))
        oil = np.exp(-(((u - middle) / 0.35) ** 2))
        result[:, :3] *= np.where(inside, 1 - wheel_tracks * wheel - oil_stain * oil, 1)[:, None]
    return result


def profile_offsets() -> Float64Array:
    """Return (N,) offsets u in metres at which a profile is given."""
    return np.arange(-PROFILE_REACH, PROFILE_REACH + PROFILE_STEP / 2, PROFILE_STEP)
