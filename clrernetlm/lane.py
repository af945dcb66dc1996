"""Lane: the one result type, and the `.lines.txt` files it is read from and written to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import InterpolatedUnivariateSpline

from clrernetlm.errors import UserError
from clrernetlm.files import PathLike, write_text_atomically

Points = NDArray[np.float64]  # (N, 2): x, y


@dataclass(frozen=True)
class Lane:
    """One lane in pixels of the original frame.

    `points` is (N, 2) float64 x, y, from the bottom of the frame upwards (y descending); x may leave the frame.
    `score` is the confidence in [0, 1]; 1 for labels.
    """

    points: Points
    score: float = 1.0

    def __len__(self) -> int:
        return len(self.points)

    def x_at(self, y: NDArray[np.float64], margin: float = 0.0) -> NDArray[np.float64]:
        """(M,) rows in pixels -> (M,) x in pixels; NaN where the lane does not reach (beyond `margin` pixels).

        An interpolating spline of degree min(3, N - 1) over strictly ordered rows; a lane of one point is nowhere but
        on its own row.
        """
        y = np.asarray(y, np.float64)
        rows, first = np.unique(self.points[:, 1], return_index=True)
        if len(rows) == 0:
            return np.full(y.shape, np.nan)
        inside = (y >= rows[0] - margin) & (y <= rows[-1] + margin)
        if len(rows) == 1:
            return np.where(inside, self.points[first[0], 0], np.nan)
        spline = InterpolatedUnivariateSpline(rows, self.points[first, 0], k=min(3, len(rows) - 1))
        return np.where(inside, spline(y), np.nan)


def read_lines(path: PathLike) -> list[Points]:
    """Lanes of one `.lines.txt` file as (N, 2) float64 x, y in pixels, in the order and direction of the file.

    One lane per line: `x0 y0 x1 y1 ...`. Blank lines are lanes of no points, as the evaluation tools read them.
    Raises UserError naming file and line for anything that is not an even number of finite numbers.
    """
    lanes: list[Points] = []
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            values = np.array(line.split(), np.float64)
        except ValueError:
            raise UserError(f"{path}, line {number}: not a list of numbers; expected `x0 y0 x1 y1 ...`") from None
        if len(values) % 2:
            raise UserError(f"{path}, line {number}: {len(values)} values; x and y must come in pairs")
        if not np.isfinite(values).all():
            raise UserError(f"{path}, line {number}: NaN or infinite coordinate; remove that point")
        lanes.append(values.reshape(-1, 2))
    return lanes


def format_lines(lanes: Iterable[Lane | Points], decimals: int = 5) -> str:
    """Text of a `.lines.txt` file: one lane per line, `x y` pairs with `decimals` digits."""
    rows = []
    for lane in lanes:
        points = lane.points if isinstance(lane, Lane) else lane
        rows.append(" ".join(f"{value:.{decimals}f}" for value in np.asarray(points, np.float64).ravel()))
    return "".join(row + "\n" for row in rows)


def write_lines(path: PathLike, lanes: Sequence[Lane | Points], decimals: int = 5) -> None:
    """Write a `.lines.txt` file atomically: readers see the old file or the whole new one."""
    write_text_atomically(path, format_lines(lanes, decimals))
