"""Spray, drops, lenses that light a circle, kerbs and parked cars: drawn where they belong, never on a label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clrernetlm.synth import labelled_lanes, render, sample_scene
from clrernetlm.synth.camera.windscreen import Windscreen, apply_windscreen, draw_drops, sample_windscreen
from clrernetlm.synth.environment.traffic import Vehicle, densify_traffic
from clrernetlm.synth.road.distractors import sample_distractors
from clrernetlm.synth.road.ground_map import GroundMap
from clrernetlm.synth.road.layout import sample_layout


def test_spray_veils_the_road_behind_a_car_and_no_label_changes():
    car = Vehicle("sedan", 0.0, 14.0, False, (40.0, 40.0, 40.0), False, 3)
    images, labels = [], []
    for spray in (0.0, 0.8):
        rng = np.random.default_rng(7)
        scene = sample_scene(rng, "normal", (820, 295))
        scene = replace(scene, vehicles=[car], objects=[], ego_vehicle=None, spray=spray)
        images.append(render(scene, rng).astype(int))
        labels.append([points.tolist() for points in labelled_lanes(scene)])
    assert labels[0] == labels[1]
    changed = np.abs(images[0] - images[1]).max(2) > 8
    assert 0.003 < changed.mean() < 0.3
    x, y, _ = scene.camera.project(scene.road.world(0.0, 13.0))
    assert changed[round(float(y)) - 3, round(float(x))]
    assert not changed[:60].any()


def test_drops_change_small_spots_all_over_the_image():
    image = np.tile(np.arange(400, dtype=np.uint8)[:, None, None], (1, 600, 3))
    drawn = image.copy()
    draw_drops(drawn, Windscreen(drops=80), np.random.default_rng(2))
    changed = (drawn != image).any(2)
    assert 0.002 < changed.mean() < 0.2
    assert all(half.any() for half in (changed[:200], changed[200:], changed[:, :300], changed[:, 300:]))
    untouched = image.copy()
    draw_drops(untouched, Windscreen(), np.random.default_rng(2))
    np.testing.assert_array_equal(untouched, image)


def test_a_lens_may_light_a_circle_only():
    gain, glow = np.ones((90, 160, 3), np.float32), np.full((90, 160, 3), 0.1, np.float32)
    apply_windscreen(gain, glow, Windscreen(circle=0.5), 1.0, np.random.default_rng(0))
    assert gain[45, 80].tolist() == [1, 1, 1]
    assert gain[0, 0].tolist() == glow[-1, -1].tolist() == [0, 0, 0]
    windscreens = [sample_windscreen(np.random.default_rng(seed), False, False) for seed in range(50)]
    assert all(glass.circle == 0 and glass.drops == 0 for glass in windscreens)


def test_kerbs_keep_away_from_labelled_lines_and_lie_at_the_edges():
    count = 0
    for seed in range(80):
        rng = np.random.default_rng([seed, 71])
        layout = sample_layout(rng, "urban", 0.5, 1.0)
        lines = sample_distractors(rng, layout, GroundMap(), 90.0, 0, False).lines
        for line in lines:
            assert min(abs(line.offset - border) for border in layout.borders) > 0.3
            count += min(abs(line.offset - layout.left_edge), abs(line.offset - layout.right_edge)) < 0.25
    assert count > 25


def test_cars_are_parked_beyond_the_edges_of_streets_without_room_for_them():
    rows = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 72])
        layout = sample_layout(rng, "urban", 0.5, 1.0)
        parked = densify_traffic(rng, replace(layout, lanes=[]), [])
        for car in parked:
            edge = layout.left_edge if car.offset < 0 else layout.right_edge
            assert 0.85 < abs(car.offset) - abs(edge) < 1.45
        rows += bool(parked)
        again = densify_traffic(np.random.default_rng(5), layout, [])
        assert again == densify_traffic(np.random.default_rng(5), layout, [])
    assert rows == pytest.approx(20, abs=12)
