"""Thick segments, pixel for pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.metrics.raster import disc_profile, disc_radius, run_capacity, segment_runs

EXPECTED_LONG = (28830, 5535637, 13128602)  # pixels, sum of rows, sum of columns, as OpenCV 4.11 draws it
OPENCV_DRAWS_ALIKE = tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 13)


def drawn(start: tuple[int, int], end: tuple[int, int], width: int, size: tuple[int, int]) -> np.ndarray:
    radius = disc_radius(width)
    runs = np.empty((run_capacity(radius, size), 3), np.int64)
    count = segment_runs(runs, *start, *end, width, disc_profile(radius), size)
    mask = np.zeros(size[::-1], bool)
    for row, first, last in runs[:count]:
        mask[row, first : last + 1] = True
    return mask


coordinate = st.integers(-20, 120) | st.integers(-3000, 3000) | st.integers(-100_000, 100_000)
point = st.tuples(coordinate, coordinate)


@pytest.mark.skipif(not OPENCV_DRAWS_ALIKE, reason="this OpenCV draws off-image lines differently")
@settings(max_examples=400, deadline=None)
@given(point, point, st.integers(2, 70), st.sampled_from([(100, 60), (37, 41), (1, 1)]))
def test_segments_have_the_pixels_of_opencv(start: tuple, end: tuple, width: int, size: tuple[int, int]) -> None:
    expected = cv2.line(np.zeros(size[::-1], np.uint8), start, end, (255,), width) > 0
    np.testing.assert_array_equal(drawn(start, end, width, size), expected)


def test_a_long_line_that_ends_off_the_image() -> None:
    # Releases of OpenCV from 4.13 on give other pixels here; the published numbers were made with these.
    mask = drawn((-2000, 700), (900, 100), 30, (1640, 590))
    rows, columns = np.nonzero(mask)
    assert mask.sum() == EXPECTED_LONG[0]
    assert (int(rows.sum()), int(columns.sum())) == EXPECTED_LONG[1:]


def test_distant_points_are_fast_and_draw_no_pixels() -> None:
    far = 1 << 30
    assert not drawn((-far, -far), (-far, far), 30, (1640, 590)).any()
    assert drawn((800, -far), (800, far), 30, (1640, 590)).any(axis=1).all()
