"""Changes the ground map for night, rain and snow."""

from __future__ import annotations

import cv2
import numpy as np

from clrernetlm.core.arrays import ByteMask
from clrernetlm.synth.road.ground_map import LENGTH, PER_METRE, SIZE, GroundMap
from clrernetlm.synth.road.layout import RoadLayout


def darken_pavement(rng: np.random.Generator, layout: RoadLayout, ground_map: GroundMap) -> None:
    """Darken the pavement at night: paint reflects the headlights back, pavement does not."""
    ground_map.across *= np.float32(rng.uniform(0.3, 0.95))


def make_road_wet(rng: np.random.Generator, layout: RoadLayout, ground_map: GroundMap, wet: float) -> None:
    """Darken a wet road and add puddles."""
    ground_map.across *= np.float32(1 - 0.45 * wet)
    if rng.random() < 0.6:
        ground_map.darken(_puddles(rng, float(rng.uniform(0.4, 1.8))), float(rng.uniform(-0.4, 0.5)))


def _puddles(rng: np.random.Generator, dry: float) -> ByteMask:
    """Return (SIZE, SIZE) with 255 in puddles elongated along the road; a higher `dry` gives fewer."""
    coarse = cv2.resize(rng.standard_normal((20, 26)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.standard_normal((80, 160)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return np.clip((coarse + 0.3 * fine - dry) * 400, 0, 255).astype(np.uint8)


def cover_with_snow(rng: np.random.Generator, layout: RoadLayout, ground_map: GroundMap) -> None:
    """Cover the road with snow: banks at the edges, ridges beside and between the wheel tracks, remains elsewhere."""
    white = float(rng.uniform(165, 235))
    ground_map.cover_colour = (white, white * 0.985, white * 0.97)
    u = np.linspace(-SIZE / PER_METRE[1] / 2, SIZE / PER_METRE[1] / 2, SIZE, endpoint=False)
    amount = np.zeros(SIZE)
    for left, right, _ in layout.lanes:
        middle = (left + right) / 2
        between = np.exp(-(((u - middle) / 0.35) ** 2))
        amount += float(rng.uniform(0, 0.5)) * between * ((u > left) & (u < right))
        amount += float(rng.uniform(0, 0.5)) * np.exp(-(((u - left) / 0.4) ** 2))
    bank = float(rng.uniform(-0.4, 0.8))
    amount += 1.5 * np.clip(layout.left_edge + bank - u, 0, 1) + 1.5 * np.clip(u - layout.right_edge + bank, 0, 1)
    rough = rng.standard_normal((int(LENGTH), SIZE // 6)).astype(np.float32)
    field = cv2.resize(rough, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    ground_map.cover = np.clip(255 * (amount[None] * (1 + 0.5 * field) - 0.12), 0, 245).astype(np.uint8)
