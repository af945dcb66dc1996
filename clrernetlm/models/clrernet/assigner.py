"""Assigns predictions to labelled lanes in training: the dynamic top-k assignment of CLRNet and CLRerNet."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from clrernetlm.models.clrernet.costs import CLRNetIoUCost, DistanceCost, FocalCost, LaneIoUCost
from clrernetlm.models.clrernet.targets import ROWS, THETA, VALID, X0, Y0

Predictions = Mapping[str, Tensor]
WidthScales = tuple[Tensor, Tensor] | None


class DynamicTopkAssigner:
    """Assign to each lane its k cheapest anchors, k from `min_topk` to `max_topk` by its overlap with the predictions.

    k = the summed `iou_dynamick` of the `max_topk` best predictions, at least `min_topk`. `cost_combination` 1 is
    CLRerNet: cost = focal cost - `reg_weight` * scaled LaneIoU (`iou_cost`, rows between predicted start and end). 0 is
    CLRNet: cost = focal cost - `reg_weight` * (distance * start point * angle similarity)^2. An anchor among the
    cheapest of several lanes goes to the lane with the lowest cost, the first of equal ones.

    That can leave a lane without anchors. `assign_unmatched` then gives it its cheapest free anchor.

    `image_size` is the network input (width, height) in pixels, which targets are measured in.
    Source: CLRNet, arXiv 2203.10350; CLRerNet, arXiv 2305.08366; dynamic k from YOLOX, arXiv 2107.08430.
    """

    def __init__(
        self,
        cls_cost: FocalCost | None = None,
        reg_cost: DistanceCost | None = None,
        iou_dynamick: CLRNetIoUCost | None = None,
        iou_cost: CLRNetIoUCost | None = None,
        cls_weight: float = 1.0,
        reg_weight: float = 3.0,
        min_topk: int = 1,
        max_topk: int = 4,
        cost_combination: int = 1,
        image_size: tuple[int, int] = (800, 320),
        assign_unmatched: bool = False,
    ) -> None:
        published_dynamick = LaneIoUCost(lane_width=7.5 / 800) if cost_combination else CLRNetIoUCost()
        self.cls_cost = cls_cost or FocalCost()
        self.reg_cost = reg_cost or DistanceCost()
        self.iou_dynamick = iou_dynamick or published_dynamick
        self.iou_cost = iou_cost or LaneIoUCost(lane_width=30 / 800)
        self.cls_weight, self.reg_weight = cls_weight, reg_weight
        self.min_topk, self.max_topk = min_topk, max_topk
        self.cost_combination = cost_combination
        self.image_size = image_size
        self.assign_unmatched = assign_unmatched

    def assign(self, predictions: Predictions, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Assign the anchors of one image: return anchors and their lanes, both (K,) int64, sorted by anchor.

        `predictions`: `cls_logits` (Np, 2), `anchor_params` (Np, 3), `lengths` (Np, 1), `xs` (Np, 72), relative units;
        a leading batch axis of 1 is accepted. `targets` (G, 78); slots that are not valid are never assigned.
        """
        rank = predictions["xs"].dim()
        batch = predictions if rank == 3 else {name: value[None] for name, value in predictions.items()}
        matched = self.assign_batch(batch, targets if targets.dim() == 3 else targets[None])[0]
        rows = (matched >= 0).nonzero().flatten()
        return rows, matched[rows]

    @torch.no_grad()
    def assign_batch(self, predictions: Predictions, targets: Tensor) -> Tensor:
        """Assign predictions (N, Np, ...) to targets (N, G, 78) -> (N, Np) int64: each anchor's lane, -1 for none.

        N is any stack of images and stages. Runs without a device sync, in shapes that do not depend on the number of
        valid lanes.
        """
        anchors, lanes = predictions["xs"].shape[1], targets.shape[1]
        if lanes == 0:
            return torch.full_like(predictions["xs"][..., 0], -1, dtype=torch.long)
        valid = targets[..., VALID] == 1  # (N, G)
        width_scale = None
        if self.iou_cost.crop_size == self.iou_dynamick.crop_size:
            width_scale = self.iou_cost.width_scale(predictions["xs"], self._relative(targets))
        cost = self.costs(predictions, targets, width_scale).mT  # (N, G, Np)
        cost = cost.masked_fill(~valid.unsqueeze(-1), torch.inf)
        k = self.dynamic_k(self.overlaps(predictions, targets, width_scale).mT) * valid  # (N, G)

        cheapest = cost.topk(min(self.max_topk, anchors), dim=-1, largest=False).indices  # (N, G, max_topk)
        chosen = torch.arange(cheapest.shape[-1], device=cost.device) < k.unsqueeze(-1)
        claims = torch.zeros_like(cost, dtype=torch.bool).scatter_(-1, cheapest, chosen)
        claimants = claims.sum(1)  # (N, Np)
        only_claimant = (claims * torch.arange(lanes, device=cost.device).unsqueeze(-1)).sum(1)
        # The cheapest of all lanes, not only of those that claim the anchor, as in the published assignment.
        matched = torch.where(claimants > 1, cost.min(1).indices, only_claimant)
        matched = matched.masked_fill(claimants == 0, -1)
        return self._rescue(matched, cost, valid) if self.assign_unmatched else matched

    def overlaps(self, predictions: Predictions, targets: Tensor, width_scale: WidthScales = None) -> Tensor:
        """Compute the IoU for `dynamic_k`, (N, Np, ...) and (N, G, 78) -> (N, Np, G)."""
        return self.iou_dynamick(predictions["xs"], self._relative(targets), width_scale=width_scale)

    def dynamic_k(self, overlaps: Tensor) -> Tensor:
        """Compute the number of anchors of each lane from the IoU (N, G, Np) -> (N, G) int64."""
        best = overlaps.clamp(min=0).topk(min(self.max_topk, overlaps.shape[-1]), dim=-1).values
        return best.sum(-1).long().clamp(self.min_topk, self.max_topk)

    def costs(self, predictions: Predictions, targets: Tensor, width_scale: WidthScales = None) -> Tensor:
        """Compute the cost of each pair, (N, Np, ...), (N, G, 78) -> (N, Np, G); columns of invalid lanes are void."""
        valid = (targets[..., VALID] == 1).unsqueeze(-2)  # (N, 1, G)
        cls_cost = self.cls_cost(predictions["cls_logits"]) * self.cls_weight  # (N, Np, 1)
        if self.cost_combination:
            start = (1 - predictions["anchor_params"][..., 0]).clamp(0, 1)
            end = (start + predictions["lengths"][..., 0]).clamp(0, 1)
            iou = self.iou_cost(predictions["xs"], self._relative(targets), start, end, width_scale)
            return cls_cost - _similarity(1 - iou, valid) * self.reg_weight
        similarity = (
            _similarity(self.reg_cost(predictions["xs"], self._relative(targets)), valid)
            * _similarity(self._start_distance(predictions["anchor_params"], targets), valid)
            * _similarity(self._angle_distance(predictions["anchor_params"], targets), valid)
        )
        return cls_cost - similarity.square() * self.reg_weight

    def _relative(self, targets: Tensor) -> Tensor:
        """Convert x of targets to the network's units, (N, G, 78) -> (N, G, 72): 1 is the last column's centre."""
        return targets[..., ROWS:] / (self.image_size[0] - 1)

    def _start_distance(self, params: Tensor, targets: Tensor) -> Tensor:
        """Compute the Euclidean distance of start points in network pixels, (N, Np, 3), (N, G, 78) -> (N, Np, G)."""
        width, height = self.image_size
        dy = (params[..., None, 0] - targets[..., None, :, Y0]) * (height - 1)
        dx = params[..., None, 1] * (width - 1) - targets[..., None, :, X0]
        return (dy.square() + dx.square()).sqrt()

    def _angle_distance(self, params: Tensor, targets: Tensor) -> Tensor:
        """Compute the difference of the angles in degrees, (N, Np, 3), (N, G, 78) -> (N, Np, G)."""
        return (params[..., None, 2] - targets[..., None, :, THETA]).abs() * 180

    def _rescue(self, matched: Tensor, cost: Tensor, valid: Tensor) -> Tensor:
        """Assign its cheapest free anchor to every lane without one, (N, Np), (N, G, Np), (N, G) -> (N, Np)."""
        for lane in range(cost.shape[1]):
            missing = valid[:, lane] & ~(matched == lane).any(-1)  # (N,)
            free = cost[:, lane].masked_fill(matched >= 0, torch.inf).argmin(-1, keepdim=True)  # (N, 1)
            before = matched.gather(1, free)
            takes = missing.unsqueeze(-1) & (before < 0)
            matched = matched.scatter(1, free, torch.where(takes, lane, before))
        return matched


def _similarity(distance: Tensor, valid: Tensor) -> Tensor:
    """Convert distances (N, Np, G), valid (N, 1, G) to similarities: 1.01 at distance 0, 0.01 at the largest."""
    largest = distance.masked_fill(~valid, -torch.inf).amax((-2, -1), keepdim=True)
    return 1 - distance / largest + 0.01
