"""The detector's lanes as LaneLM's questions: x on LaneLM's rows, without leaving arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clrernetlm.models.decode import lane_nms, shown_rows


@dataclass
class Proposals:
    """P lanes for each of B images on T rows from the top, best first; unused places are shown nowhere."""

    xs: Tensor  # (B, P, T) float32 network pixels
    shown: Tensor  # (B, P, T) bool
    scores: Tensor  # (B, P) float32, 0 in unused places


def propose(
    stage: Mapping[str, Tensor], num_steps: int, width: int, nms_threshold: float, threshold: float, max_proposals: int
) -> Proposals:
    """The detector's last stage of a batch -> its lanes of confidence `threshold` or more, after lane NMS.

    `width` and `nms_threshold` are network pixels. Lanes run down to the bottom of the image as far as they stay inside
    it, as the detector's own results do. Lanes that show on fewer than two rows are left out.
    """
    scores = stage["cls_logits"].detach().float().softmax(-1)[..., 1:]
    geometry = [stage[name].detach().float() for name in ("anchor_params", "lengths", "xs")]
    packed = torch.cat([scores, *geometry], dim=-1)
    device, predictions = packed.device, packed.cpu().numpy()  # (B, Np, 5 + 72), the one transfer
    candidates = (predictions[..., 0] >= threshold) & np.isfinite(predictions).all(-1)
    batch, last = len(predictions), predictions.shape[-1] - 6
    xs = np.zeros((batch, max_proposals, num_steps), np.float32)
    shown = np.zeros(xs.shape, bool)
    confidence = np.zeros((batch, max_proposals), np.float32)
    # Row t lies at t / T of the height; the detector's rows run from 1, the bottom, to 0.
    places = last * (1 - np.arange(num_steps) / num_steps)
    low = np.minimum(places.astype(np.int64), last - 1)
    share = (places - low).astype(np.float32)
    for image, (values, chosen) in enumerate(zip(predictions, candidates, strict=True)):
        score, params, length, relative = np.split(values[chosen], [1, 4, 5], axis=1)
        length_rows = length[:, 0] * np.float32(last)
        start_rows = (1 - params[:, 0]) * np.float32(last)
        pixels = relative * np.float32(width - 1)
        kept = lane_nms(pixels, start_rows, length_rows, score[:, 0], nms_threshold, max_proposals)
        drawn = shown_rows(params[kept], length_rows[kept], relative[kept])
        on_rows = pixels[kept][:, low] * (1 - share) + pixels[kept][:, low + 1] * share
        visible = drawn[:, low] & (drawn[:, low + 1] | (share < 1e-6)) & (on_rows >= 0) & (on_rows < width)
        usable = np.flatnonzero(visible.sum(1) > 1)
        xs[image, : len(usable)], shown[image, : len(usable)] = on_rows[usable], visible[usable]
        confidence[image, : len(usable)] = score[kept[usable], 0]
    return Proposals(*(torch.from_numpy(array).to(device) for array in (xs, shown, confidence)))
