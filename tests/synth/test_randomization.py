"""Randomization: plain scenes never change, and labels lie on the paint for any camera."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from clrernetlm.core.lane_files import read_lines
from clrernetlm.synth import CATEGORIES, labelled_lanes, render, sample_scene
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.camera_sampling import ASPECT_RATIOS, sample_frame_size, sample_randomized_camera
from clrernetlm.synth.camera.recording import Recording, apply_recording, sample_recording
from clrernetlm.synth.camera.text_overlay import TextOverlay, draw_text_overlays
from clrernetlm.synth.dataset import ImageSpec, generate_image
from clrernetlm.synth.randomization import FULL_RANDOMIZATION, NO_RANDOMIZATION, Randomization
from clrernetlm.synth.renderer import labelled_lane_slots
from clrernetlm.synth.road.forks import add_fork
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.geometry_sampling import sample_randomized_geometry
from clrernetlm.synth.road.labels import label_points
from clrernetlm.synth.road.layout import RoadLayout, sample_layout
from clrernetlm.synth.road.projection import RoadProjector

CAMERA_GROUPS: Randomization = frozenset({"cameras", "course", "sensor"})
# Numbers of plain scenes that any new random draw outside the groups would change.
PLAIN_SCENES = "e147f45b1335b49f"


def test_plain_scenes_are_those_of_the_first_version():
    digest = hashlib.sha256()
    for seed, category in enumerate(("normal", "crowd", "shadow", "curve", "cross", "night")):
        rng = np.random.default_rng([seed, 11])
        scene = sample_scene(rng, category, (656, 236))
        for points in labelled_lanes(scene):
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
def test_plain_images_are_those_of_the_first_version(seed, category, means, drawn):
    rng = np.random.default_rng([seed, 12])
    image = render(sample_scene(rng, category, (656, 236)), rng)
    assert image.mean((0, 1)) == pytest.approx(means, abs=0.05)  # other processors round otherwise
    assert rng.random() == pytest.approx(drawn, abs=1e-6)


# Number of label points, sum of their x, mean of blue, green and red, next random number; of plain scenes by the first
# version, of randomized ones by `GENERATOR_VERSION`.
IMAGES = [
    (NO_RANDOMIZATION, "normal", 17, 2371.28, (108.01, 107.63, 106.89), 0.312626),
    (NO_RANDOMIZATION, "crowd", 18, 2840.53, (146.87, 143.47, 145.28), 0.770508),
    (NO_RANDOMIZATION, "hlight", 19, 2951.84, (133.96, 132.94, 129.62), 0.153273),
    (NO_RANDOMIZATION, "shadow", 19, 2682.21, (106.64, 99.99, 84.78), 0.619764),
    (NO_RANDOMIZATION, "noline", 24, 4057.41, (62.91, 67.03, 76.83), 0.162553),
    (NO_RANDOMIZATION, "arrow", 23, 4026.36, (123.99, 121.96, 116.36), 0.856166),
    (NO_RANDOMIZATION, "curve", 22, 3578.55, (156.32, 159.05, 156.02), 0.744750),
    (NO_RANDOMIZATION, "cross", 0, 0.00, (43.64, 54.78, 51.85), 0.554640),
    (NO_RANDOMIZATION, "night", 19, 2674.60, (46.21, 49.74, 50.41), 0.355951),
    (FULL_RANDOMIZATION, "normal", 19, 2613.92, (169.57, 169.45, 179.56), 0.949948),
    (FULL_RANDOMIZATION, "crowd", 14, 1263.70, (111.34, 107.51, 99.02), 0.276031),
    (FULL_RANDOMIZATION, "hlight", 21, 3619.72, (43.38, 51.02, 54.01), 0.231406),
    (FULL_RANDOMIZATION, "shadow", 32, 4638.37, (41.42, 43.76, 38.17), 0.378554),
    (FULL_RANDOMIZATION, "noline", 23, 4028.48, (79.58, 87.38, 84.42), 0.521739),
    (FULL_RANDOMIZATION, "arrow", 14, 2174.10, (63.45, 59.31, 67.56), 0.989243),
    (FULL_RANDOMIZATION, "curve", 16, 2100.74, (116.23, 109.18, 79.25), 0.117778),
    (FULL_RANDOMIZATION, "cross", 0, 0.00, (105.00, 132.86, 151.94), 0.766708),
    (FULL_RANDOMIZATION, "night", 17, 3255.94, (8.33, 24.68, 32.29), 0.984250),
]


@pytest.mark.parametrize(("groups", "category", "points", "x", "means", "drawn"), IMAGES)
def test_images_of_every_category_are_those_of_this_version(groups, category, points, x, means, drawn):
    rng = np.random.default_rng([list(CATEGORIES).index(category), 13])
    scene = sample_scene(rng, category, (328, 118), randomization=groups)
    labels = labelled_lanes(scene)
    assert sum(len(lane) for lane in labels) == points
    assert sum(float(lane[:, 0].sum()) for lane in labels) == pytest.approx(x, abs=0.05)
    assert render(scene, rng).mean((0, 1)) == pytest.approx(means, abs=0.1)  # other processors round otherwise
    assert rng.random() == pytest.approx(drawn, abs=1e-6)


@pytest.mark.parametrize(
    "groups", [NO_RANDOMIZATION, CAMERA_GROUPS, FULL_RANDOMIZATION], ids=["plain", "camera", "all"]
)
def test_same_seed_same_bytes(groups, tmp_path):
    for folder in ("one", "two"):
        for index, category in enumerate(("normal", "night")):
            spec = ImageSpec(0, index, category)
            generate_image(spec, tmp_path / folder, 3, (328, 118), (60, 95), 4, groups)
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("one", "two")]
    assert len(files[0]) == 8
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_masks_and_labels_follow_the_size_that_was_drawn(tmp_path):
    sizes = set()
    for index in range(12):
        result = generate_image(ImageSpec(0, index, "normal"), tmp_path, 8, (328, 118), (60, 95), 4, CAMERA_GROUPS)
        base = tmp_path / ImageSpec(0, index, "normal").path[1:]
        image = cv2.imread(f"{base}.jpg")
        mask = cv2.imread(str(tmp_path / "laneseg_label_w16" / f"{ImageSpec(0, index, 'normal').path[1:]}.png"), -1)
        assert mask.shape == image.shape[:2]
        sizes.add(image.shape[:2])
        found = read_lines(f"{base}.lines.txt")
        assert len(found) == sum(result.exist)
        assert all(points[:, 1].max() <= image.shape[0] for points in found)
    assert len(sizes) >= 3
    assert {width for height, width in sizes if width > height} == {328}


def test_frames_come_in_all_shapes_as_often_as_listed():
    rng = np.random.default_rng(0)
    sizes = [sample_frame_size(rng, 1640) for _ in range(2000)]
    assert max(height for _, height in sizes) <= 0.75 * 1640
    for shape, chance in ASPECT_RATIOS:
        share = np.mean([abs(width / height - shape) < 0.01 for width, height in sizes])
        assert share == pytest.approx(chance, abs=0.04)


def test_cameras_have_the_horizon_in_the_image_and_a_bounded_nearest_ground():
    rng = np.random.default_rng(1)
    for _ in range(200):
        size = sample_frame_size(rng, 1280)
        camera, above = sample_randomized_camera(rng, size)
        row = float(camera.project([0.0, 0.0, 1.0])[1]) / camera.height
        assert 0.15 < row < 0.7
        assert 0.55 <= above <= 3.4
        _, up, ahead = camera.rays(np.array([0.0, size[0] - 1.0]), size[1] - 1.0)
        assert ahead.all()
        assert (above / -up).min() > 1.2


def test_cameras_are_low_and_high_wide_and_upright_often_enough_to_learn_from():
    rng = np.random.default_rng(2)
    cameras = [sample_randomized_camera(rng, sample_frame_size(rng, 1640)) for _ in range(600)]
    heights = np.array([height for _, height in cameras])
    angles = np.array([2 * np.degrees(np.arctan(camera.width / 2 / camera.focal)) for camera, _ in cameras])
    assert 0.02 < (heights < 0.95).mean() < 0.12
    assert 0.06 < (heights > 2.2).mean() < 0.15
    assert (angles > 92).mean() > 0.1
    assert np.mean([camera.height > camera.width for camera, _ in cameras]) > 0.03


def test_some_roads_turn_sharply_near_the_camera():
    rng = np.random.default_rng(3)
    z = np.linspace(2.0, 40.0, 77)
    radii = []
    for _ in range(300):
        slope = np.gradient(sample_randomized_geometry(rng, False, "urban", 1.4).shift(z), z)
        curvature = np.abs(np.gradient(slope, z)) / (1 + slope**2) ** 1.5
        radii.append(1 / max(curvature[1:-1].max(), 1e-6))
    assert np.min(radii) > 25
    assert 0.1 < np.mean(np.array(radii) < 120) < 0.25


def test_curved_and_hilly_roads_agree_in_both_projections():
    rng = np.random.default_rng(2)
    camera, above = sample_randomized_camera(rng, (1280, 720))
    turned, hidden = 0, 0
    for number in range(30):
        road = sample_randomized_geometry(rng, number % 3 == 0, "rural", above)
        turned += abs(road.shift(70.0)) > 1.5
        hidden += not road.visible[1].all()
        offset, distance = rng.uniform(-6, 6, 20), rng.uniform(4, 150, 20)
        x, y, valid = camera.project(road.world(offset, distance))
        assert valid.all()
        limit = 8 * camera.width
        expected = np.clip(np.stack([x, y], 1), -limit, limit)
        np.testing.assert_allclose(RoadProjector(camera, road)(offset, distance), expected, atol=1e-5)
    assert turned > 8
    assert hidden > 3


def _forked(kind: str) -> RoadLayout:
    """A highway whose outer lane ends (`end`), begins (`begin`) or is a ramp (`ramp`), or that splits (`split`)."""
    for seed in range(900):
        rng = np.random.default_rng([seed, 5])
        layout = sample_layout(rng, "highway", 0.5, 1.0)
        add_fork(layout, rng)
        border_paths = layout.border_paths.values()
        if (layout.fork is not None) != (kind == "split"):
            continue
        if layout.fork is not None and len(border_paths) > 1:
            return layout
        ramp = len(border_paths) == 1
        begins = any(turn.first > 0 for turn in border_paths)
        if border_paths and kind == ("ramp" if ramp else "begin" if begins else "end"):
            return layout
    raise AssertionError(f"no {kind} found")


@pytest.mark.parametrize("kind", ["end", "begin", "ramp", "split"])
def test_lines_of_lanes_that_end_begin_or_depart_run_where_the_labels_do(kind):
    layout = _forked(kind)
    for index, turn in layout.border_paths.items():
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


def test_a_line_that_ends_is_labelled_up_to_its_end():
    layout = _forked("end")
    camera, road = sample_randomized_camera(np.random.default_rng(4), (1280, 720))[0], RoadGeometry(1.4)
    turn = next(turn for turn in layout.border_paths.values() if turn.last < 1e9)
    points = label_points(camera, road, 1.8, 150.0, turn)
    whole = label_points(camera, road, 1.8, 150.0)
    assert 0 < len(points) <= len(whole)
    _, row, _ = camera.project(road.world(1.8, turn.last))
    assert points[-1, 1] >= float(row) - 1


def _clear(scene):
    """Return the scene by day without obstacles, every single line solid and bright; lens effects remain."""
    scene.layout.lines = [
        replace(line, dash=1.0, period=1.0, wear=-9.0, strength=1.0, twin=0.0, width=0.2)
        for line in scene.layout.lines
        if min(abs(line.offset - border) for border in scene.layout.borders) < 0.01  # no pairs
    ]
    light = replace(scene.light, night=False, ambient=(1.0, 1.0, 1.0), glare=0.0, wet=0.0, veil=0.0)
    sensor = replace(scene.sensor, exposure=0.7, shot_noise=0.002, read_noise=0.0, saturation=1.0, vignette=0.0)
    cleared = replace(
        scene, vehicles=[], objects=[], ego_vehicle=None, decals=[], leaf_shadow=0.0, light=light, sensor=sensor
    )
    return replace(cleared, windscreen=None, text_overlays=[], weather=replace(scene.weather, visibility=1e5))


def test_labels_match_the_paint_of_odd_cameras_to_two_pixels():
    errors = []
    for seed in range(16):
        rng = np.random.default_rng([seed, 6])
        scene = _clear(sample_scene(rng, "normal", (820, 295), randomization=CAMERA_GROUPS))
        green = render(scene, rng)[..., 1].astype(np.float64)
        layout = scene.layout
        for number, points in enumerate(labelled_lane_slots(scene)):
            border = layout.borders[min(layout.ego_border - 1 + number, len(layout.borders) - 1)]
            if all(abs(line.offset - border) > 0.01 for line in layout.lines):  # an edge without paint
                continue
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


def test_recording_effects_keep_size_and_position():
    image = np.zeros((300, 800, 3), np.uint8)
    image[:, 400:409] = 200
    rng = np.random.default_rng(3)
    for _ in range(20):
        graded = apply_recording(image, sample_recording(rng, True))
        assert graded.shape == image.shape
        assert graded.dtype == np.uint8
        row = graded[150, :, 1].astype(np.float64) - graded[150, :, 1].min()
        row *= row > 0.3 * row.max()
        assert (row * np.arange(800)).sum() / row.sum() == pytest.approx(404, abs=1.0)


def test_tone_curves_and_colour_casts_work_per_channel():
    image = np.full((64, 64, 3), 128, np.uint8)
    graded = apply_recording(image, Recording(gamma=(2.0, 1.0, 0.5), black=(0.0, 0.1, 0.0)))
    blue, green, red = graded[0, 0]
    assert blue < 70 < 128 < green < red


def test_text_overlays_may_extend_beyond_the_image():
    image = np.zeros((60, 160, 3), np.uint8)
    draw_text_overlays(
        image,
        [TextOverlay("12:34", 0.9, 1.02, 0.06, tilt=0.2), TextOverlay("AB", -0.02, 0.1, 0.05, plate=(0, 0, 200))],
    )
    assert (image > 0).any()
    untouched = image.copy()
    draw_text_overlays(image, [TextOverlay("far off", 3.0, 3.0, 0.05)])
    np.testing.assert_array_equal(image, untouched)


def test_wide_lenses_leave_no_pixel_undrawn(monkeypatch):
    """The horizon of a wide lens bends; arrays that begin with other values must give the same image."""
    images = []
    empty = np.empty
    for value in (0, 100):

        def filled(shape, dtype=float, value=value, **options):
            array = empty(shape, dtype, **options)
            array.fill(value)
            return array

        monkeypatch.setattr(np, "empty", filled)
        rng = np.random.default_rng([0, 0, 30])
        scene = sample_scene(rng, "noline", (820, 295), randomization=FULL_RANDOMIZATION)
        scene.camera = Camera(820, 614, 308.0, -0.3, 0.0, 0.01, 0.3)
        scene.skylines, scene.objects, scene.vehicles, scene.ego_vehicle = [], [], [], None
        images.append(render(scene, rng))
        monkeypatch.undo()
    np.testing.assert_array_equal(*images)
