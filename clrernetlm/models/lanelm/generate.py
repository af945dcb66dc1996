"""Free-running decoding: prefill with the request, then one keypoint at a time for all lanes of all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clrernetlm.models.lanelm.cached_decoding import Cache, Writer
from clrernetlm.models.lanelm.context import Brief, Logits, Scene
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import Requests

NEAR = 0.006  # of the image width: two lanes this far apart, 10 of 1640 pixels, overlap by half
WINDOW = 4  # bins on either side of the most likely one that x is averaged over


@dataclass
class Answers:
    """What LaneLM wrote, (B, L, T) rows from the top."""

    xs: Tensor  # x in network pixels
    shown: Tensor  # bool: rows the lane is on
    score: Tensor  # (B, L) in [0, 1], that there is such a lane and runs there; 0 where nothing was asked


def prefill(model: LaneLM, scene: Scene, brief: Brief) -> tuple[Logits, Cache]:
    """Read the tokens before the answer; logits (N, 1, ...) of the first keypoint, and the cache to go on with."""
    tokens, before = brief.tokens, brief.tokens.shape[1]
    total = before + model.config.num_steps
    visible = torch.cat(
        [brief.visible, torch.zeros(tokens.shape[0], total - before, dtype=torch.bool, device=tokens.device)], dim=1
    )[:, None, None, :]
    cache = Cache([], [], visible, before)
    last = model.decoder.stack[-1]
    for layer, visual in zip(model.decoder.stack, scene.visual, strict=True):
        normed = layer.norm_self(tokens)
        own = layer.own_keys_values(tokens, normed)
        for store, new in zip((cache.keys, cache.values), own, strict=True):
            room = new.new_zeros(*new.shape[:2], total, new.shape[-1])
            room[:, :, :before] = new
            store.append(room)
        if layer is last:  # of whose results only the newest is read
            tokens, normed = tokens[:, -1:], normed[:, -1:]
        tokens = layer.extend(tokens, own, visual, visible[..., :before], normed=normed)
    return model.logits(model.decoder.norm(tokens)), cache


@torch.no_grad()
def generate(model: LaneLM, levels: Sequence[Tensor], requests: Requests, cached: bool = True) -> Answers:
    """Answer all requests greedily; pyramid levels as for `LaneLM.look`.

    After the first row, which the model chooses, the rows follow each other until the model ends the lane. x is the
    mean of the offset bins, or of the bins of the image around the most likely one. The score is the probability of a
    lane, read off its first word, times the mean probability of its keypoints being right. `cached=False` computes
    every step from the start, for tests.
    """
    on_host = requests.asked.device.type == "cpu"  # elsewhere every look at a value would make the host wait
    if on_host and not (used := requests.asked.any(0)).all():
        return _spread(generate(model, levels, requests[:, used], cached), used) if used.any() else _nothing(requests)
    scene = model.look(levels)
    brief = model.read(scene, requests)
    batch, lanes, steps = requests.question.shape
    logits, cache = prefill(model, scene, brief)
    y = logits.y[:, 0].float().unflatten(0, (batch, lanes))
    lane = 1 - y.softmax(-1)[..., steps]
    first = row = y[..., :steps].argmax(-1)
    x, sure = next_x(model, brief, logits, row)
    going = requests.asked
    asked = requests.asked if on_host else None
    writer = (Writer if cached else Rewriter)(model, scene, brief, cache, first, asked)
    xs, wrote, certainty = [x], [going], sure * going
    previous = torch.full_like(x, torch.nan)
    for place in range(steps - 1):
        logits = writer.step(place, x, previous)
        y = logits.y[:, 0].float().unflatten(0, (batch, lanes))
        row = row + 1
        ahead = row.clamp(max=steps - 1)
        goes_on = y.gather(-1, ahead[..., None])[..., 0] >= y[..., steps]
        going = going & goes_on & (row < steps)
        if on_host and not going.any():
            break
        previous = x
        x, sure = next_x(model, brief, logits, ahead)
        xs.append(x)
        wrote.append(going)
        certainty = certainty + sure * going
    written = torch.stack(wrote, dim=-1)  # (B, L, places)
    place = torch.arange(steps, device=x.device) - first[..., None]  # of every row
    inside = place.clamp(0, len(xs) - 1)
    shown = written.gather(-1, inside) & (place == inside)
    found = torch.stack(xs, dim=-1).gather(-1, inside) * shown
    score = lane * requests.asked * certainty / written.sum(-1).clamp(min=1)
    return Answers(model.written(found), model.written(shown), score)


def _nothing(requests: Requests) -> Answers:
    return Answers(torch.zeros_like(requests.question), requests.shown & False, torch.zeros_like(requests.score))


def _spread(answers: Answers, used: Tensor) -> Answers:
    """Answers (B, l, ...) in the places `used` (L,) of (B, L, ...), nothing in the others."""
    place = used.cumsum(0) - 1

    def spread(values: Tensor) -> Tensor:
        empty = values.new_zeros(())
        return torch.where(used.view(-1, *[1] * (values.ndim - 2)), values[:, place.clamp(min=0)], empty)

    return Answers(spread(answers.xs), spread(answers.shown), spread(answers.score))


class Rewriter:
    """`Writer` without a memory: computes all tokens again for every keypoint."""

    def __init__(
        self, model: LaneLM, scene: Scene, brief: Brief, cache: Cache, first: Tensor, asked: Tensor | None
    ) -> None:
        self.model, self.scene, self.brief, self.first = model, scene, brief, first
        self.tokens = [brief.tokens]

    def step(self, place: int, x: Tensor, previous: Tensor) -> Logits:
        """As `Writer.step`."""
        model, places = self.model, torch.tensor([place], device=x.device)
        steps = (self.first[..., None] + place).clamp(max=model.config.num_steps - 1)
        newest = model.answer_tokens(self.scene, self.brief, x[..., None], previous[..., None], steps, places)
        self.tokens.append(newest)
        tokens, mask = torch.cat(self.tokens, dim=1), model.sequence_mask(self.brief.visible, place + 1)
        for layer, visual in zip(model.decoder.stack, self.scene.visual, strict=True):
            tokens = layer(tokens, visual, mask)
        return model.logits(model.decoder.norm(tokens[:, -1:]))


def next_x(model: LaneLM, brief: Brief, logits: Logits, row: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of one keypoint per lane, its row (B, L) in writing order -> x and how sure it is, (B, L) each.

    x is in network pixels; it is as sure as the probability of the bins near it says. Without bins of the image in the
    logits every x is an offset from the question.
    """

    def sureness(bins: Tensor, places: Tensor, x: Tensor, spacing: float) -> Tensor:
        # Labels are spread over a few bins: where these are coarse, `NEAR` alone would hold none or one of them.
        near = (places - x[:, None]).abs() <= max(NEAR * model.width, 1.5 * spacing)
        return (bins * near).sum(-1).view(row.shape)

    config = model.config
    if has_bins := logits.absolute.shape[-1] > 0:
        bins, places = logits.absolute[:, 0, 1:].float(), model.bin_x()[1:]
        x = expected(bins, places)
        sure = sureness(bins.softmax(-1), places, x, model.width / config.nbins_x)
        if not config.offset_tokens:
            return x.view(row.shape), sure
    bins, places = logits.offset[:, 0].float().softmax(-1), model.offset_x()
    # Where the image says little, the mean of all offsets stays near the question, and a lane that is a little off
    # counts while one that is far off does not: 2 points of F1 more than the mean around the most likely offset.
    offset = bins @ places
    sure_of_offset = sureness(bins, places, offset, 2 * model.offset_range / (config.offset_bins - 1))
    moved = brief.guides.reference.gather(-1, row[..., None])[..., 0] + offset.view(row.shape)
    if not has_bins:
        return moved, sure_of_offset
    asks = brief.has_question
    return torch.where(asks, moved, x.view(row.shape)), torch.where(asks, sure_of_offset, sure)


def expected(logits: Tensor, places: Tensor) -> Tensor:
    """(N, K) logits, (K,) places of the bins -> (N,): the mean place of the bins around the most likely one."""
    best = logits.argmax(-1, keepdim=True)
    around = (best + torch.arange(-WINDOW, WINDOW + 1, device=logits.device)).clamp(0, logits.shape[-1] - 1)
    # At the border the outermost bin would count several times: those beyond it count for nothing.
    outside = around != best + torch.arange(-WINDOW, WINDOW + 1, device=logits.device)
    weights = logits.gather(-1, around).masked_fill(outside, -torch.inf).softmax(-1)
    return (weights * places[around]).sum(-1)


def cut_hallucinations(answers: Answers, from_bottom: bool, more_than: int = 10) -> Answers:
    """Cut lanes of more than `more_than` keypoints at their first jump, in the order they were written.

    With d the sideways steps of a lane, a jump is a step longer than twice their 85th percentile. Source: LaneLM,
    hallucination removal.
    """
    xs, shown = (answers.xs.flip(-1), answers.shown.flip(-1)) if from_bottom else (answers.xs, answers.shown)
    step = (xs[..., 1:] - xs[..., :-1]).abs()
    both = shown[..., 1:] & shown[..., :-1]
    limit = 2 * step.masked_fill(~both, torch.nan).nanquantile(0.85, dim=-1, keepdim=True)
    jump = both & (step > limit) & (shown.sum(-1, keepdim=True) > more_than)
    after = torch.cat([torch.zeros_like(jump[..., :1]), jump], dim=-1).cumsum(-1) > 0
    kept = shown & ~after
    return Answers(answers.xs, kept.flip(-1) if from_bottom else kept, answers.score)
