"""The main jobs on generated roads, start to report, on a plain machine: `clrernetlm demo`."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from clrernetlm.config import Config, load_config
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import GENERATED_DATA
from clrernetlm.core.overwrite_rules import check_output
from clrernetlm.evaluation.prompt_modes import PromptProtocol
from clrernetlm.evaluation.score_lanelm import score_lanelm
from clrernetlm.evaluation.score_options import RunOptions, ScoreOutputs
from clrernetlm.inference.detect_images import detect
from clrernetlm.metrics.f1_counts import is_scores
from clrernetlm.reports.page import is_report
from clrernetlm.synth import generate_dataset
from clrernetlm.training.checkpoint_io import last_checkpoint
from clrernetlm.training.train import train
from clrernetlm.weights.resolve import resolve_model

BUNDLED, CONFIG, LANELM = "roads", "demo_efficientnet_lite0", "demo_lanelm"
TRAIN, VAL, TEST = 800, 60, 200  # images
SIZE = (820, 295)  # half of CULane's frames along each side
SEED = 1
MODES = ("none", "2")  # LaneLM without prompts, and after two clicks on every lane


def demo(out: str = "demo", device: str = "cpu") -> Path:
    """Score the models that ship on the generated roads of one camera, train them further there, score and draw again.

    Everything lands in `out`; returns the path of the HTML report. Each step prints the command that does the same, and
    a second call goes on where the first one stopped. Raises UserError for a folder that holds anything else.
    """
    console = Console()
    folder = Path(out)
    data, report = folder / "data", folder / "report.html"
    before, scores = folder / "as_shipped.json", folder / "scores.json"
    if folder.exists() and not (folder.is_dir() and ((data / GENERATED_DATA).is_file() or not any(folder.iterdir()))):
        raise UserError(f"{out}: is there already and was not made by `demo`; name a new folder")
    for path, is_own in ((before, is_scores), (scores, is_scores), (report, is_report)):
        check_output(path, "a result", is_own, parameter="out", overwrite=True)
    start = time.perf_counter()

    def say(number: int, title: str, *command: object) -> None:
        seconds = time.perf_counter() - start
        console.print(f"\n[bold]{number}. {title}[/bold]  [dim]{seconds:.0f} s[/dim]", highlight=False)
        console.print(f"[dim]$ clrernetlm {shlex.join(map(str, command))}[/dim]", highlight=False, soft_wrap=True)

    def trained(number: int, title: str, name: str, run: Path, **settings: object) -> tuple[Config, Path]:
        overrides = {"data.root": data, "training.work_dir": run, "training.device": device, **settings}
        flags = [f"--{key}={value}" for key, value in overrides.items()]
        resume = last_checkpoint(run) is not None
        say(number, title, "train", name, *flags, *(["--resume"] if resume else []))
        config = load_config(name, flags)
        return config, train(config, resume=resume)

    counts = ["--train", TRAIN, "--val", VAL, "--test", TEST]
    say(
        1,
        "Roads of one camera, with exact lanes",
        "synth",
        data,
        *counts,
        "--seed",
        SEED,
        "--size",
        "x".join(map(str, SIZE)),
    )
    if not (data / "list" / "test.txt").exists():
        generate_dataset(str(data), TRAIN, VAL, TEST, seed=SEED, size=SIZE)

    flags = [f"--data.root={data}"]
    say(2, "The models that ship, on its test roads", "test", BUNDLED, "--prompts", *MODES, "--json", before, *flags)
    if before.exists():
        shipped = json.loads(before.read_text(encoding="utf-8"))
    else:
        config, weights = resolve_model(BUNDLED, None, flags)
        shipped = score_lanelm(
            config, weights, PromptProtocol(MODES), ScoreOutputs(json=str(before)), RunOptions(device=device)
        )

    _, detector = trained(3, "The detector goes on learning on its training roads", CONFIG, folder / "run")
    title = "So does LaneLM, reading that detector's features"
    config, lanelm = trained(
        4, title, LANELM, folder / "lanelm", **{"lanelm.detector": detector, "lanelm.cache": folder / "features"}
    )

    where = ["--out", folder / "predictions", "--json", scores, "--report", report, "--overwrite"]
    say(5, "Both on the test roads", "test", LANELM, lanelm, "--prompts", *MODES, *where, *flags)
    result = score_lanelm(
        config,
        str(lanelm),
        PromptProtocol(MODES),
        ScoreOutputs(str(folder / "predictions"), str(scores), str(report), overwrite=True),
        RunOptions(device=device),
    )

    images = sorted(data.joinpath("list", "test.txt").read_text().split())[:12]
    inputs = [str(data / image.lstrip("/")) for image in images]
    lanes = folder / "lanes"
    say(
        6,
        "Lanes on images",
        "detect",
        "--model",
        lanelm,
        inputs[0],
        "...",
        "--out",
        lanes,
        "--device",
        device,
        "--overwrite",
    )
    detect(config, str(lanelm), inputs, str(lanes), device=device, overwrite=True)

    minutes = (time.perf_counter() - start) / 60
    console.print(
        "\n[bold]F1@50           as shipped   after training here[/bold]\n"
        + "".join(
            f"{name:16s}{f1(first):>10}{f1(second):>14}\n"
            for name, first, second in (
                ("CLRerNet", shipped["detector"], result["detector"]),
                ("LaneLM", shipped["lanelm"], result["lanelm"]),
                ("... two clicks", shipped["modes"]["2"], result["modes"]["2"]),
            )
        )
        + f"on {result['detector']['images']} held-out images, {minutes:.1f} minutes in all.\n"
        f"Look at      {report}  and  {lanes}/*.jpg\n"
        f"Try next     clrernetlm detect YOUR_PHOTO.jpg YOUR_CLIP.mp4 --out lanes\n"
        f"             tensorboard --logdir {folder}\n"
        f"             docs/DATASETS.md: train on CULane or on your own images",
        highlight=False,
        soft_wrap=True,
    )
    return report


def f1(scored: dict[str, Any]) -> str:
    """F1@50 in percent, to the decimal that 200 images can tell."""
    return f"{100 * scored['total']['0.5']['f1']:.1f}"
