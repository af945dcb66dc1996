"""Scenes: every category is rendered at any size, and labelled by its own geometry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clrernetlm.synth import CATEGORIES, labelled_lanes, render, sample_scene
from clrernetlm.synth.renderer import labelled_lane_slots


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_gives_an_image_with_texture(category):
    rng = np.random.default_rng(3)
    scene = sample_scene(rng, category, (820, 295))
    image = render(scene, rng)
    assert image.shape == (295, 820, 3)
    assert image.dtype == np.uint8
    assert image.std() > 5
    assert 3 < image.mean() < 235


@pytest.mark.parametrize("size", [(1280, 720), (960, 540), (800, 288), (321, 179)])
def test_scenes_of_any_size_are_rendered(size):
    rng = np.random.default_rng(5)
    scene = sample_scene(rng, "normal", size)
    assert render(scene, rng).shape == (size[1], size[0], 3)
    for points in labelled_lanes(scene):
        assert points[0, 1] <= size[1]
        assert (points[:, 0] > -0.05 * size[0]).all()
        assert (points[:, 0] < 1.05 * size[0]).all()


def test_cross_has_no_lanes_and_noline_keeps_its_lanes():
    counts = {"cross": [], "noline": []}
    for seed in range(20):
        for category, found in counts.items():
            found.append(len(labelled_lanes(sample_scene(np.random.default_rng(seed), category))))
    assert max(counts["cross"]) == 0
    assert np.mean(counts["noline"]) >= 2


def test_lanes_two_and_three_lie_left_and_right_of_the_car():
    for seed in range(30):
        scene = sample_scene(np.random.default_rng(seed), "normal")
        slots = labelled_lane_slots(scene)
        bottoms = [points[0, 0] if len(points) and points[0, 1] > 500 else None for points in slots]
        present = [x for x in bottoms if x is not None]
        assert present == sorted(present)
        left, right = scene.layout.borders[scene.layout.ego_border], scene.layout.borders[scene.layout.ego_border + 1]
        assert left < 0 < right
        assert len(slots) == 4


def test_six_lanes_can_be_labelled():
    most = 0
    for seed in range(40):
        slots = labelled_lane_slots(sample_scene(np.random.default_rng(seed), "normal", max_lanes=6))
        assert len(slots) == 6
        most = max(most, sum(len(points) > 0 for points in slots))
    assert most >= 5


def test_curves_bend_more_than_ordinary_roads():
    def bend(category: str) -> float:
        scenes = [sample_scene(np.random.default_rng(seed), category) for seed in range(30)]
        return float(np.mean([abs(scene.road.shift(60.0)) for scene in scenes]))

    assert bend("curve") > 3 * bend("normal")


def test_nights_are_dark_and_headlights_light_the_road_ahead():
    day, night, ahead, aside = [], [], [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        scene = replace(sample_scene(rng, "night", (820, 295)), vehicles=[], objects=[], ego_vehicle=None)
        image = render(scene, rng)
        night.append(image.mean())
        ahead.append(image[200:280, 350:470].mean())
        aside.append(image[200:280, :100].mean())
        rng = np.random.default_rng(seed)
        day.append(render(sample_scene(rng, "normal", (820, 295)), rng).mean())
    assert np.mean(night) < 0.5 * np.mean(day)
    assert np.mean(ahead) > 1.3 * np.mean(aside)


def test_traffic_is_denser_in_crowds():
    def vehicles(category: str) -> float:
        return float(np.mean([len(sample_scene(np.random.default_rng(s), category).vehicles) for s in range(30)]))

    assert vehicles("crowd") > 1.3 * vehicles("normal")


def test_same_seed_same_image():
    images = []
    for _ in range(2):
        rng = np.random.default_rng([1, 2])
        images.append(render(sample_scene(rng, "crowd", (400, 160)), rng))
    np.testing.assert_array_equal(*images)


def test_labels_match_the_paint_of_finished_images():
    """Through lens, motion blur, defocus and noise: dashes made solid and bright, nothing in the way."""
    errors = []
    for seed in range(12):
        rng = np.random.default_rng([seed, 3])
        scene = sample_scene(rng, "normal")
        scene.layout.lines = [
            replace(line, dash=1.0, period=1.0, wear=-9.0, strength=1.0, twin=0.0) for line in scene.layout.lines
        ]
        day = replace(scene.light, night=False, ambient=(1.0, 1.0, 1.0), glare=0.0, wet=0.0)
        scene = replace(scene, vehicles=[], objects=[], ego_vehicle=None, decals=[], leaf_shadow=0.0, light=day)
        green = render(scene, rng)[..., 1].astype(np.float64)
        for points in labelled_lanes(scene):
            for x, y in points[3:12]:
                near = np.arange(round(x) - 30, round(x) + 31)
                if near[0] < 0 or near[-1] >= 1640:
                    continue
                row = green[int(y), near]
                light = np.clip(row - np.median(row) - 25, 0, None)
                if light.sum() > 200:
                    errors.append((light * near).sum() / light.sum() - x)
    assert len(errors) > 150
    assert np.median(np.abs(errors)) < 0.4
    assert abs(np.mean(errors)) < 0.3
