"""Defines what can be known of a lane besides its points: type, colour, position, identity, and what hides it.

The order of the names is fixed, because networks are trained on their codes: new names are added at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.arrays import BoolArray, SignedByteArray

# In `solid-dashed` the left stroke is solid and the right one dashed; `edge` is a kerb or road edge without paint.
LaneType = Literal[
    "solid", "dashed", "double-solid", "double-dashed", "solid-dashed", "dashed-solid", "dots", "edge", "unknown"
]
LaneColour = Literal["white", "yellow", "other", "unknown"]
# `none`: the point is visible; `unknown`: it is hidden, and what hides it is not stated.
HiddenBy = Literal["none", "bonnet", "vehicle", "crest", "object", "unknown"]

LANE_TYPES: tuple[LaneType, ...] = get_args(LaneType)
LANE_COLOURS: tuple[LaneColour, ...] = get_args(LaneColour)
HIDDEN_BY: tuple[HiddenBy, ...] = get_args(HiddenBy)

UNKNOWN = -1  # code of an unknown type or colour, and of a point of which nothing is known: no target of a network
TYPE_CODES: dict[LaneType, int] = {name: UNKNOWN if name == "unknown" else i for i, name in enumerate(LANE_TYPES)}
COLOUR_CODES: dict[LaneColour, int] = {name: UNKNOWN if name == "unknown" else i for i, name in enumerate(LANE_COLOURS)}
HIDDEN_CODES: dict[HiddenBy, int] = {name: i for i, name in enumerate(HIDDEN_BY)}
VISIBLE = HIDDEN_CODES["none"]

_MIRRORED: dict[LaneType, LaneType] = {"solid-dashed": "dashed-solid", "dashed-solid": "solid-dashed"}


@dataclass(frozen=True)
class HiddenRange:
    """Points `first` to `last` of a lane, both included, that `by` hides; counted from 0 at its first point."""

    first: int
    last: int
    by: HiddenBy = "unknown"


@dataclass(frozen=True)
class LaneAttributes:
    """What is known of one labelled lane besides its points, of which there are `points`.

    `position` is relative to the own car: -1 is the line left of it, 1 that on its right, -2 and 2 the next ones.
    `identity` is the number of the lane in a sequence of images. `hidden` are the ranges of hidden points, ascending;
    None: nothing is known about visibility.
    """

    points: int
    type: LaneType = "unknown"
    colour: LaneColour = "unknown"
    position: int | None = None
    identity: int | None = None
    hidden: tuple[HiddenRange, ...] | None = None

    def hidden_by(self) -> SignedByteArray | None:
        """Return the code of `HIDDEN_CODES` of every point, (N,) int8; None if nothing is known."""
        if self.hidden is None:
            return None
        codes = np.full(self.points, VISIBLE, np.int8)
        for hidden in self.hidden:
            codes[hidden.first : hidden.last + 1] = HIDDEN_CODES[hidden.by]
        return codes

    def mirrored(self) -> LaneAttributes:
        """Return the attributes of the lane in the mirrored image: its position and its strokes change sides."""
        position = None if self.position is None else -self.position
        kind = mirrored_type(self.type)
        return LaneAttributes(self.points, kind, self.colour, position, self.identity, self.hidden)


def mirrored_type(name: LaneType) -> LaneType:
    """Return the type that a lane has in the mirrored image."""
    return _MIRRORED.get(name, name)


def hidden_by_of_seen(seen: BoolArray) -> SignedByteArray:
    """Derive the code of every point (N,) int8 from which points are seen (N,) bool, from the bottom of a lane upwards.

    Hidden points below the lowest seen one are under the bonnet: on generated roads, 97 % of such points are, the rest
    lie behind vehicles. What hides the others is unknown, as is what hides a lane of which no point is seen.
    """
    codes = np.where(seen, VISIBLE, HIDDEN_CODES["unknown"]).astype(np.int8)
    if seen.any():
        codes[: int(seen.argmax())] = HIDDEN_CODES["bonnet"]
    return codes


def hidden_ranges(codes: NDArray[np.integer]) -> tuple[HiddenRange, ...]:
    """Convert the codes of a lane's points (N,) to the ranges of points with one code that are hidden, ascending."""
    changes = np.flatnonzero(np.diff(codes)) + 1
    starts = [0, *changes.tolist()] if len(codes) else []
    ends = [*changes.tolist(), len(codes)]
    return tuple(
        HiddenRange(start, end - 1, HIDDEN_BY[int(codes[start])])
        for start, end in zip(starts, ends, strict=False)
        if codes[start] != VISIBLE
    )
