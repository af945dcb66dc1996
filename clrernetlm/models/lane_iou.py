"""How much two lanes overlap, row by row: the arithmetic that the IoU losses and the IoU costs share.

A lane is drawn as one horizontal segment per row, `2 * half width` long. Coordinates are relative to the image width;
row 0 is the bottom. Sources: LineIoU of CLRNet (arXiv 2203.10350), LaneIoU of CLRerNet (arXiv 2305.08366).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Width and height, in pixels of the original frame, of what the network sees (CULane: rows 270..590 of 1640x590). Only
# the ratio matters: it turns relative steps along x and y into the slope that the road marking has in the frame.
CULANE_CROP = (1640, 320)

EPSILON = 1e-9  # keeps lanes without a common row at IoU 0 instead of 0/0
FAR = 1e4  # a step this long, in frame pixels, comes from a row where the lane does not exist


def rows_inside(xs: Tensor) -> Tensor:
    """(..., R) relative x -> (..., R) bool: rows where the lane is inside the image."""
    return (xs >= 0) & (xs < 1)


def slanted_half_widths(
    xs: Tensor, lane_width: float, crop_size: tuple[int, int] = CULANE_CROP, ignore_missing: bool = False
) -> Tensor:
    """(..., R) relative x -> (..., R) relative half widths of a marking that keeps its width across its own direction.

    The slope is the central difference over two rows; the first and the last row copy their neighbour. With
    `ignore_missing` a row beside a missing one (-1e5) counts as vertical. Source: LaneIoU.
    """
    frame_width, frame_height = crop_size
    dy = 2.0 * frame_height / (xs.shape[-1] - 1)
    dx = (xs[..., 2:] - xs[..., :-2]) * frame_width
    if ignore_missing:
        dx = dx.masked_fill(dx.abs() > FAR, 0.0)
    widths = (dx.square() + dy * dy).sqrt() * (lane_width / dy)
    return torch.cat([widths[..., :1], widths, widths[..., -1:]], dim=-1)


def paired_iou(pred: Tensor, target: Tensor, pred_width: Tensor | float, target_width: Tensor | float) -> Tensor:
    """Two times (..., R) relative x and their half widths -> (...) IoU of pair i of the one with pair i of the other.

    Only rows where the target is inside the image count. Lanes apart give negative values: the gap counts as negative
    overlap, which is what pulls distant predictions closer. Differentiable.
    """
    pred_left, pred_right = pred - pred_width, pred + pred_width
    target_left, target_right = target - target_width, target + target_width
    overlap = torch.minimum(pred_right, target_right) - torch.maximum(pred_left, target_left)
    union = torch.maximum(pred_right, target_right) - torch.minimum(pred_left, target_left)
    inside = rows_inside(target)
    overlap = overlap.masked_fill(~inside, 0.0).sum(-1)
    union = union.masked_fill(~inside, 0.0).sum(-1)
    return overlap / (union + EPSILON)


def pairwise_iou(
    pred: Tensor,
    target: Tensor,
    pred_width: Tensor,
    target_width: Tensor,
    pred_rows: Tensor | None = None,
) -> Tensor:
    """(..., P, R) and (..., G, R) relative x with half widths of the same shapes -> (..., P, G) IoU of every pair.

    Without `pred_rows` the rows where the target is inside the image count, as in `paired_iou`. With `pred_rows`
    (..., P, R), the rows where a prediction exists, rows of only one of the two lanes add that lane's width to the
    union. Per row, overlap and union add up to both widths, so the union needs no (..., G, P, R) minimum and maximum of
    its own. Sums instead of matrix products: reduced-precision products (TF32) would change assignments, and equal
    targets must get equal columns on every device.
    """
    target_rows = rows_inside(target).to(pred.dtype)
    # (..., G, P, R): the long axes last, so that every pass runs over contiguous memory.
    overlap = torch.minimum((pred + pred_width).unsqueeze(-3), (target + target_width).unsqueeze(-2))
    overlap -= torch.maximum((pred - pred_width).unsqueeze(-3), (target - target_width).unsqueeze(-2))
    overlap *= target_rows.unsqueeze(-2)
    widths = (target_rows * target_width).sum(-1).unsqueeze(-1)  # (..., G, 1)
    if pred_rows is None:
        widths = widths + (target_rows.unsqueeze(-2) * pred_width.unsqueeze(-3)).sum(-1)  # (..., G, P)
    else:
        overlap *= pred_rows.to(pred.dtype).unsqueeze(-3)
        widths = widths + (pred_rows * pred_width).sum(-1).unsqueeze(-2)
    overlap = overlap.sum(-1)
    return (overlap / (2 * widths - overlap + EPSILON)).mT
