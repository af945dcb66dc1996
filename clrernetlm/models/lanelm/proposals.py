"""Samples the detector's lanes on LaneLM's rows, vectorised over the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clrernetlm.models.clrernet.decode import lane_nms, select_predictions, visible_rows


@dataclass
class Proposals:
    """P lanes for each of B images on T rows from the top, best first; unused slots are visible on no row."""

    xs: Tensor  # (B, P, T) float32 network pixels
    visible: Tensor  # (B, P, T) bool: rows the lane is on
    scores: Tensor  # (B, P) float32, 0 in unused slots; NaN: unknown


def add_missing(found: Proposals, expected: Proposals, min_distance: float) -> Proposals:
    """Add the expected lanes (B, E) that no proposal lies near, after the proposals (B, P) that were found.

    Near is a mean distance below `min_distance` network pixels on the rows of both, of which there must be two. The
    detector's newest lane is better than an older one, so that an expected lane beside it would only compete with it.
    """
    both = found.visible[:, None] & expected.visible[:, :, None]  # (B, E, P, T)
    gaps = (found.xs[:, None] - expected.xs[:, :, None]).abs() * both
    common = both.sum(-1)
    near = (common > 1) & (gaps.sum(-1) / common.clamp(min=1) < min_distance)
    missing = expected.visible & ~near.any(-1, keepdim=True)
    return Proposals(
        torch.cat([found.xs, expected.xs], 1),
        torch.cat([found.visible, missing], 1),
        torch.cat([found.scores, expected.scores], 1),
    )


def propose(
    stage: Mapping[str, Tensor], num_steps: int, width: int, nms_threshold: float, threshold: float, max_proposals: int
) -> Proposals:
    """Select the detector's lanes of confidence `threshold` or more, after lane NMS, from its last stage.

    `width` and `nms_threshold` are network pixels. Lanes continue down to the bottom of the image as long as they stay
    inside it, as in the detector's own results. Lanes visible on fewer than two rows are left out.
    """
    found = select_predictions(stage, threshold)
    pixels = found.xs * np.float32(width - 1)
    kept = lane_nms(
        pixels, found.start_rows, found.length_rows, found.scores, nms_threshold, max_proposals, found.image
    )
    drawn = visible_rows(found.params[kept], found.length_rows[kept], found.xs[kept])
    # Row t lies at t / T of the height; the detector's rows run from 1, the bottom, to 0.
    last = found.xs.shape[1] - 1
    positions = last * (1 - np.arange(num_steps) / num_steps)
    low = np.minimum(positions.astype(np.int64), last - 1)
    fraction = (positions - low).astype(np.float32)
    on_rows = pixels[kept][:, low] * (1 - fraction) + pixels[kept][:, low + 1] * fraction
    visible = drawn[:, low] & (drawn[:, low + 1] | (fraction < 1e-6)) & (on_rows >= 0) & (on_rows < width)
    usable = visible.sum(1) > 1
    kept, on_rows, visible = kept[usable], on_rows[usable], visible[usable]
    image = found.image[kept]
    slot = np.arange(len(image)) - np.searchsorted(image, image)  # index of each lane within its image
    xs = np.zeros((found.images, max_proposals, num_steps), np.float32)
    mask = np.zeros(xs.shape, bool)
    scores = np.zeros(xs.shape[:2], np.float32)
    xs[image, slot], mask[image, slot], scores[image, slot] = on_rows, visible, found.scores[kept]
    device = stage["xs"].device
    return Proposals(*(torch.from_numpy(array).to(device, non_blocking=True) for array in (xs, mask, scores)))
