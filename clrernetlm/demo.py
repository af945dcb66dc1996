"""The main jobs on generated roads, start to report, on a plain machine: `clrernetlm demo`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from clrernetlm.config import load_config
from clrernetlm.data.synth import generate_dataset
from clrernetlm.detection import detect
from clrernetlm.engine.checkpoints import last_checkpoint
from clrernetlm.engine.lanelm_modes import Protocol
from clrernetlm.engine.lanelm_testing import score_lanelm
from clrernetlm.engine.training import train

CONFIG, LANELM = "demo_efficientnet_lite0", "demo_lanelm"
TRAIN, VAL, TEST = 800, 60, 200  # images
SIZE = (820, 295)  # half of CULane's frames along each side
SEED = 1
MODES = ("none", "2")  # LaneLM without prompts, and after two clicks on every lane


def demo(out: str = "demo", device: str = "cpu") -> Path:
    """Generate roads, train a small CLRerNet and a LaneLM on them, evaluate both on held-out roads, draw lanes.

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

    lanelm_run = folder / "lanelm"
    lanelm_overrides = {
        "data.root": data,
        "training.work_dir": lanelm_run,
        "training.device": device,
        "lanelm.detector": checkpoint,
        "lanelm.cache": folder / "features",
    }
    lanelm_flags = [f"--{key}={value}" for key, value in lanelm_overrides.items()]
    lanelm_config = load_config(LANELM, lanelm_flags)
    resume = last_checkpoint(lanelm_run) is not None
    say(3, "LaneLM, reading the detector's features", "train", LANELM, *lanelm_flags, *(["--resume"] if resume else []))
    lanelm = train(lanelm_config, resume=resume)

    scores = folder / "scores.json"
    where = ["--out", folder / "predictions", "--json", scores, "--report", report]
    say(4, "Evaluation on roads they have not seen", "test", LANELM, lanelm, "--prompts", *MODES, *where, *lanelm_flags)
    result = score_lanelm(
        lanelm_config,
        str(lanelm),
        Protocol(MODES),
        out=str(folder / "predictions"),
        json=str(scores),
        report=str(report),
        device=device,
    )

    images = sorted(data.joinpath("list", "test.txt").read_text().split())[:12]
    inputs = [str(data / image.lstrip("/")) for image in images]
    lanes = folder / "lanes"
    say(5, "Lanes on images", "detect", LANELM, lanelm, inputs[0], "...", "--out", lanes, "--device", device)
    detect(lanelm_config, str(lanelm), inputs, str(lanes), device=device)

    def f1(scored: dict[str, Any]) -> str:
        return f"{100 * scored['total']['0.5']['f1']:.1f}"

    console.print(
        f"\n[bold]F1@50: CLRerNet {f1(result['detector'])}, LaneLM {f1(result['lanelm'])}, after two clicks on each "
        f"lane {f1(result['modes']['2'])}[/bold]\n"
        f"on {result['detector']['images']} held-out images, {(time.perf_counter() - start) / 60:.1f} minutes in all.\n"
        f"Look at      {report}  and  {lanes}/*.jpg\n"
        f"Try next     clrernetlm detect {LANELM} {lanelm} YOUR_PHOTO.jpg --out lanes\n"
        f"             tensorboard --logdir {folder}\n"
        f"             docs/DATASETS.md: train on CULane or on your own images",
        highlight=False,
        soft_wrap=True,
    )
    return report
