"""Pieces of realism that dress the road: they change the picture, never the labels, and each only its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clrernetlm.synth import CATEGORIES, lanes, render, sample_scene
from clrernetlm.synth.environment.roadside_objects import Pole
from clrernetlm.synth.randomization import PLAIN, Realism
from clrernetlm.synth.road.ground_map import LENGTH, NEUTRAL, Ground

PIECES = ("surface", "paint", "distractors", "surroundings", "light")
ROAD: Realism = frozenset(PIECES)
SIZE = (480, 200)


def _scene(seed: int, realism: Realism = PLAIN, category: str = "normal"):
    return sample_scene(np.random.default_rng([seed, 77]), category, SIZE, realism=realism)


def _picture(seed: int, realism: Realism = PLAIN, category: str = "normal") -> np.ndarray:
    rng = np.random.default_rng([seed, 77])
    return render(sample_scene(rng, category, SIZE, realism=realism), rng)


@pytest.mark.parametrize("category", CATEGORIES)
def test_same_seed_same_picture_and_the_labels_of_the_plain_road(category):
    for seed in range(3):
        np.testing.assert_array_equal(_picture(seed, ROAD, category), _picture(seed, ROAD, category))
        dressed, plain = lanes(_scene(seed, ROAD, category)), lanes(_scene(seed, PLAIN, category))
        assert len(dressed) == len(plain)
        for ours, theirs in zip(dressed, plain, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_plain_scenes_are_those_of_ever():
    found = []
    for seed, category in enumerate(CATEGORIES):
        scene = _scene(seed, PLAIN, category)
        assert scene.ground is None
        assert scene.marks == []
        found.append(round(sum(scene.layout.borders) + scene.camera.focal + len(scene.vehicles), 3))
    assert found == pytest.approx([274.455, 324.387, 254.22, 208.503, 293.148, 282.031, 286.503, 236.461, 327.012])


@pytest.mark.parametrize("piece", PIECES)
def test_each_piece_changes_the_picture(piece):
    changed = [np.abs(_picture(s, frozenset({piece})).astype(int) - _picture(s)) > 12 for s in range(6)]
    assert max(pixels.mean() for pixels in changed) > 0.002


@pytest.mark.parametrize("piece", PIECES)
def test_leaving_a_piece_out_leaves_the_others_as_they_are(piece):
    for seed in range(4):
        all_of_them, without = _scene(seed, ROAD), _scene(seed, ROAD - {piece})
        assert all_of_them.layout.borders == without.layout.borders
        if piece != "paint":
            assert all_of_them.layout.lines[0].offset == without.layout.lines[0].offset
            assert len(all_of_them.layout.lines) == len(without.layout.lines)
        if piece != "light":
            assert all_of_them.light.ambient == without.light.ambient
        if piece != "surroundings":
            assert all_of_them.vehicles == without.vehicles


def test_distractors_keep_clear_of_the_lines_that_are_labelled():
    count = 0
    for seed in range(60):
        scene = _scene(seed, frozenset({"distractors"}))
        borders = np.array(scene.layout.borders)
        for line in scene.marks:
            count += 1
            assert np.abs(borders - line.offset).min() > 0.3
    assert count > 40


def test_paint_ranges_from_fresh_to_hardly_there_and_from_dots_to_blocks():
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
        plain, dressed = _scene(seed, PLAIN, "noline"), _scene(seed, frozenset({"paint"}), "noline")
        limit = max(line.strength for line in plain.layout.lines)
        inner = [line for line in dressed.layout.lines if line.width > 0.12]
        assert max((line.strength for line in inner), default=0) <= limit + 0.2


def test_unlit_nights_show_little_but_the_headlights():
    dark = []
    for seed in range(30):
        scene = _scene(seed, frozenset({"light"}), "night")
        if not scene.light.lamps and scene.light.ambient[1] < 0.006:
            dark.append(scene)
            assert all(thing.lamp is None for thing in scene.things if isinstance(thing, Pole))
    assert len(dark) > 3
    levels = []
    for scene in dark:
        bare = replace(scene, vehicles=[], things=[], bonnet=None, light=replace(scene.light, glare=0.0))
        picture = render(bare, np.random.default_rng(0))
        levels.append((np.median(picture[60:90]), picture[140:190, 200:280].mean()))
    above, ahead = np.mean(levels, 0)
    assert ahead > 2 * above


def test_pavements_reach_from_black_to_glaring():
    zones = [_scene(seed, frozenset({"surface"})).layout.zones for seed in range(60)]
    greys = [max((z for z in road if z.left < 0), key=lambda z: z.left).colour[1] for road in zones]
    assert min(greys) < 60
    assert max(greys) > 160


def test_ground_tones_stay_inside_their_limits():
    ground = Ground()
    ground.scale(-16, 16, 0, LENGTH, 0.5)
    ground.limit(-2, 2)
    tone = ground.relief()[0]
    assert tone[:, 256].tolist() == [NEUTRAL // 2] * len(tone)
    assert tone[:, 0].tolist() == [NEUTRAL] * len(tone)
