"""Decodes the last stage's predictions to lanes: score threshold, lane NMS, points in the original frame.

Runs on the host, in NumPy: the predictions of a batch are copied in one transfer, and only the few dozen above the
threshold are processed, those of all images at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clrernetlm.config.schema import DecodeConfig
from clrernetlm.core.arrays import BoolArray, Float32Array, Float64Array, Int64Array, Points
from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize, Viewport, viewports_of_frames

Crop = tuple[float, float, float, float]  # left, top, right, bottom of the network's crop, fractions of the frame

CULANE_CROP: Crop = (0.0, 270 / 590, 1.0, 1.0)


def decode_lanes(
    stage: Mapping[str, Tensor],
    config: DecodeConfig,
    viewport: Viewport | Sequence[Viewport],
    frame_sizes: Sequence[FrameSize],
    max_lanes: int = 4,
) -> list[list[Lane]]:
    """Decode the last stage of a batch: at most `max_lanes` lanes per image, in pixels of its own frame, best first.

    `stage`: `cls_logits` (B, Np, 2), `anchor_params` (B, Np, 3), `lengths` (B, Np, 1), `xs` (B, Np, 72), all relative.
    `frame_sizes`: (width, height) of the B original frames; `viewport`: their crop, one for all or one for each.
    Predictions with a value that is not finite are dropped. As published, `max_lanes` limits predictions: one that
    turns out to have no points is not replaced by the next.
    """
    viewports = viewports_of_frames(viewport, len(frame_sizes))
    selected = select_predictions(stage, config.conf_threshold)
    assert selected.images == len(viewports), f"{selected.images} images, {len(viewports)} frames"
    widths = np.array([view.width - 1 for view in viewports], np.float32)[selected.image]
    kept = lane_nms(
        selected.xs * widths[:, None],
        selected.start_rows,
        selected.length_rows,
        selected.scores,
        config.nms_threshold,
        max_lanes,
        selected.image,
    )
    frames = np.array(frame_sizes, np.float64).reshape(-1, 2)  # (B, 2) width, height
    boxes = np.array([view.crop_box(frame) for view, frame in zip(viewports, frame_sizes, strict=True)]).reshape(-1, 4)
    image = selected.image[kept]
    crops = (boxes / np.tile(frames, 2))[image]
    points = lanes_from_predictions(
        selected.params[kept], selected.length_rows[kept], selected.xs[kept], crops, config.extend_bottom
    )
    lanes: list[list[Lane]] = [[] for _ in viewports]
    for i, lane, score in zip(image, points, selected.scores[kept].tolist(), strict=True):
        if lane is not None:
            lanes[i].append(Lane(lane[::-1] * frames[i], score))
    return lanes


@dataclass
class ScoredPredictions:
    """The M predictions of a batch above the score threshold, image by image; rows from the bottom, xs relative."""

    images: int  # number of images of the batch
    image: Int64Array  # (M,) index of each prediction's image, ascending
    scores: Float32Array  # (M,)
    params: Float32Array  # (M, 3) y0, x0, theta
    start_rows: Float32Array  # (M,)
    length_rows: Float32Array  # (M,)
    xs: Float32Array  # (M, R)


def select_predictions(stage: Mapping[str, Tensor], threshold: float) -> ScoredPredictions:
    """Select the finite predictions of a batch's last stage with a confidence of `threshold` or more."""
    parts = [stage[name].detach().float() for name in ("cls_logits", "anchor_params", "lengths", "xs")]
    packed = torch.cat(parts, dim=-1).cpu().numpy()  # (B, Np, 6 + R), the one transfer
    # Softmax in NumPy: torch.exp would wake PyTorch's thread pool, whose spinning workers slow the next runtime call
    # by 4 ms.
    logits, packed = packed[..., :2], packed[..., 1:]
    with np.errstate(invalid="ignore"):  # for infinities; their predictions are dropped below
        powers = np.exp(logits - logits.max(-1, keepdims=True))
    packed[..., 0] = powers[..., 1] / powers.sum(-1)
    image, anchor = np.nonzero(packed[..., 0] >= threshold)
    values = packed[image, anchor]  # (M, 5 + R)
    finite = np.isfinite(values).all(-1)
    image, values = image[finite], values[finite]
    score, params, length, xs = np.split(values, [1, 4, 5], axis=1)
    strips = np.float32(xs.shape[1] - 1)
    return ScoredPredictions(
        len(packed), image, score[:, 0], params, (1 - params[:, 0]) * strips, length[:, 0] * strips, xs
    )


def lane_nms(
    xs_px: Any,
    start_rows: Any,
    length_rows: Any,
    scores: Any,
    threshold: float = 50.0,
    top_k: int = 4,
    image: Int64Array | None = None,
) -> Int64Array:
    """Suppress lanes near better ones: x in pixels (N, 72), start and length in rows, scores (N,) -> kept indices.

    Row 0 is the bottom. A kept lane suppresses a worse one if their mean distance over their common rows is below
    `threshold` pixels; lanes without a common row do not suppress each other. At most `top_k` are kept, best first;
    equal scores keep their order. `image` (N,) is the image of each lane: then NMS runs within every image, and the
    result is ordered image by image. Takes arrays or tensors; sums are in float32, row by row, as in the published CUDA
    kernel, so that both decide alike. A start below the bottom row counts as the bottom row. Source: Line-CNN NMS as in
    LaneATT, arXiv 2010.12035.
    """
    xs, start_rows, length_rows, scores = (_float32(a) for a in (xs_px, start_rows, length_rows, scores))
    last_row = xs.shape[-1] - 1
    start, end = _row_span(start_rows, length_rows, last_row)
    rows = np.arange(last_row + 1)
    image = np.zeros(len(scores), np.int64) if image is None else image
    remaining = np.lexsort((-scores, image))  # lanes not yet kept or suppressed, image by image, best first
    rounds: list[Int64Array] = []  # each round keeps the best remaining lane of every image
    while len(remaining) and len(rounds) < top_k:
        leads = np.diff(image[remaining], prepend=-1) != 0
        rounds.append(remaining[leads])
        best = rounds[-1][np.cumsum(leads) - 1][~leads]  # for each remaining lane, the one just kept of its image
        remaining = remaining[~leads]
        first, last = np.maximum(start[remaining], start[best]), np.minimum(end[remaining], end[best])
        common = (rows >= first[:, None]) & (rows <= last[:, None])
        distance = np.where(common, np.abs(xs[remaining] - xs[best]), np.float32(0))
        total = np.cumsum(distance, axis=1, dtype=np.float32)[:, -1]  # summed in row order, as by a loop
        near = total < np.float32(threshold) * (last - first + 1).astype(np.float32)
        remaining = remaining[~(near & (last >= first))]
    kept = np.concatenate(rounds) if rounds else np.zeros(0, np.int64)
    return kept[np.argsort(image[kept], kind="stable")]


def lanes_from_predictions(
    params: Any,
    length_rows: Any,
    xs: Any,
    crop: Crop | Float64Array = CULANE_CROP,
    extend_bottom: bool = True,
) -> list[Points | None]:
    """Convert start point and angle (n, 3), lengths in rows (n,), relative x (n, 72) -> per lane (P, 2) x, y.

    In the order of ascending y, as float64 fractions of the original frame, of which `crop` is the network's part, one
    for all or (n, 4). With `extend_bottom` a lane continues below its start as long as it stays inside the image. None
    for a prediction with a negative length or fewer than two points.
    """
    params, length_rows, xs = _float32(params), _float32(length_rows), _float32(xs)
    count = xs.shape[1]
    visible = visible_rows(params, length_rows, xs, extend_bottom)
    left, top, right, bottom = np.asarray(crop, np.float64).reshape(-1, 4).T[..., None]  # (1 or n, 1) each
    y = torch.linspace(1, 0, count).double().numpy() * (bottom - top) + top
    points = np.stack([xs.astype(np.float64) * (right - left) + left, np.broadcast_to(y, xs.shape)], axis=-1)
    return [lane[rows][::-1] if rows.sum() > 1 else None for lane, rows in zip(points, visible, strict=True)]


def visible_rows(
    params: Float32Array, length_rows: Float32Array, xs: Float32Array, extend_bottom: bool = True
) -> BoolArray:
    """Find the rows of each prediction's lane, (n, 72) bool, bottom first; arguments as in `lanes_from_predictions`."""
    n, count = xs.shape
    strips = count - 1
    start = np.clip(np.rint((1 - params[:, 0]) * np.float32(strips)), 0, strips).astype(np.int64)
    end = np.clip(start + np.rint(length_rows), -1, count)  # the row after the last one
    rows = np.arange(count)
    visible: BoolArray = (rows >= start[:, None]) & (rows < end[:, None])
    if extend_bottom:
        # A row below the start belongs to the lane if it and every row between are inside the image.
        outside = (rows < start[:, None]) & ~((xs >= 0) & (xs <= 1))
        visible |= (rows < start[:, None]) & ~np.logical_or.accumulate(outside[:, ::-1], axis=1)[:, ::-1]
    visible &= length_rows.reshape(n, 1) >= 0
    return visible


def prediction_points(lane: Lane, frame_size: FrameSize, step: float = 2.0) -> Points:
    """Sample a lane at rows 0, step, 2 step, ... -> (n, 2) x, y in pixels of the frame (width, height), bottom first.

    These points are written to the `.lines.txt` files of predictions: interpolated along the lane, up to a hundredth of
    the frame's height beyond its ends, where x is inside the frame.
    """
    width, height = frame_size
    y = np.arange(0, height, step, dtype=np.float64)
    x = lane.x_at(y, margin=0.01 * height)
    inside = (x >= 0) & (x < width)
    return np.column_stack([x[inside], y[inside]])[::-1]


def _row_span(start_rows: Float32Array, length_rows: Float32Array, last_row: int) -> tuple[Int64Array, Int64Array]:
    """Convert starts and lengths in rows, (N,), to first and last row, inclusive; last < first is an empty lane.

    Rounded as in the published kernel: a half is added, and the cast to int truncates towards zero. NaN is an empty
    lane.
    """
    start = np.trunc(start_rows.astype(np.float64) + 0.5)
    length = length_rows.astype(np.float64)
    end = np.trunc(start + length - 0.5 - (length < 1))
    first, last = np.clip(start, 0, last_row + 1), np.clip(end, -1, last_row)
    return np.nan_to_num(first).astype(np.int64), np.nan_to_num(last, nan=-1).astype(np.int64)


def _float32(values: Any) -> Float32Array:
    """Convert a tensor on any device, or anything array-like, to a float32 array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float32)
