"""Viewport: fractions of any frame to network pixels and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clrernetlm.core.errors import UserError
from clrernetlm.core.viewport import Viewport

FRACTION = st.floats(0, 1)


def test_the_default_is_culanes_crop():
    viewport = Viewport()
    assert viewport.crop_box((1640, 590)) == (0, 270, 1640, 590)
    np.testing.assert_array_equal(viewport.to_network(np.array([[820.0, 270.0]]), (1640, 590)), [[400.0, 0.0]])


@given(
    left=st.floats(0, 0.4), top=st.floats(0, 0.4), right=st.floats(0.6, 1), bottom=st.floats(0.6, 1),
    width=st.integers(1, 4000), height=st.integers(1, 3000), x=st.floats(-5e3, 5e3), y=st.floats(-5e3, 5e3),
)  # fmt: skip
def test_points_map_to_the_network_and_back(left, top, right, bottom, width, height, x, y):
    viewport = Viewport(left=left, top=top, right=right, bottom=bottom)
    there = viewport.to_network(np.array([x, y]), (width, height))
    np.testing.assert_allclose(viewport.to_frame(there, (width, height)), [x, y], atol=1e-6)


@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_a_crop_is_never_empty_and_an_image_always_fits(width, height):
    viewport = Viewport(width=64, height=32, top=0.99, left=0.99)
    left, top, right, bottom = viewport.crop_box((width, height))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert viewport.apply(np.zeros((height, width, 3), np.uint8)).shape == (32, 64, 3)


@pytest.mark.parametrize(
    "settings", [{"top": 1.0}, {"left": 0.5, "right": 0.5}, {"bottom": 1.2}, {"top": float("nan")}, {"width": 8}]
)
def test_an_empty_crop_is_refused(settings):
    with pytest.raises(UserError, match="viewport"):
        Viewport(**settings)
