"""Requests to LaneLM: one per lane to decode, given as a lane of the detector, as prompt points, or as both."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from clrernetlm.models.lanelm.proposals import Proposals

FAR = 1e9  # rows to a prompt that does not exist; not infinity, which OpenVINO replaces by the largest float
MAX_CLICK_DISTANCE = 0.05  # of the image width, mean over the clicks: a proposal farther away is another lane


@dataclass
class Requests:
    """L requests for each of B images; rows count from the top, x and y are network pixels."""

    proposal_x: Tensor  # (B, L, T) x on every row, extrapolated where `proposal_mask` is False
    proposal_mask: Tensor  # (B, L, T) bool: rows the proposal covers; all False without a proposal
    score: Tensor  # (B, L) the detector's confidence in the proposal; NaN: unknown
    prompts: Tensor  # (B, L, K, 2) x, y
    prompt_mask: Tensor  # (B, L, K) bool: which of the K prompts exist
    is_start: Tensor  # (B, L) bool: the prompts are start points of the detector's lanes, not clicks
    request_mask: Tensor  # (B, L) bool: which requests exist: those with a proposal or a prompt

    def to(self, device: torch.device) -> Requests:
        """Copy all tensors to a device."""
        return Requests(*(getattr(self, item.name).to(device) for item in fields(self)))

    def __getitem__(self, index: int | slice | Tensor | tuple[slice | Tensor, ...]) -> Requests:
        """Select requests by an index of the first dimensions."""
        return Requests(*(getattr(self, item.name)[index] for item in fields(self)))


@dataclass
class RowPriors:
    """Priors of each row from a request, (B, L, T) each: x of the reference curve, and the nearest prompts.

    The reference curve is the proposal, bent to pass through the prompts; between two prompts without a proposal it is
    the straight line from one to the other.
    """

    reference: Tensor  # x of the reference curve, network pixels
    has_reference: Tensor  # bool: the reference curve is defined on this row
    before_x: Tensor  # x of the nearest prompt at or above the row, network pixels; 0 without one
    before_rows: Tensor  # rows up to that prompt; negative without one
    after_x: Tensor  # x of the nearest prompt below the row
    after_rows: Tensor  # rows down to that prompt; negative without one


def requests_from_proposals(proposals: Proposals) -> Requests:
    """Build one request per proposal (B, P), without prompts: is this a lane, and where exactly does it run?"""
    no_prompts = proposals.xs.new_zeros(*proposals.scores.shape, 0, 2)
    return _build_requests(proposals, no_prompts, no_prompts[..., 0].bool(), is_start=False)


def requests_from_start_points(proposals: Proposals, rows: Tensor) -> Requests:
    """Build one request per proposal (B, P) that contains only its lowest point; `rows` (T,) y in network pixels."""
    visible = proposals.visible
    last = visible.shape[-1] - 1 - visible.flip(-1).float().argmax(-1, keepdim=True)
    points = torch.stack([proposals.xs.gather(-1, last), rows[last]], dim=-1)  # (B, P, 1, 2)
    no_proposals = Proposals(proposals.xs, torch.zeros_like(visible), torch.full_like(proposals.scores, torch.nan))
    return _build_requests(no_proposals, points, visible.any(-1, keepdim=True), is_start=True)


def requests_from_clicks(
    proposals: Proposals, points: Tensor, point_mask: Tensor, rows: Tensor, max_distance: float
) -> Requests:
    """Build one request per set of clicks: `points` (B, L, K, 2) x, y in network pixels; `point_mask` (B, L, K) bool.

    The proposal nearest to the clicks is added to the request if its mean distance to them is less than `max_distance`
    pixels; 0 uses the clicks alone. `rows` (T,) y in network pixels.
    """
    batch, lanes, clicks = point_mask.shape
    steps = proposals.xs.shape[-1]
    xs = points.new_zeros(batch, lanes, steps)
    visible = torch.zeros_like(xs, dtype=torch.bool)
    scores = torch.full_like(xs[..., 0], torch.nan)
    if max_distance > 0 and proposals.xs.shape[1]:
        extrapolated = extrapolate_rows(proposals.xs, proposals.visible)
        click_rows = points[..., 1].flatten(1) / (rows[1] - rows[0])  # (B, L K), fractional
        xs_at_clicks = interpolate_rows(extrapolated, click_rows[:, None].expand(-1, extrapolated.shape[1], -1))
        distances = (xs_at_clicks.unflatten(-1, (lanes, clicks)) - points[..., 0][:, None]).abs()  # (B, P, L, K)
        mean_distance = (distances * point_mask[:, None]).sum(-1) / point_mask.sum(-1).clamp(min=1)[:, None]
        mean_distance = mean_distance.masked_fill(~proposals.visible.any(-1)[..., None], torch.inf)
        distance, nearest = mean_distance.min(1)  # (B, L)
        is_near = (distance < max_distance) & point_mask.any(-1)
        index = nearest[..., None].expand(-1, -1, steps)
        xs, visible = proposals.xs.gather(1, index), proposals.visible.gather(1, index) & is_near[..., None]
        scores = proposals.scores.gather(1, nearest).masked_fill(~is_near, torch.nan)
    return _build_requests(Proposals(xs, visible, scores), points, point_mask, is_start=False)


def _build_requests(proposals: Proposals, prompts: Tensor, prompt_mask: Tensor, is_start: bool) -> Requests:
    return Requests(
        proposal_x=extrapolate_rows(proposals.xs, proposals.visible),
        proposal_mask=proposals.visible,
        score=proposals.scores,
        prompts=prompts,
        prompt_mask=prompt_mask,
        is_start=torch.full_like(proposals.scores, is_start, dtype=torch.bool),
        request_mask=proposals.visible.any(-1) | prompt_mask.any(-1),
    )


def row_priors(requests: Requests, rows: Tensor) -> RowPriors:
    """Compute the reference curve and the nearest prompts of every row; `rows` (T,) y in pixels, from the top."""
    spacing = rows[1] - rows[0]
    has_proposal = requests.proposal_mask.any(-1, keepdim=True)
    if not requests.prompts.shape[2]:
        none = torch.full_like(requests.proposal_x, -1.0)
        has_reference = has_proposal.expand_as(requests.proposal_mask)
        return RowPriors(requests.proposal_x, has_reference, none, none, none, none)
    x, y = requests.prompts.unbind(-1)  # (B, L, K)
    rows_down = (y[..., None] - rows) / spacing  # (B, L, K, T) rows from a row down to a prompt
    exists = requests.prompt_mask[..., None]
    before_rows, before = (-rows_down).masked_fill(~(exists & (rows_down <= 0)), FAR).min(2)
    after_rows, after = rows_down.masked_fill(~(exists & (rows_down > 0)), FAR).min(2)
    has_before, has_after = before_rows < FAR, after_rows < FAR
    before_x, after_x = x.gather(2, before), x.gather(2, after)

    # Position of the row between the prompt above (0) and the prompt below (1).
    fraction = before_rows / (before_rows + after_rows).clamp(min=1e-6)
    fraction = torch.where(has_before & has_after, fraction, has_after.to(fraction))
    residual = x - interpolate_rows(requests.proposal_x, y / spacing)
    correction = residual.gather(2, before) * (1 - fraction) + residual.gather(2, after) * fraction
    bent = requests.proposal_x + correction.masked_fill(~(has_before | has_after), 0.0)
    straight = before_x * (1 - fraction) + after_x * fraction
    return RowPriors(
        torch.where(has_proposal, bent, straight),
        has_proposal | (has_before & has_after),
        before_x.masked_fill(~has_before, 0.0),
        before_rows.masked_fill(~has_before, -1.0),
        after_x.masked_fill(~has_after, 0.0),
        after_rows.masked_fill(~has_after, -1.0),
    )


def extrapolate_rows(xs: Tensor, visible: Tensor) -> Tensor:
    """Extend lanes to every row; returns finite x (..., T).

    `xs` (..., T): x on every row; `visible` (..., T): the rows on which it is valid.

    Beyond its ends a lane continues straight in the direction of its last rows; a gap, such as that of a lane that
    leaves the image and comes back, is bridged linearly. A lane without any valid row is 0 everywhere.
    """
    steps = xs.shape[-1]
    index = torch.arange(steps, device=xs.device)
    first = visible.float().argmax(-1, keepdim=True)
    last = steps - 1 - visible.flip(-1).float().argmax(-1, keepdim=True)
    before = torch.where(visible, index, 0).cummax(-1).values  # the nearest valid row at or above each row
    after = torch.where(visible, index, steps - 1).flip(-1).cummin(-1).values.flip(-1)
    fraction = (index - before) / (after - before).clamp(min=1)
    x_before, x_after = xs.gather(-1, before), xs.gather(-1, after)
    inside = x_before + (x_after - x_before) * fraction
    near_first, near_last = (first + 2).clamp(max=last), (last - 2).clamp(min=first)
    x_first, x_last = inside.gather(-1, first), inside.gather(-1, last)
    slope_first = (inside.gather(-1, near_first) - x_first) / (near_first - first).clamp(min=1)
    slope_last = (x_last - inside.gather(-1, near_last)) / (last - near_last).clamp(min=1)
    filled = torch.where(index < first, x_first + slope_first * (index - first), inside)
    filled = torch.where(index > last, x_last + slope_last * (index - last), filled)
    return torch.where(visible.any(-1, keepdim=True), filled, 0.0)


def interpolate_rows(values: Tensor, positions: Tensor) -> Tensor:
    """Interpolate (..., T) values at (..., K) fractional rows, linearly between rows and constant beyond the ends."""
    last = values.shape[-1] - 1
    positions = positions.clamp(0, last)
    low = positions.floor().clamp(max=last - 1).long()
    fraction = positions - low
    return values.gather(-1, low) * (1 - fraction) + values.gather(-1, low + 1) * fraction
