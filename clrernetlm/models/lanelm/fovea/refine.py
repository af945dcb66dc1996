"""Refines LaneLM's answers with the fovea: round after round it looks along the curve that it found before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from clrernetlm.models.lanelm.fovea.fit import fit_offsets, lane_ends
from clrernetlm.models.lanelm.fovea.network import FoveaInput, FoveaOutput, fovea_features
from clrernetlm.models.lanelm.fovea.patches import ROWS_PER_STEP, FrameCrop, patches_of_images, row_reach
from clrernetlm.models.lanelm.fovea.reference import Clicks, clicks_of_requests, through_clicks
from clrernetlm.models.lanelm.greedy_decoding import Answers, LaneDetails
from clrernetlm.models.lanelm.requests import Requests, extrapolate_rows

RunFovea = Callable[[FoveaInput], FoveaOutput]
FREE_MISS = 0.5  # mean distance of clicks from LaneLM's answer, in reaches, up to which its score counts as it is


@torch.no_grad()
def refine(
    run: RunFovea,
    answers: Answers,
    requests: Requests,
    crops: Sequence[FrameCrop],
    rounds: int,
    score_weight: float,
    click_sigma: float,
) -> Answers:
    """Move answers (B, L, T) onto the paint that `run` sees in the crops of B frames, and through their clicks.

    The first round looks along the answer, bent through the clicks, and every further one along the result of the one
    before. The ends, words and visible rows are those of the last round. `score_weight` is the exponent of the fovea's
    confidence in the score, LaneLM's is 1 minus it; of an answer that passes beside the clicks the fovea's alone
    counts. `click_sigma`: the standard deviation of clicks in network pixels.
    """
    width, height = crops[0].network_size if crops else (1, 1)
    steps = answers.xs.shape[-1]
    clicks = clicks_of_requests(requests, height / steps)
    has_base = answers.visible.any(-1)
    used = requests.request_mask & (has_base | clicks.any)
    if not used.any():
        return answers
    reach = row_reach(steps, width).to(answers.xs.device)
    base = extrapolate_rows(answers.xs.float(), answers.visible)
    curve, miss = through_clicks(base, has_base, clicks, reach)
    output: FoveaOutput | None = None
    for _ in range(max(rounds, 1)):
        rows, lane = fovea_features(curve, answers.visible, clicks, answers.score, (width, height))
        output = run(FoveaInput(patches_of_images(crops, curve, used), rows[used], lane[used]))
        mean, spread = torch.zeros_like(curve), torch.ones_like(curve)
        mean[used], spread[used] = output.mean_offset(), output.spread.clamp(-6, 2).exp()
        curve = fit_offsets(mean, spread, curve, clicks, reach, click_sigma)
    assert output is not None
    return _described(answers, curve, output, used, clicks, miss, score_weight)


def _described(
    answers: Answers, curve: Tensor, output: FoveaOutput, used: Tensor, clicks: Clicks, miss: Tensor, weight: float
) -> Answers:
    """Build the answers from the last round: ends, score, words and visible rows."""
    steps = curve.shape[-1]
    logits = torch.full((*used.shape, steps * ROWS_PER_STEP), -1.0, device=curve.device)
    logits[used] = output.on_lane.float()
    ends, _ = lane_ends(logits)
    ends = ends / ROWS_PER_STEP
    rows = torch.arange(steps, device=curve.device, dtype=curve.dtype)
    last = (clicks.exists.sum(-1, keepdim=True) - 1).clamp(min=0)
    lowest = clicks.row.gather(-1, last)
    empty = ends[..., 1:] <= ends[..., :1]
    clicked = clicks.any[..., None]
    top = torch.where(clicked & (empty | (clicks.row[..., :1] < ends[..., :1])), clicks.row[..., :1], ends[..., :1])
    bottom = torch.where(clicked & (empty | (lowest > ends[..., 1:])), lowest, ends[..., 1:])
    visible = (rows >= top) & (rows <= bottom) & used[..., None]

    lane = torch.zeros_like(answers.score)
    lane[used] = output.lane.sigmoid()
    far = (miss.abs() - FREE_MISS).clamp(min=0)
    share = torch.where(clicks.any & (miss.abs() > 2 * FREE_MISS), 1.0, weight)
    score = answers.score.clamp(min=1e-6) ** (1 - share) * lane.clamp(min=1e-6) ** share * torch.exp(-far)
    details = LaneDetails(
        torch.cat([top, bottom], -1),
        _scatter(output.seen > 0, used),
        _scatter(output.type.argmax(-1), used),
        _scatter(output.colour.argmax(-1), used),
    )
    return replace(answers, xs=curve, visible=visible, score=torch.where(used, score, 0.0), details=details)


def _scatter(values: Tensor, used: Tensor) -> Tensor:
    """Put values (N, ...) into the slots `used` (B, L) of zeros."""
    filled = values.new_zeros(*used.shape, *values.shape[1:])
    filled[used] = values
    return filled
