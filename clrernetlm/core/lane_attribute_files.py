"""Reads and writes `.lanes.json` files: the attributes of the lanes of the `.lines.txt` file beside them.

    {"version": 1, "size": [1640, 590], "lanes": [
     {"points": 31, "type": "dashed", "colour": "white", "position": -1,
      "hidden": [{"from": 0, "to": 4, "by": "bonnet"}]}
    ]}

The lanes are those of the `.lines.txt` file in its order, and `points` is the number of their points. All other keys of
a lane may be left out, unknown keys are ignored. `hidden` ranges include both ends; no `hidden` means that nothing is
known about visibility, an empty list that every point is visible.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clrernetlm.core.argument_checks import short_repr
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, write_text_atomically
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attributes import HIDDEN_BY, LANE_COLOURS, LANE_TYPES, HiddenRange, LaneAttributes
from clrernetlm.core.lane_files import MAX_LANES_PER_FILE, read_lines
from clrernetlm.core.text_encoding import read_utf8
from clrernetlm.core.viewport import FrameSize

ATTRIBUTES_SUFFIX = ".lanes.json"
FORMAT_VERSION = 1
MAX_FILE_BYTES = 4_000_000  # those of this package have a few hundred bytes
MAX_POINTS = 1_000_000  # of one lane
MAX_POSITION = MAX_LANES_PER_FILE
MAX_IDENTITY = 2**53  # whole numbers that every reader of JSON keeps exactly
MAX_SIDE = 2**31 - 1  # pixels
_MAX_DIGITS = 20  # of a whole number; converting millions of them takes minutes


@dataclass(frozen=True)
class LaneAttributeFile:
    """The content of a `.lanes.json` file: the attributes of every lane, and (width, height) of the image in pixels."""

    lanes: tuple[LaneAttributes, ...]
    size: FrameSize


def attributes_path(lines_path: PathLike) -> str:
    """Return the path of the attributes that belong to a label file: `.../0.lines.txt` -> `.../0.lanes.json`."""
    return os.fspath(lines_path).removesuffix(".lines.txt") + ATTRIBUTES_SUFFIX


def format_attributes(lanes: Sequence[LaneAttributes], size: FrameSize) -> str:
    """Format the text of a `.lanes.json` file for lanes of an image of `size` (width, height), one lane a line."""
    rows = ",\n".join(" " + json.dumps(lane_entry(lane)) for lane in lanes)
    head = json.dumps({"version": FORMAT_VERSION, "size": [int(side) for side in size]})[:-1]
    return f'{head}, "lanes": [\n{rows}\n]}}\n' if lanes else f'{head}, "lanes": []}}\n'


def write_attributes(path: PathLike, lanes: Sequence[LaneAttributes], size: FrameSize) -> None:
    """Write a `.lanes.json` file atomically."""
    write_text_atomically(path, format_attributes(lanes, size))


def lane_entry(lane: LaneAttributes) -> dict[str, Any]:
    """Convert the attributes of a lane to what stands in the file; unknown ones are left out, except the type."""
    known = known_entries(position=lane.position, identity=lane.identity, hidden=lane.hidden)
    return {"points": lane.points, "type": lane.type, "colour": lane.colour} | known


def known_entries(*, hidden: Sequence[HiddenRange] | None, **attributes: object) -> dict[str, Any]:
    """Convert attributes that are not None to JSON, hidden ranges as `[{"from": 0, "to": 4, "by": "bonnet"}]`."""
    entries = {name: value for name, value in attributes.items() if value is not None}
    if hidden is not None:
        entries["hidden"] = [{"from": part.first, "to": part.last, "by": part.by} for part in hidden]
    return entries


def read_attributes(path: PathLike) -> LaneAttributeFile:
    """Read a `.lanes.json` file.

    Raises UserError naming file, lane (from 1) and field for a file that cannot be read or is no such file.
    """
    try:
        text = read_utf8(path, MAX_FILE_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ValueError:
        raise UserError(f"{str(path)!r}: a name with a NUL byte, which no file has; check the path") from None
    try:
        content = json.loads(text, parse_int=_bounded_int)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON; write it anew, or remove it: labels need none") from None
    try:
        return _parse_file(content)
    except _WrongEntry as error:
        raise UserError(f"{path}{error}") from None


def read_attributes_of(
    lines_path: PathLike, point_counts: Sequence[int], size: FrameSize | None = None
) -> tuple[LaneAttributes, ...] | None:
    """Read the attributes of the lanes of a label file, from the `.lanes.json` file beside it; None if there is none.

    `point_counts` and `size` as in `require_matching_attributes`. Raises UserError for a file that is wrong, or of
    other labels.
    """
    path = attributes_path(lines_path)
    if not os.path.exists(path):
        return None
    attributes = read_attributes(path)
    require_matching_attributes(attributes, path, lines_path, point_counts, size)
    return attributes.lanes


def read_labelled_lanes(lines_path: PathLike, size: FrameSize | None = None) -> list[Lane]:
    """Read the lanes of a label file with their attributes, if there is a `.lanes.json` file beside it.

    `size` (width, height) is that of the image; None if it is not known. Raises UserError naming file and line or lane.
    """
    lanes = read_lines(lines_path)
    attributes = read_attributes_of(lines_path, [len(points) for points in lanes], size)
    if attributes is None:
        return [Lane(points) for points in lanes]
    return [
        Lane(points, 1.0, one.type, one.colour, one.position, one.identity, hidden_by=one.hidden_by())
        for points, one in zip(lanes, attributes, strict=True)
    ]


def require_matching_attributes(
    attributes: LaneAttributeFile,
    path: PathLike,
    lines_path: PathLike,
    point_counts: Sequence[int],
    size: FrameSize | None = None,
) -> None:
    """Raise UserError unless attributes belong to the label file beside them.

    `path` is that of the attributes, `lines_path` that of the label file, `point_counts` the number of points of every
    line in it, blank ones included. `size` (width, height) is that of the image, None if it is not known.
    """
    lines = os.path.basename(lines_path)
    if len(attributes.lanes) != len(point_counts):
        counts = f"{_count(len(attributes.lanes), 'lane')}, but {lines} has {len(point_counts)}"
        raise UserError(f"{path}: {counts}; write one entry for every line of {lines}, or remove this file")
    for number, (lane, count) in enumerate(zip(attributes.lanes, point_counts, strict=True), start=1):
        if lane.points != count:
            counts = f"{_count(lane.points, 'point')}, but line {number} of {lines} has {count}"
            raise UserError(f"{path}, lane {number}, points: {counts}; make them agree, or remove this file")
    if size is not None and attributes.size != tuple(size):
        (width, height), frame = attributes.size, f"{size[0]}x{size[1]}"
        raise UserError(f"{path}, size: {width}x{height}, but the image has {frame} pixels; is it of another image?")


class _WrongEntry(ValueError):
    """Raised for a wrong entry; the text begins with the place in the file."""


def _bounded_int(digits: str) -> int | str:
    """Convert the digits of a whole number; too many of them stay text, which no field accepts."""
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _parse_file(content: Any) -> LaneAttributeFile:
    if not isinstance(content, dict) or "lanes" not in content:
        what = "the result of a video" if isinstance(content, dict) and "frames" in content else "no lane attributes"
        raise _WrongEntry(f': {what}; expected {{"version": 1, "size": [width, height], "lanes": [...]}}')
    version = content.get("version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise _WrongEntry(f", version: {short_repr(version)}; this program reads version {FORMAT_VERSION}")
    size = content.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_whole(side, 1, MAX_SIDE) for side in size):
        raise _WrongEntry(f", size: {short_repr(size)} is not [width, height] in pixels")
    entries = content["lanes"]
    if not isinstance(entries, list) or len(entries) > MAX_LANES_PER_FILE:
        raise _WrongEntry(f", lanes: {short_repr(entries)} is not a list of at most {MAX_LANES_PER_FILE} lanes")
    lanes = tuple(_parse_lane(entry, f", lane {number}") for number, entry in enumerate(entries, start=1))
    return LaneAttributeFile(lanes, (size[0], size[1]))


def _parse_lane(entry: Any, where: str) -> LaneAttributes:
    if not isinstance(entry, dict):
        raise _WrongEntry(f'{where}: {short_repr(entry)} is not an entry {{"points": ..., "type": ...}}')
    points = _whole(entry.get("points"), f"{where}, points", 0, MAX_POINTS)
    position, identity = entry.get("position"), entry.get("identity")
    if position is not None and _whole(position, f"{where}, position", -MAX_POSITION, MAX_POSITION) == 0:
        raise _WrongEntry(f"{where}, position: 0; the lines beside the own car are -1 and 1")
    if identity is not None:
        _whole(identity, f"{where}, identity", 0, MAX_IDENTITY)
    hidden = entry.get("hidden")
    return LaneAttributes(
        points,
        _one_of(entry.get("type", "unknown"), f"{where}, type", LANE_TYPES),
        _one_of(entry.get("colour", "unknown"), f"{where}, colour", LANE_COLOURS),
        position,
        identity,
        None if hidden is None else _parse_hidden(hidden, f"{where}, hidden", points),
    )


def _parse_hidden(entries: Any, where: str, points: int) -> tuple[HiddenRange, ...]:
    """Check the hidden ranges of a lane with `points` points: each inside the lane and behind the one before."""
    if not isinstance(entries, list):
        raise _WrongEntry(f'{where}: {short_repr(entries)} is not a list of {{"from": ..., "to": ..., "by": ...}}')
    ranges: list[HiddenRange] = []
    free = 0  # the first point behind the last range
    for number, entry in enumerate(entries, start=1):
        place = f"{where} {number}"
        if not isinstance(entry, dict):
            raise _WrongEntry(f'{place}: {short_repr(entry)} is not {{"from": ..., "to": ..., "by": ...}}')
        first = _whole(entry.get("from"), f"{place}, from", free, points - 1)
        last = _whole(entry.get("to"), f"{place}, to", first, points - 1)
        by = _one_of(entry.get("by", "unknown"), f"{place}, by", HIDDEN_BY[1:])
        ranges.append(HiddenRange(first, last, by))
        free = last + 1
    return tuple(ranges)


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _whole(value: Any, where: str, least: int, most: int) -> int:
    if not _is_whole(value, least, most):
        fix = f"use a whole number from {least} to {most}" if least <= most else "remove it: no point is left for it"
        raise _WrongEntry(f"{where}: {short_repr(value)}; {fix}")
    number: int = value
    return number


def _one_of(value: Any, where: str, names: Sequence[Any]) -> Any:
    if not isinstance(value, str) or value not in names:
        raise _WrongEntry(f"{where}: {short_repr(value)}; use one of {', '.join(names)}")
    return value
