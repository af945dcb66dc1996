"""Inputs and outputs of LaneLM's decoder: image features, prompt tokens and logits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clrernetlm.models.lanelm.decoder import ImageMemory
from clrernetlm.models.lanelm.requests import RowPriors


@dataclass
class ImageContext:
    """Features of B images, computed once and shared by all requests about them."""

    maps: list[Tensor]  # per pyramid level (B, c, h, w), sampled beside lanes; empty without local sampling
    memories: list[ImageMemory | None]  # per decoder layer, for its attention to the image; None without it


@dataclass
class Logits:
    """Scores of the keypoint that follows each of A positions; N = B * L sequences."""

    y: Tensor  # (N, A, T + 1): its row in decoding order; T: the lane has ended, or there is none
    absolute: Tensor  # (N, A, nbins_x): its x as a bin of the image; (N, A, 0) where not computed
    offset: Tensor  # (N, A, offset bins): its x as a bin around the reference curve


@dataclass
class PromptContext:
    """Encoded requests, the prefix of every answer. Rows are in decoding order."""

    row_priors: RowPriors  # (B, L, T)
    has_proposal: Tensor  # (B, L) bool
    tokens: Tensor  # (N, P, D) prefix tokens
    visible: Tensor  # (N, P) bool: prefix tokens that exist; the others are masked
