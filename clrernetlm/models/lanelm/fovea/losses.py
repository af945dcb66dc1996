"""Losses of the fovea: offsets, ends, visibility, existence and words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clrernetlm.core.lane_attributes import UNKNOWN
from clrernetlm.models.lanelm.fovea.network import OFFSETS, FoveaOutput
from clrernetlm.models.lanelm.losses import masked_means, spread_cross_entropy

DISTANCE_WEIGHT, SPREAD_WEIGHT, ROW_WEIGHT, SEEN_WEIGHT, LANE_WEIGHT, WORD_WEIGHT = 5.0, 0.2, 0.5, 0.1, 0.3, 0.2


@dataclass
class FoveaTargets:
    """Truth of N lanes on T rows; `UNKNOWN` where nothing is known."""

    offset: Tensor  # (N, T) of the lane from the reference, in reaches; NaN off the lane
    on_lane: Tensor  # (N, 2 T) bool
    seen: Tensor  # (N, T) 1 seen, 0 hidden, UNKNOWN
    lane: Tensor  # (N,) bool: there is such a lane
    type: Tensor  # (N,) codes of types
    colour: Tensor  # (N,) codes of colours
    usable: Tensor  # (N,) bool: the request exists


def fovea_losses(output: FoveaOutput, targets: FoveaTargets) -> dict[str, Tensor]:
    """Compute the weighted losses, a mean each; rows whose lane lies beyond the patch have no offset to learn."""
    lane = (targets.usable & targets.lane)[:, None]
    offset = targets.offset.nan_to_num(0.0)
    inside = targets.offset.isfinite() & (offset.abs() < 1) & lane
    position = (offset.clamp(-1, 1) + 1) * ((OFFSETS - 1) / 2)
    bin_loss = spread_cross_entropy(output.offset, position, 1.0)
    mean = output.mean_offset()
    distance = F.smooth_l1_loss(mean, offset, beta=0.02, reduction="none")
    spread = output.spread.clamp(-6, 2)
    spread_loss = (mean.detach() - offset).abs() * torch.exp(-spread) + spread

    def binary(logits: Tensor, truth: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")

    def words(logits: Tensor, truth: Tensor) -> Tensor:
        return F.cross_entropy(logits, truth.clamp(min=0), reduction="none")

    values = [
        bin_loss,
        distance,
        spread_loss,
        binary(output.on_lane, targets.on_lane),
        binary(output.seen, targets.seen > 0),
        binary(output.lane, targets.lane),
        words(output.type, targets.type),
        words(output.colour, targets.colour),
    ]
    masks = [
        inside,
        inside,
        inside,
        lane.expand_as(output.on_lane),
        (targets.seen != UNKNOWN) & lane,
        targets.usable,
        lane[:, 0] & (targets.type != UNKNOWN),
        lane[:, 0] & (targets.colour != UNKNOWN),
    ]
    bins, distance, spread, row, seen, existence, kind, colour = masked_means(values, masks)
    return {
        "loss_offset": bins + DISTANCE_WEIGHT * distance,
        "loss_spread": SPREAD_WEIGHT * spread,
        "loss_rows": ROW_WEIGHT * row + SEEN_WEIGHT * seen,
        "loss_lane": LANE_WEIGHT * existence,
        "loss_words": WORD_WEIGHT * (kind + colour),
    }
