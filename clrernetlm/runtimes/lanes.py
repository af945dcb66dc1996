"""From the detector graph's output `lanes` to lanes in a frame, in NumPy alone; examples/onnx_lanes.py holds a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]


def pick(lanes: Rows, conf_threshold: float, nms_threshold: float, max_lanes: int) -> Rows:
    """(N, 3 + R) score, first row, length in rows, x of every row in network pixels -> the lanes' rows, best first.

    Row 0 is the bottom. A lane suppresses a worse one when their mean distance over the rows both have is below
    `nms_threshold` pixels.
    """
    lanes = lanes[(lanes[:, 0] >= np.float32(conf_threshold)) & np.isfinite(lanes).all(1)]
    lanes = lanes[np.argsort(-lanes[:, 0], kind="stable")]
    start, length, xs = np.trunc(lanes[:, 1] + 0.5), lanes[:, 2].astype(np.float64), lanes[:, 3:]
    count = xs.shape[1]
    first = np.clip(start, 0, count)
    last = np.clip(np.trunc(start + length - 0.5 - (length < 1)), -1, count - 1)
    rows, left = np.arange(count), np.arange(len(lanes))
    kept: list[int] = []
    while len(left) and len(kept) < max_lanes:
        best, left = left[0], left[1:]
        kept.append(best)
        low, high = np.maximum(first[left], first[best]), np.minimum(last[left], last[best])
        common = (rows >= low[:, None]) & (rows <= high[:, None])
        apart = np.cumsum(np.where(common, np.abs(xs[left] - xs[best]), np.float32(0)), axis=1, dtype=np.float32)[:, -1]
        left = left[(high < low) | (apart >= np.float32(nms_threshold) * (high - low + 1).astype(np.float32))]
    return lanes[np.array(kept, np.int64)]


def points(
    lane: Rows, crop: tuple[float, float, float, float], size: tuple[int, int], extend_bottom: bool = True
) -> Rows:
    """One lane of `pick`, the crop (left, top, right, bottom) in frame pixels, the network's size -> (n, 2) x, y.

    In pixels of the frame, bottom first; empty where there is no lane after all. With `extend_bottom` it runs on below
    its start as long as it stays inside the image.
    """
    xs = lane[3:].astype(np.float64)
    count, width = len(xs), size[0]
    start = int(np.clip(np.rint(lane[1]), 0, count - 1))
    end = int(np.clip(start + np.rint(lane[2]), -1, count))
    if extend_bottom:
        while start > 0 and lane[2] >= 0 and 0 <= xs[start - 1] <= width - 1:
            start -= 1
    rows = np.arange(start, end) if lane[2] >= 0 else np.arange(0)
    left, top, right, bottom = crop
    found = np.stack(
        [left + xs[rows] / (width - 1) * (right - left), bottom - rows / (count - 1) * (bottom - top)], axis=1
    )
    return found if len(found) > 1 else found[:0]
