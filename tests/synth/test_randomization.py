"""Pieces of realism: nothing changes without them, and with them labels still lie on the paint of any camera."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from clrernetlm.core.lane import read_lines
from clrernetlm.synth import lanes, render, sample_scene
from clrernetlm.synth.camera.dashcam import SHAPES, sample_dashcam, sample_size
from clrernetlm.synth.camera.recording import Grading, grade, sample_grading
from clrernetlm.synth.camera.windscreen import Print, print_over
from clrernetlm.synth.dataset import Picture, make_picture
from clrernetlm.synth.randomization import ALL, PLAIN, Realism
from clrernetlm.synth.renderer import lane_slots
from clrernetlm.synth.road.course import sample_course
from clrernetlm.synth.road.forks import fork
from clrernetlm.synth.road.labels import lane_points
from clrernetlm.synth.road.layout import Layout, sample_layout
from clrernetlm.synth.road.projection import Projector
from clrernetlm.synth.road.road import Road

OURS: Realism = frozenset({"cameras", "course", "sensor"})
# Numbers of plain scenes that any new random draw outside the pieces would change.
PLAIN_SCENES = "e147f45b1335b49f"


def test_plain_scenes_are_those_of_the_first_version():
    digest = hashlib.sha256()
    for seed, category in enumerate(("normal", "crowd", "shadow", "curve", "cross", "night")):
        rng = np.random.default_rng([seed, 11])
        scene = sample_scene(rng, category, (656, 236))
        for points in lanes(scene):
            digest.update(np.round(points, 3).tobytes())
        digest.update(np.round(rng.random(4), 9).tobytes())
    assert digest.hexdigest()[:16] == PLAIN_SCENES


@pytest.mark.parametrize(
    ("seed", "category", "means", "drawn"),
    [
        (0, "normal", (139.06, 131.45, 118.82), 0.432193),
        (1, "shadow", (97.58, 98.53, 101.23), 0.391737),
        (2, "night", (48.16, 69.19, 77.73), 0.451722),
    ],
)
def test_plain_pictures_look_and_draw_as_in_the_first_version(seed, category, means, drawn):
    rng = np.random.default_rng([seed, 12])
    picture = render(sample_scene(rng, category, (656, 236)), rng)
    assert picture.mean((0, 1)) == pytest.approx(means, abs=0.05)  # other processors round otherwise
    assert rng.random() == pytest.approx(drawn, abs=1e-6)


@pytest.mark.parametrize("pieces", [PLAIN, OURS, ALL], ids=["plain", "ours", "all"])
def test_same_seed_same_bytes(pieces, tmp_path):
    for folder in ("one", "two"):
        for index, category in enumerate(("normal", "night")):
            picture = Picture(0, index, category)
            make_picture(picture, tmp_path / folder, 3, (328, 118), (60, 95), 4, pieces)
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("one", "two")]
    assert len(files[0]) == 6
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_masks_and_labels_follow_the_size_that_was_drawn(tmp_path):
    sizes = set()
    for index in range(12):
        result = make_picture(Picture(0, index, "normal"), tmp_path, 8, (328, 118), (60, 95), 4, OURS)
        base = tmp_path / Picture(0, index, "normal").path[1:]
        image = cv2.imread(f"{base}.jpg")
        mask = cv2.imread(str(tmp_path / "laneseg_label_w16" / f"{Picture(0, index, 'normal').path[1:]}.png"), -1)
        assert mask.shape == image.shape[:2]
        sizes.add(image.shape[:2])
        found = read_lines(f"{base}.lines.txt")
        assert len(found) == sum(result.exist)
        assert all(points[:, 1].max() <= image.shape[0] for points in found)
    assert len(sizes) >= 3
    assert {width for _, width in sizes} == {328}


def test_frames_come_in_all_shapes_as_often_as_listed():
    rng = np.random.default_rng(0)
    sizes = [sample_size(rng, 1640) for _ in range(2000)]
    for shape, chance in SHAPES:
        share = np.mean([abs(width / height - shape) < 0.01 for width, height in sizes])
        assert share == pytest.approx(chance, abs=0.04)


def test_dashcams_see_the_horizon_in_the_picture_and_no_ground_too_near():
    rng = np.random.default_rng(1)
    for _ in range(200):
        size = sample_size(rng, 1280)
        camera, above = sample_dashcam(rng, size)
        row = float(camera.project([0.0, 0.0, 1.0])[1]) / camera.height
        assert 0.15 < row < 0.7
        assert 0.9 <= above <= 2.2
        _, up, ahead = camera.rays(np.array([0.0, size[0] - 1.0]), size[1] - 1.0)
        assert ahead.all()
        assert (above / -up).min() > 1.2


def test_courses_bend_climb_and_stay_one_in_both_projections():
    rng = np.random.default_rng(2)
    camera, above = sample_dashcam(rng, (1280, 720))
    turned, hidden = 0, 0
    for number in range(30):
        road = sample_course(rng, number % 3 == 0, "rural", above)
        turned += abs(road.shift(70.0)) > 1.5
        hidden += not road.visible[1].all()
        offset, distance = rng.uniform(-6, 6, 20), rng.uniform(4, 150, 20)
        x, y, valid = camera.project(road.world(offset, distance))
        assert valid.all()
        limit = 8 * camera.width
        expected = np.clip(np.stack([x, y], 1), -limit, limit)
        np.testing.assert_allclose(Projector(camera, road)(offset, distance), expected, atol=1e-5)
    assert turned > 8
    assert hidden > 3


def _forked(kind: str) -> Layout:
    """A highway whose outer lane ends (`end`), begins (`begin`) or is a ramp (`ramp`)."""
    for seed in range(900):
        rng = np.random.default_rng([seed, 5])
        layout = sample_layout(rng, "highway", 0.5, 1.0)
        fork(layout, rng)
        turns = layout.turns.values()
        ramp = len(turns) == 1
        begins = any(turn.first > 0 for turn in turns)
        if turns and kind == ("ramp" if ramp else "begin" if begins else "end"):
            return layout
    raise AssertionError(f"no {kind} found")


@pytest.mark.parametrize("kind", ["end", "begin", "ramp"])
def test_lines_of_lanes_that_end_or_begin_run_where_the_labels_do(kind):
    layout = _forked(kind)
    for index, turn in layout.turns.items():
        z = np.linspace(max(turn.first, 2.0) + 0.5, min(turn.last, 150.0) - 0.5, 60)
        border = layout.borders[index] + turn.offset(z)
        for distance, offset in zip(z, border, strict=True):
            painted = [
                stroke[0] + stroke[12] * max(distance - stroke[13], 0.0) ** 2
                for line in layout.lines
                for stroke in line.strokes()
                if stroke[10] <= distance <= stroke[11]
            ]
            middles = np.array(painted)
            pairs = np.concatenate([middles, (middles[:, None] + middles[None]).ravel() / 2])  # double lines
            assert np.abs(pairs - offset).min() < 0.02, f"border {index} at {distance:.0f} m"


def test_a_border_that_ends_is_labelled_up_to_there_only():
    layout = _forked("end")
    camera, road = sample_dashcam(np.random.default_rng(4), (1280, 720))[0], Road(1.4)
    turn = next(turn for turn in layout.turns.values() if turn.last < 1e9)
    points = lane_points(camera, road, 1.8, 150.0, turn)
    whole = lane_points(camera, road, 1.8, 150.0)
    assert 0 < len(points) <= len(whole)
    _, row, _ = camera.project(road.world(1.8, turn.last))
    assert points[-1, 1] >= float(row) - 1


def _clear(scene):
    """The scene by day with nothing in the way and every line solid and bright; what the lens does is left."""
    scene.layout.lines = [
        replace(line, dash=1.0, period=1.0, wear=-9.0, strength=1.0, twin=0.0, width=0.2) for line in scene.layout.lines
    ]
    light = replace(scene.light, night=False, ambient=(1.0, 1.0, 1.0), glare=0.0, wet=0.0, veil=0.0)
    sensor = replace(scene.sensor, exposure=0.7, shot_noise=0.002, read_noise=0.0, saturation=1.0, vignette=0.0)
    cleared = replace(scene, vehicles=[], things=[], bonnet=None, decals=[], dapple=0.0, light=light, sensor=sensor)
    return replace(cleared, windscreen=None, prints=[], weather=replace(scene.weather, visibility=1e5))


def test_labels_match_the_paint_of_odd_cameras_to_two_pixels():
    errors = []
    for seed in range(16):
        rng = np.random.default_rng([seed, 6])
        scene = _clear(sample_scene(rng, "normal", (1640, 590), realism=OURS))
        green = render(scene, rng)[..., 1].astype(np.float64)
        for points in lane_slots(scene):
            for x, y in points[3:20]:
                near = np.arange(round(x) - 30, round(x) + 31)
                if near[0] < 0 or near[-1] >= green.shape[1] or y >= green.shape[0]:
                    continue
                row = green[int(y), near]
                bright = np.clip(row - np.median(row) - 0.5 * (row.max() - np.median(row)), 0, None)
                if row.max() - np.median(row) > 30 and bright[:8].max() + bright[-8:].max() == 0:
                    errors.append((bright * near).sum() / bright.sum() - x)
    assert len(errors) > 200
    assert np.median(np.abs(errors)) < 1.0
    assert np.quantile(np.abs(errors), 0.9) < 2.0
    assert abs(np.mean(errors)) < 0.5


def test_grading_leaves_size_and_place_alone():
    picture = np.zeros((300, 800, 3), np.uint8)
    picture[:, 400:409] = 200
    rng = np.random.default_rng(3)
    for _ in range(20):
        graded = grade(picture, sample_grading(rng, True))
        assert graded.shape == picture.shape
        assert graded.dtype == np.uint8
        row = graded[150, :, 1].astype(np.float64) - graded[150, :, 1].min()
        row *= row > 0.3 * row.max()
        assert (row * np.arange(800)).sum() / row.sum() == pytest.approx(404, abs=1.0)


def test_curves_cast_and_levels_work_per_channel():
    picture = np.full((64, 64, 3), 128, np.uint8)
    graded = grade(picture, Grading(curve=(2.0, 1.0, 0.5), black=(0.0, 0.1, 0.0)))
    blue, green, red = graded[0, 0]
    assert blue < 70 < 128 < green < red


def test_prints_may_leave_the_picture():
    picture = np.zeros((60, 160, 3), np.uint8)
    print_over(picture, [Print("12:34", 0.9, 1.02, 0.06, tilt=0.2), Print("AB", -0.02, 0.1, 0.05, plate=(0, 0, 200))])
    assert (picture > 0).any()
    untouched = picture.copy()
    print_over(picture, [Print("far off", 3.0, 3.0, 0.05)])
    np.testing.assert_array_equal(picture, untouched)
