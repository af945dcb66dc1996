"""What LaneLM knows of an image and of a request before decoding."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clrernetlm.models.lanelm.decoder import Visual
from clrernetlm.models.lanelm.requests import Guides


@dataclass
class Scene:
    """An image as the network needs it, computed once: what strips are sampled from, and each layer's keys, values."""

    maps: list[Tensor]
    visual: list[Visual | None]


@dataclass
class Logits:
    """What each of A positions says about the keypoint that follows it; N = B * L sequences."""

    y: Tensor  # (N, A, T + 1): its row in writing order; T: the lane has ended, or is none
    absolute: Tensor  # (N, A, nbins_x): its x as a bin of the image
    offset: Tensor  # (N, A, offset bins): its x as a bin around the reference


@dataclass
class Brief:
    """Requests in writing order: guides (B, L, T), the tokens before the answer, and which of them there are."""

    guides: Guides
    has_question: Tensor  # (B, L)
    tokens: Tensor  # (N, P, D)
    visible: Tensor  # (N, P) bool
