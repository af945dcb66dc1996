"""Section: what lies across the road, from the grass on the left to the grass on the right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.road.surface import PROFILE_COLUMNS, profile_offsets

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Zone:
    """A strip of ground right of `left` (m) in one material; the next zone ends it."""

    left: float
    colour: Colour
    grain: float = 0.05
    mottle: float = 0.05
    wear: float = 0.03
    leaf: float = 0.0
    rough: float = 0.0


def asphalt(left: float, colour: Colour, grain: float = 0.06, mottle: float = 0.05) -> Zone:
    """Asphalt or concrete."""
    return Zone(left, colour, grain, mottle, 0.035)


def verge(left: float, kind: str, rng: np.random.Generator) -> Zone:
    """What lies beside a road: `grass`, `dry`, `soil`, `pavement` or `snow`."""
    vary = float(rng.uniform(0.75, 1.15))
    base, grain, mottle, wear, leaf, rough = _VERGES[kind]
    colour = (base[0] * vary * rng.uniform(0.9, 1.1), base[1] * vary, base[2] * vary * rng.uniform(0.9, 1.1))
    return Zone(left, colour, grain, mottle, wear, leaf, rough)


_VERGES: dict[str, tuple[Colour, float, float, float, float, float]] = {
    "grass": ((48.0, 96.0, 84.0), 0.12, 0.1, 0.16, 0.16, 0.18),
    "dry": ((88.0, 132.0, 144.0), 0.12, 0.12, 0.14, 0.14, 0.2),
    "soil": ((92.0, 112.0, 126.0), 0.12, 0.13, 0.12, 0.05, 0.25),
    "pavement": ((132.0, 136.0, 140.0), 0.05, 0.05, 0.05, 0.0, 0.0),
    "snow": ((226.0, 222.0, 218.0), 0.03, 0.04, 0.06, 0.04, 0.3),
}


def profile(zones: list[Zone], lanes: list[tuple[float, float]], tracks: float, stain: float) -> NDArray[np.float32]:
    """(N, PROFILE_COLUMNS) for `Surface.profiles`; `lanes` are the edges of lanes (m), worn by wheels.

    `tracks` darkens (or polishes, negative) the two wheel tracks of each lane, `stain` the oil between them.
    """
    u = profile_offsets()
    result = np.empty((len(u), PROFILE_COLUMNS), np.float32)
    ordered = sorted(zones, key=lambda zone: zone.left)
    for i, zone in enumerate(ordered):
        span = u >= zone.left if i else np.ones(len(u), bool)
        result[span] = [*zone.colour, zone.grain, zone.mottle, zone.wear, zone.leaf, zone.rough]
    for left, right in lanes:
        middle, inside = (left + right) / 2, (u > left - 0.2) & (u < right + 0.2)
        wheel = sum(np.exp(-(((u - middle - side) / 0.3) ** 2)) for side in (-0.8, 0.8))
        oil = np.exp(-(((u - middle) / 0.35) ** 2))
        result[:, :3] *= np.where(inside, 1 - tracks * wheel - stain * oil, 1)[:, None]
    return result
