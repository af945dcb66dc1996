"""`.lanes.json` files: exact round trips, and errors that name file, lane and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_attribute_files import (
    MAX_FILE_BYTES,
    MAX_IDENTITY,
    LaneAttributeFile,
    attributes_path,
    format_attributes,
    read_attributes,
    read_labelled_lanes,
    require_matching_attributes,
    write_attributes,
)
from clrernetlm.core.lane_attributes import HIDDEN_BY, LANE_COLOURS, LANE_TYPES, HiddenRange, LaneAttributes

BONNET = LaneAttributes(31, "dashed", "white", -1, None, (HiddenRange(0, 4, "bonnet"),))


@st.composite
def lane_attributes(draw: st.DrawFn) -> LaneAttributes:
    points = draw(st.integers(0, 40))
    ends = sorted(draw(st.sets(st.integers(0, max(points - 1, 0)), max_size=6 if points else 0)))
    by = st.sampled_from(HIDDEN_BY[1:])
    ranges = tuple(HiddenRange(a, b, draw(by)) for a, b in zip(ends[::2], ends[1::2], strict=False))
    return LaneAttributes(
        points,
        draw(st.sampled_from(LANE_TYPES)),
        draw(st.sampled_from(LANE_COLOURS)),
        draw(st.none() | st.integers(1, 1000) | st.integers(-1000, -1)),
        draw(st.none() | st.integers(0, MAX_IDENTITY)),
        draw(st.none() | st.just(ranges)),
    )


@given(lanes=st.lists(lane_attributes(), max_size=5), size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)))
def test_round_trip_is_exact(
    tmp_path_factory: pytest.TempPathFactory, lanes: list[LaneAttributes], size: tuple[int, int]
) -> None:
    path = tmp_path_factory.mktemp("attributes") / "a.lanes.json"
    write_attributes(path, lanes, size)
    assert read_attributes(path) == LaneAttributeFile(tuple(lanes), size)
    assert format_attributes(read_attributes(path).lanes, size) == path.read_text()


def test_the_file_looks_as_described_and_lies_beside_the_labels() -> None:
    assert format_attributes([BONNET], (1640, 590)) == (
        '{"version": 1, "size": [1640, 590], "lanes": [\n {"points": 31, "type": "dashed", "colour": "white", '
        '"position": -1, "hidden": [{"from": 0, "to": 4, "by": "bonnet"}]}\n]}\n'
    )
    assert attributes_path("a/0.lines.txt") == "a/0.lanes.json"


def test_unknown_keys_are_ignored_and_missing_ones_are_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.lanes.json"
    lane = {"points": 3, "width": 0.15, "hidden": [{"from": 1, "to": 1, "since": 4}]}
    path.write_text(json.dumps({"version": 1, "size": [8, 6], "lanes": [lane], "camera": "left"}))
    expected = LaneAttributes(3, hidden=(HiddenRange(1, 1, "unknown"),))
    assert read_attributes(path) == LaneAttributeFile((expected,), (8, 6))


def _with(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "size": [8, 6], "lanes": [{"points": 9}, {"points": 9} | changes]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", ": not JSON"),
        ("[" * 100_000, ": not JSON"),
        ([], ": no lane attributes"),
        ({"frames": []}, ": the result of a video"),
        (_with() | {"version": 2}, ", version: 2; this program reads version 1"),
        (_with() | {"size": [8, 0]}, r", size: \[8, 0\] is not"),
        (_with() | {"lanes": {}}, ", lanes: {} is not a list"),
        (_with() | {"lanes": [{"points": 1}] * 1001}, ", lanes: .* is not a list of at most 1000"),
        (_with() | {"lanes": [3]}, ", lane 1: 3 is not an entry"),
        (_with(points=-1), ", lane 2, points: -1; use a whole number from 0"),
        (_with(points=True), ", lane 2, points: True"),
        (_with(points=2.0), r", lane 2, points: 2\.0"),
        (_with(type="zigzag"), ", lane 2, type: 'zigzag'; use one of solid, dashed"),
        (_with(colour=3), ", lane 2, colour: 3; use one of white"),
        (_with(position=0), ", lane 2, position: 0; the lines beside the own car are -1 and 1"),
        (_with(identity=10**30), ", lane 2, identity: '1000"),
        (_with(hidden=4), ", lane 2, hidden: 4 is not a list"),
        (_with(hidden=[4]), ", lane 2, hidden 1: 4 is not"),
        (_with(hidden=[{"from": 0, "to": 9}]), ", lane 2, hidden 1, to: 9; use a whole number from 0 to 8"),
        (_with(hidden=[{"from": 3, "to": 2}]), ", lane 2, hidden 1, to: 2; use a whole number from 3 to 8"),
        (_with(hidden=[{"from": 0, "to": 3}, {"from": 3, "to": 4}]), ", lane 2, hidden 2, from: 3; use .* from 4 to 8"),
        (_with(hidden=[{"from": 0, "to": 8}, {"from": 9, "to": 9}]), ", lane 2, hidden 2, from: 9; remove it"),
        (_with(hidden=[{"from": 0, "to": 0, "by": "none"}]), ", lane 2, hidden 1, by: 'none'; use one of bonnet"),
    ],
)
def test_a_wrong_file_is_named_with_lane_and_field(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "a.lanes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=rf"a\.lanes\.json{problem}") as caught:
        read_attributes(path)
    assert "\n" not in str(caught.value)


def test_large_files_and_numbers_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.lanes.json"
    path.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(UserError, match="larger than 4 MB"):
        read_attributes(path)
    path.write_text('{"version": 1, "size": [8, ' + "9" * 3_000_000 + '], "lanes": []}')
    with pytest.raises(UserError, match=r"a\.lanes\.json, size: "):
        read_attributes(path)
    with pytest.raises(UserError, match=r"none\.lanes\.json: cannot be read"):
        read_attributes(tmp_path / "none.lanes.json")


def test_attributes_of_other_labels_are_refused_with_both_names() -> None:
    attributes = LaneAttributeFile((BONNET, BONNET), (1640, 590))
    place = ("d/a.lanes.json", "d/a.lines.txt")
    require_matching_attributes(attributes, *place, [31, 31], (1640, 590))
    with pytest.raises(UserError, match=r"d/a\.lanes\.json: 2 lanes, but a\.lines\.txt has 3"):
        require_matching_attributes(attributes, *place, [31, 31, 31])
    with pytest.raises(UserError, match=r"d/a\.lanes\.json, lane 2, points: 31 points, but line 2 of a\.lines\.txt"):
        require_matching_attributes(attributes, *place, [31, 30])
    with pytest.raises(UserError, match=r"d/a\.lanes\.json, size: 1640x590, but the image has 820x295"):
        require_matching_attributes(attributes, *place, [31, 31], (820, 295))


def test_labelled_lanes_have_their_attributes_where_there_is_a_file(tmp_path: Path) -> None:
    lines = tmp_path / "a.lines.txt"
    lines.write_text("10 90 20 80 30 70\n\n50 90 60 80\n")
    plain = read_labelled_lanes(lines)
    assert [len(lane) for lane in plain] == [3, 0, 2]
    assert {(lane.type, lane.visible is None) for lane in plain} == {("unknown", True)}
    described = [LaneAttributes(3, "solid", "white", 1, 5, (HiddenRange(0, 1, "crest"),)), *map(LaneAttributes, (0, 2))]
    write_attributes(attributes_path(lines), described, (100, 100))
    first, _, last = read_labelled_lanes(lines, (100, 100))
    assert (first.type, first.colour, first.position, first.identity) == ("solid", "white", 1, 5)
    assert first.visible is not None
    assert first.visible.tolist() == [False, False, True]
    assert last.visible is None
    with pytest.raises(UserError, match=r"a\.lanes\.json, size: 100x100"):
        read_labelled_lanes(lines, (200, 100))
