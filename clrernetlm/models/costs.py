"""What it costs to match a prediction with a lane: matrices over every pair, (..., P predictions, G lanes)."""

from __future__ import annotations

import torch
from torch import Tensor

from clrernetlm.models.lane_iou import CULANE_CROP, EPSILON, pairwise_iou, rows_inside, slanted_half_widths


def rows_between(start: Tensor, end: Tensor, rows: int) -> Tensor:
    """(...) relative start and end, 0 = bottom -> (..., rows) bool: the rows floor(start), ..., floor(end) - 1."""
    row = torch.arange(rows, device=start.device)
    strips = rows - 1
    return (row >= (start * strips).floor().unsqueeze(-1)) & (row < (end * strips).floor().unsqueeze(-1))


class CLRNetIoUCost:
    """(..., P, R) predicted, (..., G, R) target x, relative to the image width -> (..., P, G) LineIoU times `weight`.

    Higher is better. With `start` and `end` (..., P), relative heights from the bottom, a prediction exists only
    between them and inside the image, and rows of one lane alone enlarge the union; without, only the target's rows
    count. `lane_width` is the half width of a lane, relative. Source: CLRNet, arXiv 2203.10350.
    """

    def __init__(self, weight: float = 1.0, lane_width: float = 15 / 800) -> None:
        self.weight, self.lane_width = weight, lane_width

    def half_widths(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Relative half widths, shaped as `pred` and `target`."""
        return torch.full_like(pred, self.lane_width), torch.full_like(target, self.lane_width)

    def __call__(self, pred: Tensor, target: Tensor, start: Tensor | None = None, end: Tensor | None = None) -> Tensor:
        pred_rows = None
        if start is not None and end is not None:
            pred_rows = rows_inside(pred) & rows_between(start, end, pred.shape[-1])
        return pairwise_iou(pred, target, *self.half_widths(pred, target), pred_rows) * self.weight


class LaneIoUCost(CLRNetIoUCost):
    """As `CLRNetIoUCost`, with half widths that grow with the slope of each lane. CLRerNet, arXiv 2305.08366."""

    def __init__(
        self,
        weight: float = 1.0,
        lane_width: float = 7.5 / 800,
        crop_size: tuple[int, int] = CULANE_CROP,
    ) -> None:
        super().__init__(weight, lane_width)
        self.crop_size = crop_size

    def half_widths(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return (
            slanted_half_widths(pred, self.lane_width, self.crop_size),
            slanted_half_widths(target, self.lane_width, self.crop_size, ignore_missing=True),
        )


class FocalCost:
    """(..., P, C) logits and (..., G) class labels -> (..., P, G) focal cost: what calling it that class would change.

    The loss of a positive minus the loss of a negative, on the sigmoid of each logit; lower is better. Labels None
    means one column of class 1, "a lane". Source: the matching cost of Deformable DETR, arXiv 2010.04159.
    """

    def __init__(self, weight: float = 1.0, alpha: float = 0.25, gamma: float = 2.0, eps: float = 1e-12) -> None:
        self.weight, self.alpha, self.gamma, self.eps = weight, alpha, gamma, eps

    def __call__(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is None:
            logits = logits[..., 1:2]
        p = logits.sigmoid()
        negative = -(1 - p + self.eps).log() * (1 - self.alpha) * p.pow(self.gamma)
        positive = -(p + self.eps).log() * self.alpha * (1 - p).pow(self.gamma)
        cost = (positive - negative) * self.weight
        if labels is None:
            return cost
        columns = labels.unsqueeze(-2).expand(*cost.shape[:-1], labels.shape[-1])
        return cost.gather(-1, columns)


class DistanceCost:
    """(..., P, R) predicted, (..., G, R) target x -> (..., P, G) mean distance over the target's rows, in that unit.

    A target without a row inside [0, 1) costs 0. Source: CLRNet, arXiv 2203.10350.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        rows = rows_inside(target).to(pred.dtype)
        distance = (pred.unsqueeze(-3) - target.unsqueeze(-2)).abs_()  # (..., G, P, R)
        distance *= rows.unsqueeze(-2)
        return (distance.sum(-1) / (rows.sum(-1, keepdim=True) + EPSILON)).mT * self.weight
