"""Measures the parts of a training epoch: `python benchmarks/epoch.py [--configs NAME ...] [--images N]`.

Generates roads of CULane's size and trains each config on them for one epoch, as `clrernetlm train`. The first batch,
during which workers start and memory is allocated, is not counted. The waiting time is the cost of the loader; if it is
near zero, the loader is not the bottleneck.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from contextlib import redirect_stdout
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does; read when PyTorch loads

import lightning.pytorch as pl
import torch
from timing import positive, torch_setting

from clrernetlm.cli import main as clrernetlm
from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import load_config
from clrernetlm.training.train import train

CONFIGS = ("clrernet_culane_dla34", "roads_efficientnet_lite0")
WAITING = "waiting for images"


class Spans(pl.Callback):
    """Measures the seconds of each part of a training step, summed over batches; the first batch is not counted."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.batches = 0
        self.since = 0.0

    def end(self, span: str) -> None:
        """Add the seconds since the last call to those of `span`."""
        now = perf_counter()
        self.seconds[span] += now - self.since
        self.since = now

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.end(WAITING)

    def on_before_zero_grad(self, *_: Any) -> None:
        self.end("forward, assignment, loss")

    def on_before_backward(self, *_: Any) -> None:
        self.end("gradients to zero")

    def on_after_backward(self, *_: Any) -> None:
        self.end("backward")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.end("optimiser, running average")
        self.batches += 1
        if self.batches == 1:
            self.seconds.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of a training epoch goes.")
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    parser.add_argument("--images", type=positive, default=96)
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{torch_setting(options)}; batches of {options.batch}, {options.workers} workers")
    with tempfile.TemporaryDirectory() as folder:
        roads = str(Path(folder) / "roads")
        with redirect_stdout(sys.stderr):  # bars
            clrernetlm(["synth", roads, "--train", str(options.images), "--val", "0", "--test", "0", "--seed", "1"])
        for name in options.configs:
            with redirect_stdout(sys.stderr):
                spans = run_epoch(name, roads, Path(folder) / name, options)
            total = sum(spans.seconds.values())
            images = (spans.batches - 1) * options.batch
            print(f"{name}: {images / total:.1f} images/s")
            for span, seconds in spans.seconds.items():
                print(f"  {span:28} {1e3 * seconds / images:7.1f} ms an image  {100 * seconds / total:5.1f} %")


def run_epoch(name: str, roads: str, work_dir: Path, options: argparse.Namespace) -> Spans:
    """Train a config for one epoch, and return the seconds of its parts."""
    config = load_config(
        name,
        (
            f"--data.root={roads}",
            "--data.diff-file=None",
            f"--data.batch-size={options.batch}",
            f"--data.num-workers={options.workers}",
            "--model.backbone.pretrained=False",
            "--training.epochs=1",
            "--training.validate-every=0",
            f"--training.work-dir={work_dir}",
        ),
    )
    spans = Spans()
    train(config, callbacks=[spans])
    return spans


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
