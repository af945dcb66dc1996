"""Roadworks: temporary lines lie at the labelled borders, old lines beside them, and closed lanes are empty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clrernetlm.synth import domain_randomizer, labelled_lanes, render, sample_scene
from clrernetlm.synth.environment.roadworks import add_roadworks
from clrernetlm.synth.randomization import Randomization
from clrernetlm.synth.road.layout import sample_layout
from clrernetlm.synth.road.line_attributes import line_attributes

DISTANCES = np.geomspace(5, 60, 20)
PAINT: Randomization = frozenset({"paint"})


def _repainted(seed: int):
    rng = np.random.default_rng([seed, 21])
    layout = sample_layout(rng, "highway" if seed % 2 else "urban", 0.3, 1.0)
    return layout, add_roadworks(rng, layout)


def test_the_labelled_borders_have_the_colour_of_the_temporary_lines():
    colours = set()
    for seed in range(30):
        layout, _ = _repainted(seed)
        found = [line_attributes(layout, border, DISTANCES) for border in range(len(layout.borders))]
        assert len({colour for _, colour in found if colour != "unknown"}) == 1
        assert sum(kind in ("edge", "unknown") for kind, _ in found) <= 1
        colours.add(found[layout.ego_border][1])
    assert colours == {"white", "yellow", "other"}


def test_old_lines_lie_on_the_road_beside_the_borders():
    count = 0
    for seed in range(30):
        layout, works = _repainted(seed)
        for line in works.old_lines:
            count += 1
            assert layout.left_edge < line.offset < layout.right_edge
            assert min(abs(line.offset - border) for border in layout.borders) > 0.3
    assert count > 60


def test_beacons_stand_beside_the_own_lane():
    rows = 0
    for seed in range(30):
        layout, works = _repainted(seed)
        left, right = layout.borders[layout.ego_border], layout.borders[layout.ego_border + 1]
        assert all(not left < item.offset < right for item in works.objects)
        rows += bool(works.objects)
    assert 15 <= rows <= 29


@pytest.fixture
def roadworks_everywhere(monkeypatch):
    monkeypatch.setattr(domain_randomizer, "ROADWORKS_SHARE", 1.0)


def test_no_car_drives_on_a_closed_lane_and_scenes_repeat(roadworks_everywhere):
    closed = 0
    for seed in range(12):
        scene, again = (
            sample_scene(np.random.default_rng([seed, 22]), "crowd", (480, 200), randomization=PAINT) for _ in range(2)
        )
        assert (scene.layout, scene.objects, scene.vehicles) == (again.layout, again.objects, again.vehicles)
        plain = sample_scene(np.random.default_rng([seed, 22]), "crowd", (480, 200))
        assert [points.tolist() for points in labelled_lanes(scene)] == [p.tolist() for p in labelled_lanes(plain)]
        closed += len(scene.vehicles) < len(plain.vehicles)
    assert closed >= 3


def test_labels_lie_on_orange_or_yellow_paint(roadworks_everywhere):
    colourful = []
    for seed in range(8):
        rng = np.random.default_rng([seed, 23])
        scene = sample_scene(rng, "normal", (1280, 462), randomization=PAINT)
        scene.layout.lines = [replace(line, dash=1.0, period=1.0, wear=-9.0) for line in scene.layout.lines]
        light = replace(scene.light, night=False, ambient=(1.0, 1.0, 1.0), glare=0.0, wet=0.0, veil=0.0)
        sensor = replace(scene.sensor, saturation=1.0)
        weather = replace(scene.weather, visibility=1e5)
        image = render(
            replace(
                scene,
                vehicles=[],
                objects=[],
                ego_vehicle=None,
                decals=[],
                leaf_shadow=0.0,
                light=light,
                sensor=sensor,
                weather=weather,
            ),
            rng,
        ).astype(int)
        if line_attributes(scene.layout, scene.layout.ego_border, DISTANCES)[1] == "white":
            continue
        for points in labelled_lanes(scene):
            x, y = np.round(points[2:10]).astype(int).T
            inside = (x >= 0) & (x < 1280) & (y < 462)
            pixels = image[y[inside], x[inside]]
            colourful += (pixels[:, 2] - pixels[:, 0]).tolist()
    assert len(colourful) > 60
    assert np.median(colourful) > 50
