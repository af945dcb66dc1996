"""Tracking of lanes: identities, smoothing, and lanes that are missed for some frames."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.core.lane import Lane
from clrernetlm.inference.tracking import (
    MAX_DISTANCE,
    MAX_MISSED_FRAMES,
    Track,
    Tracks,
    distances,
    match,
    update_tracks,
    visible_lanes,
    with_position_among,
    x_on_rows,
)

FRAME = (1640, 590)


def lane(bottom: float, top: float = 820, low: float = 590, high: float = 300, score: float = 0.9) -> Lane:
    """A straight lane from `bottom` at row 590 to `top` at row 300, seen between the rows `low` and `high`."""
    rows = np.arange(low, high - 1, -10.0)
    return Lane(np.stack([bottom + (top - bottom) * (590 - rows) / 290, rows], axis=1), score)


def follow(*frames: list[Lane]) -> list[list[tuple[Track, Lane]]]:
    state, seen = Tracks(), []
    for lanes in frames:
        state = update_tracks(state, lanes, FRAME)
        seen.append(visible_lanes(state, FRAME))
    return seen


def identities(frames: list[list[tuple[Track, Lane]]]) -> list[list[int]]:
    return [[track.identity for track, _ in frame] for frame in frames]


def test_identities_do_not_depend_on_the_order_of_lanes() -> None:
    first, second = [lane(300), lane(900), lane(1400)], [lane(1410), lane(290), lane(905)]
    frames = follow(first, second)
    assert identities(frames) == [[1, 2, 3], [1, 2, 3]]
    bottoms = [round(found.points[0, 0]) for _, found in frames[1]]
    assert bottoms == pytest.approx([295, 902.5, 1405], abs=1)


def test_positions_are_counted_among_the_lanes_that_are_shown() -> None:
    frames = follow([lane(300), lane(900)], [lane(900), lane(1500)], [lane(650)])
    assert [[found.position for _, found in frame] for frame in frames] == [[-1, 1], [-1, 1, 2], [-2, 1, 2, -1]]


def test_a_lane_is_counted_among_other_lanes_but_not_beside_itself() -> None:
    detected = [lane(500), lane(-100), lane(1200)]
    positions = [with_position_among(lane(bottom), detected, FRAME).position for bottom in (-110, 200, 510, 900, 1800)]
    assert positions == [-2, -2, -1, 1, 2]
    assert with_position_among(lane(900), [], FRAME).position == 1
    assert with_position_among(Lane(np.zeros((0, 2))), detected, FRAME).position is None


def test_a_lane_in_a_single_frame_is_unchanged() -> None:
    ((_, found),) = follow([lane(300)])[0]
    np.testing.assert_allclose(
        found.x_at(np.arange(300.0, 590, 7)), lane(300).x_at(np.arange(300.0, 590, 7)), atol=1e-6
    )
    assert np.diff(found.points[:, 1]).max() < 0
    assert found.score == 0.9


def test_a_missed_lane_is_kept_for_some_frames_and_keeps_its_identity() -> None:
    blink = follow([lane(300)], *[[]] * MAX_MISSED_FRAMES, [lane(302)])
    assert identities(blink) == [[1]] * (MAX_MISSED_FRAMES + 2)
    assert [frame[0][0].missed_frames for frame in blink] == [*range(MAX_MISSED_FRAMES + 1), 0]
    gone = follow([lane(300)], *[[]] * (MAX_MISSED_FRAMES + 1), [lane(302)])
    assert identities(gone) == [*[[1]] * (MAX_MISSED_FRAMES + 1), [], [2]]


def test_a_jump_starts_another_lane_and_hides_no_lane() -> None:
    frames = follow([lane(300)], [lane(300 + 3 * MAX_DISTANCE * FRAME[0], 820 + 3 * MAX_DISTANCE * FRAME[0])])
    assert identities(frames)[1] == [1, 2]
    assert [track.missed_frames for track, _ in frames[1]] == [1, 0]


def test_a_missed_lane_is_not_shown_over_the_one_that_replaced_it() -> None:
    near = [lane(300), lane(340)]
    frames = follow(near, [lane(310)])
    assert len(frames[1]) == 1


def test_noise_is_halved_and_a_steady_drift_is_followed() -> None:
    rng = np.random.default_rng(0)
    noisy = [[lane(500 + 10 * rng.standard_normal())] for _ in range(200)]
    bottoms = np.array([frame[0][1].points[0, 0] for frame in follow(*noisy)[20:]])
    assert bottoms.std() < 7
    drifting = follow(*[[lane(300 + 6 * step)] for step in range(60)])
    assert identities(drifting) == [[1]] * 60
    assert drifting[-1][0][1].points[0, 0] == pytest.approx(300 + 6 * 59, abs=7)


def test_lane_ends_are_those_of_the_newest_frame() -> None:
    frames = follow([lane(300, high=300)], [lane(300, high=450)], [lane(300, high=320)])
    tops = [frame[0][1].points[-1, 1] for frame in frames]
    assert tops == pytest.approx([300, 450, 320], abs=7)
    assert identities(frames) == [[1]] * 3


def test_lanes_without_common_rows_get_different_identities() -> None:
    low, high = x_on_rows(lane(300, low=590, high=500), 590), x_on_rows(lane(300, low=400, high=300), 590)
    assert distances([low], [low, high]).tolist() == [[0, np.inf]]
    assert distances([], [low]).shape == (0, 1)
    assert distances([low], []).shape == (1, 0)


def test_a_lane_of_one_point_or_none_is_left_out() -> None:
    assert follow([Lane(np.array([[10.0, 580.0]])), Lane(np.zeros((0, 2)))]) == [[]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.lists(st.floats(0, 100) | st.just(np.inf), min_size=25, max_size=25))
def test_matching_is_one_to_one_and_below_the_limit(rows: int, columns: int, values: list[float]) -> None:
    costs = np.array(values[: rows * columns]).reshape(rows, columns)
    pairs = match(costs, 50.0)
    assert len(set(pairs.values())) == len(pairs)
    assert all(costs[row, column] < 50 for row, column in pairs.items())
    free = [
        (row, column) for row in range(rows) for column in range(columns)
        if row not in pairs and column not in pairs.values()
    ]  # fmt: skip
    assert all(costs[pair] >= 50 for pair in free)
