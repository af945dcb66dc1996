"""Hidden points of labels are those that the image shows hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clrernetlm.core.lane_attributes import HIDDEN_BY, HIDDEN_CODES
from clrernetlm.synth import CATEGORIES, render, sample_scene
from clrernetlm.synth import renderer as renderer_module
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.ego_vehicle import EgoVehicle
from clrernetlm.synth.camera.windscreen import Windscreen
from clrernetlm.synth.randomization import FULL_RANDOMIZATION, NO_RANDOMIZATION
from clrernetlm.synth.renderer import labelled_lane_attributes, labelled_lane_slots, labelled_lanes
from clrernetlm.synth.road.labels import point_distances
from clrernetlm.synth.scene import SceneSettings
from clrernetlm.synth.visibility import LaneVisibility

SIZE = (820, 295)


def _hidden(scene: SceneSettings, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Labels, codes of what hides their points, and the image."""
    lanes = labelled_lanes(scene)
    visibility = LaneVisibility(lanes, scene.camera)
    image = render(scene, np.random.default_rng(seed), visibility)
    return lanes, visibility.hidden_by(scene.ego_vehicle), image


def test_observing_changes_no_pixel() -> None:
    for category in ("crowd", "night"):
        images = []
        for observed in (False, True):
            rng = np.random.default_rng([3, len(category)])
            scene = sample_scene(rng, category, SIZE)
            visibility = LaneVisibility(labelled_lanes(scene), scene.camera) if observed else None
            images.append(render(scene, rng, visibility))
        np.testing.assert_array_equal(*images)


def test_an_empty_road_hides_nothing_and_the_bonnet_the_bottom() -> None:
    scene = sample_scene(np.random.default_rng(4), "normal", SIZE)
    scene = replace(scene, vehicles=[], objects=[], ego_vehicle=None)
    lanes, codes, _ = _hidden(scene)
    assert len(lanes) >= 2
    assert all((code == HIDDEN_CODES["none"]).all() for code in codes)
    bonnet = EgoVehicle(height=0.2, drop=0.0)
    lanes, codes, _ = _hidden(replace(scene, ego_vehicle=bonnet))
    for points, code in zip(lanes, codes, strict=True):
        expected = points[:, 1] > 0.8 * SIZE[1] + 0.5
        assert ((code == HIDDEN_CODES["bonnet"]) == expected).all()
        assert expected.any()


def test_points_outside_the_circle_of_a_lens_are_hidden_as_they_are_black_in_the_image() -> None:
    circle, dark = 0.45, 0
    for seed in range(6):
        scene = sample_scene(np.random.default_rng(seed), "normal", (480, 360))
        scene = replace(scene, vehicles=[], objects=[], ego_vehicle=None, timestamp="")
        scene = replace(scene, windscreen=Windscreen(circle=circle))
        lanes = labelled_lanes(scene)
        visibility = LaneVisibility(lanes, scene.camera)
        image = render(scene, np.random.default_rng(seed), visibility)
        for points, code in zip(lanes, visibility.hidden_by(None, circle), strict=True):
            x, y = np.clip(np.rint(points).astype(int), 0, (479, 359)).T
            away = np.hypot(x - 239.5, y - 179.5) / 480
            assert (code[away > circle + 0.01] == HIDDEN_CODES["object"]).all()
            assert (code[away < circle - 0.01] == HIDDEN_CODES["none"]).all()
            outside = image[y, x].max(1)[away > circle + 0.03]
            dark += len(outside)
            assert (outside < 60).all()
    assert dark > 5


def test_vehicles_hide_what_is_behind_them() -> None:
    """Points whose pixels differ between the road with and without vehicles are hidden by vehicles, and no others."""
    hidden = agree = total = 0
    for seed in range(6):
        scene = sample_scene(np.random.default_rng(seed), "crowd", SIZE)
        bare = replace(scene.sensor, shot_noise=0.0, read_noise=0.0, motion=0.0, defocus=0.0)
        scene = replace(scene, objects=[], ego_vehicle=None, decals=[], sensor=bare, timestamp="")
        lanes, codes, image = _hidden(scene)
        *_, empty = _hidden(replace(scene, vehicles=[]))
        for points, code in zip(lanes, codes, strict=True):
            inside = (points[:, 0] >= 0) & (points[:, 0] < SIZE[0] - 1) & (points[:, 1] < SIZE[1])
            x, y = np.rint(points[inside]).astype(int).T
            covered = (image[y, x].astype(int) != empty[y, x]).any(axis=1)
            by_vehicle = code[inside] == HIDDEN_CODES["vehicle"]
            hidden, total = hidden + int(by_vehicle.sum()), total + len(covered)
            agree += int((covered == by_vehicle).sum())
    assert hidden > 20
    assert agree >= 0.97 * total


def test_what_stands_beside_the_road_is_an_object() -> None:
    canvas = np.zeros((100, 200, 3), np.uint8)
    upright = np.stack([np.full(9, 50.0), np.arange(95.0, 5, -10)], axis=1)
    visibility = LaneVisibility([upright, upright + np.array([60, 0])], Camera(200, 100, 100.0))
    visibility.start(canvas)
    canvas[60:80, 40:60] = 200
    visibility.record(canvas, "object")
    canvas[40:70, 40:52] = 90
    visibility.record(canvas, "vehicle")
    canvas[:, 100:120] = 5  # leaves that let most of the light through
    visibility.record(canvas, "object")
    first, second = visibility.hidden_by(None)
    names = [HIDDEN_BY[code] for code in first]
    assert names == ["none", "none", "object", "vehicle", "vehicle", "vehicle", "none", "none", "none"]
    assert (second == HIDDEN_CODES["none"]).all()


@pytest.mark.parametrize("randomization", [NO_RANDOMIZATION, FULL_RANDOMIZATION])
def test_every_label_has_attributes_and_lies_on_visible_ground(randomization) -> None:
    """No labelled point is behind a crest: its ray meets the ground there, nearer than the label's range."""
    for seed, category in enumerate(CATEGORIES):
        scene = sample_scene(np.random.default_rng([7, seed]), category, SIZE, 4, randomization)
        slots = labelled_lane_slots(scene)
        visibility = LaneVisibility([points for points in slots if len(points)], scene.camera)
        attributes = labelled_lane_attributes(scene, slots, visibility)
        expected = [(-2, -1, 1, 2)[number] for number, points in enumerate(slots) if len(points)]
        assert [lane.position for lane in attributes] == expected
        for points, lane in zip((points for points in slots if len(points)), attributes, strict=True):
            assert lane.points == len(points)
            distances = point_distances(scene.camera, scene.road, points)
            assert (np.diff(distances) > 0).all()
            assert distances[-1] < scene.label_range * 1.01 + 1


def test_grey_pictures_show_no_colours() -> None:
    scene = sample_scene(np.random.default_rng(1), "normal", SIZE)
    slots = labelled_lane_slots(scene)
    visibility = LaneVisibility([points for points in slots if len(points)], scene.camera)
    for saturation, known in ((1.0, True), (0.0, False)):
        grey = replace(scene, sensor=replace(scene.sensor, saturation=saturation))
        colours = {lane.colour for lane in labelled_lane_attributes(grey, slots, visibility)}
        assert ("unknown" not in colours) == known


def test_an_image_does_not_depend_on_what_was_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Motion blur spreads rows from below the flat rim of a dashboard, which nothing draws, over the road."""
    empty, images = np.empty, []
    scene = sample_scene(np.random.default_rng(0), "cross", SIZE)
    dashboard = EgoVehicle(height=0.2, drop=0.0)
    scene = replace(scene, ego_vehicle=dashboard, sensor=replace(scene.sensor, motion=0.06))
    for value in (0, 255):

        def filled(shape, dtype=float, value=value):
            array = empty(shape, dtype)
            array.fill(value)
            return array

        monkeypatch.setattr(np, "empty", filled)
        images.append(renderer_module.render(scene, np.random.default_rng(1)))
    np.testing.assert_array_equal(*images)
