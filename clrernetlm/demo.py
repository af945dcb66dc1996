"""The main job on generated roads, start to report, on a plain machine: `clrernetlm demo`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from rich.console import Console

from clrernetlm.config import load_config
from clrernetlm.data.synth import generate_dataset
from clrernetlm.detection import detect
from clrernetlm.engine.checkpoints import last_checkpoint
from clrernetlm.engine.testing import score_detector
from clrernetlm.engine.training import train

CONFIG = "demo_efficientnet_lite0"
TRAIN, VAL, TEST = 800, 60, 200  # images
SIZE = (820, 295)  # half of CULane's frames along each side
SEED = 1


def demo(out: str = "demo", device: str = "cpu") -> Path:
    """Generate roads, train a small CLRerNet on them, evaluate it on held-out roads, draw its lanes.

    Everything lands in `out`; returns the path of the HTML report. Each step prints the command that does the same, and
    a second call goes on where the first one stopped.
    """
    console = Console()
    folder = Path(out)
    data, run, report = folder / "data", folder / "run", folder / "report.html"
    overrides = {"data.root": data, "training.work_dir": run, "training.device": device}
    flags = [f"--{key}={value}" for key, value in overrides.items()]
    config = load_config(CONFIG, flags)
    start = time.perf_counter()

    def say(number: int, title: str, *command: object) -> None:
        seconds = time.perf_counter() - start
        console.print(f"\n[bold]{number}. {title}[/bold]  [dim]{seconds:.0f} s[/dim]", highlight=False)
        console.print(f"[dim]$ clrernetlm {shlex.join(map(str, command))}[/dim]", highlight=False, soft_wrap=True)

    counts = ["--train", TRAIN, "--val", VAL, "--test", TEST]
    say(1, "Roads with exact lanes", "synth", data, *counts, "--seed", SEED, "--size", f"{SIZE[0]}x{SIZE[1]}")
    if not (data / "list" / "test.txt").exists():
        generate_dataset(str(data), TRAIN, VAL, TEST, seed=SEED, size=SIZE)

    resume = last_checkpoint(run) is not None
    say(2, "Training", "train", CONFIG, *flags, *(["--resume"] if resume else []))
    checkpoint = train(config, resume=resume)

    predictions = folder / "predictions"
    scores = folder / "scores.json"
    where = ["--out", predictions, "--json", scores, "--report", report]
    say(3, "Evaluation on roads it has not seen", "test", CONFIG, checkpoint, *where, *flags)
    result = score_detector(config, str(checkpoint), out=str(predictions), json=str(scores), report=str(report))

    images = sorted(data.joinpath("list", "test.txt").read_text().split())[:12]
    inputs = [str(data / image.lstrip("/")) for image in images]
    lanes = folder / "lanes"
    say(4, "Lanes on images", "detect", CONFIG, checkpoint, inputs[0], "...", "--out", lanes, "--device", device)
    detect(config, str(checkpoint), inputs, str(lanes), device=device)

    f1 = result["total"]["0.5"]["f1"]
    console.print(
        f"\n[bold]F1@50 {100 * f1:.1f}[/bold] on {result['images']} held-out images, "
        f"{(time.perf_counter() - start) / 60:.1f} minutes in all.\n"
        f"Look at      {report}  and  {lanes}/*.jpg\n"
        f"Try next     clrernetlm detect {CONFIG} {checkpoint} YOUR_PHOTO.jpg --out lanes\n"
        f"             tensorboard --logdir {run}\n"
        f"             docs/DATASETS.md: train on CULane or on your own images",
        highlight=False,
        soft_wrap=True,
    )
    return report
