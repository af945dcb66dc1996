"""Builds LaneLM's training requests: proposals, prompts, targets and noise, from random numbers drawn beforehand.

Everything is vectorised over the batch. The random numbers come with the samples, so that the requests of an image
depend on that image and the epoch only: not on the rest of the batch, the number of processes, or a resume.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clrernetlm.config.schema import LaneLMTrainingRequestsConfig
from clrernetlm.models.clrernet.lane_iou import width_scale
from clrernetlm.models.clrernet.targets import EMPTY
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import Requests, extrapolate_rows, interpolate_rows

MAX_PROMPTS = 4
# Indices of a candidate's uniform numbers by their purpose; T more draw the per-keypoint noise.
PICK, NUM_PROMPTS, KIND, GAP, ADJACENT, MISS, KNOWN_SCORE, CLEAN, LEVEL = (slice(i, i + 1) for i in range(9))
PROMPT_ROWS, MISS_X, MISS_Y, PROPOSAL_NOISE, INPUT_NOISE = (slice(9 + 4 * i, 13 + 4 * i) for i in range(5))
LATERAL_SHIFT, END_JITTER = slice(29, 31), slice(31, 33)
DRAWS = 33
FALSE_IOU = 0.15  # synthetic proposals below this match no lane; between this and `match_iou` they are left out
SYNTHETIC_NOISE = 3  # noise on synthetic proposals, relative to that on the detector's
NO_LANE, LEFT_OUT = -1, -2  # in place of the index of a label
HALF_LANE_WIDTH = 30 / 800  # of the wide LaneIoU that matches proposals to labels, fraction of the image width


@dataclass
class TrainingRequests:
    """Requests about B images with their target lanes; x from the top, NaN off the lane."""

    requests: Requests
    targets: Tensor  # (B, L, T) network pixels; all NaN: no such lane
    inputs: Tensor  # (B, L, T) the targets with noise: previous keypoints that the model gets as input
    label: Tensor  # (B, L) int64 index of the target lane among the labels, NO_LANE or LEFT_OUT


def num_candidates(max_proposals: int, max_lanes: int) -> int:
    """Count the candidate requests of an image, of which some are picked: the rows of random numbers it needs."""
    return max_proposals + 2 * max_lanes + max_lanes


def build_training_requests(
    config: LaneLMTrainingRequestsConfig,
    image_size: tuple[int, int],
    proposals: Proposals,
    labels: Tensor,
    draws: Tensor,
) -> TrainingRequests:
    """Build training requests from the detector's proposals and labels (B, M, T), x in network pixels, NaN off lanes.

    `draws` (B, num_candidates, DRAWS + T) uniform in [0, 1). `image_size` (width, height) in network pixels.
    """
    exists = labels.isfinite()
    curves = extrapolate_rows(labels.nan_to_num(0.0), exists)
    count, lanes, width = proposals.xs.shape[1], labels.shape[1], image_size[0]
    detector_draws, near_draws, far_draws, prompt_draws = draws.split([count, lanes, lanes, lanes], dim=1)
    deviation = SYNTHETIC_NOISE * config.proposal_noise
    near = curves + width * smooth_noise(near_draws[..., PROPOSAL_NOISE], deviation, labels.shape[-1])
    far = curves + width * lateral_shift(far_draws[..., LATERAL_SHIFT], exists)
    num_far = config.synthetic_proposals // 2
    num_near = config.synthetic_proposals - num_far
    groups = (
        detector_proposals(config, width, proposals, labels, detector_draws).pick(config.proposals),
        synthetic_proposals(config, width, near, labels, near_draws).pick(num_near),
        synthetic_proposals(config, width, far, labels, far_draws).pick(num_far),
        prompt_only_requests(labels, prompt_draws).pick(config.prompt_only),
    )
    tensors = zip(*(group.tensors() for group in groups), strict=True)
    picked = CandidateRequests(*(torch.cat(parts, dim=1) for parts in tensors))
    return add_prompts_and_targets(config, image_size, picked, curves, labels)


@dataclass
class CandidateRequests:
    """n candidate requests of one kind per image."""

    proposal_x: Tensor  # (B, n, T)
    proposal_mask: Tensor  # (B, n, T) bool
    score: Tensor  # (B, n) the detector's confidence, NaN: unknown
    label: Tensor  # (B, n) int64 index of the target lane, NO_LANE or LEFT_OUT
    draws: Tensor  # (B, n, DRAWS + T)

    def tensors(self) -> tuple[Tensor, ...]:
        """List the tensors in the order of the fields."""
        return self.proposal_x, self.proposal_mask, self.score, self.label, self.draws

    def pick(self, count: int) -> CandidateRequests:
        """Pick `count` of the candidates at random; those that are left out come last."""
        order = (self.draws[..., PICK].squeeze(-1) + 2.0 * (self.label == LEFT_OUT)).argsort(dim=1)[:, :count]
        picked = [
            t.gather(1, order) if t.ndim == 2 else t.gather(1, order[..., None].expand(-1, -1, t.shape[-1]))
            for t in self.tensors()
        ]
        return CandidateRequests(*picked)


def detector_proposals(
    config: LaneLMTrainingRequestsConfig, width: int, proposals: Proposals, labels: Tensor, draws: Tensor
) -> CandidateRequests:
    """Turn the detector's proposals into candidates, with noise; duplicates of a matched lane are left out."""
    iou = lane_iou(proposals.xs / width, proposals.visible, labels.nan_to_num(0.0) / width, labels.isfinite())
    matched = match_one_to_one(iou, config.match_iou)
    duplicate = (matched == NO_LANE) & (iou.amax(-1) >= config.match_iou)
    unused = ~proposals.visible.any(-1) | (proposals.scores < config.proposal_threshold)
    noise = smooth_noise(draws[..., PROPOSAL_NOISE], config.proposal_noise, labels.shape[-1])
    return CandidateRequests(
        extrapolate_rows(proposals.xs, proposals.visible) + width * noise,
        jitter_ends(proposals.visible, draws[..., END_JITTER]),
        proposals.scores,
        matched.masked_fill(duplicate | unused, LEFT_OUT),
        draws,
    )


def synthetic_proposals(
    config: LaneLMTrainingRequestsConfig, width: int, moved: Tensor, labels: Tensor, draws: Tensor
) -> CandidateRequests:
    """Turn moved labels (B, M, T) into candidates, matched to the lane that they now overlap most, or to none."""
    exists = labels.isfinite()
    rows = jitter_ends(exists, draws[..., END_JITTER]) & (moved >= 0) & (moved < width)
    best, lane = lane_iou(moved / width, rows, labels.nan_to_num(0.0) / width, exists).max(-1)
    label = torch.where(best >= config.match_iou, lane, torch.where(best < FALSE_IOU, NO_LANE, LEFT_OUT))
    label = label.masked_fill(~exists.any(-1) | (rows.sum(-1) < 2), LEFT_OUT)
    return CandidateRequests(moved, rows, torch.full_like(best, torch.nan), label, draws)


def prompt_only_requests(labels: Tensor, draws: Tensor) -> CandidateRequests:
    """Turn every label into a candidate without a proposal."""
    exists = labels.isfinite()
    lane = torch.arange(labels.shape[1], device=labels.device).expand(labels.shape[:2])
    return CandidateRequests(
        torch.zeros_like(labels),
        torch.zeros_like(exists),
        torch.full_like(labels[..., 0], torch.nan),
        lane.masked_fill(~exists.any(-1), LEFT_OUT),
        draws,
    )


def add_prompts_and_targets(
    config: LaneLMTrainingRequestsConfig,
    image_size: tuple[int, int],
    picked: CandidateRequests,
    curves: Tensor,
    labels: Tensor,
) -> TrainingRequests:
    """Add prompts, targets and noisy inputs to the picked candidates; `curves`: the labels, extrapolated."""
    steps = labels.shape[-1]
    lane = picked.label.clamp(min=0)[..., None].expand(-1, -1, steps)
    has_lane = picked.label >= 0
    targets = labels.gather(1, lane).masked_fill(~has_lane[..., None], torch.nan)
    has_proposal = picked.proposal_mask.any(-1)
    prompts, prompt_mask, is_start = draw_prompts(
        config, image_size, picked, curves.gather(1, lane), labels.gather(1, lane).isfinite()
    )
    score_unknown = picked.draws[..., KNOWN_SCORE].squeeze(-1) < 0.2
    requests = Requests(
        proposal_x=picked.proposal_x * has_proposal[..., None],
        proposal_mask=picked.proposal_mask,
        score=torch.where(score_unknown, torch.nan, picked.score),
        prompts=prompts,
        prompt_mask=prompt_mask,
        is_start=is_start,
        request_mask=(picked.label != LEFT_OUT) & (has_proposal | prompt_mask.any(-1)),
    )
    noise = input_noise(config, image_size[0], picked.draws, steps)
    return TrainingRequests(requests, targets, targets + noise, picked.label)


def draw_prompts(
    config: LaneLMTrainingRequestsConfig,
    image_size: tuple[int, int],
    picked: CandidateRequests,
    curves: Tensor,
    on_lane: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw prompts near the target lanes `curves` (B, L, T), which are on the rows `on_lane` (B, L, T).

    With a proposal there are none in three cases of five; without one a start point, or 1 to 4 clicks. Returns prompts
    (B, L, MAX_PROMPTS, 2), which of them exist (B, L, MAX_PROMPTS), and which requests have a start point (B, L).
    """
    width, height = image_size
    steps, u = curves.shape[-1], picked.draws
    has_lane, has_proposal = picked.label >= 0, picked.proposal_mask.any(-1)
    kind = u[..., KIND].squeeze(-1)
    drawn = 1 + (u[..., NUM_PROMPTS].squeeze(-1) * MAX_PROMPTS).floor()
    number = torch.where(has_proposal & (kind < 0.6), 0.0, drawn)
    is_start = ~has_proposal & (kind < 0.35)
    number = torch.where(is_start, 1.0, number).masked_fill(~has_lane, 0.0)

    first = on_lane.float().argmax(-1)[..., None]
    last = steps - 1 - on_lane.flip(-1).float().argmax(-1)[..., None]
    k = torch.arange(MAX_PROMPTS, device=u.device)
    adjacent = last - k * (1 + 2 * u[..., GAP])
    anywhere = last - (k + u[..., PROMPT_ROWS]) / number.clamp(min=1)[..., None] * (last - first)
    is_adjacent = u[..., ADJACENT] < 0.4
    row = torch.where(is_adjacent, adjacent, anywhere)  # fractional
    row = torch.where(is_start[..., None], last - 3 * u[..., PROMPT_ROWS].square(), row)
    prompt_mask = (
        (k < number[..., None]) & has_lane[..., None] & (~is_adjacent | (adjacent >= first) | is_start[..., None])
    )
    row = torch.minimum(torch.maximum(row, first), last)
    miss = width * config.prompt_noise * torch.where(is_start[..., None], 3.0, u[..., MISS])
    x = interpolate_rows(curves, row) + miss * (2 * u[..., MISS_X] - 1)
    y = row * (height / steps) + 0.3 * miss * (2 * u[..., MISS_Y] - 1)
    return torch.stack([x, y], dim=-1), prompt_mask, is_start


def input_noise(config: LaneLMTrainingRequestsConfig, width: int, draws: Tensor, steps: int) -> Tensor:
    """Draw noise (B, L, T) in pixels for the keypoints that the model gets as its own previous output.

    None in one case of four, else a smooth displacement, noise per keypoint, and drift.
    """
    keypoint_noise = normal(draws[..., DRAWS:])
    level = width * config.input_noise * draws[..., LEVEL]
    drift = keypoint_noise.flip(-1).cumsum(-1)
    noise = width * smooth_noise(draws[..., INPUT_NOISE], config.input_noise, steps)
    noise = noise + 0.3 * level * keypoint_noise + 0.12 * level * drift
    return noise * (draws[..., CLEAN] < 0.75)


def normal(uniform: Tensor) -> Tensor:
    """Convert uniform numbers in [0, 1) to standard normal ones, within +- 4."""
    normal: Tensor = torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4))
    return normal


def smooth_noise(draws: Tensor, deviation: float, steps: int) -> Tensor:
    """Draw smooth sideways noise: (B, n, 4) draws -> (B, n, T), an offset, a slope and a bend of random strength."""
    u = torch.linspace(-0.5, 0.5, steps, device=draws.device)
    g = normal(draws)
    shape = 0.8 * g[..., :1] + 1.5 * g[..., 1:2] * u + 2 * g[..., 2:3] * (u.square() - 1 / 12)
    return deviation * draws[..., 3:] * shape


def lateral_shift(draws: Tensor, on_lane: Tensor) -> Tensor:
    """Draw sideways shifts of about a lane's width: (B, n, 2) draws, (B, n, T) rows of lanes -> (B, n, T).

    Fractions of the image width; they shrink towards the top of the lane, as the width of a road does.
    """
    steps = on_lane.shape[-1]
    rows = torch.arange(steps, device=draws.device) / steps
    top = on_lane.float().argmax(-1, keepdim=True) / steps
    nearness = ((rows - top + 0.1) / (1.1 - top)).clamp(min=0.0)
    side = torch.where(draws[..., :1] < 0.5, -1.0, 1.0)
    return side * (0.06 + 0.25 * draws[..., 1:]) * nearness


def jitter_ends(visible: Tensor, draws: Tensor) -> Tensor:
    """Move the ends of visible rows (B, n, T) at random: the top by up to 3 rows either way, the bottom up by up to 6.

    At least two rows remain. `draws` (B, n, 2).
    """
    steps = visible.shape[-1]
    index = torch.arange(steps, device=visible.device)
    exists = visible.any(-1, keepdim=True)
    first = visible.float().argmax(-1, keepdim=True)
    last = steps - 1 - visible.flip(-1).float().argmax(-1, keepdim=True)
    top = first + (draws[..., :1] * 7).floor() - 3
    bottom = last + ((draws[..., 1:] * 10).floor() - 6).clamp(max=0)  # most lanes reach the bottom of the image
    bottom = torch.maximum(bottom, torch.minimum(top + 1, last.to(bottom)))
    return (index >= torch.minimum(top, bottom - 1)) & (index <= bottom) & exists


def lane_iou(xs: Tensor, visible: Tensor, other_xs: Tensor, other_visible: Tensor) -> Tensor:
    """Compute the LaneIoU of P with G lanes: relative x (B, P, T) and (B, G, T), visible rows -> (B, P, G).

    Rows that only one of the lanes has add that lane's width to the union. Slopes are measured in CULane's proportions,
    whatever the viewport. Source: CLRerNet, arXiv 2305.08366.
    """

    def half_widths(x: Tensor, rows: Tensor) -> Tensor:
        return HALF_LANE_WIDTH * width_scale(torch.where(rows, x, EMPTY), ignore_missing=True) * rows

    widths, other_widths = half_widths(xs, visible)[:, :, None], half_widths(other_xs, other_visible)[:, None]
    both = visible[:, :, None] & other_visible[:, None]
    overlap_width = widths + other_widths - (xs[:, :, None] - other_xs[:, None]).abs()  # negative: apart
    overlap = torch.where(
        both, torch.minimum(overlap_width, 2 * torch.minimum(widths, other_widths)).clamp(min=0), 0.0
    ).sum(-1)
    return overlap / (2 * (widths + other_widths).sum(-1) - overlap).clamp(min=1e-9)


def match_one_to_one(iou: Tensor, threshold: float) -> Tensor:
    """Match proposals to lanes greedily, the best pair first: (B, P, G) IoU -> (B, P) int64 lane index, -1 for none."""
    iou = iou.clone()
    batch, num_proposals, num_lanes = iou.shape
    matched = torch.full((batch, num_proposals), NO_LANE, dtype=torch.int64, device=iou.device)
    if not num_proposals or not num_lanes:
        return matched
    images = torch.arange(batch, device=iou.device)
    for _ in range(min(num_proposals, num_lanes)):
        value, index = iou.flatten(1).max(-1)
        proposal, lane = index // num_lanes, index % num_lanes
        is_match = value >= threshold
        matched[images, proposal] = torch.where(is_match, lane, matched[images, proposal])
        iou[images, proposal] = torch.where(is_match[:, None], -1.0, iou[images, proposal])
        iou[images, :, lane] = torch.where(is_match[:, None], -1.0, iou[images, :, lane])
    return matched
