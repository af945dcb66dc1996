"""Reads and writes `.lines.txt` files: one lane per line, `x0 y0 x1 y1 ...` in pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from clrernetlm.core.arrays import Points
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, write_text_atomically
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_points import bottom_first
from clrernetlm.core.text_encoding import read_utf8

MAX_LANE_FILE_BYTES = 8_000_000  # size limit of a `.lines.txt` file; CULane's have a few thousand bytes

MAX_LANES_PER_FILE = 1000


def read_lines(path: PathLike) -> list[Points]:
    """Read the lanes of a `.lines.txt` file as (N, 2) float64 x, y in pixels, in the order and direction of the file.

    One lane per line: `x0 y0 x1 y1 ...`. Blank lines are lanes without points, as in the published evaluation tools.
    Raises UserError naming file and line for a line that is not an even number of finite numbers. In loops over many
    files `lane_files.read_lane_points` is faster.
    """
    lanes: list[Points] = []
    for number, line in enumerate(read_lane_file_rows(path), start=1):
        try:
            lanes.append(parse_lane(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    return lanes


def read_lane_file_rows(path: PathLike) -> list[bytes]:
    """Read the lines of a `.lines.txt` file as bytes. Raises UserError if it cannot be read or is too large."""
    try:
        rows = read_utf8(path, MAX_LANE_FILE_BYTES).splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ValueError:
        raise UserError(f"{str(path)!r}: a name with a NUL byte, which no file has; check the path") from None
    require_few_lanes(path, len(rows))
    return rows


def require_few_lanes(path: PathLike, lanes: int) -> None:
    """Raise UserError for a file with more lines than any image has lanes."""
    if lanes > MAX_LANES_PER_FILE:
        raise UserError(
            f"{path}: {lanes} lanes, more than {MAX_LANES_PER_FILE}; write one lane a line, `x0 y0 x1 y1 ...`"
        )


def parse_lane(row: bytes) -> Points:
    """Parse one line of a `.lines.txt` file to (N, 2) float64 x, y; raises ValueError that describes the fault."""
    try:
        values = np.array(row.split(), np.float64)
    except ValueError:
        raise ValueError("not a list of numbers; expected `x0 y0 x1 y1 ...`") from None
    if len(values) % 2:
        raise ValueError(f"{len(values)} values; x and y must come in pairs")
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinite coordinate; remove that point")
    return values.reshape(-1, 2)


def label_path(image_path: str) -> str:
    """Return the path of an image's label file: `.../00000.jpg` -> `.../00000.lines.txt`."""
    return os.path.splitext(image_path)[0] + ".lines.txt"


def lane_file_path(folder: PathLike, image: str) -> str:
    """Return the path of an image's lanes in a folder: `folder/<image path without its extension>.lines.txt`."""
    return os.path.join(folder, label_path(image.lstrip("/")))


def monotone_label(points: Points, path: PathLike, line: int) -> Points:
    """Order the points of a label (N, 2) bottom first with one x per row, as targets of networks need it.

    Of a lane that turns back only the longest part is kept, with a warning that names file and line (`bottom_first`).
    """
    ordered, turns_back = bottom_first(points)
    if turns_back:
        warnings.warn(f"{path}, line {line}: {describe_turn(ordered)}", stacklevel=3)
    return ordered


def describe_turn(used: Points) -> str:
    """Describe the part (N, 2), bottom first, that is used of a lane that turns back, and the fix; for a warning."""
    part = f"y = {used[0, 1]:g} to {used[-1, 1]:g}"
    return (
        "the lane turns back: it has several x on one row, and targets hold one; only its longest part, "
        f"{part}, is used; write its parts as lanes of their own"
    )


def format_lines(lanes: Iterable[Lane | Points], decimals: int = 5) -> str:
    """Format lanes as the text of a `.lines.txt` file: one lane per line, `x y` pairs with `decimals` digits."""
    rows = []
    for lane in lanes:
        points = lane.points if isinstance(lane, Lane) else lane
        rows.append(" ".join(f"{value:.{decimals}f}" for value in np.asarray(points, np.float64).ravel()))
    return "".join(row + "\n" for row in rows)


def write_lines(path: PathLike, lanes: Sequence[Lane | Points], decimals: int = 5) -> None:
    """Write a `.lines.txt` file atomically: readers see the old file or the complete new one."""
    write_text_atomically(path, format_lines(lanes, decimals))
