"""Greedy decoding of lanes, one keypoint at a time, for anything that can compute the next keypoint of every lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor


@dataclass
class LaneDetails:
    """What the fovea reads of lanes besides their x, for B images with L requests each."""

    ends: Tensor  # (B, L, 2) top and bottom end, fractional rows from the top; T is the bottom of the image
    seen: Tensor  # (B, L, T) bool: rows that neither the bonnet nor anything else hides
    type: Tensor  # (B, L) int64, code of the type (`core.lane_attributes.TYPE_CODES`)
    colour: Tensor  # (B, L) int64, code of the colour


@dataclass
class Answers:
    """Decoded lanes, one per request, on T rows."""

    xs: Tensor  # (B, L, T) x in network pixels; 0 where not visible
    visible: Tensor  # (B, L, T) bool: rows the lane is on
    score: Tensor  # (B, L) in [0, 1]: confidence that this lane exists and runs there; 0 for a request that is masked
    details: LaneDetails | None = None  # of models with a fovea

    def split(self, counts: Sequence[int]) -> list[Answers]:
        """Split the requests of every image into groups of the given counts."""
        starts = [sum(counts[:i]) for i in range(len(counts))]
        return [self.select(slice(start, start + count)) for start, count in zip(starts, counts, strict=True)]

    def select(self, requests: slice) -> Answers:
        """Return the answers to some of the requests."""
        details = self.details
        if details is not None:
            details = LaneDetails(*(getattr(details, item.name)[:, requests] for item in fields(LaneDetails)))
        return Answers(self.xs[:, requests], self.visible[:, requests], self.score[:, requests], details)


@dataclass
class Keypoint:
    """The newest keypoint of every lane, (B, L) each."""

    row: Tensor  # int64, in decoding order; any number where the lane has ended
    x: Tensor  # network pixels
    confidence: Tensor  # in [0, 1], that x is right
    exists: Tensor  # bool: False where the lane has ended before


class StepDecoder(Protocol):
    """Computes keypoint after keypoint of L lanes in each of B images."""

    @property
    def first(self) -> Keypoint:
        """Return the first keypoint of every lane; it exists where a lane was requested."""

    @property
    def lane_probability(self) -> Tensor:
        """Return the probability (B, L) that the requested lane exists."""

    def decode_next(self, index: int, last: Keypoint, previous_x: Tensor) -> Keypoint:
        """Compute keypoint `index` + 1 of every lane from keypoint `index`, `last`.

        `previous_x` (B, L): x of the keypoint before that, NaN at index 0. Called with index 0, 1, 2, ...
        """


def decode_greedily(decoder: StepDecoder, num_rows: int, stop_early: bool) -> Answers:
    """Decode up to `num_rows` keypoints of every lane; rows of the result are in decoding order.

    The score of a lane is its probability times the mean confidence of its keypoints. `stop_early` ends the loop when
    all lanes have ended; on a GPU, where reading a value forces a device sync, leave it off.
    """
    keypoint = decoder.first
    keypoints, confidence = [keypoint], keypoint.confidence * keypoint.exists
    previous_x = torch.full_like(keypoint.x, torch.nan)
    for index in range(num_rows - 1):
        if stop_early and not keypoint.exists.any():
            break
        following = decoder.decode_next(index, keypoint, previous_x)
        previous_x = keypoint.x
        keypoint = replace(following, exists=keypoint.exists & following.exists)
        keypoints.append(keypoint)
        confidence = confidence + keypoint.confidence * keypoint.exists
    exists = torch.stack([one.exists for one in keypoints], dim=-1)  # (B, L, keypoints)
    xs = torch.stack([one.x for one in keypoints], dim=-1)
    # Keypoints that do not exist are scattered to an extra row, which is cut off.
    rows = torch.stack([one.row for one in keypoints], dim=-1).masked_fill(~exists, num_rows)
    shape = (*exists.shape[:-1], num_rows + 1)
    score = decoder.lane_probability * decoder.first.exists * confidence / exists.sum(-1).clamp(min=1)
    return Answers(
        xs.new_zeros(shape).scatter_(-1, rows, xs)[..., :-1],
        exists.new_zeros(shape).scatter_(-1, rows, exists)[..., :-1],
        score,
    )
