"""Losses of the language models: cross-entropy on x and y tokens, with hard labels and with spread ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clrernetlm.config.schema import LaneLMTrainingRequestsConfig
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.distributed.reduce import mean_over_processes
from clrernetlm.models.lanelm.context import Logits
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import RowPriors
from clrernetlm.models.lanelm.training_requests import TrainingRequests

BIN_WEIGHT_WITH_PROPOSAL = 0.2  # of the loss on bins of the image where x is read off the offset bins


@check_arguments
def lane_lm_loss(
    logits_x: Tensor, logits_y: Tensor, target_x: Tensor, target_y: Tensor, pad_token_x: int = 0, pad_token_y: int = 40
) -> Tensor:
    """Average the cross-entropies of x and y: logits (N, T, nbins_x), (N, T, rows), int64 targets (N, T) -> scalar.

    Targets equal to the padding are ignored; 0 if there are no others. Divisors are those of all processes.
    """
    values, masks = [], []
    for logits, target, padding in ((logits_x, target_x, pad_token_x), (logits_y, target_y, pad_token_y)):
        values.append(F.cross_entropy(logits.movedim(-1, 1), target, ignore_index=padding, reduction="none"))
        masks.append(target != padding)
    return masked_means(values, masks).mean()


def masked_means(values: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Average n tensors where their bool masks are True -> (n,); 0 where a mask is empty.

    Divided by the mean count over all processes, so that DDP's gradient is that of one process with the whole batch.
    """
    sums = torch.stack([torch.where(mask, value, 0.0).sum() for value, mask in zip(values, masks, strict=True)])
    counts = mean_over_processes(torch.stack([mask.sum() for mask in masks]).to(sums.dtype))
    return sums / counts.clamp(min=torch.finfo(sums.dtype).tiny)


def spread_cross_entropy(logits: Tensor, position: Tensor, sigma: float) -> Tensor:
    """Compute cross-entropy (...) of logits (..., K) with labels at fractional bin positions (...).

    The label is a Gaussian of `sigma` bins around the position, or the nearest bin if `sigma` is 0. Positions beyond
    the bins are clamped.
    """
    position = position.clamp(0, logits.shape[-1] - 1)
    log_probability = logits.float().log_softmax(-1)
    if sigma <= 0:
        return -log_probability.gather(-1, position.round().long()[..., None]).squeeze(-1)
    bins = torch.arange(logits.shape[-1], device=logits.device)
    label = torch.softmax(-((bins - position[..., None]) ** 2) / (2 * sigma**2), dim=-1)
    return -(label * log_probability).sum(-1)


def mean_distance(logits: Tensor, position: Tensor) -> Tensor:
    """Compute the smooth L1 distance (...) in bins from the mean bin of logits (..., K) to positions (...).

    x is read off as the mean of the bins, and cross-entropy alone lets a few distant bins pull the mean aside.
    """
    bins = torch.arange(logits.shape[-1], device=logits.device, dtype=torch.float32)
    position = position.clamp(0, logits.shape[-1] - 1)
    return F.smooth_l1_loss(logits.float().softmax(-1) @ bins, position, reduction="none")


def keypoint_sequences(model: LaneLM, xs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert lanes (..., T), x from the top and NaN off the lane, to keypoint sequences in decoding order.

    Returns x of the keypoints (..., T), from index 0 on and NaN after the last, their first rows (...) in decoding
    order and their counts (...).
    """
    ordered = model.to_decode_order(xs)
    on_lane = ordered.isfinite()
    first, count = on_lane.float().argmax(-1), on_lane.sum(-1)
    rows = first[..., None] + torch.arange(xs.shape[-1], device=xs.device)
    sequences = ordered.gather(-1, rows.clamp(max=xs.shape[-1] - 1))
    return sequences.masked_fill(rows >= (first + count)[..., None], torch.nan), first, count


def training_request_losses(
    model: LaneLM,
    training: TrainingRequests,
    logits: Logits,
    row_priors: RowPriors,
    config: LaneLMTrainingRequestsConfig,
) -> dict[str, Tensor]:
    """Compute `loss_start`, `loss_y` and `loss_x`, each a mean, from the logits of teacher-forced answers.

    `loss_start`: the first token of a request, its first row or that there is no such lane. `loss_y`: the rows after it
    and the end. `loss_x`: x of the keypoints, as offset from the reference curve (only with a proposal), and as bin of
    the image. Divisors are those of all processes.
    """
    requests = training.requests
    targets, first, count = keypoint_sequences(model, training.targets)
    steps = model.config.num_steps
    indices = torch.arange(steps + 1, device=targets.device)
    rows = first[..., None] + indices
    y_target = torch.where(indices < count[..., None], rows, steps)
    y_mask = (indices <= count[..., None]) & requests.request_mask[..., None]
    shape = (*y_mask.shape, -1)
    y_loss = F.cross_entropy(logits.y.reshape(shape).movedim(-1, 1).float(), y_target, reduction="none")

    x_mask = torch.isfinite(targets) & requests.request_mask[..., None]
    x = targets.nan_to_num(0.0)
    bins_per_pixel = model.config.nbins_x / model.width
    bin_loss = spread_cross_entropy(logits.absolute.reshape(shape)[..., :-1, :], x * bins_per_pixel, config.label_sigma)
    x_loss = bin_loss
    if model.config.offset_tokens:
        reference = row_priors.reference.gather(-1, rows[..., :-1].clamp(max=steps - 1))
        pixels_per_bin = 2 * model.offset_range / (model.config.offset_bins - 1)
        position = (x - reference) / pixels_per_bin + (model.config.offset_bins - 1) / 2
        offset_logits = logits.offset.reshape(shape)[..., :-1, :]
        offset_loss = spread_cross_entropy(offset_logits, position, config.label_sigma)
        if config.mean_weight > 0:
            offset_loss = offset_loss + config.mean_weight * mean_distance(offset_logits, position)
        has_proposal = requests.proposal_mask.any(-1, keepdim=True)
        x_loss = torch.where(has_proposal, offset_loss + BIN_WEIGHT_WITH_PROPOSAL * bin_loss, bin_loss)
    start, rest, x_mean = masked_means(
        (y_loss[..., 0], y_loss[..., 1:], x_loss), (y_mask[..., 0], y_mask[..., 1:], x_mask)
    )
    return {"loss_start": start, "loss_y": rest, "loss_x": x_mean}
