"""Carries the attributes of labelled lanes through transforms, and makes targets of networks from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clrernetlm.core.arrays import BoolArray, Float64Array, SignedByteArray
from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_attributes import (
    COLOUR_CODES,
    TYPE_CODES,
    UNKNOWN,
    VISIBLE,
    LaneAttributes,
    LaneColour,
    LaneType,
    mirrored_type,
)


@dataclass(frozen=True)
class LabelAttributes:
    """What is known of one lane of a sample besides its points; `hidden_by` (N,) are codes of `HIDDEN_CODES`."""

    type: LaneType = "unknown"
    colour: LaneColour = "unknown"
    position: int | None = None
    hidden_by: SignedByteArray | None = None

    @classmethod
    def of(cls, attributes: LaneAttributes) -> LabelAttributes:
        """Convert the attributes of a file."""
        return cls(attributes.type, attributes.colour, attributes.position, attributes.hidden_by())

    def mirrored(self) -> LabelAttributes:
        """Return the attributes in the mirrored image: the position and the strokes of the line change sides."""
        position = None if self.position is None else -self.position
        return replace(self, type=mirrored_type(self.type), position=position)

    def select_points(self, kept: BoolArray | NDArray[np.intp] | slice) -> LabelAttributes:
        """Return the attributes of the lane with the points that `kept` selects alone."""
        return self if self.hidden_by is None else replace(self, hidden_by=self.hidden_by[kept])


def attribute_targets(
    sample: dict[str, Any], lane_of_slot: NDArray[np.intp], rows: Float64Array, on_lane: BoolArray
) -> dict[str, torch.Tensor]:
    """Make targets of the lanes of a sample for L slots and T rows; `rows` (T,) or (L, T) are y in network pixels.

    `lane_of_slot` (L,) is the index of the lane in a slot, negative for none; `on_lane` (L, T) says on which rows the
    lane has an x. Returns `lane_type` and `lane_colour` (L,) int64 codes, `UNKNOWN` where nothing is known;
    `lane_position` (L,) int64, 0 where it is not known; `lane_hidden_by` (L, T) int8 codes of `HIDDEN_CODES`, and
    `lane_visible` (L, T) int8, 1 visible and 0 hidden; both are `UNKNOWN` off the lane and where nothing is known.

    A row has the code of the labelled point nearest to it. Raises UserError if a transform has changed the lanes of
    the sample and not their attributes.
    """
    slots, length = on_lane.shape
    kinds, colours = torch.full((slots,), UNKNOWN), torch.full((slots,), UNKNOWN)
    positions = torch.zeros(slots, dtype=torch.int64)
    hidden_by = torch.full((slots, length), UNKNOWN, dtype=torch.int8)
    visible = hidden_by.clone()
    if "attributes" in sample:
        lanes, attributes = sample["lanes"], sample["attributes"]
        _require_matching(lanes, attributes)
        rows_of_slot = np.broadcast_to(rows, on_lane.shape)
        for slot, index in enumerate(lane_of_slot.tolist()):
            if index >= 0:
                one: LabelAttributes = attributes[index]
                kinds[slot], colours[slot] = TYPE_CODES[one.type], COLOUR_CODES[one.colour]
                positions[slot] = one.position or 0
                if one.hidden_by is not None and len(one.hidden_by):
                    codes = _codes_on_rows(lanes[index], one.hidden_by, rows_of_slot[slot])
                    hidden_by[slot] = torch.from_numpy(np.where(on_lane[slot], codes, np.int8(UNKNOWN)))
        visible = torch.where(hidden_by == UNKNOWN, hidden_by, (hidden_by == VISIBLE).to(torch.int8))
    return {
        "lane_type": kinds,
        "lane_colour": colours,
        "lane_position": positions,
        "lane_visible": visible,
        "lane_hidden_by": hidden_by,
    }


def _require_matching(lanes: Sequence[Float64Array], attributes: Sequence[LabelAttributes]) -> None:
    counts = [len(lanes), *(len(points) for points in lanes)]
    known = [one.hidden_by for one in attributes]
    found = [len(attributes), *(n if by is None else len(by) for n, by in zip(counts[1:], known, strict=False))]
    if counts != found:
        raise UserError(
            "sample: `lanes` and `attributes` do not fit; a transform that changes the lanes or their points has to "
            "change `attributes` too, or remove it"
        )


def _codes_on_rows(points: Float64Array, codes: SignedByteArray, rows: Float64Array) -> SignedByteArray:
    """Return for y of `rows` (T,) the code of the nearest of the points (N, 2), y descending, with codes (N,)."""
    middles = (points[1:, 1] + points[:-1, 1]) / 2
    nearest: SignedByteArray = codes[np.searchsorted(-middles, -rows)]
    return nearest
