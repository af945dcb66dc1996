"""Computes the IoU of two lanes row by row, for the IoU losses and the IoU costs.

A lane is drawn as one horizontal segment per row, `2 * half width` long. Coordinates are relative to the image width;
row 0 is the bottom. Sources: LineIoU of CLRNet (arXiv 2203.10350), LaneIoU of CLRerNet (arXiv 2305.08366).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Width and height of the network's crop in pixels of the original frame (CULane: rows 270..590 of 1640x590). Only the
# ratio matters: it converts relative steps along x and y to the slope that the road marking has in the frame.
CULANE_CROP_SIZE = (1640, 320)

EPSILON = 1e-9  # makes the IoU of lanes without a common row 0 instead of 0/0
CPU_SLICE = 1 << 18  # pairs x rows processed at a time: 2 MB, which fits the cache
MAX_STEP = 1e4  # frame pixels; a longer step along x comes from a row on which the lane does not exist


def rows_inside(xs: Tensor) -> Tensor:
    """Find the rows on which a lane, (..., R) relative x, is inside the image -> (..., R) bool."""
    return (xs >= 0) & (xs < 1)


@torch.no_grad()
def width_scale(xs: Tensor, crop_size: tuple[int, int] = CULANE_CROP_SIZE, ignore_missing: bool = False) -> Tensor:
    """Compute the ratio of a lane's horizontal cut to its width, 1 / cos of its slope: (..., R) relative x -> (..., R).

    The slope is the central difference over two rows; the first and the last row copy their neighbour's. With
    `ignore_missing` a row beside a missing one (-1e5) counts as vertical. No gradients. Source: LaneIoU.
    """
    frame_width, frame_height = crop_size
    dy = 2.0 * frame_height / (xs.shape[-1] - 1)
    dx = torch.zeros_like(xs)
    dx[..., 1:-1] = xs[..., 2:]
    dx[..., 1:-1] -= xs[..., :-2]
    dx *= frame_width
    if ignore_missing:
        dx.masked_fill_(dx.abs() > MAX_STEP, 0.0)
    scale = dx.square_().add_(dy * dy).sqrt_().mul_(1 / dy)
    scale[..., 0], scale[..., -1] = scale[..., 1], scale[..., -2]
    return scale


def paired_iou(pred: Tensor, target: Tensor, pred_width: Tensor | float, target_width: Tensor | float) -> Tensor:
    """Compute the IoU of lanes pair by pair: predicted and target relative x (..., R), their half widths -> (...).

    Only rows on which the target is inside the image count. The gap between lanes counts as negative overlap, which
    gives distant predictions a gradient towards the target. Differentiable.
    """
    pred_left, pred_right = pred - pred_width, pred + pred_width
    target_left, target_right = target - target_width, target + target_width
    overlap = torch.minimum(pred_right, target_right) - torch.maximum(pred_left, target_left)
    union = torch.maximum(pred_right, target_right) - torch.minimum(pred_left, target_left)
    inside = rows_inside(target)
    overlap = overlap.masked_fill(~inside, 0.0).sum(-1)
    union = union.masked_fill(~inside, 0.0).sum(-1)
    return overlap / (union + EPSILON)


@torch.no_grad()
def pairwise_iou(
    pred: Tensor,
    target: Tensor,
    pred_width_scale: Tensor,
    target_width_scale: Tensor,
    lane_width: float,
    start: Tensor | None = None,
    end: Tensor | None = None,
) -> Tensor:
    """Compute the IoU of every pair: relative x (N, P, R) and (N, G, R), width scales in these shapes -> (N, P, G).

    Without `start` and `end` the rows on which the target is inside the image count, as in `paired_iou`. With them,
    (N, P) relative heights, a prediction exists on the rows floor(start), ..., floor(end) - 1 whose x is inside the
    image, and rows of only one of the two lanes add that lane's width to the union. `lane_width` is the half width of a
    vertical lane. No gradients.

    Per row, overlap and union add up to both widths, so the union needs no (N, G, P, R) minimum and maximum of its own.
    Sums instead of matrix products, because reduced-precision products (TF32) would change assignments, and equal
    targets must have equal columns on every device.
    """
    n, lanes = target.shape[:2]
    target_rows = rows_inside(target).to(pred.dtype)
    target_width = target_width_scale * lane_width
    exists = None if start is None or end is None else _RowSpans(start, end, pred)
    # (N, G, P, R): the long axes last, so that every pass runs over contiguous memory. On CPUs in slices of N that fit
    # the cache, with two buffers for all slices; on other devices in one slice.
    step = max(1, CPU_SLICE // max(1, lanes * pred[:1].numel())) if pred.device.type == "cpu" else max(1, n)
    buffers = pred.new_empty(2, min(step, n), lanes, *pred.shape[1:]).unbind()
    overlaps, widths = [], []
    for first, (xs, scale, target_right, target_left, valid) in enumerate(
        zip(
            pred.unsqueeze(1).split(step),
            pred_width_scale.unsqueeze(1).split(step),
            (target + target_width).unsqueeze(2).split(step),
            (target - target_width).unsqueeze(2).split(step),
            target_rows.unsqueeze(2).split(step),
            strict=True,
        )
    ):
        overlap, other = (buffer[: len(xs)] for buffer in buffers)
        width = scale * lane_width
        torch.minimum(xs + width, target_right, out=overlap)
        overlap -= torch.maximum(xs - width, target_left, out=other)
        overlap *= valid
        if exists is None:
            widths.append(torch.mul(width, valid, out=other).sum(-1))
        else:
            rows = exists.of_slice(xs, first * step)
            overlap *= rows
            widths.append((width * rows).sum(-1).expand(-1, lanes, -1))
        overlaps.append(overlap.sum(-1))
    total = torch.cat(overlaps)  # (N, G, P)
    both = torch.cat(widths) + (target_rows * target_width).sum(-1, keepdim=True)
    return (total / (2 * both - total + EPSILON)).mT


class _RowSpans:
    """The rows on which predictions exist, given the relative heights (N, P) of their starts and ends."""

    def __init__(self, start: Tensor, end: Tensor, xs: Tensor) -> None:
        strips = xs.shape[-1] - 1
        # NaN, of diverged weights, would become a row far outside; the IoU is NaN anyway.
        self.first = (start * strips).floor().nan_to_num(0).long()
        self.end = torch.maximum((end * strips).floor().nan_to_num(0).long(), self.first)
        # Row k of the table is 1 for the rows below row k: lookups are faster than comparisons of rows with heights.
        self.below = torch.ones(strips + 2, strips + 1, dtype=xs.dtype, device=xs.device).tril_(-1)

    def of_slice(self, xs: Tensor, offset: int) -> Tensor:
        """Compute for n elements from `offset` on, relative x (n, 1, P, R), 1 on existing rows and 0 elsewhere."""
        part = slice(offset, offset + len(xs))
        rows = self.below.index_select(0, self.end[part].flatten())
        rows = rows.sub_(self.below.index_select(0, self.first[part].flatten())).view(xs.shape)
        # The floor is 0 exactly for x in [0, 1); comparing floats would be several times slower on CPUs.
        outside = xs.floor().abs_().clamp_(max=1)
        return rows.addcmul_(rows, outside, value=-1)
