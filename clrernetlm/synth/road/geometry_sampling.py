"""Samples road geometry: bends, hills, bank; and lane plans with the statistics of real labels."""

from __future__ import annotations

import numpy as np

from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.layout import LanePlan, RoadType

# Share of randomized roads that turn sharply right in front of the camera.
SHARP_BENDS: dict[RoadType, float] = {"highway": 0.05, "urban": 0.16, "rural": 0.2, "tunnel": 0.03}


def sample_lane_plan(rng: np.random.Generator, road_type: RoadType) -> LanePlan:
    """Sample the number and width of lanes, the lane of the camera, and its position in that lane."""
    shares = {
        "highway": (0.02, 0.2, 0.28, 0.3, 0.2),
        "urban": (0.22, 0.38, 0.25, 0.15, 0.0),
        "rural": (0.85, 0.15, 0.0, 0.0, 0.0),
        "tunnel": (0.05, 0.5, 0.35, 0.1, 0.0),
    }[road_type]
    lanes = 1 + int(rng.choice(5, p=np.array(shares) / sum(shares)))
    low, high = {"highway": (3.2, 3.9), "urban": (2.7, 3.7), "rural": (2.6, 3.7), "tunnel": (3.2, 3.9)}[road_type]
    width = float(rng.uniform(low, high))
    drift = float(np.clip(rng.normal(-0.01, 0.095), -0.25, 0.25)) * width
    if rng.random() < 0.09:  # changing lanes
        drift = float(rng.uniform(-0.5, 0.5)) * width
    return LanePlan(lanes, width, int(rng.integers(lanes)), drift)


def sample_randomized_geometry(
    rng: np.random.Generator, bent: bool, road_type: RoadType, camera_height: float
) -> RoadGeometry:
    """Sample a road with the statistics of real labels: straight, a clothoid or an S, level or hilly.

    `bent` forces a bend. Some roads turn sharply right in front of the camera (`SHARP_BENDS`).
    """
    near = rng.random() < SHARP_BENDS[road_type] * (3 if bent else 1)
    bends = _sample_sharp_bend(rng, road_type) if near else _sample_bends(rng, bent, road_type)
    grades: list[tuple[float, float]] = []
    if rng.random() < 0.45:
        start, slope = float(rng.uniform(0, 70)), float(rng.normal(0, 0.03 if road_type == "highway" else 0.04))
        grades = [(start, 0.0), (start + float(rng.uniform(15, 90)), slope)]
        if rng.random() < 0.4:
            grades.append((start + float(rng.uniform(100, 220)), float(rng.normal(0, 0.03))))
    wavy = rng.random() < 0.35
    lean = bends[0][1] if bends else 0.0
    return RoadGeometry(
        camera_height,
        hill_height=float(rng.exponential(0.4)) if wavy else 0.0,
        hill_length=float(rng.uniform(120, 500)),
        hill_phase=float(rng.uniform(0, 2 * np.pi)),
        bank=float(np.clip(lean * rng.uniform(-6, 10), -0.05, 0.05)) + float(rng.normal(0, 0.006)),
        bends=tuple(_rising(bends)),
        grades=tuple(_rising(grades)),
        max_heading=1.0 if near else 0.85,
    )


def _sample_sharp_bend(rng: np.random.Generator, road_type: RoadType) -> list[tuple[float, float]]:
    """Sample knots of a bend that begins or has begun near the camera: metres ahead, curvature in 1/m.

    The radius is 30 to 120 m, on ramps of highways 55 to 150 m.
    """
    low, high = (55, 150) if road_type == "highway" else (30, 120)
    radius = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    turn = float(rng.choice([-1, 1])) / radius
    begin, transition = float(rng.uniform(-25, 18)), float(rng.uniform(3, 18))
    end = max(begin, 0.0) + transition + radius * float(rng.uniform(0.3, 1.5))
    after = 0.0 if rng.random() < 0.6 else -turn * float(rng.uniform(0.3, 1.0))
    return [(begin, 0.0), (begin + transition, turn), (end, turn), (end + transition, after), (end + 60, 0.0)]


def _sample_bends(rng: np.random.Generator, bent: bool, road_type: RoadType) -> list[tuple[float, float]]:
    """Sample knots of metres ahead and curvature in 1/m: none on a straight road; `bent` forces a bend."""
    sharp = {"highway": 1 / 450, "urban": 1 / 260, "rural": 1 / 200, "tunnel": 1 / 500}[road_type]
    kind = rng.random()
    if bent:
        turn = float(rng.choice([-1, 1])) / float(np.exp(rng.uniform(np.log(45), np.log(350))))
        begin = float(rng.uniform(-20, 45))
        knots = [(begin, 0.0 if rng.random() < 0.6 else turn), (begin + float(rng.uniform(3, 40)), turn)]
        return [*knots, (begin + float(rng.uniform(50, 200)), turn * float(rng.uniform(-1.2, 1.2)))]
    if kind < 0.3:
        turn = float(rng.normal(0, 0.6)) * sharp
        begin = float(rng.uniform(-60, 80))
        knots = [(begin, turn * float(rng.uniform(0, 1))), (begin + float(rng.uniform(10, 90)), turn)]
        return [*knots, (begin + float(rng.uniform(100, 300)), 0.0)] if rng.random() < 0.5 else knots
    if kind < 0.45:  # an S
        first, length = float(rng.normal(0, 0.9)) * sharp, float(rng.uniform(30, 160))
        begin = float(rng.uniform(-40, 60))
        second = -first * float(rng.uniform(0.4, 1.5))
        return [(begin, first), (begin + length * 0.3, first), (begin + length, second), (begin + 2 * length, 0.0)]
    return []


def _rising(knots: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sort knots by distance and keep them at least a metre apart."""
    result: list[tuple[float, float]] = []
    for z, value in sorted(knots):
        result.append((max(z, result[-1][0] + 1.0) if result else z, value))
    return result


def sample_geometry(rng: np.random.Generator, bent: bool, road_type: RoadType, camera_height: float) -> RoadGeometry:
    """Sample a road that is mostly straight; `bent` forces a curve."""
    if bent:
        curvature = float(rng.choice([-1, 1]) / rng.uniform(70, 350))
    elif rng.random() < 0.45:
        curvature = float(rng.normal(0, 1 / 900 if road_type == "highway" else 1 / 600))
    else:
        curvature = 0.0
    begin = float(rng.uniform(0, 60)) if rng.random() < 0.5 and not bent else 0.0
    rate = float(rng.normal(0, 1e-5 if not bent else 3e-5))
    hilly = rng.random() < 0.5
    return RoadGeometry(
        camera_height,
        curvature,
        rate,
        begin,
        begin + float(rng.uniform(60, 400)),
        float(rng.exponential(0.6)) if hilly else 0.0,
        float(rng.uniform(180, 600)),
        float(rng.uniform(0, 2 * np.pi)),
        float(np.clip(curvature * rng.uniform(-6, 10), -0.05, 0.05)) + float(rng.normal(0, 0.004)),
    )
