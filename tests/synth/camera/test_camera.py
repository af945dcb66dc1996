"""Camera and road: rays, projection and the visible ground agree with each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.projection import RoadProjector


@settings(max_examples=60, deadline=None)
@given(
    st.floats(500, 2000),
    st.floats(-0.15, 0.15),
    st.floats(-0.15, 0.15),
    st.floats(-0.1, 0.1),
    st.floats(0, 0.15),
    st.floats(-50, 1700),
    st.floats(-50, 640),
)
def test_a_point_on_the_ray_of_a_pixel_projects_back_to_it(focal, pitch, yaw, roll, k1, x, y):
    camera = Camera(1640, 590, focal, pitch, yaw, roll, k1)
    right, up, ahead = camera.rays(x, y)
    assert ahead
    back_x, back_y, valid = camera.project(np.array([right, up, 1.0]) * 17.0)
    assert valid
    assert (back_x, back_y) == pytest.approx((x, y), abs=1e-3)


def test_pitch_raises_the_horizon_and_yaw_moves_it_sideways():
    ahead = [0.0, 0.0, 10.0]
    x, y, _ = Camera(1640, 590, 1000, pitch=0.1).project(ahead)
    assert y < 200
    assert x == pytest.approx(819.5)
    x, _, _ = Camera(1640, 590, 1000, yaw=0.1).project(ahead)
    assert x < 750


def test_a_flat_road_is_visible_everywhere_and_a_crest_hides_the_road_behind_it():
    assert RoadGeometry(1.4).visible_distances[-1] == pytest.approx(700)
    hilly = RoadGeometry(1.4, hill_height=4, hill_length=300, hill_phase=0.5)
    seen = hilly.visible[1]
    assert not seen.all()
    slopes = hilly.visible[0]
    assert (np.diff(slopes) > 0).all()


def test_the_compiled_projection_equals_road_and_camera():
    rng = np.random.default_rng(0)
    camera = Camera(1280, 720, 900, 0.04, -0.02, 0.03, 0.1)
    road = RoadGeometry(1.5, 0.002, 1e-5, 10, 200, 2.0, 250, 1.0, 0.03)
    offset, distance, height = rng.uniform(-8, 8, 50), rng.uniform(4, 200, 50), rng.uniform(0, 3, 50)
    x, y, valid = camera.project(road.world(offset, distance, height))
    assert valid.all()
    np.testing.assert_allclose(RoadProjector(camera, road)(offset, distance, height), np.stack([x, y], 1), atol=1e-6)
