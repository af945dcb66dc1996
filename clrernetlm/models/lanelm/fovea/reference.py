"""Builds the curves along which the fovea looks: a proposal or an answer, bent smoothly through the clicks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clrernetlm.models.lanelm.requests import Requests

SAME_CLICK = 0.5  # rows; clicks closer to each other are one
ANOTHER_LANE = 1.0  # mean distance from the clicks, in reaches, from which a curve is another lane


@dataclass
class Clicks:
    """Clicks on L lanes in each of B images, sorted from the top down, at least one slot."""

    x: Tensor  # (B, L, K) network pixels; a slot without a click repeats another one
    row: Tensor  # (B, L, K) fractional rows, ascending
    exists: Tensor  # (B, L, K) bool, the existing ones first

    @property
    def any(self) -> Tensor:
        """Return which lanes have a click, (B, L) bool."""
        return self.exists.any(-1)


def clicks_of_requests(requests: Requests, spacing: float) -> Clicks:
    """Return the clicks of requests, which start points are not; `spacing` of the rows in network pixels.

    Of clicks less than half a row apart the mean counts: a lane cannot pass both, or only with a jump.
    """
    x, y = requests.prompts.float().unbind(-1)
    exists = requests.prompt_mask & ~requests.is_start[..., None]
    if not x.shape[-1]:
        x, y, exists = (torch.nn.functional.pad(value, (0, 1)) for value in (x, y, exists))
    row = y / spacing
    same = ((row[..., :, None] - row[..., None, :]).abs() < SAME_CLICK) & exists[..., None, :] & exists[..., :, None]
    count = same.sum(-1).clamp(min=1)
    x, row = (torch.where(exists, (same * value[..., None, :]).sum(-1) / count, value) for value in (x, row))
    earlier = same & torch.ones_like(same[0, 0]).tril(-1)
    exists = exists & ~earlier.any(-1)
    order = torch.where(exists, row, torch.inf).argsort(-1)
    x, row, exists = (value.gather(-1, order) for value in (x, row, exists))
    # Empty slots repeat the last click, one row further down each, so that every slot has finite neighbours.
    last = (exists.sum(-1, keepdim=True) - 1).clamp(min=0)
    slot = torch.arange(x.shape[-1], device=x.device)
    x = torch.where(exists, x, x.gather(-1, last))
    row = torch.where(exists, row, row.gather(-1, last) + (slot - last))
    return Clicks(x, row, exists)


def row_weights(rows: Tensor, steps: int) -> Tensor:
    """Compute weights (..., T) of linear interpolation at fractional rows (...), extrapolated beyond the ends."""
    low = rows.floor().clamp(0, steps - 2).long()
    fraction = (rows - low)[..., None]
    weights = torch.zeros(*rows.shape, steps, device=rows.device, dtype=rows.dtype)
    return weights.scatter(-1, low[..., None], 1 - fraction).scatter(-1, low[..., None] + 1, fraction)


def through_clicks(base: Tensor, has_base: Tensor, clicks: Clicks, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Bend curves (B, L, T) through the clicks; returns them and their mean distance from the clicks in reaches (B, L).

    Between two clicks the bent curve is the monotone cubic through all of them; above the first and below the last the
    base continues, moved sideways to meet the click: as far on the road, so less in pixels the farther away. A base
    that is another lane, or none (`has_base` (B, L) False), gives way to a straight line there.
    """
    steps = base.shape[-1]
    rows = torch.arange(steps, device=base.device, dtype=base.dtype)
    weights = row_weights(clicks.row, steps)  # (B, L, K, T)
    reach_at = weights @ reach
    miss = (clicks.x - (weights @ base[..., None]).squeeze(-1)) / reach_at.clamp(min=1e-6) * clicks.exists
    mean_miss = miss.sum(-1) / clicks.exists.sum(-1).clamp(min=1)
    spline, slope_first, slope_last = monotone_spline(clicks, rows)
    last = (clicks.exists.sum(-1, keepdim=True) - 1).clamp(min=0)
    first_row, last_row = clicks.row[..., :1], clicks.row.gather(-1, last)
    first_x, last_x = clicks.x[..., :1], clicks.x.gather(-1, last)

    moved_first = base + reach * miss[..., :1]
    moved_last = base + reach * miss.gather(-1, last)
    near = has_base & (miss.abs().amax(-1) < 3 * ANOTHER_LANE)
    several = (clicks.exists.sum(-1) > 1)[..., None]
    follows = near[..., None] | (has_base[..., None] & ~several)
    above = torch.where(follows, moved_first, first_x + slope_first * (rows - first_row))
    below = torch.where(follows, moved_last, last_x + slope_last * (rows - last_row))
    bent = torch.where(rows < first_row, above, torch.where(rows > last_row, below, spline))
    return torch.where(clicks.any[..., None], bent, base), mean_miss


def monotone_spline(clicks: Clicks, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate the monotone cubic through the clicks on rows (T,); returns x (B, L, T) and the slopes at both ends.

    Slopes, (B, L, 1) each, are pixels per row. One click gives a vertical line. Source: Fritsch and Carlson (1980),
    with the one-sided differences of their three-point formula at the ends.
    """
    x, position, exists = clicks.x, clicks.row, clicks.exists
    if x.shape[-1] == 1:
        flat = torch.zeros_like(x)
        return x.expand(*x.shape[:-1], len(rows)), flat, flat
    width = (position[..., 1:] - position[..., :-1]).clamp(min=1e-3)  # (B, L, K - 1)
    inside = exists[..., 1:]
    secant = torch.where(inside, (x[..., 1:] - x[..., :-1]) / width, 0.0)
    slope = _slopes(secant, width, inside)
    segment = (rows[:, None] >= position[..., None, 1:]).sum(-1).clamp(max=x.shape[-1] - 2)  # (B, L, T)
    count = exists.sum(-1, keepdim=True)
    segment = torch.minimum(segment, (count - 2).clamp(min=0))

    def at(values: Tensor, offset: int = 0) -> Tensor:
        return values.gather(-1, segment + offset)

    h = at(width)
    t = ((rows - at(position)) / h).clamp(0, 1)
    value = (
        (1 + 2 * t) * (1 - t).square() * at(x)
        + t * (1 - t).square() * h * at(slope)
        + t.square() * (3 - 2 * t) * at(x, 1)
        - t.square() * (1 - t) * h * at(slope, 1)
    )
    last = (count - 1).clamp(min=0)
    return torch.where(count > 1, value, x[..., :1]), slope[..., :1], slope.gather(-1, last)


def _slopes(secant: Tensor, width: Tensor, inside: Tensor) -> Tensor:
    """Compute the slopes (B, L, K) of a monotone cubic at its points from the secants between them (B, L, K - 1)."""
    left, right = secant[..., :-1], secant[..., 1:]
    h_left, h_right = width[..., :-1], width[..., 1:]
    w_left, w_right = 2 * h_right + h_left, h_right + 2 * h_left
    same_sign = left * right > 0
    safe_left, safe_right = torch.where(same_sign, left, 1.0), torch.where(same_sign, right, 1.0)
    harmonic = (w_left + w_right) / (w_left / safe_left + w_right / safe_right)
    inner = torch.where(same_sign, harmonic, 0.0)

    def end(near: Tensor, far: Tensor, h_near: Tensor, h_far: Tensor, has_far: Tensor) -> Tensor:
        """Compute the slope at an end from its secant `near` and the one after that."""
        slope = ((2 * h_near + h_far) * near - h_near * far) / (h_near + h_far)
        slope = torch.where(slope * near <= 0, 0.0, slope)
        overshoots = (near * far <= 0) & (slope.abs() > 3 * near.abs())
        return torch.where(has_far, torch.where(overshoots, 3 * near, slope), near)

    if secant.shape[-1] == 1:
        return torch.cat([secant, secant], -1)
    first = end(secant[..., :1], secant[..., 1:2], width[..., :1], width[..., 1:2], inside[..., 1:2])
    slopes = torch.cat([first, inner, secant[..., -1:]], -1)
    count = inside.sum(-1, keepdim=True)  # of segments; the last point is number `count`
    near, far = (count - 1).clamp(min=0), (count - 2).clamp(min=0)
    h_near, h_far = width.gather(-1, near), width.gather(-1, far)
    last = end(secant.gather(-1, near), secant.gather(-1, far), h_near, h_far, count > 1)
    return slopes.scatter(-1, count, last)
