"""Compares training in two processes with training in one: `python benchmarks/two_processes.py`.

Generates a few roads and trains CLRerNet, then LaneLM, twice with the command line: in one process, and in two that
share the same global batch (DDP, synchronised BatchNorm). Prints the loss of every step of both and the largest
relative difference. CLRerNet in double precision shows whether the arithmetic is equal; `--precision 32-true` shows the
effect of rounding, which after some steps changes assignments of anchors. So does any rounding at a higher learning
rate, because Adam's first steps move every weight by all of it. LaneLM trains in float32. Dropout is drawn separately
in every process, so CLRerNet trains without it: no segmentation branch, no attention dropout.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from small_networks import SMALL_LANELM
from timing import positive

from clrernetlm.cli.exit_codes import exit_code_of

SMALL = [
    "--model.backbone.name=dla46_c",
    "--model.backbone.pretrained=False",
    "--model.viewport.width=160",
    "--model.viewport.height=64",
    "--model.head.num-priors=48",
    "--model.head.attention-dropout=0",
    "--model.loss.seg-weight=0",
    "--data.diff-file=None",
    "--data.num-workers=0",
]
RUNS = {"one process": [], "two processes": ["--training.num-devices=2", "--training.strategy=ddp"]}


def clrernetlm(*arguments: str) -> None:
    """Run `clrernetlm ARGUMENTS` in a process of its own with one thread; exits with its output if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "clrernetlm", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"clrernetlm {' '.join(arguments)}:\n{done.stdout}{done.stderr}")


def read_losses(metrics: Path) -> list[float]:
    """Read the loss of every step of a run."""
    with open(metrics, newline="") as lines:
        return [float(row["loss"]) for row in csv.DictReader(lines) if row["loss"]]


def compare(name: str, arguments: list[str], folder: Path, steps: int) -> float:
    """Train in one process and in two, and print both losses; returns their largest relative difference."""
    seconds, found = {}, {}
    for run, more in RUNS.items():
        work = folder / name / run.replace(" ", "_")
        start = time.perf_counter()
        clrernetlm("train", *arguments, f"--training.work-dir={work}", *more)
        seconds[run], found[run] = time.perf_counter() - start, read_losses(work / "metrics.csv")
    one, two = found.values()
    assert len(one) == len(two) == steps, f"{len(one)} and {len(two)} steps"
    differences = [abs(a - b) / abs(a) for a, b in zip(one, two, strict=True)]
    print(f"{name}: step, loss in one process, in two, relative difference")
    for step, row in enumerate(zip(one, two, differences, strict=True)):
        print(f"{step:4} {row[0]:14.9f} {row[1]:14.9f} {row[2]:9.1e}")
    times = ", ".join(f"{run} {took:.0f} s" for run, took in seconds.items())
    print(f"{name}: largest difference {max(differences):.1e} over {steps} steps ({times})")
    return max(differences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=positive, default=20)
    parser.add_argument("--batch", type=positive, default=4, help="images of a step, over all processes")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--precision", choices=["64-true", "32-true"], default="64-true")
    parser.add_argument("--models", nargs="+", choices=["clrernet", "lanelm"], default=["clrernet", "lanelm"])
    args = parser.parse_args()
    images = 2 * args.batch
    common = [
        f"--data.batch-size={args.batch}",
        f"--training.learning-rate={args.learning_rate}",
        f"--training.max-steps={args.steps}",
        f"--training.epochs={args.steps}",
        "--training.validate-every=0",
        "--training.log-every=1",
        "--training.sync-batch-norm=True",
        "--training.device=cpu",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        roads = folder / "roads"
        clrernetlm("synth", str(roads), "--train", str(images), "--val", "1", "--test", "1", "--size", "410x148")
        arguments = [f"--data.root={roads}", *SMALL, *common]
        if "clrernet" in args.models:
            precision = f"--training.precision={args.precision}"
            compare("clrernet", ["clrernet_culane_dla46_c", *arguments, precision], folder, args.steps)
        if "lanelm" in args.models:
            detector = folder / "detector"
            learned = ["--training.epochs=40", "--training.max-steps=40", "--training.learning-rate=6e-4"]
            clrernetlm("train", "clrernet_culane_dla46_c", *arguments, *learned, f"--training.work-dir={detector}")
            weights = sorted((detector / "checkpoints").glob("epoch_*.ckpt"))[-1]
            lanelm = [*arguments, *SMALL_LANELM, "--lanelm.cache=None", f"--lanelm.detector={weights}"]
            compare("lanelm", ["base_lanelm", *lanelm], folder, args.steps)


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
