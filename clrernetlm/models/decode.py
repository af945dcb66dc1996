"""From the last stage's predictions to lanes: score threshold, lane NMS, points in the original frame.

Everything here runs on the host, in NumPy: the predictions of a batch travel there in one transfer, and only the few
dozen above the threshold are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clrernetlm.config.schema import DecodeConfig
from clrernetlm.geometry import FrameSize, Viewport, one_per_frame
from clrernetlm.lane import Lane, Points

Floats = NDArray[np.float32]
Crop = tuple[float, float, float, float]  # left, top, right, bottom of what the network saw, fractions of the frame

CULANE_CROP: Crop = (0.0, 270 / 590, 1.0, 1.0)


def decode_lanes(
    stage: Mapping[str, Tensor],
    config: DecodeConfig,
    viewport: Viewport | Sequence[Viewport],
    frame_sizes: Sequence[FrameSize],
    max_lanes: int = 4,
) -> list[list[Lane]]:
    """Last stage of a batch -> per image at most `max_lanes` lanes in pixels of its own frame, best first.

    `stage`: `cls_logits` (B, Np, 2), `anchor_params` (B, Np, 3), `lengths` (B, Np, 1), `xs` (B, Np, 72), all relative.
    `frame_sizes`: (width, height) of the B original frames; `viewport`: what was seen of them, one for all or one for
    each. A prediction with a value that is not finite is no lane.
    The `max_lanes` places go to predictions, as published: one that has no points after all leaves its place empty.
    """
    scores = stage["cls_logits"].detach().float().softmax(-1)[..., 1:]
    geometry = [stage[name].detach().float() for name in ("anchor_params", "lengths", "xs")]
    packed = torch.cat([scores, *geometry], dim=-1).cpu().numpy()  # (B, Np, 77), the one transfer
    candidates = (packed[..., 0] >= config.conf_threshold) & np.isfinite(packed).all(-1)
    images = []
    views = one_per_frame(viewport, len(frame_sizes))
    for values, chosen, view, frame in zip(packed, candidates, views, frame_sizes, strict=True):
        score, params, length, xs = np.split(values[chosen], [1, 4, 5], axis=1)
        strips = xs.shape[1] - 1
        length_rows = length[:, 0] * np.float32(strips)
        start_rows = (1 - params[:, 0]) * np.float32(strips)
        xs_px = xs * np.float32(view.width - 1)
        kept = lane_nms(xs_px, start_rows, length_rows, score[:, 0], config.nms_threshold, max_lanes)
        left, top, right, bottom = view.crop_box(frame)
        crop = (left / frame[0], top / frame[1], right / frame[0], bottom / frame[1])
        found = lanes_from_predictions(params[kept], length_rows[kept], xs[kept], crop, config.extend_bottom)
        images.append(
            [
                Lane(points[::-1] * np.array(frame, np.float64), float(value))
                for points, value in zip(found, score[kept, 0], strict=True)
                if points is not None
            ]
        )
    return images


def lane_nms(
    xs_px: Any, start_rows: Any, length_rows: Any, scores: Any, threshold: float = 50.0, top_k: int = 4
) -> NDArray[np.int64]:
    """x in pixels (N, 72), first row and length in rows (N,), scores (N,) -> indices of the lanes kept, best first.

    Row 0 is the bottom. A kept lane suppresses a worse one when their mean distance over the rows both have is below
    `threshold` pixels; lanes without a common row never do. At most `top_k` are kept; equal scores keep their order.
    Arrays or tensors; sums run in float32, row by row, as the published CUDA kernel's do, so that both decide alike. A
    start below the bottom row counts as the bottom row. Source: Line-CNN NMS as in LaneATT, arXiv 2010.12035.
    """
    xs, start_rows, length_rows, scores = (_float32(a) for a in (xs_px, start_rows, length_rows, scores))
    last_row = xs.shape[-1] - 1
    start, end = _row_span(start_rows, length_rows, last_row)
    rows = np.arange(last_row + 1)
    left = np.argsort(-scores, kind="stable")  # lanes not yet kept or suppressed, best first
    kept: list[int] = []
    while len(left) and len(kept) < top_k:
        best, left = left[0], left[1:]
        kept.append(int(best))
        first, last = np.maximum(start[left], start[best]), np.minimum(end[left], end[best])
        common = (rows >= first[:, None]) & (rows <= last[:, None])
        distance = np.where(common, np.abs(xs[left] - xs[best]), np.float32(0))
        total = np.cumsum(distance, axis=1, dtype=np.float32)[:, -1]  # in row order, as a loop would
        near = total < np.float32(threshold) * (last - first + 1).astype(np.float32)
        left = left[~(near & (last >= first))]
    return np.array(kept, np.int64)


def lanes_from_predictions(
    params: Any,
    length_rows: Any,
    xs: Any,
    crop: Crop = CULANE_CROP,
    extend_bottom: bool = True,
) -> list[Points | None]:
    """Start point and angle (n, 3), lengths in rows (n,), relative x (n, 72) -> per lane (P, 2) x, y, y ascending.

    x and y are float64 fractions of the original frame, of which the network saw `crop`. With `extend_bottom` a lane
    runs on below its start as long as it stays inside the image. None where a prediction is no lane: a negative length,
    or fewer than two points.
    """
    params, length_rows, xs = _float32(params), _float32(length_rows), _float32(xs)
    count = xs.shape[1]
    shown = shown_rows(params, length_rows, xs, extend_bottom)
    left, top, right, bottom = crop
    y = torch.linspace(1, 0, count).double().numpy() * (bottom - top) + top
    points = np.stack([xs.astype(np.float64) * (right - left) + left, np.broadcast_to(y, xs.shape)], axis=-1)
    return [lane[rows][::-1] if rows.sum() > 1 else None for lane, rows in zip(points, shown, strict=True)]


def shown_rows(params: Floats, length_rows: Floats, xs: Floats, extend_bottom: bool = True) -> NDArray[np.bool_]:
    """Arguments as in `lanes_from_predictions` -> (n, 72) bool, bottom row first: the rows a prediction is drawn on."""
    n, count = xs.shape
    strips = count - 1
    start = np.clip(np.rint((1 - params[:, 0]) * np.float32(strips)), 0, strips).astype(np.int64)
    end = np.clip(start + np.rint(length_rows), -1, count)  # the row after the last one
    rows = np.arange(count)
    shown = (rows >= start[:, None]) & (rows < end[:, None])
    if extend_bottom:
        # A row below the start belongs to the lane when it and every row between are inside the image.
        leaves = (rows < start[:, None]) & ~((xs >= 0) & (xs <= 1))
        shown |= (rows < start[:, None]) & ~np.logical_or.accumulate(leaves[:, ::-1], axis=1)[:, ::-1]
    return shown & (length_rows.reshape(n, 1) >= 0)


def prediction_points(lane: Lane, frame_size: FrameSize, step: float = 2.0) -> Points:
    """Lane -> (n, 2) x, y in pixels of the frame (width, height) at rows 0, step, 2 step, ..., bottom first.

    What a `.lines.txt` of predictions holds: interpolated along the lane, up to a hundredth of the frame's height
    beyond its ends, where x is inside the frame.
    """
    width, height = frame_size
    y = np.arange(0, height, step, dtype=np.float64)
    x = lane.x_at(y, margin=0.01 * height)
    inside = (x >= 0) & (x < width)
    return np.column_stack([x[inside], y[inside]])[::-1]


def _row_span(start_rows: Floats, length_rows: Floats, last_row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) starts and lengths in rows -> (N,) first and last row, both included; last < first is an empty lane.

    The published kernel rounds by adding a half and casting to int, which cuts towards zero. NaN is an empty lane.
    """
    start = np.trunc(start_rows.astype(np.float64) + 0.5)
    length = length_rows.astype(np.float64)
    end = np.trunc(start + length - 0.5 - (length < 1))
    first, last = np.clip(start, 0, last_row + 1), np.clip(end, -1, last_row)
    return np.nan_to_num(first).astype(np.int64), np.nan_to_num(last, nan=-1).astype(np.int64)


def _float32(values: Any) -> Floats:
    """A tensor on any device, or anything array-like -> float32 array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float32)
