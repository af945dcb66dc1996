"""The result type Lane: points, score, and what is known of the lane besides."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import InterpolatedUnivariateSpline

from clrernetlm.core.argument_checks import check_arguments, number_array, short_repr
from clrernetlm.core.arrays import BoolArray, Float64Array, Points, SignedByteArray
from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_attributes import HIDDEN_CODES, VISIBLE, HiddenRange, LaneColour, LaneType, hidden_ranges


@dataclass(frozen=True)
class Lane:
    """One lane in pixels of the original frame.

    `points` is (N, 2) float64 x, y, from the bottom of the frame upwards (y descending); x may leave the frame.
    `score` is the confidence in [0, 1]; 1 for labels.

    The other fields are optional. `position` is relative to the own car: -1 is the line left of it, 1 that on its
    right, -2 and 2 the next ones; `identity` is the number of the lane in a video. `visible` (N,) says which points are
    seen, None if that is not known; `hidden_by` (N,) has their codes of `lane_attributes.HIDDEN_CODES`. Each of the two
    is made from the other if only one is given.

    Raises UserError unless `visible` and `hidden_by` have one value per point and agree.
    """

    points: Points
    score: float = 1.0
    type: LaneType = "unknown"
    colour: LaneColour = "unknown"
    position: int | None = None
    identity: int | None = None
    visible: BoolArray | None = None
    hidden_by: SignedByteArray | None = None

    def __post_init__(self) -> None:
        if self.visible is None and self.hidden_by is None:
            return
        name, given = ("visible", self.visible) if self.hidden_by is None else ("hidden_by", self.hidden_by)
        values = np.asarray(given)
        if values.shape != (len(self.points),):
            raise UserError(f"{name}: {short_repr(given)} for {len(self.points)} points; give one value per point")
        codes = values if name == "hidden_by" else np.where(values.astype(bool), VISIBLE, HIDDEN_CODES["unknown"])
        if not np.isin(codes, list(HIDDEN_CODES.values())).all():
            raise UserError(f"hidden_by: {short_repr(codes)} has values that are none of the codes of HIDDEN_CODES")
        seen = codes == VISIBLE
        if self.visible is not None and not np.array_equal(np.asarray(self.visible), seen):
            raise UserError("visible: differs from hidden_by; give one of them, and the other is made from it")
        object.__setattr__(self, "visible", seen)
        object.__setattr__(self, "hidden_by", codes.astype(np.int8))

    def __len__(self) -> int:
        return len(self.points)

    @property
    def hidden(self) -> tuple[HiddenRange, ...] | None:
        """The ranges of hidden points, ascending; None if visibility is not known."""
        return None if self.hidden_by is None else hidden_ranges(self.hidden_by)

    def cut_at_bonnet(self) -> Lane:
        """Return the lane without the points that the bonnet of the own car hides; itself if there are none."""
        if self.hidden_by is None:
            return self
        kept = self.hidden_by != HIDDEN_CODES["bonnet"]
        if kept.all():
            return self
        return replace(self, points=self.points[kept], visible=None, hidden_by=self.hidden_by[kept])

    def between(self, top: float, bottom: float) -> Lane:
        """Return the part of the lane on the rows from y = `top` down to `bottom`, with new end points on them.

        A lane that ends inside keeps its ends; empty if it is nowhere between the rows.
        """
        y = self.points[:, 1]
        inside = (y >= top) & (y <= bottom)
        cuts = [row for row in (bottom, top) if len(y) > 1 and y[-1] < row < y[0] and not (y == row).any()]
        rows = np.sort(np.concatenate([y[inside], cuts]))[::-1]
        x = np.interp(rows, y[::-1], self.points[::-1, 0])
        hidden_by = self.hidden_by
        if hidden_by is not None:
            hidden_by = hidden_by[np.abs(y[None] - rows[:, None]).argmin(1)]
        return replace(self, points=np.stack([x, rows], -1), visible=None, hidden_by=hidden_by)

    @check_arguments
    def x_at(self, y: Float64Array, margin: float = 0.0) -> Float64Array:
        """Interpolate x on rows, (M,) y -> (M,) x in pixels; NaN more than `margin` pixels beyond the lane's ends.

        By a spline of degree min(3, N - 1) over strictly ordered rows; a lane with a single point has an x on its own
        row only.
        """
        y = number_array(y, "y", "rows in pixels")
        if np.ndim(self.points) != 2 or np.shape(self.points)[1] != 2:
            raise UserError(f"points: {short_repr(self.points)}; a lane is an array of x, y of shape (N, 2)")
        rows, index = np.unique(self.points[:, 1], return_index=True)
        if len(rows) == 0:
            return np.full(y.shape, np.nan)
        inside = (y >= rows[0] - margin) & (y <= rows[-1] + margin)
        if len(rows) == 1:
            return np.where(inside, self.points[index[0], 0], np.nan)
        spline = InterpolatedUnivariateSpline(rows, self.points[index, 0], k=min(3, len(rows) - 1))
        return np.where(inside, spline(y), np.nan)
