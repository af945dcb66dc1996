"""Randomization groups that change the road: each changes the image, never the labels or what other groups draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clrernetlm.synth import CATEGORIES, labelled_lanes, render, sample_scene
from clrernetlm.synth.environment.roadside_objects import Pole
from clrernetlm.synth.randomization import NO_RANDOMIZATION, Randomization
from clrernetlm.synth.road.ground_map import LENGTH, NEUTRAL, GroundMap

ROAD_GROUPS = ("surface", "paint", "distractors", "surroundings", "light")
ROAD: Randomization = frozenset(ROAD_GROUPS)
SIZE = (480, 200)


def _scene(seed: int, randomization: Randomization = NO_RANDOMIZATION, category: str = "normal"):
    return sample_scene(np.random.default_rng([seed, 77]), category, SIZE, randomization=randomization)


def _image(seed: int, randomization: Randomization = NO_RANDOMIZATION, category: str = "normal") -> np.ndarray:
    rng = np.random.default_rng([seed, 77])
    return render(sample_scene(rng, category, SIZE, randomization=randomization), rng)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_seed_gives_the_same_image_and_the_labels_of_the_plain_road(category):
    for seed in range(3):
        np.testing.assert_array_equal(_image(seed, ROAD, category), _image(seed, ROAD, category))
        randomized, plain = (
            labelled_lanes(_scene(seed, ROAD, category)),
            labelled_lanes(_scene(seed, NO_RANDOMIZATION, category)),
        )
        assert len(randomized) == len(plain)
        for points, plain_points in zip(randomized, plain, strict=True):
            np.testing.assert_array_equal(points, plain_points)


def test_plain_scenes_are_those_of_the_first_version():
    found = []
    for seed, category in enumerate(CATEGORIES):
        scene = _scene(seed, NO_RANDOMIZATION, category)
        assert scene.ground_map is None
        assert scene.unlabelled_lines == []
        found.append(round(sum(scene.layout.borders) + scene.camera.focal + len(scene.vehicles), 3))
    assert found == pytest.approx([274.455, 324.387, 254.22, 208.503, 293.148, 282.031, 286.503, 236.461, 327.012])


@pytest.mark.parametrize("group", ROAD_GROUPS)
def test_each_group_changes_the_image(group):
    changed = [np.abs(_image(s, frozenset({group})).astype(int) - _image(s)) > 12 for s in range(6)]
    assert max(pixels.mean() for pixels in changed) > 0.002


@pytest.mark.parametrize("group", ROAD_GROUPS)
def test_leaving_a_group_out_does_not_change_the_others(group):
    for seed in range(4):
        with_all, without = _scene(seed, ROAD), _scene(seed, ROAD - {group})
        assert with_all.layout.borders == without.layout.borders
        if group != "paint":
            assert with_all.layout.lines[0].offset == without.layout.lines[0].offset
            assert len(with_all.layout.lines) == len(without.layout.lines)
        if group != "light":
            assert with_all.light.ambient == without.light.ambient
        if group != "surroundings":
            assert with_all.vehicles == without.vehicles


def test_distractors_keep_a_distance_to_labelled_lines():
    count = 0
    for seed in range(60):
        scene = _scene(seed, frozenset({"distractors"}))
        borders = np.array(scene.layout.borders)
        for line in scene.unlabelled_lines:
            count += 1
            assert np.abs(borders - line.offset).min() > 0.3
    assert count > 40


def test_paint_ranges_from_fresh_to_hardly_visible_and_from_dots_to_blocks():
    lines = [line for seed in range(60) for line in _scene(seed, frozenset({"paint"})).layout.lines]
    strengths = [line.strength for line in lines]
    assert min(strengths) < 0.25
    assert max(strengths) > 0.9
    assert min(line.dash for line in lines) < 0.2  # dots
    assert min(line.width for line in lines) < 0.1
    assert max(line.width for line in lines) > 0.25
    assert any(line.colour[2] - line.colour[0] > 70 for line in lines)  # yellow


def test_faint_roads_stay_faint():
    for seed in range(20):
        plain, randomized = _scene(seed, NO_RANDOMIZATION, "noline"), _scene(seed, frozenset({"paint"}), "noline")
        limit = max(line.strength for line in plain.layout.lines)
        inner = [line for line in randomized.layout.lines if line.width > 0.12]
        assert max((line.strength for line in inner), default=0) <= limit + 0.2


def test_unlit_nights_are_dark_outside_the_headlights():
    dark = []
    for seed in range(30):
        scene = _scene(seed, frozenset({"light"}), "night")
        if not scene.light.lamps and scene.light.ambient[1] < 0.006:
            dark.append(scene)
            assert all(item.lamp is None for item in scene.objects if isinstance(item, Pole))
    assert len(dark) > 3
    levels = []
    for scene in dark:
        bare = replace(scene, vehicles=[], objects=[], ego_vehicle=None, light=replace(scene.light, glare=0.0))
        image = render(bare, np.random.default_rng(0))
        levels.append((np.median(image[60:90]), image[140:190, 200:280].mean()))
    above, ahead = np.mean(levels, 0)
    assert ahead > 2 * above


def test_pavements_reach_from_black_to_glaring():
    strips = [_scene(seed, frozenset({"surface"})).layout.strips for seed in range(60)]
    greys = [max((z for z in road if z.left < 0), key=lambda z: z.left).colour[1] for road in strips]
    assert min(greys) < 60
    assert max(greys) > 160


def test_ground_tones_stay_inside_their_limits():
    ground = GroundMap()
    ground.scale(-16, 16, 0, LENGTH, 0.5)
    ground.limit(-2, 2)
    tone = ground.relief()[0]
    assert tone[:, 256].tolist() == [NEUTRAL // 2] * len(tone)
    assert tone[:, 0].tolist() == [NEUTRAL] * len(tone)
