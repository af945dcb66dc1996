"""Checks one image of a data set: its file, its label file, the attributes of its lanes and its mask."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from clrernetlm.core.arrays import Float64Array
from clrernetlm.core.errors import UserError
from clrernetlm.core.images import read_image, require_complete
from clrernetlm.core.lane_attribute_files import attributes_path, read_attributes_of
from clrernetlm.core.lane_attributes import LaneAttributes
from clrernetlm.core.lane_files import describe_turn, label_path, parse_lane, read_lane_file_rows
from clrernetlm.core.lane_points import bottom_first
from clrernetlm.datasets.data_report import Problem, problem_from_error
from clrernetlm.datasets.masks import read_mask, used_values
from clrernetlm.models.clrernet.targets import IGNORED_LABEL


@dataclass(frozen=True)
class ListedImage:
    """An image of the lists; `labelled`: a label file must exist."""

    image: str  # path in the list, relative to the data set
    mask: str | None
    lanes_flagged: int | None  # lanes that the list says exist
    labelled: bool
    listed: str  # list file and line, for messages


@dataclass(frozen=True)
class ImageReport:
    """The result of checking one image."""

    problems: list[Problem]
    lanes: int | None  # usable ones; None: no label file
    top_first: int  # lanes that start at the top
    size: tuple[int, int] | None  # width, height in pixels; None: unreadable
    attributes: tuple[LaneAttributes, ...] | None = None  # of all lines of the label file; None: no `.lanes.json`


def check_image(root: str, entry: ListedImage, *, max_lanes: int, decode: bool) -> ImageReport:
    """Check one image and its files. Runs in a worker process, and does not raise for a broken file."""
    problems: list[Problem] = []
    path = listed_file(root, entry.image)
    size = _check_image_file(path, entry.listed, decode, problems)
    lanes, top_first, counts = _check_label_file(label_path(path), size, max_lanes, entry.labelled, problems)
    attributes = None if counts is None else _check_attributes(label_path(path), counts, size, problems)
    if entry.lanes_flagged is not None and lanes is not None and entry.lanes_flagged != lanes:
        message = f"{lanes} lanes, but {entry.listed} flags {entry.lanes_flagged}; make them agree"
        problems.append(Problem(label_path(path), None, message))
    if entry.mask is not None:
        _check_mask(listed_file(root, entry.mask), entry.listed, size, max_lanes, lanes != 0, problems)
    return ImageReport(problems, lanes, top_first, size, attributes)


def _check_image_file(path: str, listed: str, decode: bool, problems: list[Problem]) -> tuple[int, int] | None:
    """Read (width, height) of an image; None if it cannot be read."""
    if not os.path.isfile(path):
        problems.append(Problem(path, None, f"no such image ({listed}); restore it or remove that line"))
        return None
    try:
        header = require_complete(path)
        if header is not None and not decode:
            return header.size
        image = read_image(path)
    except UserError as error:
        problems.append(problem_from_error(path, error))
        return None
    return image.shape[1], image.shape[0]


def _check_label_file(
    path: str, size: tuple[int, int] | None, max_lanes: int, labelled: bool, problems: list[Problem]
) -> tuple[int | None, int, list[int] | None]:
    """Count the usable lanes of a label file (None without one), and those of them that start at the top.

    Returns also the number of points on every line, None if not all lines can be read.
    """
    if not os.path.isfile(path):
        if labelled:
            problems.append(Problem(path, None, "no label file; write one, empty if the image shows no lane"))
        return None, 0, None
    lanes = top_first = 0
    counts: list[int] = []
    readable = True
    try:
        rows = read_lane_file_rows(path)
    except UserError as error:
        problems.append(problem_from_error(path, error))
        return None, 0, None
    for number, row in enumerate(rows, start=1):
        message, points = _check_lane(row, size)
        counts.append(len(row.split()) // 2)
        readable &= points is not None or counts[-1] < 2
        if points is not None:
            lanes += 1
            top_first += bool(points[-1, 1] > points[0, 1])
        if message:
            problems.append(Problem(path, number, message))
    if lanes > max_lanes:
        message = f"{lanes} lanes, but max_lanes is {max_lanes}; set model.max_lanes={lanes} or remove lanes"
        problems.append(Problem(path, None, message))
    return lanes, top_first, counts if readable else None


def _check_attributes(
    lines_path: str, counts: list[int], size: tuple[int, int] | None, problems: list[Problem]
) -> tuple[LaneAttributes, ...] | None:
    """Read the attributes of the lanes of a label file with `counts` points on its lines; None if there are none."""
    try:
        return read_attributes_of(lines_path, counts, size)
    except UserError as error:
        problems.append(problem_from_error(attributes_path(lines_path), error))
        return None


def _check_lane(row: bytes, size: tuple[int, int] | None) -> tuple[str | None, Float64Array | None]:
    """Check one line of a label file: (what is wrong or None, its points if it counts as a lane)."""
    try:
        points = parse_lane(row)
    except ValueError as error:
        return str(error), None
    if len(points) < 2:
        return f"a lane of {len(points)} points; it needs two, or remove the line", None
    return _check_points(points, size), points


def _check_points(points: Float64Array, size: tuple[int, int] | None) -> str | None:
    used, turns_back = bottom_first(points)
    if turns_back:
        return describe_turn(used)
    if len(np.unique(points, axis=0)) < len(points):
        return "the same point twice; remove one"
    steps = np.diff(points[:, 1])
    if (steps == 0).any():
        return f"two points on row y = {points[:-1][steps == 0][0, 1]:g}; keep one"
    if (steps > 0).any() and not (steps > 0).all():
        return f"y goes down and up again at y = {points[:-1][steps > 0][0, 1]:g}; sort the points by y, bottom first"
    if size is not None:
        width, height = size
        if (points[:, 1] < 0).any() or (points[:, 1] > height).any():
            return f"y outside the frame of {width}x{height}; cut the lane at the edge"
        if not ((points[:, 0] >= 0) & (points[:, 0] < width)).any():
            return f"the whole lane is outside the frame of {width}x{height}; remove the line"
    return None


def _check_mask(
    path: str,
    listed: str,
    size: tuple[int, int] | None,
    max_lanes: int,
    labelled: bool,
    problems: list[Problem],
) -> None:
    if not os.path.isfile(path):
        problems.append(Problem(path, None, f"no such mask ({listed}); restore it or use a list without masks"))
        return
    try:
        mask = read_mask(path, labelled)
    except UserError as error:
        problems.append(problem_from_error(path, error))
        return
    height, width = mask.shape
    if size is not None and (width, height) != size:
        message = f"{width}x{height}, but its image is {size[0]}x{size[1]}; masks need the size of their image"
        problems.append(Problem(path, None, message))
    values = used_values(mask)
    highest = values[values < IGNORED_LABEL][-1:]
    if len(highest) and highest[0] > max_lanes:
        message = f"lane number {highest[0]}, but max_lanes is {max_lanes}; set model.max_lanes or renumber the mask"
        problems.append(Problem(path, None, message))


def listed_file(root: str, listed: str) -> str:
    """Return the path of a listed image or mask of the data set in the folder `root`."""
    return os.path.join(root, listed.lstrip("/"))
