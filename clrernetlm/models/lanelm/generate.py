"""Decodes lanes with LaneLM: prefill with the requests, then one keypoint at a time for all lanes of all images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from clrernetlm.models.lanelm.cached_decoding import CachedDecoder, prefill
from clrernetlm.models.lanelm.context import ImageContext, Logits, PromptContext
from clrernetlm.models.lanelm.greedy_decoding import Answers, Keypoint, decode_greedily
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.readout import read_first, read_next
from clrernetlm.models.lanelm.requests import Requests


@torch.no_grad()
def generate(model: LaneLM, levels: Sequence[Tensor], requests: Requests, cached: bool = True) -> Answers:
    """Decode all requests greedily; `levels` as for `LaneLM.encode_image`; rows of the answers count from the top.

    The model chooses the first row; after it the rows follow each other until the model ends the lane. The score is
    the probability of a lane at the first token, times the mean confidence of its keypoints. `cached=False` recomputes
    every step from the start, for tests.
    """
    on_host = requests.request_mask.device.type == "cpu"  # on a GPU, reading a value forces a device sync
    if on_host and not (used := requests.request_mask.any(0)).all():
        if not used.any():
            return _no_answers(requests)
        return _scatter_answers(generate(model, levels, requests[:, used], cached), used)
    decoder = LaneLMStepDecoder(model, levels, requests, cached, on_host)
    answers = decode_greedily(decoder, model.config.num_steps, stop_early=on_host)
    return Answers(model.to_decode_order(answers.xs), model.to_decode_order(answers.visible), answers.score)


def _no_answers(requests: Requests) -> Answers:
    return Answers(
        torch.zeros_like(requests.proposal_x), requests.proposal_mask & False, torch.zeros_like(requests.score)
    )


def _scatter_answers(answers: Answers, used: Tensor) -> Answers:
    """Put answers (B, l, ...) into the slots `used` (L,) bool of (B, L, ...), zeros into the others."""
    index = used.cumsum(0) - 1

    def scatter(values: Tensor) -> Tensor:
        zero = values.new_zeros(())
        return torch.where(used.view(-1, *[1] * (values.ndim - 2)), values[:, index.clamp(min=0)], zero)

    return Answers(scatter(answers.xs), scatter(answers.visible), scatter(answers.score))


class LogitsDecoder(Protocol):
    """Computes the logits after a keypoint: `CachedDecoder` or `UncachedDecoder`."""

    def next_logits(self, index: int, x: Tensor, previous_x: Tensor) -> Logits:
        """As `CachedDecoder.next_logits`."""


class LaneLMStepDecoder:
    """Computes LaneLM's keypoints for `decode_greedily`.

    `on_host`: values may be read without a device sync, to skip computations that no request needs.
    """

    def __init__(
        self, model: LaneLM, levels: Sequence[Tensor], requests: Requests, cached: bool, on_host: bool
    ) -> None:
        image = model.encode_image(levels)
        context = model.encode_requests(image, requests)
        logits, cache = prefill(model, image, context)
        self.model, self.context = model, context
        self.lane_probability, row, x, confidence = read_first(model, context, logits)
        self.first = Keypoint(row, x, confidence, requests.request_mask)
        self.decoder: LogitsDecoder
        if cached:
            request_mask = requests.request_mask if on_host else None
            self.decoder = CachedDecoder(model, image, context, cache, row, request_mask)
        else:
            self.decoder = UncachedDecoder(model, image, context, row)

    def decode_next(self, index: int, last: Keypoint, previous_x: Tensor) -> Keypoint:
        """As `StepDecoder.decode_next`."""
        logits = self.decoder.next_logits(index, last.x, previous_x)
        continues, x, confidence = read_next(self.model, self.context, logits, last.row)
        return Keypoint(last.row + 1, x, confidence, continues)


class UncachedDecoder:
    """Computes the same as `CachedDecoder` without a cache: runs the whole sequence for every keypoint. For tests."""

    def __init__(self, model: LaneLM, image: ImageContext, context: PromptContext, first_row: Tensor) -> None:
        self.model, self.image, self.context, self.first_row = model, image, context, first_row
        self.tokens = [context.tokens]

    def next_logits(self, index: int, x: Tensor, previous_x: Tensor) -> Logits:
        """As `CachedDecoder.next_logits`."""
        model, indices = self.model, torch.tensor([index], device=x.device)
        rows = (self.first_row[..., None] + index).clamp(max=model.config.num_steps - 1)
        newest = model.answer_tokens(self.image, self.context, x[..., None], previous_x[..., None], rows, indices)
        self.tokens.append(newest)
        tokens, mask = torch.cat(self.tokens, dim=1), model.sequence_mask(self.context.visible, index + 1)
        for layer, memory in zip(model.decoder.stack, self.image.memories, strict=True):
            tokens = layer(tokens, memory, mask)
        return model.logits(model.decoder.norm(tokens[:, -1:]))
