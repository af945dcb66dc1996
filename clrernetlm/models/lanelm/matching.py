"""Which question is about which lane."""

from __future__ import annotations

import torch
from torch import Tensor

from clrernetlm.models.clrernet.lane_iou import width_scale
from clrernetlm.models.clrernet.targets import EMPTY

HALF_WIDTH = 30 / 800  # of the wide LaneIoU that matches questions to lanes, fraction of the image width


def lane_iou(xs: Tensor, shown: Tensor, other_xs: Tensor, other_shown: Tensor) -> Tensor:
    """Relative x (B, P, T) and (B, G, T) with the rows they are shown on -> (B, P, G) LaneIoU.

    Rows that only one of the lanes has add that lane's width to the union. Slopes are measured in CULane's proportions,
    whatever the viewport. Source: CLRerNet, arXiv 2305.08366.
    """

    def half_widths(x: Tensor, rows: Tensor) -> Tensor:
        return HALF_WIDTH * width_scale(torch.where(rows, x, EMPTY), ignore_missing=True) * rows

    widths, other_widths = half_widths(xs, shown)[:, :, None], half_widths(other_xs, other_shown)[:, None]
    both = shown[:, :, None] & other_shown[:, None]
    reach = widths + other_widths - (xs[:, :, None] - other_xs[:, None]).abs()
    overlap = torch.where(both, torch.minimum(reach, 2 * torch.minimum(widths, other_widths)).clamp(min=0), 0.0).sum(-1)
    return overlap / (2 * (widths + other_widths).sum(-1) - overlap).clamp(min=1e-9)


def match_one_to_one(iou: Tensor, threshold: float) -> Tensor:
    """(B, P, G) -> (B, P) int64 index of the matched lane, -1 without one: the best pair first, then the next best."""
    iou = iou.clone()
    batch, questions, lanes = iou.shape
    matched = torch.full((batch, questions), -1, dtype=torch.int64, device=iou.device)
    if not questions or not lanes:
        return matched
    images = torch.arange(batch, device=iou.device)
    for _ in range(min(questions, lanes)):
        value, index = iou.flatten(1).max(-1)
        question, lane = index // lanes, index % lanes
        good = value >= threshold
        matched[images, question] = torch.where(good, lane, matched[images, question])
        iou[images, question] = torch.where(good[:, None], -1.0, iou[images, question])
        iou[images, :, lane] = torch.where(good[:, None], -1.0, iou[images, :, lane])
    return matched
