"""Lanes and their text files."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clrernetlm.core.errors import UserError
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attributes import HiddenRange
from clrernetlm.core.lane_files import format_lines, read_lines, write_lines

POINTS = hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.floats(-1e4, 1e4, width=32))


@given(lanes=st.lists(POINTS, max_size=5))
def test_text_round_trip(tmp_path_factory, lanes):
    path = tmp_path_factory.mktemp("lines") / "a.lines.txt"
    write_lines(path, lanes, decimals=5)
    found = read_lines(path)
    assert len(found) == len(lanes)
    for lane, points in zip(lanes, found, strict=True):
        np.testing.assert_allclose(points, lane, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 2 3\n", "line 1: 3 values"),
        ("1 2\n3 nan\n", "line 2: NaN"),
        ("1 2\n\n3 x\n", "line 3: not a list of numbers"),
        ("1 inf\n", "line 1: NaN or infinite"),
    ],
)
def test_a_broken_line_is_named(tmp_path, text, problem):
    path = tmp_path / "bad.lines.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"bad\.lines\.txt, {problem}"):
        read_lines(path)


def test_empty_and_missing_files(tmp_path):
    (tmp_path / "none.lines.txt").write_text("")
    assert read_lines(tmp_path / "none.lines.txt") == []
    with pytest.raises(UserError, match="cannot be read"):
        read_lines(tmp_path / "missing.lines.txt")


def test_x_at_follows_the_points_and_ends_with_them():
    y = np.arange(100.0, 0, -10)
    lane = Lane(np.stack([3 * y + 5, y], axis=1), 0.7)
    np.testing.assert_allclose(lane.x_at(np.array([15.0, 55.5])), [50.0, 171.5])
    assert np.isnan(lane.x_at(np.array([5.0, 101.0]))).all()
    assert not np.isnan(lane.x_at(np.array([5.0]), margin=6)).any()


@pytest.mark.parametrize("points", [np.zeros((0, 2)), [[5.0, 5.0]], [[5.0, 5.0], [7.0, 5.0]], [[1.0, 9.0], [2.0, 5.0]]])
def test_short_lanes_and_repeated_rows_are_handled(points):
    lane = Lane(np.array(points).reshape(-1, 2))
    assert lane.x_at(np.array([5.0, 50.0])).shape == (2,)
    assert format_lines([lane]).count("\n") == 1


def test_visible_and_hidden_by_agree():
    points = np.stack([np.full(5, 7.0), np.arange(50.0, 0, -10)], axis=1)
    lane = Lane(points, hidden_by=np.array([1, 1, 0, 2, 0]))
    assert lane.visible is not None
    assert lane.visible.tolist() == [False, False, True, False, True]
    assert lane.hidden == (HiddenRange(0, 1, "bonnet"), HiddenRange(3, 3, "vehicle"))
    assert Lane(points, visible=lane.visible).hidden == (HiddenRange(0, 1), HiddenRange(3, 3))
    assert replace(lane, score=0.5).hidden == lane.hidden
    restored = pickle.loads(pickle.dumps(lane))
    np.testing.assert_array_equal(restored.hidden_by, lane.hidden_by)
    with pytest.raises(UserError, match=r"visible: ndarray of shape \(4,\) for 5 points"):
        Lane(points, visible=np.ones(4, bool))
    with pytest.raises(UserError, match="visible: differs from hidden_by"):
        Lane(points, visible=np.ones(5, bool), hidden_by=np.ones(5, np.int8))
    with pytest.raises(UserError, match="none of the codes of HIDDEN_CODES"):
        Lane(points, hidden_by=np.full(5, 77))


def test_a_lane_is_cut_at_the_bonnet():
    points = np.stack([np.full(5, 7.0), np.arange(50.0, 0, -10)], axis=1)
    lane = Lane(points, 0.5, "dashed", "white", -1, 3, hidden_by=np.array([1, 1, 0, 2, 0]))
    cut = lane.cut_at_bonnet()
    np.testing.assert_array_equal(cut.points, points[2:])
    assert (cut.score, cut.type, cut.colour, cut.position, cut.identity) == (0.5, "dashed", "white", -1, 3)
    assert cut.hidden == (HiddenRange(1, 1, "vehicle"),)
    assert cut.cut_at_bonnet() is cut
    unknown = Lane(points)
    assert unknown.cut_at_bonnet() is unknown


def test_a_lane_without_attributes_is_unchanged():
    points = np.ones((2, 2))
    lane = Lane(points, 0.25)
    assert lane == Lane(points, 0.25)
    assert lane != Lane(points, 0.25, "solid")
    assert (lane.visible, lane.hidden_by, lane.hidden) == (None, None, None)
    before = object.__new__(Lane)  # as pickles of earlier versions restore it
    before.__dict__.update(points=points, score=0.25)
    assert before == lane
    assert before.type == "unknown"
