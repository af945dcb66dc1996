"""Free-running decoding: prefill with the request, then one keypoint at a time for all lanes of all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clrernetlm.models.lanelm.model import KeysValues
from clrernetlm.models.lanelm.network import Brief, LaneLM, Logits, Scene
from clrernetlm.models.lanelm.requests import Requests

NEAR = 0.006  # of the image width: two lanes this far apart, 10 of 1640 pixels, overlap by half
WINDOW = 4  # bins on either side of the most likely one that x is averaged over


@dataclass
class Cache:
    """Keys and values of the tokens so far, of every layer, in memory laid out for the longest answer."""

    keys: list[Tensor]  # per layer (N, heads, P + T, d)
    values: list[Tensor]
    visible: Tensor  # (N, 1, 1, P + T) bool
    length: int  # tokens so far


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
    for layer, visual in zip(model.decoder.stack, scene.visual, strict=True):
        keys, values = layer.own_keys_values(tokens)
        for store, new in ((cache.keys, keys), (cache.values, values)):
            room = new.new_zeros(*new.shape[:2], total, new.shape[-1])
            room[:, :, :before] = new
            store.append(room)
        tokens = layer.extend(tokens, (keys, values), visual, visible[..., :before])
    return model.logits(model.decoder.norm(tokens[:, -1:])), cache


def decode_one_token(model: LaneLM, scene: Scene, tokens: Tensor, cache: Cache) -> Logits:
    """The newest keypoint of every lane (N, 1, D) -> logits (N, 1, ...) of the next one. Extends the cache."""
    place = cache.length
    cache.visible[..., place] = True
    window = slice(0, place + 1)
    for layer, visual, keys, values in zip(model.decoder.stack, scene.visual, cache.keys, cache.values, strict=True):
        keys[:, :, place : place + 1], values[:, :, place : place + 1] = layer.own_keys_values(tokens)
        own: KeysValues = keys[:, :, window], values[:, :, window]
        tokens = layer.extend(tokens, own, visual, cache.visible[..., window])
    cache.visible[..., place] = model.config.sees_past
    cache.length = place + 1
    return model.logits(model.decoder.norm(tokens))


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
    score = (1 - y.softmax(-1)[..., steps]) * requests.asked
    row = y[..., :steps].argmax(-1)
    x, sure = next_x(model, brief, logits, row)
    certainty, count = torch.zeros_like(score), torch.zeros_like(score)
    previous = torch.full_like(x, torch.nan)
    going = requests.asked.clone()
    xs, shown = torch.zeros_like(requests.question), torch.zeros_like(requests.shown)
    written: list[Tensor] = []
    places = torch.arange(steps, device=x.device)  # a number made on the host in every step would be waited for
    for place in range(steps):
        at = row.clamp(max=steps - 1)[..., None]
        xs.scatter_(-1, at, torch.where(going[..., None], x[..., None], xs.gather(-1, at)))
        shown.scatter_(-1, at, going[..., None] | shown.gather(-1, at))
        certainty, count = certainty + sure * going, count + going
        if place == steps - 1:
            break
        token = model.answer_tokens(
            scene,
            brief,
            x[..., None],
            previous[..., None],
            at,
            places[place : place + 1],
        )
        if cached:
            logits = decode_one_token(model, scene, token, cache)
        else:
            written.append(token)
            logits = recompute(model, scene, brief, written)
        y = logits.y[:, 0].float().unflatten(0, (batch, lanes))
        ahead = (row + 1).clamp(max=steps - 1)
        go_on = y.gather(-1, ahead[..., None])[..., 0] >= y[..., steps]
        going = going & go_on & (row + 1 < steps)
        previous, row = x, row + 1
        x, sure = next_x(model, brief, logits, ahead)
        if on_host and not going.any():
            break
    return Answers(model.written(xs), model.written(shown), score * certainty / count.clamp(min=1))


def _nothing(requests: Requests) -> Answers:
    return Answers(torch.zeros_like(requests.question), requests.shown & False, torch.zeros_like(requests.score))


def _spread(answers: Answers, used: Tensor) -> Answers:
    """Answers (B, l, ...) in the places `used` (L,) of (B, L, ...), nothing in the others."""
    place = used.cumsum(0) - 1

    def spread(values: Tensor) -> Tensor:
        empty = values.new_zeros(())
        return torch.where(used.view(-1, *[1] * (values.ndim - 2)), values[:, place.clamp(min=0)], empty)

    return Answers(spread(answers.xs), spread(answers.shown), spread(answers.score))


def recompute(model: LaneLM, scene: Scene, brief: Brief, written: Sequence[Tensor]) -> Logits:
    """Logits after the last of the `written` keypoints, everything before computed again."""
    tokens = torch.cat([brief.tokens, *written], dim=1)
    mask = model.sequence_mask(brief.visible, len(written))
    for layer, visual in zip(model.decoder.stack, scene.visual, strict=True):
        tokens = layer(tokens, visual, mask)
    return model.logits(model.decoder.norm(tokens[:, -1:]))


def next_x(model: LaneLM, brief: Brief, logits: Logits, row: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of one keypoint per lane, its row (B, L) in writing order -> x and how sure it is, (B, L) each.

    x is in network pixels; it is as sure as the probability of the bins near it says.
    """

    def sureness(bins: Tensor, places: Tensor, x: Tensor, spacing: float) -> Tensor:
        # Labels are spread over a few bins: where these are coarse, `NEAR` alone would hold none or one of them.
        near = (places - x[:, None]).abs() <= max(NEAR * model.width, 1.5 * spacing)
        return (bins.softmax(-1) * near).sum(-1).view(row.shape)

    config = model.config
    bins, places = logits.absolute[:, 0, 1:].float(), model.bin_x()[1:]
    x = expected(bins, places)
    sure = sureness(bins, places, x, model.width / config.nbins_x)
    if not config.offset_tokens:
        return x.view(row.shape), sure
    bins, places = logits.offset[:, 0].float(), model.offset_x()
    # Where the image says little, the mean of all offsets stays near the question, and a lane that is a little off
    # counts while one that is far off does not: 2 points of F1 more than the mean around the most likely offset.
    offset = bins.softmax(-1) @ places
    sure_of_offset = sureness(bins, places, offset, 2 * model.offset_range / (config.offset_bins - 1))
    reference = brief.guides.reference.gather(-1, row[..., None])[..., 0]
    return (
        torch.where(brief.has_question, reference + offset.view(row.shape), x.view(row.shape)),
        torch.where(brief.has_question, sure_of_offset, sure),
    )


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
