"""Forks: paint, ground, objects and labels of the departing branch move together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from clrernetlm.synth import render, sample_scene
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.environment.fork_placement import move_objects, move_vehicles
from clrernetlm.synth.environment.roadside_placement import place_barrier
from clrernetlm.synth.environment.traffic import sample_traffic
from clrernetlm.synth.randomization import FULL_RANDOMIZATION
from clrernetlm.synth.road import forks
from clrernetlm.synth.road.cross_section import GroundStrip, cross_section_profile
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.ground_renderer import GroundAppearance, draw_ground
from clrernetlm.synth.road.layout import RoadFork, RoadLayout, sample_layout
from clrernetlm.synth.road.line_attributes import line_attributes

FORK = RoadFork(offset=2.0, side=1, bend=0.005, start=8.0, paved=0.5, verge=12.0)


def _split(seed: int, road_type: str = "highway") -> RoadLayout:
    rng = np.random.default_rng([seed, 61])
    layout = sample_layout(rng, road_type, 0.2, 1.0)
    forks.add_fork(layout, rng)
    return layout


@pytest.fixture
def splits_everywhere(monkeypatch):
    monkeypatch.setattr(forks, "SPLITS", dict.fromkeys(forks.SPLITS, 1.0))


def test_the_own_lane_stays_and_one_side_departs(splits_everywhere):
    near, split = 0, 0
    for seed in range(60):
        layout = _split(seed)
        fork = layout.fork
        if fork is None:
            continue
        split += 1
        assert layout.borders == sorted(layout.borders)
        assert layout.borders[layout.ego_border] < 0 < layout.borders[layout.ego_border + 1]
        assert all(path.bend == fork.bend for path in layout.border_paths.values())
        assert fork.bend * fork.side > 0
        twins = [a for a, b in pairwise(layout.borders) if a == b]
        assert twins == ([fork.offset] if twins else [])
        assert bool(twins) == (fork.start < 14)
        near += bool(twins)
    assert split > 30
    assert near > 8


def test_both_lines_of_a_gore_are_solid(splits_everywhere):
    count = 0
    for seed in range(60):
        layout = _split(seed, "urban")
        if layout.fork is None:
            continue
        index = int(np.abs(np.array(layout.borders) - layout.fork.offset).argmin())
        distances = layout.fork.start + np.array([8.0, 10.0, 12.0, 14.0])
        if layout.lines and line_attributes(layout, index, distances)[0] == "solid":
            count += 1
    assert count > 15


def test_the_ground_moves_with_the_branch_and_the_gore_is_verge():
    camera, road = Camera(640, 360, 420.0, 0.12), RoadGeometry(1.5)
    grass, grey, shoulder = (30.0, 120.0, 60.0), (90.0, 90.0, 90.0), (90.0, 90.0, 200.0)
    strips = [
        GroundStrip(left, colour, 0, 0, 0) for left, colour in ((-60, grass), (-8, grey), (6, shoulder), (8, grass))
    ]
    profile = cross_section_profile(strips, [], 0.0, 0.0)
    appearance = GroundAppearance(np.stack([profile, profile]), np.zeros((1, 14), np.float32), fork=FORK)
    canvas, zeros = np.zeros((360, 640, 3), np.uint8), np.zeros((360, 640), np.uint8)
    draw_ground(canvas, zeros, zeros, camera, road, appearance)
    z = 30.0
    moved = float(FORK.shift(3.0, z))
    assert moved == pytest.approx(2.42)
    for offset, colour in (
        (0.0, grey),
        (2.2, grey),  # the margin of the gore
        (2.0 + moved / 2, grass),
        (3.5 + moved, grey),
        (7.0 + moved, shoulder),
        (9.0 + moved, grass),
    ):
        x, y, _ = camera.project(road.world(offset, z))
        assert canvas[round(float(y)), round(float(x))].tolist() == pytest.approx(colour, abs=2), offset


def test_barriers_stay_connected_and_cars_stay_on_their_lane():
    rng = np.random.default_rng(3)
    barrier = move_objects(place_barrier(rng, 6.0, ("rail",)), FORK)
    for a, b in pairwise(barrier):
        assert a.offset + a.far_shift == pytest.approx(b.offset)
    assert barrier[-1].offset > 20
    layout = RoadLayout("highway", lanes=[(-1.8, 1.8, 1), (2.0, 5.6, 1)])
    cars = sample_traffic(rng, layout, 1.0)
    for car, moved in zip(cars, move_vehicles(cars, FORK), strict=True):
        assert moved.offset == car.offset + FORK.shift(car.offset, car.distance + 2.0)
        assert moved.offset == car.offset or car.offset > 2


def test_scenes_with_forks_repeat(splits_everywhere):
    for seed in range(3):
        images = []
        for _ in range(2):
            rng = np.random.default_rng([seed, 62])
            images.append(render(sample_scene(rng, "normal", (320, 180), randomization=FULL_RANDOMIZATION), rng))
        np.testing.assert_array_equal(*images)
