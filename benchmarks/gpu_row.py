"""Measures a row for the table of docs/BENCHMARKS.md on any machine: `python benchmarks/gpu_row.py [--device cuda]`.

Needs only a checkout, PyTorch and NumPy: no installation, no weights, no data. CLRerNet with DLA-34 at 800x320 on
random weights, from images on the device to predictions on the host, unchanged (eager, float32, channels first) and
optimised by `fuse`, in every precision of the device; they run in turns and medians are compared. On NVIDIA's GPUs from
Ampere on, float32 convolutions of both use ten bits (TF32), as by PyTorch's default.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import torch
from timing import machine, positive, seconds_in_turns
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if importlib.util.find_spec("cv2") is None:  # only crops of images use it, no network
    sys.modules["cv2"] = MagicMock()

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config.schema import ClrernetConfig
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.fusing import fuse


def predictions(model: CLRerNet, images: Tensor) -> Tensor:
    """Run the network on images (B, 3, H, W) uint8 on the device, and copy predictions (B, Np, 6 + R) to the host."""
    stage = model(images.float().div_(255))[-1]
    return torch.cat([stage[name].float() for name in ("cls_logits", "anchor_params", "lengths", "xs")], dim=-1).cpu()


def device_name(device: torch.device) -> str:
    """Return the model of a GPU, else that of the processor with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = f"{machine()}, {torch.get_num_threads()} threads"
    return name if device.type == "cpu" else f"{device.type}, {name}"


def main() -> None:
    parser = argparse.ArgumentParser(description="A row for docs/BENCHMARKS.md from any machine.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=positive, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=positive, default=30)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    plain = CLRerNet(ClrernetConfig()).eval().to(device)
    precisions = ["fp32", "bf16"] if device.type == "cpu" else ["fp32", "bf16", "fp16"]
    models = {"eager fp32": plain} | {f"fused {name}": fuse(plain, name) for name in precisions}
    if options.compile:
        models |= {f"compiled {name}": fuse(plain, name, compiled=True) for name in precisions}
    print("| device | torch | network | batch | median ms | p95 ms | images/s | against eager |")
    print("|---|---|---|---|---|---|---|---|")
    for batch in options.batch:
        images = torch.randint(0, 256, (batch, 3, 320, 800), dtype=torch.uint8, device=device)
        images_last = images.contiguous(memory_format=torch.channels_last)
        runs: list[Callable[[], object]] = [
            partial(predictions, model, images if model is plain else images_last) for model in models.values()
        ]
        with torch.inference_mode():
            seconds = [sorted(taken) for taken in seconds_in_turns(runs, options.rounds)]
        eager = seconds[0][len(seconds[0]) // 2]
        for name, taken in zip(models, seconds, strict=True):
            median, p95 = taken[len(taken) // 2], taken[min(int(0.95 * len(taken)), len(taken) - 1)]
            print(
                f"| {device_name(device)} | {torch.__version__} | {name} | {batch} | {1e3 * median:.1f} | "
                f"{1e3 * p95:.1f} | {batch / median:.1f} | {eager / median:.2f}x |"
            )


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
