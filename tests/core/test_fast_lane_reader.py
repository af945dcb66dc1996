"""The fast reader agrees with the plain one, on valid and invalid files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clrernetlm.core.errors import UserError
from clrernetlm.core.fast_lane_reader import read_lane_points
from clrernetlm.core.lane_files import read_lines

token = (
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-99999, max_value=99999, places=5).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.sampled_from(["1", "-0", "+7", ".5", "5.", "007.250", "1e3", "1" * 30, "0." + "1" * 30])
    | st.sampled_from(["-", ".", "", "1-2", "1..2", "nan", "inf", "x", "1_0", "--1", "٣", "\x0b", "1\r2", "1,2"])
)
file_text = st.lists(st.lists(token, max_size=6).map(" ".join), max_size=5).map("\n".join)


def fast_lanes(path: Path) -> list[np.ndarray]:
    points, stops = read_lane_points(path)
    return [points[start:stop] for start, stop in pairwise(stops)]


def outcome(read: Callable[[Path], list[np.ndarray]], path: Path) -> list | str:
    """Return every lane's coordinates, or the message of the error."""
    try:
        return [lane.tolist() for lane in read(path)]
    except UserError as error:
        return str(error)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file_text, st.sampled_from(["", "\n", "\r\n", "  \n\n"]))
def test_same_lanes_or_same_error(tmp_path: Path, text: str, end: str) -> None:
    path = tmp_path / "x.lines.txt"
    path.write_bytes((text + end).encode())
    assert outcome(fast_lanes, path) == outcome(read_lines, path)


def test_missing_files(tmp_path: Path) -> None:
    points, stops = read_lane_points(tmp_path / "none.lines.txt", missing_is_empty=True)
    assert (points.shape, stops.tolist()) == ((0, 2), [0])
    for path in (tmp_path / "none.lines.txt", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_lane_points(path)
