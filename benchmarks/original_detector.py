"""Restates the original computation of CLRerNet on this package's weights, as the baseline of speeds.

Modules in fp32 without optimisation, BatchNorm separate from convolutions, channels first; the head convolves earlier
pooled values again in every stage; NMS and points lane by lane in Python.
"""

from __future__ import annotations

import numpy as np
import torch
from head_forward import original_head
from numpy.typing import NDArray

from clrernetlm.config import ClrernetConfig
from clrernetlm.core.viewport import FrameSize
from clrernetlm.models.clrernet.detector import CLRerNet

Points = list[tuple[float, float]]


@torch.inference_mode()
def original_lanes(model: CLRerNet, image: NDArray[np.uint8]) -> list[tuple[float, Points]]:
    """Detect lanes in an image (H, W, 3) uint8 BGR: (score, x and y in pixels of the image) of each, best first."""
    config = model.config
    frame: FrameSize = (image.shape[1], image.shape[0])
    pixels = config.viewport.apply(image).astype(np.float32) / 255  # scaled on the host
    images = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
    stage = original_head(model.bbox_head, model.neck(model.backbone(images)))[-1]
    scores = stage["cls_logits"].softmax(-1)[0, :, 1]
    keep = scores >= config.decode.conf_threshold
    rows = torch.cat([stage[name][0][keep] for name in ("anchor_params", "lengths", "xs")], dim=1)
    return original_decode(scores[keep], rows, config, frame)


def original_decode(
    scores: torch.Tensor, rows: torch.Tensor, config: ClrernetConfig, frame: FrameSize
) -> list[tuple[float, Points]]:
    """Select lanes by NMS, best first, from scores (N,) and (y0, x0, theta, length, x of every row) (N, 4 + R)."""
    strips = rows.shape[1] - 5
    pixels = rows[:, 4:] * (config.viewport.width - 1)
    spans = []
    for row in rows:
        start = int((1 - row[0]) * strips + 0.5)
        length = float(row[3]) * strips
        spans.append((max(start, 0), min(int(start + length - 0.5 - (length < 1)), strips)))
    kept: list[int] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        if len(kept) < config.max_lanes and all(
            not are_near(pixels, spans, index, k, config.decode.nms_threshold) for k in kept
        ):
            kept.append(index)
    return [(float(scores[i]), original_points(rows[i], config, frame)) for i in kept]


def are_near(xs: torch.Tensor, spans: list[tuple[int, int]], one: int, other: int, threshold: float) -> bool:
    """Check whether the mean distance of two lanes on their common rows is below the threshold, in pixels."""
    start, end = max(spans[one][0], spans[other][0]), min(spans[one][1], spans[other][1])
    if end < start:
        return False
    distance = (xs[one, start : end + 1] - xs[other, start : end + 1]).abs().sum()
    return bool(distance < threshold * (end - start + 1))


def original_points(row: torch.Tensor, config: ClrernetConfig, frame: FrameSize) -> Points:
    """Convert one prediction (4 + R,) to points in pixels of the frame."""
    xs = row[4:].tolist()
    strips = len(xs) - 1
    start = min(max(round((1 - float(row[0])) * strips), 0), strips)
    end = min(start + round(float(row[3]) * strips) - 1, strips)
    first = start
    if config.decode.extend_bottom:
        while first > 0 and 0 <= xs[first - 1] <= 1:
            first -= 1
    left, top, right, bottom = config.viewport.crop_box(frame)
    return [
        (left + xs[i] * (right - left), bottom - i / strips * (bottom - top)) for i in range(first, max(end + 1, start))
    ]
