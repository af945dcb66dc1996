"""Attributes of a lane besides its points: names, codes, and the ranges of hidden points."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clrernetlm.core.lane_attributes import (
    COLOUR_CODES,
    HIDDEN_BY,
    HIDDEN_CODES,
    LANE_TYPES,
    TYPE_CODES,
    HiddenRange,
    LaneAttributes,
    hidden_by_of_seen,
    hidden_ranges,
    mirrored_type,
)


def test_codes_are_fixed_numbers() -> None:
    """A changed code would change the meaning of outputs of stored weights."""
    assert TYPE_CODES == {
        "solid": 0,
        "dashed": 1,
        "double-solid": 2,
        "double-dashed": 3,
        "solid-dashed": 4,
        "dashed-solid": 5,
        "dots": 6,
        "edge": 7,
        "unknown": -1,
    }
    assert COLOUR_CODES == {"white": 0, "yellow": 1, "other": 2, "unknown": -1}
    assert HIDDEN_CODES == {"none": 0, "bonnet": 1, "vehicle": 2, "crest": 3, "object": 4, "unknown": 5}


@given(codes=st.lists(st.integers(0, len(HIDDEN_BY) - 1), max_size=12))
def test_ranges_and_codes_convert_to_each_other(codes: list[int]) -> None:
    ranges = hidden_ranges(np.array(codes, np.int8))
    np.testing.assert_array_equal(LaneAttributes(len(codes), hidden=ranges).hidden_by(), codes)
    for before, after in pairwise(ranges):
        assert before.last < after.first
        assert before.by != after.by or before.last + 1 < after.first  # as few as possible


def test_mirroring_swaps_sides() -> None:
    lane = LaneAttributes(9, "solid-dashed", "yellow", -2, 7, (HiddenRange(0, 3, "bonnet"),))
    assert lane.mirrored() == LaneAttributes(9, "dashed-solid", "yellow", 2, 7, (HiddenRange(0, 3, "bonnet"),))
    assert lane.mirrored().mirrored() == lane
    assert LaneAttributes(9).mirrored() == LaneAttributes(9)
    changed = {name for name in LANE_TYPES if mirrored_type(name) != name}
    assert changed == {"solid-dashed", "dashed-solid"}


@pytest.mark.parametrize(
    ("seen", "codes"),
    [
        ([0, 0, 1, 0, 1], ["bonnet", "bonnet", "none", "unknown", "none"]),
        ([1, 0, 0], ["none", "unknown", "unknown"]),
        ([1, 1], ["none", "none"]),
        ([0, 0], ["unknown", "unknown"]),
        ([], []),
    ],
)
def test_hidden_points_below_the_lowest_seen_one_are_under_the_bonnet(seen: list[int], codes: list[str]) -> None:
    assert [HIDDEN_BY[code] for code in hidden_by_of_seen(np.array(seen, bool))] == codes
