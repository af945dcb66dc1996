"""What a training image asks LaneLM, and the answers: questions, prompts and noise from numbers drawn beforehand.

Everything is an array operation over the batch. The draws come with the samples, so that a lesson depends on its image
and epoch alone: not on the batch around it, the number of processes, or a resume.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clrernetlm.config.schema import LaneLMLessonConfig
from clrernetlm.models.lanelm.matching import lane_iou, match_one_to_one
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import Requests, extend_question, interpolate_rows

MAX_PROMPTS = 4
# What the uniform numbers of a candidate decide; T more after them say how its input keypoints tremble.
PICK, NUMBER, KIND, GAP, ADJACENT, MISS, KNOWN, CLEAN, LEVEL = (slice(i, i + 1) for i in range(9))
PLACES, MISS_X, MISS_Y, QUESTION_SWAY, INPUT_SWAY = (slice(9 + 4 * i, 13 + 4 * i) for i in range(5))
SIDE, ENDS = slice(29, 31), slice(31, 33)
DRAWS = 33
FALSE_IOU = 0.15  # an invented question below this is about no lane; between this and `match_iou` it is left out
INVENTED_NOISE = 3  # how much farther invented questions are from their lane than those of the detector are shaken
NO_LANE, LEFT_OUT = -1, -2


@dataclass
class Lessons:
    """Requests about B images and the lanes that answer them."""

    requests: Requests
    targets: Tensor  # (B, L, T) x from the top, NaN off the lane; nowhere a number: there is no such lane
    inputs: Tensor  # (B, L, T) the same, shaken: what the model believes it wrote


def candidates(proposals: int, max_lanes: int) -> int:
    """How many requests an image could make before some are picked: so many rows of draws it needs."""
    return proposals + 2 * max_lanes + max_lanes


def build_lessons(
    config: LaneLMLessonConfig, image_size: tuple[int, int], proposals: Proposals, labels: Tensor, draws: Tensor
) -> Lessons:
    """Proposals of the detector, labels (B, M, T) x in network pixels (NaN off the lane), draws -> lessons.

    `draws` (B, candidates, DRAWS + T) uniform in [0, 1).
    """
    there = labels.isfinite()
    truth = extend_question(labels.nan_to_num(0.0), there)
    count, lanes, width = proposals.xs.shape[1], labels.shape[1], image_size[0]
    found, moved, far, bare = draws.split([count, lanes, lanes, lanes], dim=1)
    near = truth + width * sway(moved[..., QUESTION_SWAY], INVENTED_NOISE * config.question_noise, labels.shape[-1])
    beside = truth + width * sideways(far[..., SIDE], there)
    picks = (
        questions_of_detector(config, width, proposals, labels, found).pick(config.proposals),
        invented_questions(config, width, near, labels, moved).pick(config.invented - config.invented // 2),
        invented_questions(config, width, beside, labels, far).pick(config.invented // 2),
        unasked_lanes(labels, bare).pick(config.unasked),
    )
    chosen = Group(*(torch.cat(parts, dim=1) for parts in zip(*(pick.tensors() for pick in picks), strict=True)))
    return finish(config, image_size, chosen, truth, labels)


@dataclass
class Group:
    """Candidates of one kind: (B, n, T) questions and their rows, (B, n) scores and lanes, (B, n, D) draws."""

    question: Tensor
    shown: Tensor
    score: Tensor
    about: Tensor
    draws: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """Its tensors, in the order of the fields."""
        return self.question, self.shown, self.score, self.about, self.draws

    def pick(self, count: int) -> Group:
        """`count` of the candidates at random, those that are left out last."""
        order = (self.draws[..., PICK].squeeze(-1) + 2.0 * (self.about == LEFT_OUT)).argsort(dim=1)[:, :count]
        tensors = self.tensors()
        picked = [
            t.gather(1, order) if t.ndim == 2 else t.gather(1, order[..., None].expand(-1, -1, t.shape[-1]))
            for t in tensors
        ]
        return Group(*picked)


def questions_of_detector(
    config: LaneLMLessonConfig, width: int, proposals: Proposals, labels: Tensor, draws: Tensor
) -> Group:
    """Proposals, a little shaken: about the lane they match, or about none; second ones about a lane are left out."""
    iou = lane_iou(proposals.xs / width, proposals.shown, labels.nan_to_num(0.0) / width, labels.isfinite())
    matched = match_one_to_one(iou, config.match_iou)
    second = (matched == NO_LANE) & (iou.amax(-1) >= config.match_iou)
    unused = ~proposals.shown.any(-1) | (proposals.scores < config.proposal_threshold)
    noise = sway(draws[..., QUESTION_SWAY], config.question_noise, labels.shape[-1])
    return Group(
        extend_question(proposals.xs, proposals.shown) + width * noise,
        trim(proposals.shown, draws[..., ENDS]),
        proposals.scores,
        matched.masked_fill(second | unused, LEFT_OUT),
        draws,
    )


def invented_questions(
    config: LaneLMLessonConfig, width: int, question: Tensor, labels: Tensor, draws: Tensor
) -> Group:
    """Moved labels (B, M, T): what they are about follows from where they ended up."""
    there = labels.isfinite()
    rows = trim(there, draws[..., ENDS]) & (question >= 0) & (question < width)
    best, lane = lane_iou(question / width, rows, labels.nan_to_num(0.0) / width, there).max(-1)
    about = torch.where(best >= config.match_iou, lane, torch.where(best < FALSE_IOU, NO_LANE, LEFT_OUT))
    about = about.masked_fill(~there.any(-1) | (rows.sum(-1) < 2), LEFT_OUT)
    return Group(question, rows, torch.full_like(best, torch.nan), about, draws)


def unasked_lanes(labels: Tensor, draws: Tensor) -> Group:
    """Every label, without a question."""
    there = labels.isfinite()
    lane = torch.arange(labels.shape[1], device=labels.device).expand(labels.shape[:2])
    return Group(
        torch.zeros_like(labels),
        torch.zeros_like(there),
        torch.full_like(labels[..., 0], torch.nan),
        lane.masked_fill(~there.any(-1), LEFT_OUT),
        draws,
    )


def finish(
    config: LaneLMLessonConfig, image_size: tuple[int, int], chosen: Group, truth: Tensor, labels: Tensor
) -> Lessons:
    """Prompts, targets and shaken inputs for the picked requests."""
    width, height = image_size
    steps = labels.shape[-1]
    lane = chosen.about.clamp(min=0)[..., None].expand(-1, -1, steps)
    has_lane = chosen.about >= 0
    targets = labels.gather(1, lane).masked_fill(~has_lane[..., None], torch.nan)
    curve = truth.gather(1, lane)
    has_question = chosen.shown.any(-1)

    u = chosen.draws
    number_draw, kind, known = u[..., NUMBER].squeeze(-1), u[..., KIND].squeeze(-1), u[..., KNOWN].squeeze(-1)
    # How many prompts: with a question none in three cases of five; without one a start point or 1 to 4 clicks.
    number = torch.where(has_question & (kind < 0.6), 0.0, 1 + (number_draw * MAX_PROMPTS).floor())
    is_start = ~has_question & (kind < 0.35)
    number = torch.where(is_start, 1.0, number).masked_fill(~has_lane, 0.0)

    rows = labels.gather(1, lane).isfinite()
    first = rows.float().argmax(-1)[..., None]
    last = steps - 1 - rows.flip(-1).float().argmax(-1)[..., None]
    k = torch.arange(MAX_PROMPTS, device=u.device)
    adjacent = last - k * (1 + 2 * u[..., GAP])
    anywhere = last - (k + u[..., PLACES]) / number.clamp(min=1)[..., None] * (last - first)
    is_adjacent = u[..., ADJACENT] < 0.4
    place = torch.where(is_adjacent, adjacent, anywhere)
    place = torch.where(is_start[..., None], last - 3 * u[..., PLACES].square(), place)
    prompted = (
        (k < number[..., None]) & has_lane[..., None] & (~is_adjacent | (adjacent >= first) | is_start[..., None])
    )
    place = torch.minimum(torch.maximum(place, first), last)
    miss = width * config.prompt_noise * torch.where(is_start[..., None], 3.0, u[..., MISS])
    prompt_x = interpolate_rows(curve, place) + miss * (2 * u[..., MISS_X] - 1)
    prompt_y = place * (height / steps) + 0.3 * miss * (2 * u[..., MISS_Y] - 1)

    # Keypoints the model believes it wrote: clean in one case of four, else beside the lane and trembling.
    tremble = normal(u[..., DRAWS:])
    level = width * config.input_noise * u[..., LEVEL]
    wander = width * sway(u[..., INPUT_SWAY], config.input_noise, steps)
    wander = wander + 0.3 * level * tremble + 0.12 * level * tremble.flip(-1).cumsum(-1)
    inputs = targets + wander * (u[..., CLEAN] < 0.75)

    score = torch.where(known < 0.2, torch.nan, chosen.score)
    requests = Requests(
        question=chosen.question * has_question[..., None],
        shown=chosen.shown,
        score=score,
        prompts=torch.stack([prompt_x, prompt_y], dim=-1),
        prompted=prompted,
        is_start=is_start,
        asked=(chosen.about != LEFT_OUT) & (has_question | prompted.any(-1)),
    )
    return Lessons(requests, targets, inputs)


def normal(uniform: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) -> standard normal ones, at most 4 from 0."""
    return torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4))


def sway(draws: Tensor, deviation: float, steps: int) -> Tensor:
    """(B, n, 4) draws -> (B, n, T) sideways noise: an offset, a slope and a bend, of random strength."""
    u = torch.linspace(-0.5, 0.5, steps, device=draws.device)
    g = normal(draws)
    shape = 0.8 * g[..., :1] + 1.5 * g[..., 1:2] * u + 2 * g[..., 2:3] * (u.square() - 1 / 12)
    return deviation * draws[..., 3:] * shape


def sideways(draws: Tensor, there: Tensor) -> Tensor:
    """(B, n, 2) draws, (B, n, T) rows of lanes -> (B, n, T): a move to the side as far as a lane or so is wide.

    It shrinks with the height in the image, as widths of a road do.
    """
    steps = there.shape[-1]
    rows = torch.arange(steps, device=draws.device) / steps
    top = there.float().argmax(-1, keepdim=True) / steps
    near = ((rows - top + 0.1) / (1.1 - top)).clamp(min=0.0)
    side = torch.where(draws[..., :1] < 0.5, -1.0, 1.0)
    return side * (0.06 + 0.25 * draws[..., 1:]) * near


def trim(shown: Tensor, draws: Tensor) -> Tensor:
    """(B, n, T) rows of questions -> the same with up to three rows less or more at either end, never below two."""
    steps = shown.shape[-1]
    index = torch.arange(steps, device=shown.device)
    exists = shown.any(-1, keepdim=True)
    first = shown.float().argmax(-1, keepdim=True)
    last = steps - 1 - shown.flip(-1).float().argmax(-1, keepdim=True)
    top = first + (draws[..., :1] * 7).floor() - 3
    bottom = last + ((draws[..., 1:] * 10).floor() - 6).clamp(max=0)  # most lanes reach the bottom of the image
    bottom = torch.maximum(bottom, torch.minimum(top + 1, last.to(bottom)))
    return (index >= torch.minimum(top, bottom - 1)) & (index <= bottom) & exists
