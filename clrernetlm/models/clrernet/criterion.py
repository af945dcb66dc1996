"""Training loss of CLRerNet: assignment and losses of all stages and images in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clrernetlm.config.schema import AssignerConfig, LossConfig
from clrernetlm.models.clrernet.assigner import DynamicTopkAssigner, Predictions
from clrernetlm.models.clrernet.costs import CLRNetIoUCost, LaneIoUCost
from clrernetlm.models.clrernet.lane_iou import CULANE_CROP_SIZE
from clrernetlm.models.clrernet.losses import CLRNetSegLoss, KorniaFocalLoss, LaneIoULoss
from clrernetlm.models.clrernet.targets import ROWS, VALID, Y0

LengthTarget = Literal["corrected", "official"]


class CLRerNetCriterion(nn.Module):
    """Compute the losses of stages and targets (B, G, 78): scalars `loss_cls, loss_reg_xytl, loss_iou[, loss_seg]`.

    `stages` are dicts of `cls_logits` (B, Np, 2), `anchor_params` (B, Np, 3), `lengths` (B, Np, 1), `xs` (B, Np, 72) in
    relative units. `loss_seg` is computed when `seg_logits` (B, C, H, W) and `masks` (B, H, W) are given and its weight
    is not 0; mask labels beyond the classes, 255 among them, are ignored. The scalars are weighted: the loss is their
    sum. Computed in float32 under any autocast, for float64 predictions in float64; without a device sync.

    The losses of lanes are normalised for every image and stage separately, then averaged: with batches of equal size
    per process the mean that DDP takes of the gradients is exact. The segmentation loss has one divisor for the batch,
    reduced over processes.

    `length_target` (overrides the one of `loss`) is the length for a prediction that starts above or below the start of
    the lane: "corrected" lets it end where the lane ends, "official" has the wrong sign of the published code.
    `empty_image_lanes`: divisor of the focal sum of an image without lanes; 1, as published, gives it the weight of an
    image with one lane, `max_lanes` that of a full one. `crop_size`: size of the network's crop in pixels of the frame,
    in which LaneIoU measures slopes. Source: CLRerNet, arXiv 2305.08366.
    """

    def __init__(
        self,
        loss: LossConfig | None = None,
        assigner: AssignerConfig | None = None,
        image_size: tuple[int, int] = (800, 320),
        max_lanes: int | None = None,
        length_target: LengthTarget | None = None,
        empty_image_lanes: float = 1.0,
        crop_size: tuple[int, int] = CULANE_CROP_SIZE,
    ) -> None:
        super().__init__()
        loss = loss or LossConfig()
        self.settings = replace(loss, length_target=length_target) if length_target else loss
        self.image_size = image_size
        self.empty_image_lanes = empty_image_lanes
        self.assigner = build_assigner(assigner or AssignerConfig(), image_size, crop_size)
        self.focal = KorniaFocalLoss(loss.focal_alpha, loss.focal_gamma, loss.cls_weight)
        self.lane_iou = LaneIoULoss(loss.iou_weight, loss.iou_lane_width, crop_size)
        self.seg = CLRNetSegLoss(
            loss.seg_weight, None if max_lanes is None else max_lanes + 1, loss.seg_background_weight
        )

    def forward(
        self,
        stages: Sequence[Predictions],
        targets: Tensor,
        seg_logits: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> dict[str, Tensor]:
        with torch.autocast(targets.device.type, enabled=False):
            # Stages and images become one axis N = S * B.
            predictions = {name: _at_least_float32(torch.cat([stage[name] for stage in stages])) for name in stages[0]}
            repeated = targets.to(predictions["xs"].dtype).repeat(len(stages), 1, 1)
            losses = self._lane_losses(predictions, repeated)
            if seg_logits is not None and masks is not None and self.settings.seg_weight:
                losses["loss_seg"] = self.seg(_at_least_float32(seg_logits), masks)
        return losses

    def _lane_losses(self, predictions: Predictions, targets: Tensor) -> dict[str, Tensor]:
        """Compute the three losses of lanes from (N, Np, ...) and (N, G, 78), as means over N."""
        matched = self.assigner.assign_batch(predictions, targets)  # (N, Np)
        focal = self.focal(predictions["cls_logits"], (matched >= 0).long()).sum(-1)  # (N,)
        lanes = (targets[..., VALID] == 1).sum(-1)
        divisor = torch.where(lanes > 0, lanes, self.empty_image_lanes)

        # The matched anchors, in a list of fixed length K: every lane has at most max_topk of them.
        slots = min(matched.shape[1], targets.shape[1] * self.assigner.max_topk)
        lane, anchor = matched.float().topk(slots, dim=-1)  # lane is -1 beyond the last match
        pairs = lane >= 0  # (N, K)
        count = pairs.sum(-1).clamp(min=1)
        matched_targets = _gather_rows(targets, lane.long().clamp(min=0)) if slots else targets  # (N, K, 78)
        matched_predictions = {  # (N, K, ...)
            name: _gather_rows(predictions[name], anchor) for name in ("anchor_params", "lengths", "xs")
        }

        def mean_of_matched(losses: Tensor) -> Tensor:
            return (torch.where(pairs, losses, 0.0).sum(-1) / count).mean()

        return {
            "loss_cls": (focal / divisor).mean(),
            "loss_reg_xytl": mean_of_matched(self._xytl_losses(matched_predictions, matched_targets)),
            "loss_iou": mean_of_matched(self._iou_losses(matched_predictions["xs"], matched_targets[..., ROWS:])),
        }

    def _xytl_losses(self, predictions: Predictions, targets: Tensor) -> Tensor:
        """Compute SmoothL1 of start row, start x (px), angle (degrees), length: (N, K, .), (N, K, 78) -> (N, K)."""
        strips = predictions["xs"].shape[-1] - 1

        def in_units(y0: Tensor, x0_px: Tensor, theta: Tensor, length_rows: Tensor) -> Tensor:
            return torch.stack([y0 * strips, x0_px, theta * 180, length_rows], dim=-1)

        y0, x0, theta = predictions["anchor_params"].unbind(-1)
        pred = in_units(y0, x0 * (self.image_size[0] - 1), theta, predictions["lengths"].squeeze(-1) * strips)
        y0, x0, theta, length = targets[..., Y0:ROWS].unbind(-1)
        # Rows count from the top here: a prediction that starts lower has a larger row and more rows to go.
        lower = pred[..., 0].detach().clamp(0, strips).round() - (y0 * strips).round()
        length = length + lower if self.settings.length_target == "corrected" else length - lower
        losses = F.smooth_l1_loss(pred, in_units(y0, x0, theta, length), reduction="none")
        return losses.mean(-1) * self.settings.xytl_weight

    def _iou_losses(self, xs: Tensor, target_xs: Tensor) -> Tensor:
        """Compute LaneIoU losses of (N, K, 72) relative x and (N, K, 72) px -> (N, K), in units of the image width."""
        width = self.image_size[0]
        return self.lane_iou.per_lane(xs * (width - 1) / width, target_xs / width)


def build_assigner(
    config: AssignerConfig, image_size: tuple[int, int], crop_size: tuple[int, int] = CULANE_CROP_SIZE
) -> DynamicTopkAssigner:
    """Build the assigner of a configuration; with `cost_combination` 0 the dynamic k sums LineIoU, as in CLRNet."""
    width = config.dynamick_lane_width
    return DynamicTopkAssigner(
        iou_dynamick=(
            LaneIoUCost(lane_width=width, crop_size=crop_size)
            if config.cost_combination
            else CLRNetIoUCost(lane_width=width)
        ),
        iou_cost=LaneIoUCost(lane_width=config.cost_lane_width, crop_size=crop_size),
        cls_weight=config.cls_weight,
        reg_weight=config.reg_weight,
        min_topk=config.min_topk,
        max_topk=config.max_topk,
        cost_combination=config.cost_combination,
        image_size=image_size,
        assign_unmatched=config.assign_unmatched,
    )


def _gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """Gather the rows `index` of each element, (N, M, C), (N, K) -> (N, K, C)."""
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def _at_least_float32(values: Tensor) -> Tensor:
    """Convert floats to float32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()
