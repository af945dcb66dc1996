"""Losses of the language model: cross-entropy on x and y tokens, plain and with spread labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clrernetlm.config.schema import LaneLMLessonConfig
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.distributed.reduce import mean_over_processes
from clrernetlm.models.lanelm.context import Logits
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import Guides
from clrernetlm.models.lanelm.training_requests import Lessons


@check_arguments
def lane_lm_loss(
    logits_x: Tensor, logits_y: Tensor, target_x: Tensor, target_y: Tensor, pad_token_x: int = 0, pad_token_y: int = 40
) -> Tensor:
    """Logits (N, T, nbins_x) and (N, T, rows), int64 targets (N, T) -> scalar: the mean of both cross-entropies.

    Targets equal to the padding are ignored; 0 where nothing else is left. Divisors are those of all processes.
    """
    values, counted = [], []
    for logits, target, padding in ((logits_x, target_x, pad_token_x), (logits_y, target_y, pad_token_y)):
        values.append(F.cross_entropy(logits.movedim(-1, 1), target, ignore_index=padding, reduction="none"))
        counted.append(target != padding)
    return means(values, counted).mean()


def means(values: Sequence[Tensor], counted: Sequence[Tensor]) -> Tensor:
    """n tensors and where they count, bool tensors of the same shapes -> (n,): means over what counts, 0 without any.

    Divided by the mean count of all processes, so that DDP's gradient is that of one process with the whole batch.
    """
    sums = torch.stack([torch.where(here, value, 0.0).sum() for value, here in zip(values, counted, strict=True)])
    counts = mean_over_processes(torch.stack([here.sum() for here in counted]).to(sums.dtype))
    return sums / counts.clamp(min=torch.finfo(sums.dtype).tiny)


def spread_cross_entropy(logits: Tensor, place: Tensor, sigma: float) -> Tensor:
    """Logits (..., K), the place of the truth among the bins (...), float -> cross-entropy (...).

    The label is a bell of `sigma` bins around the place, or the nearest bin when `sigma` is 0. A place beyond the bins
    counts as the outermost one.
    """
    place = place.clamp(0, logits.shape[-1] - 1)
    log_probability = logits.float().log_softmax(-1)
    if sigma <= 0:
        return -log_probability.gather(-1, place.round().long()[..., None]).squeeze(-1)
    bins = torch.arange(logits.shape[-1], device=logits.device)
    label = torch.softmax(-((bins - place[..., None]) ** 2) / (2 * sigma**2), dim=-1)
    return -(label * log_probability).sum(-1)


def mean_distance(logits: Tensor, place: Tensor) -> Tensor:
    """Logits (..., K), the place of the truth among the bins (...) -> smooth L1 distance of their mean to it, in bins.

    x is read off as the mean of the bins, and cross-entropy alone lets a few far ones pull it aside.
    """
    bins = torch.arange(logits.shape[-1], device=logits.device, dtype=torch.float32)
    return F.smooth_l1_loss(logits.float().softmax(-1) @ bins, place.clamp(0, logits.shape[-1] - 1), reduction="none")


def pack_answers(model: LaneLM, xs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(..., T) x from the top, NaN off the lane -> keypoints in writing order (..., T), first rows (...), counts (...).

    The keypoints begin at place 0; after the last one NaN follows.
    """
    written = model.written(xs)
    there = written.isfinite()
    first, count = there.float().argmax(-1), there.sum(-1)
    places = first[..., None] + torch.arange(xs.shape[-1], device=xs.device)
    packed = written.gather(-1, places.clamp(max=xs.shape[-1] - 1))
    return packed.masked_fill(places >= (first + count)[..., None], torch.nan), first, count


def lesson_losses(
    model: LaneLM, lessons: Lessons, logits: Logits, guides: Guides, config: LaneLMLessonConfig
) -> dict[str, Tensor]:
    """Logits for the answers of `lessons` -> `loss_start`, `loss_y`, `loss_x`, each a mean.

    `loss_start` is about the first word of a request, its first row or that there is no such lane; `loss_y` about the
    rows after it and the end; `loss_x` about the keypoints' x: the offset from the reference where there is a
    question, and the bin of the image. Divisors are those of all processes.
    """
    requests = lessons.requests
    targets, first, count = pack_answers(model, lessons.targets)
    steps = model.config.num_steps
    places = torch.arange(steps + 1, device=targets.device)
    row = first[..., None] + places
    y_target = torch.where(places < count[..., None], row, steps)
    counted = (places <= count[..., None]) & requests.asked[..., None]
    shape = (*counted.shape, -1)
    y_loss = F.cross_entropy(logits.y.reshape(shape).movedim(-1, 1).float(), y_target, reduction="none")

    x_counted = torch.isfinite(targets) & requests.asked[..., None]
    x = targets.nan_to_num(0.0)
    bins = model.config.nbins_x / model.width
    x_loss = absolute = spread_cross_entropy(logits.absolute.reshape(shape)[..., :-1, :], x * bins, config.label_sigma)
    if model.config.offset_tokens:
        reference = guides.reference.gather(-1, row[..., :-1].clamp(max=steps - 1))
        per_bin = 2 * model.offset_range / (model.config.offset_bins - 1)
        place = (x - reference) / per_bin + (model.config.offset_bins - 1) / 2
        offset = spread_cross_entropy(logits.offset.reshape(shape)[..., :-1, :], place, config.label_sigma)
        if config.mean_weight > 0:
            offset = offset + config.mean_weight * mean_distance(logits.offset.reshape(shape)[..., :-1, :], place)
        questioned = requests.shown.any(-1, keepdim=True)
        x_loss = torch.where(questioned, offset + 0.2 * absolute, absolute)
    start, rest, x_mean = means(
        (y_loss[..., 0], y_loss[..., 1:], x_loss), (counted[..., 0], counted[..., 1:], x_counted)
    )
    return {"loss_start": start, "loss_y": rest, "loss_x": x_mean}
