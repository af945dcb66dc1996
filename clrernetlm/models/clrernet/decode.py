"""From the last stage's predictions to lanes: score threshold, lane NMS, points in the original frame.

Everything here runs on the host, in NumPy: the predictions of a batch travel there in one transfer, and only the few
dozen above the threshold are looked at, those of all images at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clrernetlm.config.schema import DecodeConfig
from clrernetlm.core.lane import Lane, Points
from clrernetlm.core.viewport import FrameSize, Viewport, one_per_frame

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
    views = one_per_frame(viewport, len(frame_sizes))
    found = candidates(stage, config.conf_threshold)
    assert found.images == len(views), f"{found.images} images, {len(views)} frames"
    widths = np.array([view.width - 1 for view in views], np.float32)[found.image]
    kept = lane_nms(
        found.xs * widths[:, None],
        found.start_rows,
        found.length_rows,
        found.scores,
        config.nms_threshold,
        max_lanes,
        found.image,
    )
    frames = np.array(frame_sizes, np.float64).reshape(-1, 2)  # (B, 2) width, height
    boxes = np.array([view.crop_box(frame) for view, frame in zip(views, frame_sizes, strict=True)]).reshape(-1, 4)
    image = found.image[kept]
    crops = (boxes / np.tile(frames, 2))[image]
    points = lanes_from_predictions(
        found.params[kept], found.length_rows[kept], found.xs[kept], crops, config.extend_bottom
    )
    lanes: list[list[Lane]] = [[] for _ in views]
    for i, lane, score in zip(image, points, found.scores[kept].tolist(), strict=True):
        if lane is not None:
            lanes[i].append(Lane(lane[::-1] * frames[i], score))
    return lanes


@dataclass
class Candidates:
    """The M predictions of a batch that may be lanes, image by image; rows from the bottom, xs relative."""

    images: int  # of the batch
    image: NDArray[np.int64]  # (M,) where each one is from, ascending
    scores: Floats  # (M,)
    params: Floats  # (M, 3) y0, x0, theta
    start_rows: Floats  # (M,)
    length_rows: Floats  # (M,)
    xs: Floats  # (M, R)


def candidates(stage: Mapping[str, Tensor], threshold: float) -> Candidates:
    """Last stage of a batch -> its predictions of confidence `threshold` or more, without those that are not finite."""
    parts = [stage[name].detach().float() for name in ("cls_logits", "anchor_params", "lengths", "xs")]
    packed = torch.cat(parts, dim=-1).cpu().numpy()  # (B, Np, 6 + R), the one transfer
    # The softmax, in NumPy: exponentials wake PyTorch's threads for however few values, and these then spin in the way
    # of those of a runtime: 4 ms of its next image.
    logits, packed = packed[..., :2], packed[..., 1:]
    with np.errstate(invalid="ignore"):  # of infinities, whose predictions are left out below
        powers = np.exp(logits - logits.max(-1, keepdims=True))
    packed[..., 0] = powers[..., 1] / powers.sum(-1)
    image, anchor = np.nonzero(packed[..., 0] >= threshold)
    values = packed[image, anchor]  # (M, 5 + R)
    finite = np.isfinite(values).all(-1)
    image, values = image[finite], values[finite]
    score, params, length, xs = np.split(values, [1, 4, 5], axis=1)
    strips = np.float32(xs.shape[1] - 1)
    return Candidates(len(packed), image, score[:, 0], params, (1 - params[:, 0]) * strips, length[:, 0] * strips, xs)


def lane_nms(
    xs_px: Any,
    start_rows: Any,
    length_rows: Any,
    scores: Any,
    threshold: float = 50.0,
    top_k: int = 4,
    image: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """x in pixels (N, 72), first row and length in rows (N,), scores (N,) -> indices of the lanes kept, best first.

    Row 0 is the bottom. A kept lane suppresses a worse one when their mean distance over the rows both have is below
    `threshold` pixels; lanes without a common row never do. At most `top_k` are kept; equal scores keep their order.
    `image` (N,) says which image each lane is of: then every image keeps its own, and they come image by image.
    Arrays or tensors; sums run in float32, row by row, as the published CUDA kernel's do, so that both decide alike. A
    start below the bottom row counts as the bottom row. Source: Line-CNN NMS as in LaneATT, arXiv 2010.12035.
    """
    xs, start_rows, length_rows, scores = (_float32(a) for a in (xs_px, start_rows, length_rows, scores))
    last_row = xs.shape[-1] - 1
    start, end = _row_span(start_rows, length_rows, last_row)
    rows = np.arange(last_row + 1)
    image = np.zeros(len(scores), np.int64) if image is None else image
    left = np.lexsort((-scores, image))  # lanes not yet kept or suppressed, image by image, best first
    rounds: list[NDArray[np.int64]] = []  # each keeps the best one left of every image
    while len(left) and len(rounds) < top_k:
        leads = np.diff(image[left], prepend=-1) != 0
        rounds.append(left[leads])
        best = rounds[-1][np.cumsum(leads) - 1][~leads]  # the one that was just kept of the image of each one left
        left = left[~leads]
        first, last = np.maximum(start[left], start[best]), np.minimum(end[left], end[best])
        common = (rows >= first[:, None]) & (rows <= last[:, None])
        distance = np.where(common, np.abs(xs[left] - xs[best]), np.float32(0))
        total = np.cumsum(distance, axis=1, dtype=np.float32)[:, -1]  # in row order, as a loop would
        near = total < np.float32(threshold) * (last - first + 1).astype(np.float32)
        left = left[~(near & (last >= first))]
    kept = np.concatenate(rounds) if rounds else np.zeros(0, np.int64)
    return kept[np.argsort(image[kept], kind="stable")]


def lanes_from_predictions(
    params: Any,
    length_rows: Any,
    xs: Any,
    crop: Crop | NDArray[np.float64] = CULANE_CROP,
    extend_bottom: bool = True,
) -> list[Points | None]:
    """Start point and angle (n, 3), lengths in rows (n,), relative x (n, 72) -> per lane (P, 2) x, y, y ascending.

    x and y are float64 fractions of the original frame, of which the network saw `crop`, one for all or (n, 4). With
    `extend_bottom` a lane runs on below its start as long as it stays inside the image. None where a prediction is no
    lane: a negative length, or fewer than two points.
    """
    params, length_rows, xs = _float32(params), _float32(length_rows), _float32(xs)
    count = xs.shape[1]
    shown = shown_rows(params, length_rows, xs, extend_bottom)
    left, top, right, bottom = np.asarray(crop, np.float64).reshape(-1, 4).T[..., None]  # (1 or n, 1) each
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
