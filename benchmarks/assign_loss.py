"""Compares assignment and loss of a training batch with the original algorithm: `python benchmarks/assign_loss.py`.

24 images with 84 lanes, three stages of 192 predictions each. `original_loss` restates the published implementation:
stage by stage and image by image, with a loop over lanes to pick k anchors, and units rescaled in place. Both run in
turns on the same predictions, without and with the backward pass; medians are compared, and the losses must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from timing import medians_in_turns, torch_options, torch_setting
from torch import Tensor

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.models.clrernet.criterion import CLRerNetCriterion

StageOutput = dict[str, Tensor]
IMAGES, STAGES, PRIORS, ROWS, SLOTS = 24, 3, 192, 72, 4
WIDTH, STRIPS = 800, ROWS - 1


def original_loss(stages: Sequence[StageOutput], targets: Tensor) -> dict[str, Tensor]:
    """Compute the published three lane losses, step by step, of stages of (B, Np, ...) and targets (B, G, 78)."""
    cls_loss, xytl_loss, iou_loss = (torch.zeros(()) for _ in range(3))
    for stage in stages:
        for image in range(len(targets)):
            prediction = {name: value[image] for name, value in stage.items()}
            lanes = targets[image][targets[image][:, 1] == 1]
            labels = torch.zeros(PRIORS, dtype=torch.long)
            if len(lanes) == 0:
                cls_loss = cls_loss + original_focal(prediction["cls_logits"], labels).sum()
                continue
            with torch.no_grad():
                rows, cols = original_assign(prediction, lanes)
            labels[rows] = 1
            cls_loss = cls_loss + original_focal(prediction["cls_logits"], labels).sum() / len(lanes)

            found = torch.cat([prediction["anchor_params"][rows], prediction["lengths"][rows]], dim=1)
            found[:, 0] = found[:, 0] * STRIPS
            found[:, 1] = found[:, 1] * (WIDTH - 1)
            found[:, 2] = found[:, 2] * 180
            found[:, 3] = found[:, 3] * STRIPS
            wanted = lanes[cols, 2:6].clone()
            with torch.no_grad():
                predicted_start = found[:, 0].clamp(0, STRIPS).round().long()
                start = (wanted[:, 0] * STRIPS).round().long()
                wanted[:, 3] = wanted[:, 3] - (predicted_start - start)
            wanted[:, 0] = wanted[:, 0] * STRIPS
            wanted[:, 2] = wanted[:, 2] * 180
            xytl_loss = xytl_loss + 0.2 * F.smooth_l1_loss(found, wanted, reduction="none").mean()

            xs, target_xs = prediction["xs"][rows] * (WIDTH - 1) / WIDTH, lanes[cols, 6:] / WIDTH
            overlap, union = original_overlap(xs, target_xs, *original_widths(xs.detach(), target_xs, 7.5 / WIDTH))
            outside = (target_xs < 0) | (target_xs >= 1)
            overlap[outside] = 0
            union[outside] = 0
            iou_loss = iou_loss + 4 * (1 - overlap.sum(-1) / (union.sum(-1) + 1e-9)).mean()
    parts = len(targets) * len(stages)
    return {"loss_cls": cls_loss / parts, "loss_reg_xytl": xytl_loss / parts, "loss_iou": iou_loss / parts}


def original_focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the weighted focal loss (Np,) of logits (Np, 2) and labels (Np,), 0 or 1."""
    probability = F.softmax(logits, dim=1) + 1e-6
    one_hot = F.one_hot(labels, 2) + 1e-6
    focal = -0.25 * torch.pow(1.0 - probability, 2.0) * torch.log(probability)
    return 2.0 * torch.sum(one_hot * focal, dim=1)


def original_assign(prediction: StageOutput, lanes: Tensor) -> tuple[Tensor, Tensor]:
    """Assign one image's predictions (Np, ...) to its valid lanes (G, 78): indices of both in matched pairs."""
    xs, target_xs = prediction["xs"], lanes[:, 6:] / (WIDTH - 1)
    overlaps = original_iou_matrix(xs, target_xs, 7.5 / WIDTH)
    start = (1 - prediction["anchor_params"][:, 0]).clamp(0, 1)
    end = (start + prediction["lengths"][:, 0]).clamp(0, 1)
    score = 1 - original_iou_matrix(xs, target_xs, 30 / WIDTH, start, end)
    score = 1 - score / score.max() + 1e-2
    p = prediction["cls_logits"].sigmoid()
    negative = -(1 - p + 1e-12).log() * 0.75 * p.pow(2)
    positive = -(p + 1e-12).log() * 0.25 * (1 - p).pow(2)
    labels = torch.ones(len(lanes), dtype=torch.long)
    cost = -score * 3.0 + (positive[:, labels] - negative[:, labels])

    chosen = torch.zeros_like(cost)
    overlaps[overlaps < 0] = 0
    best, _ = torch.topk(overlaps, 4, dim=0)
    counts = best.sum(0).int().clamp(min=1)
    for lane in range(len(lanes)):
        _, rows = torch.topk(cost[:, lane], int(counts[lane].item()), largest=False)
        chosen[rows, lane] = 1
    twice = chosen.sum(1) > 1
    if twice.sum() > 0:
        _, cheapest = cost[twice].min(dim=1)
        chosen[twice] = 0
        chosen[twice, cheapest] = 1
    rows = chosen.sum(1).nonzero().flatten()
    return rows, chosen[rows].argmax(-1)


def original_widths(xs: Tensor, target_xs: Tensor, half_width: float) -> tuple[Tensor, Tensor]:
    """Compute the half widths of lanes (..., 72) and targets (..., 72), all in shares of the width."""
    dy = 2 * 320 / STRIPS
    widths = []
    for values, has_gaps in ((xs, False), (target_xs, True)):
        dx = (values[..., 2:] - values[..., :-2]) * 1640
        if has_gaps:
            dx[dx.abs() > 1e4] = 0
        width = half_width * torch.sqrt(dx**2 + dy**2) / dy
        widths.append(torch.cat([width[..., :1], width, width[..., -1:]], dim=-1))
    return widths[0], widths[1]


def original_overlap(xs: Tensor, target_xs: Tensor, width: Tensor, target_width: Tensor) -> tuple[Tensor, Tensor]:
    """Compute overlap and union per row from broadcastable x and half widths."""
    left, right = xs - width, xs + width
    target_left, target_right = target_xs - target_width, target_xs + target_width
    overlap = torch.min(right, target_right) - torch.max(left, target_left)
    union = torch.max(right, target_right) - torch.min(left, target_left)
    return overlap, union


def original_iou_matrix(
    xs: Tensor, target_xs: Tensor, half_width: float, start: Tensor | None = None, end: Tensor | None = None
) -> Tensor:
    """Compute the IoU (Np, G) of predictions (Np, 72) and targets (G, 72), every pair in memory of its own."""
    lanes = len(target_xs)
    width, target_width = original_widths(xs, target_xs, half_width)
    xs, width = (value[:, None].repeat(1, lanes, 1) for value in (xs, width))
    target_xs, target_width = (value[None].repeat(PRIORS, 1, 1) for value in (target_xs, target_width))
    overlap, union = original_overlap(xs, target_xs, width, target_width)
    target_missing = (target_xs < 0) | (target_xs >= 1)
    if start is None or end is None:
        overlap[target_missing] = 0
        union[target_missing] = 0
    else:
        missing = (xs < 0) | (xs >= 1)
        row = torch.arange(ROWS).repeat(PRIORS, lanes, 1)
        missing = missing | (row < (start * STRIPS).floor()[:, None, None])
        missing = missing | (row >= (end * STRIPS).floor()[:, None, None])
        overlap[missing | target_missing] = 0
        union[missing & target_missing] = 0
        only_target, only_prediction = missing & ~target_missing, ~missing & target_missing
        union[only_target] = 2 * target_width[only_target]
        union[only_prediction] = 2 * width[only_prediction]
    return overlap.sum(-1) / (union.sum(-1) + 1e-9)


def draw_batch(seed: int = 0) -> tuple[list[StageOutput], Tensor]:
    """Draw 84 lanes in 96 slots, and predictions that scatter around those of their image, closer at every stage."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    height = torch.linspace(0, 1, ROWS)
    bottom = torch.linspace(0.1, 0.9, SLOTS) + uniform(-0.05, 0.05, IMAGES, SLOTS)
    slope = 0.5 - bottom + uniform(-0.1, 0.1, IMAGES, SLOTS)  # towards the vanishing point
    xs = bottom.unsqueeze(-1) + slope.unsqueeze(-1) * height  # (B, G, 72)
    length = uniform(40, 71, IMAGES, SLOTS).round()
    visible = torch.arange(ROWS) < length.unsqueeze(-1)
    theta = torch.atan2(torch.full_like(slope, 320), slope * WIDTH) / torch.pi
    head = torch.stack([torch.zeros_like(slope), torch.ones_like(slope), torch.ones_like(slope)], -1)
    start = torch.stack([bottom * (WIDTH - 1), theta, length], -1)
    targets = torch.cat([head, start, (xs * (WIDTH - 1)).masked_fill(~visible, -1e5)], -1)
    targets[::2, -1] = torch.tensor([1.0, 0.0] + [-1e5] * 76)  # every other image has three lanes

    near = torch.randint(SLOTS, (IMAGES, PRIORS), generator=generator)
    stages = []
    for spread in (0.2, 0.1, 0.05):
        shift = spread * torch.randn(IMAGES, PRIORS, generator=generator)

        def around(values: Tensor, offset: Tensor) -> Tensor:
            return values.gather(1, near) + offset

        params = torch.stack([uniform(0.9, 1.0, IMAGES, PRIORS), around(bottom, shift), around(theta, shift)], -1)
        stages.append(
            {
                "cls_logits": torch.randn(IMAGES, PRIORS, 2, generator=generator),
                "anchor_params": params,
                "lengths": around(length / STRIPS, shift).unsqueeze(-1),
                "xs": xs.gather(1, near.unsqueeze(-1).expand(-1, -1, ROWS)) + shift.unsqueeze(-1),
            }
        )
    return stages, targets


def backward(
    loss: Callable[[Sequence[StageOutput], Tensor], dict[str, Tensor]], stages: list[StageOutput], targets: Tensor
) -> None:
    """Compute a loss and the gradients of every prediction."""
    leaves = [{name: value.detach().requires_grad_() for name, value in stage.items()} for stage in stages]
    torch.stack(list(loss(leaves, targets).values())).sum().backward()


def main() -> None:
    options = torch_options("Assignment and loss of a batch against the original algorithm.", rounds=15)
    stages, targets = draw_batch()
    criterion = CLRerNetCriterion(length_target="official")
    lanes = int((targets[..., 1] == 1).sum())
    print(f"{torch_setting(options)}, {IMAGES} images, {lanes} lanes")
    ours, original = criterion(stages, targets), original_loss(stages, targets)
    for name, value in ours.items():
        print(f"{name}: ours {value.item():.6f}, original {original[name].item():.6f}")
        torch.testing.assert_close(value, original[name], rtol=1e-5, atol=1e-6)
    for title, runs in {
        "forward": [partial(criterion, stages, targets), partial(original_loss, stages, targets)],
        "forward + backward": [partial(backward, f, stages, targets) for f in (criterion, original_loss)],
    }.items():
        mine, theirs = medians_in_turns(runs, options.rounds)
        print(f"{title}: ours {mine * 1e3:.1f} ms, original {theirs * 1e3:.1f} ms, ratio {theirs / mine:.1f}x")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
