"""Fits smooth curves to what the fovea sees and to clicks, and reads the ends of lanes off its rows."""

from __future__ import annotations

import torch
from torch import Tensor

from clrernetlm.models.lanelm.fovea.reference import Clicks, row_weights

SMOOTHNESS = 0.04  # standard deviation of second differences of the offsets from row to row, in reaches
# People and labels do not always mean the middle of the paint: standard deviation of a lane from what the fovea sees,
# in reaches, about half the width of a line, and the share of all rows over which it hardly changes.
BIAS, BIAS_LENGTH = 0.2, 0.5
MAX_MISS = 2.0  # click sigmas by which a fitted curve may miss a click, unless other clicks contradict it
EXACT = 1 / 256  # factor on the sigma of the clicks where the image pulls a curve away from them


def fit_offsets(mean: Tensor, spread: Tensor, reference: Tensor, clicks: Clicks, reach: Tensor, sigma: float) -> Tensor:
    """Fit curves (B, L, T), in network pixels, to offsets from `reference` (B, L, T) and to clicks.

    `mean` and `spread` (B, L, T): the offset on each row and its standard deviation, in reaches; `reach` (T,) and
    `sigma`, the standard deviation of clicks, in network pixels. The curve is the most likely one if offsets change
    smoothly from row to row, and if clicks may lie beside the paint, a little and on neighbouring rows alike: clicks on
    the edge of a line move the whole curve there. It passes every click within `MAX_MISS` sigmas.
    """
    steps, dtype = mean.shape[-1], torch.float64
    mean, spread, reference = mean.to(dtype), spread.to(dtype), reference.to(dtype)
    x, reach = clicks.x.to(dtype), reach.to(dtype)
    rows = torch.arange(steps, dtype=dtype, device=mean.device)
    alike = torch.exp(-((rows[:, None] - rows) / (BIAS_LENGTH * steps)).square() / 2)
    precision = torch.linalg.inv(torch.diag_embed(spread.clamp(min=1e-2).square()) + BIAS**2 * alike)
    second = torch.eye(steps, dtype=dtype, device=mean.device)
    second = second[:-2] - 2 * second[1:-1] + second[2:]
    matrix = precision + second.T @ second / SMOOTHNESS**2
    weights = row_weights(clicks.row.to(dtype), steps) * clicks.exists[..., None]  # (B, L, K, T)
    reach_at = (weights @ reach).clamp(min=1e-6)
    miss = (x - (weights @ reference[..., None]).squeeze(-1)) / reach_at * clicks.exists

    seen = (precision @ mean[..., None]).squeeze(-1)

    def solve(click_sigma: float | Tensor) -> Tensor:
        click_precision = (reach_at / click_sigma).square() * clicks.exists
        pulled = matrix + weights.mT @ (weights * click_precision[..., None])
        right = seen + (weights.mT @ (click_precision * miss)[..., None]).squeeze(-1)
        solved: Tensor = torch.cholesky_solve(right[..., None], torch.linalg.cholesky(pulled)).squeeze(-1)
        return solved

    offsets = solve(sigma)
    left = (miss - (weights @ offsets[..., None]).squeeze(-1)).abs() * reach_at
    missed = ((left > MAX_MISS * sigma) & clicks.exists).any(-1)
    offsets = torch.where(missed[..., None], solve(sigma * EXACT), offsets)
    return (reference + reach * offsets).float()


def lane_ends(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Read the ends of lanes (..., 2) off logits (..., R) that a row is on the lane: top and bottom, fractional rows.

    The ends lie where the logits of the longest run of positive rows cross zero; they are those of the image, 0 and R,
    where the run reaches its edge. Also returns which lanes have such a run at all, (...) bool.
    """
    count = logits.shape[-1]
    on_lane = logits > 0
    index = torch.arange(count, device=logits.device)
    start = torch.where(on_lane, -1, index).cummax(-1).values  # the last row that is off the lane, at or above each row
    lengths = torch.where(on_lane, index - start, 0)
    last = (count - 1 - lengths.flip(-1).argmax(-1, keepdim=True)).clamp(min=0)
    first = last - lengths.gather(-1, last) + 1

    def crossing(inner: Tensor, outer: Tensor) -> Tensor:
        """Compute the distance from the row `inner`, on the lane, to where the logits cross zero before `outer`."""
        positive = logits.gather(-1, inner.clamp(0, count - 1)).clamp(min=0)
        negative = logits.gather(-1, outer.clamp(0, count - 1)).clamp(max=0)
        return positive / (positive - negative).clamp(min=1e-6)

    top = torch.where(first <= 0, 0.0, first - crossing(first, first - 1))
    bottom = torch.where(last >= count - 1, float(count), last + crossing(last, last + 1))
    return torch.cat([top, bottom], -1).float(), on_lane.any(-1)
