"""Computes matching costs of predictions and lanes: matrices over all pairs, (..., P predictions, G lanes)."""

from __future__ import annotations

import torch
from torch import Tensor

from clrernetlm.models.clrernet.lane_iou import CULANE_CROP_SIZE, EPSILON, pairwise_iou, rows_inside, width_scale


class CLRNetIoUCost:
    """Compute LineIoU times `weight` of predicted (..., P, R) and target (..., G, R) x, in image widths -> (..., P, G).

    Higher is better; at most one leading axis. With `start` and `end` (..., P), relative heights from the bottom, a
    prediction exists only between them and inside the image, and rows of one lane alone enlarge the union; without,
    only the target's rows count. `lane_width` is the half width of a lane, relative. `width_scale`, the result of
    the method of that name, saves computing it again for a second cost. Source: CLRNet, arXiv 2203.10350.
    """

    crop_size: tuple[int, int] | None = None  # None: all lanes have the width of vertical ones

    def __init__(self, weight: float = 1.0, lane_width: float = 15 / 800) -> None:
        self.weight, self.lane_width = weight, lane_width

    def width_scale(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the factor by which a lane's slope widens each of its rows, in the shapes of `pred` and `target`."""
        if self.crop_size is None:
            return torch.ones_like(pred), torch.ones_like(target)
        return width_scale(pred, self.crop_size), width_scale(target, self.crop_size, ignore_missing=True)

    def __call__(
        self,
        pred: Tensor,
        target: Tensor,
        start: Tensor | None = None,
        end: Tensor | None = None,
        width_scale: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        if pred.dim() == 2:  # one image
            start, end = (None if value is None else value[None] for value in (start, end))
            return self(pred[None], target[None], start, end)[0]
        pred_width_scale, target_width_scale = width_scale or self.width_scale(pred, target)
        return (
            pairwise_iou(pred, target, pred_width_scale, target_width_scale, self.lane_width, start, end) * self.weight
        )


class LaneIoUCost(CLRNetIoUCost):
    """Compute LaneIoU: as `CLRNetIoUCost`, with lanes that are wider the more they slant, as markings in an image are.

    `crop_size` is the size of the network's crop in pixels of the frame, in which the slope is measured. Source:
    CLRerNet, arXiv 2305.08366.
    """

    def __init__(
        self,
        weight: float = 1.0,
        lane_width: float = 7.5 / 800,
        crop_size: tuple[int, int] = CULANE_CROP_SIZE,
    ) -> None:
        super().__init__(weight, lane_width)
        self.crop_size = crop_size


class FocalCost:
    """Compute the focal cost of logits (..., P, C) and class labels (..., G) -> (..., P, G).

    The loss as a positive minus the loss as a negative, on the sigmoid of each logit; lower is better. Labels None
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
    """Compute the mean distance of predicted (..., P, R) and target (..., G, R) x on target rows -> (..., P, G).

    In the unit of x. A target without a row inside [0, 1) costs 0. Source: CLRNet, arXiv 2203.10350.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        rows = rows_inside(target).to(pred.dtype)
        distance = (pred.unsqueeze(-3) - target.unsqueeze(-2)).abs_()  # (..., G, P, R)
        distance *= rows.unsqueeze(-2)
        return (distance.sum(-1) / (rows.sum(-1, keepdim=True) + EPSILON)).mT * self.weight
