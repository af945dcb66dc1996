"""Compares a training step of CLRerNet-DLA34 with the original algorithm: `python benchmarks/training_step.py`.

Forward, assignment, loss, backward pass and AdamW of a batch at 800x320, on the CPU. The original is restated from its
parts: NCHW convolutions in float32, the head of `head_forward.py`, the loss of `assign_loss.py`, memory returned to the
system by the C library's default. It is compared with the step of `clrernetlm train`, in float32 and in bfloat16, in
turns in one process; medians are compared. `--backbone efficientnet_lite0` and other sizes are possible, too.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
from collections.abc import Callable, Iterable
from contextlib import suppress

import torch
from assign_loss import original_loss
from head_forward import original_head
from timing import medians_in_turns, positive
from torch import Tensor

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import load_config
from clrernetlm.core.memory import keep_freed_memory
from clrernetlm.models.pixel_scaling import network_input
from clrernetlm.training.detector_module import DetectorModule

SLOTS, ROWS = 4, 72


def hand_back_memory() -> None:
    """Restore glibc's defaults of freeing memory, which `keep_freed_memory` changes."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for parameter, value in ((-4, 65536), (-1, 128 * 1024), (-2, 128 * 1024)):
            library.mallopt(parameter, value)
        library.malloc_trim(0)


def labelled_batch(images: int, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Draw images (B, 3, H, W) of uint8 noise, and targets (B, 4, 78) of four straight lanes each."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (images, 3, height, width), generator=generator, dtype=torch.uint8)
    bottom = torch.linspace(0.1, 0.9, SLOTS) + 0.1 * torch.rand(images, SLOTS, generator=generator) - 0.05
    xs = bottom.unsqueeze(-1) + (0.5 - bottom).unsqueeze(-1) * torch.linspace(0, 1, ROWS)
    theta = torch.atan2(torch.full_like(bottom, height), (0.5 - bottom) * width) / torch.pi
    ones = torch.ones_like(bottom)
    lane = torch.stack([0 * ones, ones, ones, bottom * (width - 1), theta, 72 * ones], -1)
    return inputs, torch.cat([lane, xs * (width - 1)], -1)


def steps(args: argparse.Namespace, inputs: Tensor, targets: Tensor) -> tuple[list[str], list[Callable[[], float]]]:
    """Build names and functions of three training steps: the original, and ours in fp32 and bf16."""
    config = load_config(
        "clrernet_culane_dla34",
        (
            f"--model.backbone.name={args.backbone}",
            f"--model.viewport.width={args.width}",
            f"--model.viewport.height={args.height}",
            "--model.loss.seg-weight=0",
            "--model.head.attention-dropout=0",
            "--model.loss.length-target=official",
        ),
    )

    def module() -> tuple[DetectorModule, torch.optim.Optimizer]:
        torch.manual_seed(0)
        made = DetectorModule(config, segments=False)
        return made, torch.optim.AdamW(made.parameters(), lr=args.rate)

    plain, plain_optimizer = module()
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()

    def original() -> float:
        hand_back_memory()
        stages = original_head(plain.model.bbox_head, plain.model.extract_feat(inputs.float() / 255))
        return finish(original_loss(stages, targets).values(), plain_optimizer)

    def ours(precision: torch.dtype | None) -> Callable[[], float]:
        made, optimizer = module()

        def step() -> float:
            keep_freed_memory()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
                features = made.model.extract_feat(network_input(inputs))
                losses = made.criterion(made.model.bbox_head(features), targets)
            return finish(losses.values(), optimizer)

        return step

    def finish(losses: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> float:
        total = torch.stack(list(losses)).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return float(total.detach())

    return ["original, fp32", "ours, fp32", "ours, bf16"], [original, ours(None), ours(torch.bfloat16)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--backbone", default="dla34")
    parser.add_argument("--width", type=positive, default=800)
    parser.add_argument("--height", type=positive, default=320)
    parser.add_argument("--rate", type=float, default=0.0, help="learning rate; 0 keeps all three at the same weights")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    inputs, targets = labelled_batch(args.batch, args.width, args.height)
    names, functions = steps(args, inputs, targets)
    losses = [function() for function in functions]
    print(f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}, {args.backbone}, ", end="")
    print(f"{args.width}x{args.height}, batch {args.batch}")
    print(", ".join(f"loss of {name} {loss:.4f}" for name, loss in zip(names, losses, strict=True)))
    seconds = medians_in_turns(functions, args.rounds)
    for name, taken in zip(names, seconds, strict=True):
        print(f"{name:16s} {args.batch / taken:6.2f} images/s  x {seconds[0] / taken:.2f}")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
