"""Requests at prediction time: about the detector's lanes, from their start points, from clicked points."""

from __future__ import annotations

import torch
from torch import Tensor

from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import Requests, extend_question, interpolate_rows

CLICK_REACH = 0.05  # of the image width: how far clicks may be from the proposal they are about


def ask_about_lanes(proposals: Proposals) -> Requests:
    """One request per proposal (B, P): is there a lane, and where exactly? No prompts."""
    none = proposals.xs.new_zeros(*proposals.scores.shape, 0, 2)
    return _requests(proposals, none, none[..., 0].bool(), is_start=False)


def ask_from_starts(proposals: Proposals, rows: Tensor) -> Requests:
    """One request per proposal (B, P) that tells its lowest point and nothing else; `rows` (T,) y in network pixels."""
    shown = proposals.shown
    last = shown.shape[-1] - 1 - shown.flip(-1).float().argmax(-1, keepdim=True)
    points = torch.stack([proposals.xs.gather(-1, last), rows[last]], dim=-1)  # (B, P, 1, 2)
    nothing = Proposals(proposals.xs, torch.zeros_like(shown), torch.full_like(proposals.scores, torch.nan))
    return _requests(nothing, points, shown.any(-1, keepdim=True), is_start=True)


def ask_with_clicks(proposals: Proposals, points: Tensor, there: Tensor, rows: Tensor, reach: float) -> Requests:
    """One request per set of clicks: `points` (B, L, K, 2) x, y in network pixels, `there` (B, L, K) which exist.

    The proposal nearest to the clicks becomes the question if it passes them at less than `reach` pixels on average; a
    reach of 0 asks with the clicks alone. `rows` (T,) y in network pixels.
    """
    batch, lanes, clicks = there.shape
    steps = proposals.xs.shape[-1]
    question = points.new_zeros(batch, lanes, steps)
    shown = torch.zeros_like(question, dtype=torch.bool)
    score = torch.full_like(question[..., 0], torch.nan)
    if reach > 0 and proposals.xs.shape[1]:
        extended = extend_question(proposals.xs, proposals.shown)
        places = points[..., 1].flatten(1) / (rows[1] - rows[0])  # (B, L K) in rows
        at_clicks = interpolate_rows(extended, places[:, None].expand(-1, extended.shape[1], -1))
        apart = (at_clicks.unflatten(-1, (lanes, clicks)) - points[..., 0][:, None]).abs()  # (B, P, L, K)
        apart = (apart * there[:, None]).sum(-1) / there.sum(-1).clamp(min=1)[:, None]
        apart = apart.masked_fill(~proposals.shown.any(-1)[..., None], torch.inf)
        distance, nearest = apart.min(1)  # (B, L)
        near = (distance < reach) & there.any(-1)
        pick = nearest[..., None].expand(-1, -1, steps)
        question, shown = proposals.xs.gather(1, pick), proposals.shown.gather(1, pick) & near[..., None]
        score = proposals.scores.gather(1, nearest).masked_fill(~near, torch.nan)
    return _requests(Proposals(question, shown, score), points, there, is_start=False)


def _requests(questions: Proposals, prompts: Tensor, prompted: Tensor, is_start: bool) -> Requests:
    shown = questions.shown
    return Requests(
        question=extend_question(questions.xs, shown),
        shown=shown,
        score=questions.scores,
        prompts=prompts,
        prompted=prompted,
        is_start=torch.full_like(questions.scores, is_start, dtype=torch.bool),
        asked=shown.any(-1) | prompted.any(-1),
    )
