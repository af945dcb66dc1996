"""Compares the forward time of CLRerHead with the original: `python benchmarks/head_forward.py [--threads N]`.

`original_head` restates the published implementation on the same weights: pooled values of all stages so far are
convolved again in every stage, anchors are in the batch dimension, keys and values are computed on the whole level and
resized afterwards. Both run in turns on the same features of an 800x320 image; medians are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from timing import medians_in_turns, torch_options, torch_setting
from torch import Tensor
from torch.nn import functional as F

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import ClrernetConfig
from clrernetlm.models.clrernet.head import CLRerHead, StageOutput


def original_head(head: CLRerHead, features: Sequence[Tensor]) -> list[StageOutput]:
    """Run the published forward pass, step by step; same input and output as `CLRerHead.forward`."""
    batch = features[0].shape[0]
    anchor_params = head.anchor_generator.prior_embeddings.weight.clone().repeat(batch, 1, 1)
    num_priors, num_points = anchor_params.shape[1], len(head.prior_ys)
    sampled = original_lines(head, anchor_params)[..., head.sample_x_indices]  # (B, Np, S)
    pooled: list[Tensor] = []
    stages: list[StageOutput] = []
    for stage in range(head.stages):
        level = features[len(features) - 1 - stage]
        pooled.append(original_pool(level, sampled, head.prior_feat_ys))
        anchors = original_gather(head, pooled, level, stage)
        anchors = anchors.view(num_priors, batch, -1).reshape(batch * num_priors, -1)
        cls_feature, reg_feature = anchors.clone(), anchors.clone()
        for layer in head.cls_modules:
            cls_feature = layer(cls_feature)
        for layer in head.reg_modules:
            reg_feature = layer(reg_feature)
        cls_logits = head.cls_layers(cls_feature).reshape(batch, num_priors, 2)
        reg = head.reg_layers(reg_feature).reshape(batch, num_priors, 4 + num_points)
        anchor_params = anchor_params + reg[:, :, :3]
        lines = original_lines(head, anchor_params)
        stages.append(
            {
                "cls_logits": cls_logits,
                "anchor_params": anchor_params,
                "lengths": reg[:, :, 3:4],
                "xs": lines + reg[:, :, 4:],
            }
        )
        if stage != head.stages - 1:
            anchor_params = anchor_params.detach().clone()
            sampled = lines.detach().clone()[..., head.sample_x_indices]
    return stages


def original_lines(head: CLRerHead, parameters: Tensor) -> Tensor:
    """Compute x of every row, (B, Np, num_points) as shares of the width, from anchors (B, Np, 3): y0, x0, theta."""
    width, height = head.anchor_generator.image_size
    y0, x0, theta = (parameters[..., i : i + 1].repeat(1, 1, len(head.prior_ys)) for i in range(3))
    ys = head.prior_ys.repeat(*parameters.shape[:2], 1)
    return (x0 * (width - 1) - (ys - y0) * height / torch.tan(theta * torch.pi + 1e-5)) / (width - 1)


def original_pool(level: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Sample a level (B, C, h, w) at relative x (B, Np, S) and y (S,): (B * Np, C, S, 1)."""
    batch, num_priors, samples = xs.shape
    xs = xs * 2 - 1
    ys = ys.repeat(batch * num_priors).view(batch, num_priors, samples) * 2 - 1
    grid = torch.stack([xs, ys], dim=-1)
    values = F.grid_sample(level, grid, align_corners=True).permute(0, 2, 1, 3)  # (B, Np, C, S)
    return values.reshape(batch * num_priors, level.shape[1], samples, 1)


def original_gather(head: CLRerHead, pooled: list[Tensor], level: Tensor, stage: int) -> Tensor:
    """Turn the samples (B * Np, C, S, 1) of every stage so far, and a level (B, C, h, w), into features (B, Np, C)."""
    gather, attention = head.attention, head.attention.attention
    batch = level.shape[0]
    points = torch.cat([gather.convs[i](values) for i, values in enumerate(pooled)], dim=1)
    points = gather.catconv[stage](points)
    roi = F.linear(points.contiguous().view(points.shape[0], -1), gather.fc.weight, gather.fc.bias)
    roi = F.relu(gather.fc_norm(roi)).view(batch, -1, level.shape[1])
    query = depthwise(attention.f_query[0], roi).relu()
    key = F.interpolate(attention.f_key(level), size=attention.size).flatten(2)
    value = F.interpolate(attention.f_value(level), size=attention.size).flatten(2).permute(0, 2, 1)
    similarity = torch.softmax(torch.matmul(query, key) * attention.scale, dim=-1)
    context = depthwise(attention.W, torch.matmul(similarity, value))
    anchors: Tensor = roi + gather.dropout(context)
    return anchors


def depthwise(scale: torch.nn.Module, x: Tensor) -> Tensor:
    """Scale (B, Np, C) by one weight per anchor, by a grouped convolution as in the original."""
    weight, bias = (value.detach() for value in scale.parameters())
    return F.conv1d(x, weight, bias, groups=x.shape[1])


def main() -> None:
    options = torch_options("Forward time of CLRerHead against the original algorithm.", rounds=30)
    torch.manual_seed(0)
    config = ClrernetConfig()
    width, height = config.viewport.size
    head = CLRerHead(config.head, config.viewport.size, config.max_lanes).eval()
    for parameter in head.attention.attention.W.parameters():  # zero in a fresh head
        torch.nn.init.normal_(parameter)
    print(f"{torch_setting(options)}, {width}x{height}")
    for batch in (1, 8):
        features = [torch.randn(batch, config.head.feature_channels, height // s, width // s) for s in (8, 16, 32)]
        with torch.inference_mode():
            pairs = zip(head(features), original_head(head, features), strict=True)
            difference = max((mine[name] - other[name]).abs().max().item() for mine, other in pairs for name in mine)
            runs = [partial(head, features), partial(original_head, head, features)]
            ours, original = medians_in_turns(runs, options.rounds)
        print(
            f"batch {batch}: ours {ours * 1e3:.1f} ms, original {original * 1e3:.1f} ms, "
            f"ratio {original / ours:.2f}x, largest difference {difference:.1e}"
        )


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
