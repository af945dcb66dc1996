"""Runs the main jobs on generated roads, from images to report, in minutes on a CPU: `clrernetlm demo`."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass, field
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
MODES = ("none", "2")  # LaneLM without prompts, and with two clicks on every lane
DRAWN_IMAGES = 12


def demo(out: str = "demo", device: str = "cpu") -> Path:
    """Score the bundled models on the generated roads of one camera, train them further there, and score them again.

    All results lie in `out`; returns the path of the HTML report. Each step prints the command that does the same, and
    a second call continues where the first one stopped. Raises UserError for a folder with files of another origin.
    """
    run = DemoRun(Path(out), device)
    run.check_folder()
    run.generate_roads()
    bundled_scores = run.score_bundled_models()
    detector_title = "Training the detector further on its training roads"
    _, detector = run.train_model(3, detector_title, CONFIG, run.folder / "run")
    config, lanelm = run.train_model(
        4,
        "Training LaneLM further on the features of that detector",
        LANELM,
        run.folder / "lanelm",
        **{"lanelm.detector": detector, "lanelm.cache": run.folder / "features"},
    )
    trained_scores = run.score_trained_models(config, lanelm)
    run.draw_lanes(config, lanelm)
    run.print_summary(bundled_scores, trained_scores)
    return run.report


@dataclass
class DemoRun:
    """One run of the demo: its folder, device, console and start time, and the steps as methods."""

    folder: Path
    device: str
    console: Console = field(default_factory=Console)
    start: float = field(default_factory=time.perf_counter)  # seconds

    @property
    def data(self) -> Path:
        """Folder of the generated data set."""
        return self.folder / "data"

    @property
    def bundled_json(self) -> Path:
        """Scores of the bundled models."""
        return self.folder / "as_shipped.json"

    @property
    def trained_json(self) -> Path:
        """Scores after training."""
        return self.folder / "scores.json"

    @property
    def report(self) -> Path:
        """HTML report after training."""
        return self.folder / "report.html"

    @property
    def lanes(self) -> Path:
        """Folder of images with their lanes drawn."""
        return self.folder / "lanes"

    def check_folder(self) -> None:
        """Raise UserError if the folder holds anything but the results of an earlier demo."""
        exists, generated = self.folder.exists(), (self.data / GENERATED_DATA).is_file()
        if exists and not (self.folder.is_dir() and (generated or not any(self.folder.iterdir()))):
            raise UserError(f"{self.folder}: is there already and was not made by `demo`; name a new folder")
        for path, is_own in ((self.bundled_json, is_scores), (self.trained_json, is_scores), (self.report, is_report)):
            check_output(path, "a result", is_own, parameter="out", overwrite=True)

    def generate_roads(self) -> None:
        """Generate the data set of one camera, unless an earlier demo has done so."""
        counts = ["--train", TRAIN, "--val", VAL, "--test", TEST]
        size = "x".join(map(str, SIZE))
        title = "Generating roads of one camera, with exact lanes"
        self.announce(1, title, "synth", self.data, *counts, "--seed", SEED, "--size", size)
        if not (self.data / "list" / "test.txt").exists():
            generate_dataset(str(self.data), TRAIN, VAL, TEST, seed=SEED, size=SIZE)

    def score_bundled_models(self) -> dict[str, Any]:
        """Return the scores of the bundled models on the test roads, as `score_lanelm`; read if they are there."""
        flags = [f"--data.root={self.data}"]
        title = "Scoring the bundled models on the test roads"
        self.announce(2, title, "test", BUNDLED, "--prompts", *MODES, "--json", self.bundled_json, *flags)
        if self.bundled_json.exists():
            scores: dict[str, Any] = json.loads(self.bundled_json.read_text(encoding="utf-8"))
            return scores
        config, weights = resolve_model(BUNDLED, None, flags)
        outputs = ScoreOutputs(json=str(self.bundled_json))
        return score_lanelm(config, weights, PromptProtocol(MODES), outputs, RunOptions(device=self.device))

    def train_model(
        self, number: int, title: str, name: str, work_dir: Path, **settings: object
    ) -> tuple[Config, Path]:
        """Train the config `name` with `settings`, or continue its training; returns the config and the checkpoint."""
        own = {"data.root": self.data, "training.work_dir": work_dir, "training.device": self.device}
        flags = [f"--{key}={value}" for key, value in (own | settings).items()]
        resume = last_checkpoint(work_dir) is not None
        self.announce(number, title, "train", name, *flags, *(["--resume"] if resume else []))
        config = load_config(name, flags)
        return config, train(config, resume=resume)

    def score_trained_models(self, config: Config, lanelm: Path) -> dict[str, Any]:
        """Return the scores of the trained models on the test roads, as `score_lanelm`; writes the report."""
        predictions = self.folder / "predictions"
        outputs = ["--out", predictions, "--json", self.trained_json, "--report", self.report, "--overwrite"]
        command = ["test", LANELM, lanelm, "--prompts", *MODES, *outputs, f"--data.root={self.data}"]
        self.announce(5, "Scoring both trained models on the test roads", *command)
        return score_lanelm(
            config,
            str(lanelm),
            PromptProtocol(MODES),
            ScoreOutputs(str(predictions), str(self.trained_json), str(self.report), overwrite=True),
            RunOptions(device=self.device),
        )

    def draw_lanes(self, config: Config, lanelm: Path) -> None:
        """Detect and draw the lanes of a few test images."""
        images = sorted((self.data / "list" / "test.txt").read_text().split())[:DRAWN_IMAGES]
        inputs = [str(self.data / image.lstrip("/")) for image in images]
        options = ["--out", self.lanes, "--device", self.device, "--overwrite"]
        self.announce(6, "Drawing lanes on images", "detect", "--model", lanelm, inputs[0], "...", *options)
        detect(config, str(lanelm), inputs, str(self.lanes), device=self.device, overwrite=True)

    def announce(self, number: int, title: str, *command: object) -> None:
        """Print the title of a step, the seconds since the start, and the command that does the same."""
        seconds = time.perf_counter() - self.start
        self.console.print(f"\n[bold]{number}. {title}[/bold]  [dim]{seconds:.0f} s[/dim]", highlight=False)
        self.console.print(f"[dim]$ clrernetlm {shlex.join(map(str, command))}[/dim]", highlight=False, soft_wrap=True)

    def print_summary(self, bundled: dict[str, Any], trained: dict[str, Any]) -> None:
        """Print the F1@50 of both models before and after training, and next steps."""
        minutes = (time.perf_counter() - self.start) / 60
        rows = (
            ("CLRerNet", bundled["detector"], trained["detector"]),
            ("LaneLM", bundled["lanelm"], trained["lanelm"]),
            ("... two clicks", bundled["modes"]["2"], trained["modes"]["2"]),
        )
        table = "".join(f"{name:16s}{f1_percent(before):>10}{f1_percent(after):>14}\n" for name, before, after in rows)
        self.console.print(
            "\n[bold]F1@50           as shipped   after training here[/bold]\n"
            f"{table}"
            f"on {trained['detector']['images']} held-out images, {minutes:.1f} minutes in all.\n"
            f"Look at      {self.report}  and  {self.lanes}/*.jpg\n"
            "Try next     clrernetlm detect YOUR_PHOTO.jpg YOUR_CLIP.mp4 --out lanes\n"
            f"             tensorboard --logdir {self.folder}\n"
            "             docs/DATASETS.md: train on CULane or on your own images",
            highlight=False,
            soft_wrap=True,
        )


def f1_percent(scores: dict[str, Any]) -> str:
    """Format F1@50 in percent with one decimal, the resolution of some 200 images."""
    return f"{100 * scores['total']['0.5']['f1']:.1f}"
