"""Labels lie on the painted lines, to a pixel, whatever the road and the camera."""

from __future__ import annotations

import numpy as np
import pytest

from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.sensor import motion_blur
from clrernetlm.synth.road.cross_section import GroundStrip, cross_section_profile
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.ground_renderer import GroundAppearance, draw_ground
from clrernetlm.synth.road.labels import ROW_STEP, draw_mask, label_points

CASES = {
    "plain": (Camera(1640, 590, 900, 0.04), RoadGeometry(1.4)),
    "curve": (Camera(1640, 590, 900, 0.04), RoadGeometry(1.4, 1 / 150)),
    "hills": (Camera(1640, 590, 1000, 0.04), RoadGeometry(1.6, hill_height=1.5, hill_length=200, hill_phase=2.0)),
    "bank": (Camera(1640, 590, 900, 0.04), RoadGeometry(1.4, -1 / 300, bank=0.06)),
    "roll and yaw": (Camera(1640, 590, 900, 0.04, 0.05, 0.04), RoadGeometry(1.4, 1 / 500)),
    "lens": (Camera(1640, 590, 900, 0.04, 0.02, -0.02, 0.12), RoadGeometry(1.4, 1 / 400)),
    "1280x720": (Camera(1280, 720, 800, 0.03), RoadGeometry(1.4, 1 / 300)),
    "barrel": (Camera(1280, 720, 720, 0.09, 0.05, 0.06, 0.25, (20.0, -15.0)), RoadGeometry(1.5, 1 / 500)),
    "S-bend over a crest": (
        Camera(1280, 720, 900, 0.1, -0.03, -0.05, 0.1, (-12.0, 9.0)),
        RoadGeometry(1.3, bends=((5, 0.0), (20, 1 / 120), (60, -1 / 90)), grades=((10, 0.0), (40, -0.03))),
    ),
}


def _paint(camera: Camera, road: RoadGeometry, offset: float) -> np.ndarray:
    """A black road with one white line of 20 cm."""
    line = [offset, 0.1, 1, 1, 0, 255, 255, 255, 1, -9, 0, 1e9, 0, 1e9]
    black = cross_section_profile([GroundStrip(0, (0.0, 0.0, 0.0), 0, 0, 0)], [], 0, 0)
    canvas = np.zeros((camera.height, camera.width, 3), np.uint8)
    empty = np.zeros(canvas.shape[:2], np.uint8)
    draw_ground(
        canvas, empty, empty, camera, road, GroundAppearance(np.stack([black, black]), np.array([line], np.float32))
    )
    return canvas[..., 1]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("offset", [-1.8, 1.8, 5.3])
def test_label_runs_through_the_middle_of_the_paint(case, offset):
    camera, road = CASES[case]
    points = label_points(camera, road, offset, 60.0)
    painted = _paint(camera, road, offset).astype(np.float64)
    errors = []
    for x, y in points:
        if y > camera.height - 1 or not 60 < x < camera.width - 60:
            continue
        # The nearest stretch of paint in this row; its middle is compared where the line is not nearly level.
        near = np.arange(max(0, round(x) - 55), min(camera.width, round(x) + 56))
        light = painted[int(y), near]
        assert light.sum() > 0, f"no paint in row {y} near {x}"
        errors.append(abs((light * near).sum() / light.sum() - x))
    assert len(errors) >= 4
    assert np.max(errors) < 1.0
    assert np.mean(errors) < 0.4


def test_points_climb_from_the_bottom_in_steps_of_ten_rows():
    camera, road = CASES["plain"]
    points = label_points(camera, road, 1.8, 100.0)
    assert points[0, 1] == 590
    assert (np.diff(points[:, 1]) == -ROW_STEP).all()


def test_label_ends_at_the_range_and_at_the_side_of_the_image():
    camera, road = CASES["plain"]
    near, far = label_points(camera, road, 1.8, 30.0), label_points(camera, road, 1.8, 120.0)
    assert len(near) < len(far)
    np.testing.assert_allclose(far[: len(near)], near)
    side = label_points(camera, road, 9.0, 120.0)
    assert side[0, 1] < 590  # it enters at the side
    assert side[:, 0].max() <= camera.width - 1 + 20


def test_label_stops_at_a_crest():
    camera = Camera(1640, 590, 1000, 0.04)
    crest = RoadGeometry(1.4, hill_height=5, hill_length=300, hill_phase=0.3)
    hidden = np.flatnonzero(~crest.visible[1])
    assert len(hidden)
    points = label_points(camera, crest, 1.8, 170.0)
    nearest_hidden = crest.course[0][hidden[0]]
    _, y, _ = camera.project(crest.world(1.8, nearest_hidden - 0.5))
    assert points[-1, 1] >= float(y) - 1


def test_a_line_behind_the_camera_has_no_label():
    camera = Camera(1640, 590, 900, pitch=-0.6)  # points into the sky
    assert label_points(camera, RoadGeometry(1.4), 1.8, 100.0).shape == (0, 2)


def test_mask_shows_each_lane_under_its_id_and_sixteen_pixels_wide():
    camera, road = CASES["plain"]
    lanes = [np.zeros((0, 2)), *(label_points(camera, road, u, 100.0) for u in (-1.8, 1.8))]
    mask = draw_mask(lanes, [1, 2, 3], (1640, 590))
    assert mask.shape == (590, 1640)
    assert set(np.unique(mask)) == {0, 2, 3}
    for number, points in ((2, lanes[1]), (3, lanes[2])):
        x, y = points[5]
        assert mask[int(y), round(x)] == number
    upright = draw_mask([np.array([[800.0, 590], [800.0, 300]])], [1], (1640, 590))
    assert 15 <= (upright[450] == 1).sum() <= 17


def test_motion_blur_leaves_the_middle_of_a_line_where_it_is():
    canvas = np.zeros((590, 1640, 3), np.uint8)
    canvas[:, 400:421] = 255
    blurred = motion_blur(canvas, 0.03, (820.0, 260.0))[400, :, 0].astype(np.float64)
    assert (blurred > 10).sum() > 25  # it does motion_blur
    assert (blurred * np.arange(1640)).sum() / blurred.sum() == pytest.approx(410, abs=1.0)
