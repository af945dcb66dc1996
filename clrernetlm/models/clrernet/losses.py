"""Losses of CLRerNet and CLRNet for matched predictions and lanes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clrernetlm.core.errors import UserError
from clrernetlm.distributed.reduce import mean_over_processes
from clrernetlm.models.clrernet.lane_iou import CULANE_CROP_SIZE, paired_iou, width_scale
from clrernetlm.models.clrernet.targets import IGNORED_LABEL


class KorniaFocalLoss(nn.Module):
    """Compute the focal loss of logits (..., C) and class indices (...) -> (...), summed over the classes.

    `-alpha * (1 - p)^gamma * log p` on the softmax, as kornia computes it: 1e-6 is added to the probabilities and to
    the one-hot target, in the precision of the logits (float32 at least). Source: focal loss, arXiv 1708.02002.
    """

    def __init__(self, alpha: float = 0.5, gamma: float = 2.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.gamma, self.loss_weight = alpha, gamma, loss_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        probability = logits.softmax(-1) + 1e-6
        one_hot = target.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)
        # A bool plus 1e-6 would be float32 for float64 logits, too.
        one_hot = one_hot.to(torch.promote_types(logits.dtype, torch.float32))
        # |1 - p|, because with the added 1e-6 p can exceed 1, where a fractional gamma would give NaN.
        focal = -self.alpha * (1 - probability).abs().pow(self.gamma) * probability.log()
        return ((one_hot + 1e-6) * focal).sum(-1) * self.loss_weight


class CLRNetIoULoss(nn.Module):
    """Compute the mean of `1 - LineIoU`, times the weight, of predicted and target x (..., 72) -> scalar.

    x and `lane_width`, the half width of a lane, are relative to the image width. Rows on which the target is outside
    [0, 1) are left out. Without any lane the loss is 0 with a gradient graph. Source: CLRNet, arXiv 2203.10350.
    """

    def __init__(self, loss_weight: float = 1.0, lane_width: float = 15 / 800) -> None:
        super().__init__()
        self.loss_weight, self.lane_width = loss_weight, lane_width

    def iou(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the IoU of each pair, in (-1, 1]: (..., 72), (..., 72) -> (...)."""
        return paired_iou(pred, target, self.lane_width, self.lane_width)

    def per_lane(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the weighted loss of each pair, (..., 72), (..., 72) -> (...)."""
        return (1 - self.iou(pred, target)) * self.loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        losses = self.per_lane(pred, target)
        return losses.mean() if losses.numel() else losses.sum()


class LaneIoULoss(CLRNetIoULoss):
    """Compute `CLRNetIoULoss` with half widths that grow with each lane's slope, so that slanted lanes count fully.

    The prediction's width carries no gradient. `crop_size` is the size of the network's crop in pixels of the frame, in
    which the slope is measured. Source: CLRerNet, arXiv 2305.08366.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        lane_width: float = 7.5 / 800,
        crop_size: tuple[int, int] = CULANE_CROP_SIZE,
    ) -> None:
        super().__init__(loss_weight, lane_width)
        self.crop_size = crop_size

    def iou(self, pred: Tensor, target: Tensor) -> Tensor:
        pred_width = width_scale(pred, self.crop_size) * self.lane_width
        target_width = width_scale(target, self.crop_size, ignore_missing=True) * self.lane_width
        return paired_iou(pred, target, pred_width, target_width)


class CLRNetSegLoss(nn.Module):
    """Compute the cross-entropy of logits (B, C, H, W) and labels (B, H, W) -> scalar, averaged with the class weights.

    The weight of class 0, the background, is `bg_weight`, that of the others 1. Pixels with the label `ignore_label`,
    or one that is no class, are ignored; if none is left, the loss is 0. In a distributed training the divisor is
    averaged over all processes, so that the mean of the losses is the loss of the whole batch. Raises UserError unless
    the logits have `num_classes` channels (None: any number).
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        num_classes: int | None = None,
        bg_weight: float = 0.4,
        ignore_label: int = IGNORED_LABEL,
    ) -> None:
        super().__init__()
        self.loss_weight, self.num_classes = loss_weight, num_classes
        self.bg_weight, self.ignore_label = bg_weight, ignore_label

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        classes = logits.shape[1]
        if self.num_classes not in (None, classes):
            raise UserError(
                f"segmentation: {classes} channels where the loss expects {self.num_classes} classes; "
                "set max_lanes to the number of lanes in the masks"
            )
        labels = labels.long()
        counts = (labels != self.ignore_label) & (labels >= 0) & (labels < classes)
        weight = torch.ones(classes, dtype=logits.dtype, device=logits.device)
        weight[0] = self.bg_weight
        total = F.cross_entropy(
            logits, labels.masked_fill(~counts, -1), weight=weight, ignore_index=-1, reduction="sum"
        )
        # Sum of the weights of the pixels that count: their number, less 1 - bg_weight for every background pixel.
        norm = mean_over_processes(counts.sum() - (1 - self.bg_weight) * (counts & (labels == 0)).sum())
        return self.loss_weight * total / norm.clamp(min=torch.finfo(logits.dtype).tiny)
