"""Reads keypoints off LaneLM's logits."""

from __future__ import annotations

import torch
from torch import Tensor

from clrernetlm.models.lanelm.context import Logits, PromptContext
from clrernetlm.models.lanelm.model import LaneLM

NEAR = 0.006  # of the image width: two lanes this far apart, 10 of 1640 pixels, overlap by half
WINDOW = 4  # bins on either side of the most likely bin that x is averaged over


def read_first(model: LaneLM, context: PromptContext, logits: Logits) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Read the first keypoint of every lane off the logits of `prefill`.

    Returns the probability that there is a lane, its first row (int64, decoding order), x in network pixels and the
    confidence in x; (B, L) each.
    """
    y = _row_logits(context, logits)
    end = y.shape[-1] - 1
    row = y[..., :end].argmax(-1)
    return 1 - y.softmax(-1)[..., end], row, *read_x(model, context, logits, row)


def read_next(model: LaneLM, context: PromptContext, logits: Logits, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Read the keypoint after row `row` (B, L), which lies on the next row if the lane continues.

    Returns whether it continues (bool), x in network pixels and the confidence in x; (B, L) each.
    """
    y = _row_logits(context, logits)
    end = y.shape[-1] - 1
    next_row = (row + 1).clamp(max=end - 1)
    continues = (y.gather(-1, next_row[..., None])[..., 0] >= y[..., end]) & (row + 1 < end)
    return continues, *read_x(model, context, logits, next_row)


def _row_logits(context: PromptContext, logits: Logits) -> Tensor:
    """Return the logits of the first keypoint's row, (B, L, T + 1)."""
    return logits.y[:, 0].float().view(*context.has_proposal.shape, logits.y.shape[-1])


def read_x(model: LaneLM, context: PromptContext, logits: Logits, row: Tensor) -> tuple[Tensor, Tensor]:
    """Read x and the confidence in it, (B, L) each, off logits (N, 1, ...) of keypoints on `row` (B, L).

    x, in network pixels, is a mean over bins: the offset bins if there is a proposal, else the bins of the image
    around the most likely one. The confidence is the probability of the bins near x. Logits without bins of the image
    are for lanes that all have a proposal.
    """

    def confidence(probability: Tensor, bin_x: Tensor, x: Tensor, spacing: float) -> Tensor:
        # Training labels are spread over a few bins: where bins are wide, `NEAR` alone would hold none or one of them.
        near = (bin_x - x[:, None]).abs() <= max(NEAR * model.width, 1.5 * spacing)
        return (probability * near).sum(-1).view(row.shape)

    config = model.config
    if has_bins := logits.absolute.shape[-1] > 0:
        bin_logits, bin_x = logits.absolute[:, 0, 1:].float(), model.bin_x()[1:]
        x = mean_around_best(bin_logits, bin_x)
        confidence_of_bin = confidence(bin_logits.softmax(-1), bin_x, x, model.width / config.nbins_x)
        if not config.offset_tokens:
            return x.view(row.shape), confidence_of_bin
    probability, offsets = logits.offset[:, 0].float().softmax(-1), model.offset_x()
    # The mean over all offset bins: where the image shows little, it stays near the proposal, and a lane that is a
    # little off counts while one that is far off does not. 2 points of F1 more than the mean around the best bin.
    offset = probability @ offsets
    spacing = 2 * model.offset_range / (config.offset_bins - 1)
    confidence_of_offset = confidence(probability, offsets, offset, spacing)
    moved = context.row_priors.reference.gather(-1, row[..., None])[..., 0] + offset.view(row.shape)
    if not has_bins:
        return moved, confidence_of_offset
    has_proposal = context.has_proposal
    return (
        torch.where(has_proposal, moved, x.view(row.shape)),
        torch.where(has_proposal, confidence_of_offset, confidence_of_bin),
    )


def mean_around_best(logits: Tensor, bin_x: Tensor) -> Tensor:
    """Average x over the bins around the most likely one: (N, K) logits, (K,) x of the bins -> (N,)."""
    best = logits.argmax(-1, keepdim=True)
    around = (best + torch.arange(-WINDOW, WINDOW + 1, device=logits.device)).clamp(0, logits.shape[-1] - 1)
    # Beyond the border `clamp` repeats the outermost bin: those copies must not count.
    outside = around != best + torch.arange(-WINDOW, WINDOW + 1, device=logits.device)
    weights = logits.gather(-1, around).masked_fill(outside, -torch.inf).softmax(-1)
    return (weights * bin_x[around]).sum(-1)
