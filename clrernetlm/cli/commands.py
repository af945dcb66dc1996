"""Defines the commands that train, score, time and show a config, and the table of all commands.

A command imports the function that it calls only when it runs, so that `--help` needs no PyTorch and is fast.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clrernetlm.cli.command import (
    BACKEND_HELP,
    DEVICE_HELP,
    TRUST_CODE_HELP,
    Command,
    WithCheckpoint,
    WithConfig,
    WithResults,
    check_device,
    option,
    positional,
)
from clrernetlm.cli.data_commands import WORKERS_HELP, CheckData, Synth, Tokens
from clrernetlm.cli.detect_command import Detect
from clrernetlm.cli.model_commands import Export, Models, Pack
from clrernetlm.cli.size_and_crop import parse_size_or_auto
from clrernetlm.core.errors import UserError


@dataclass(kw_only=True)
class Train(WithConfig):
    """Train a model; the checkpoints and logs go to work_dirs/NAME."""

    resume: bool = option(False, help="continue from the last checkpoint of the work directory")
    resume_from: str | None = option(None, metavar="FILE", help="continue from this checkpoint")
    device: str | None = option(None, metavar="DEVICE", help=DEVICE_HELP)

    def run(self) -> int:
        config = self.load_config(*([f"--training.device={self.device}"] if self.device else []))
        from clrernetlm.training.launch_checks import check_numbers

        check_numbers(config)  # before the imports below, which take seconds
        check_device(config.training.device)
        from clrernetlm.training.resume import is_first_process
        from clrernetlm.training.train import train, validation_f1

        checkpoint = train(config, resume=self.resume_from or self.resume)
        if is_first_process():
            f1 = validation_f1(checkpoint)
            score = "not validated" if f1 is None else f"F1@50 {100 * f1:.2f} % on {config.data.val_list}"
            test = shlex.join(["clrernetlm", "test", self.config, str(checkpoint), *self.overrides])
            print(f"trained: {checkpoint} ({score}); test it: {test}")
        return 0


@dataclass(kw_only=True)
class ScoreSplit(WithCheckpoint, WithResults):
    """Detect lanes on a whole split and score them: table, JSON and HTML report."""

    split: Literal["val", "test"] = option("test", help="the list to use")
    out: str | None = option(None, metavar="DIR", help="keep the predicted .lines.txt files here")
    json: str | None = option(None, metavar="FILE", help="write the scores here")
    report: str | None = option(None, metavar="FILE", help="write an HTML report here")
    prompts: tuple[Literal["none", "start", "1", "2", "3", "4", "all"], ...] = option(
        ("none",),
        metavar="MODE...",
        help="prompts for LaneLM: none, the detector's start points, or so many clicks on every labelled lane; several "
        "at once, or all (none start 1 2 4)",
    )
    noise: float = option(
        5.0,
        metavar="PIXELS",
        help="clicks miss by up to this, in x and in y; pixels of the frame the metric draws on",
    )
    prompt_places: Literal["start", "anywhere"] = option(
        "start", help="clicks on the lowest rows of a lane, or all along it"
    )
    seed: int = option(0, metavar="N", help="seed for the places and misses of the clicks")
    no_proposals: bool = option(
        False, help="clicks alone, without the detector's lane near them", former_name="no-questions"
    )
    starts: Literal["detector", "lanelm"] = option(
        "detector", help="the model whose confidence decides which start points are lanes"
    )
    shuffle_images: bool = option(False, help="a control: give LaneLM the features of another image")
    shuffle_frames: bool = option(False, help="a control: give the fovea the pixels of another image")
    backend: Literal["torch", "onnxruntime", "openvino"] | None = option(None, help=BACKEND_HELP)
    trust_code: bool = option(False, help=TRUST_CODE_HELP)
    processes: int = option(
        1, metavar="N", help="processes on this machine that share the images; torchrun and srun set it themselves"
    )

    def run(self) -> int:
        from clrernetlm.cli.size_and_crop import fix_given_crop
        from clrernetlm.core.memory import keep_freed_memory

        keep_freed_memory()
        config, checkpoint = self.find_model("test")
        from clrernetlm.evaluation.score_options import RunOptions, ScoreOutputs

        config = fix_given_crop(config, self.overrides)
        outputs = ScoreOutputs(self.out, self.json, self.report, self.overwrite)
        run = RunOptions(self.split, self.device, self.backend, self.processes, self.trust_code)
        if config.task == "lanelm":
            from clrernetlm.evaluation.prompt_modes import PAPER_MODES, PromptProtocol
            from clrernetlm.evaluation.score_lanelm import score_lanelm
            from clrernetlm.evaluation.simulated_clicks import ClickSettings

            score_lanelm(
                config,
                checkpoint,
                PromptProtocol(
                    prompts=PAPER_MODES if "all" in self.prompts else self.prompts,
                    clicks=ClickSettings(self.prompt_places, self.noise, self.seed),
                    use_proposals=not self.no_proposals,
                    starts=self.starts,
                    shuffle_images=self.shuffle_images,
                    shuffle_frames=self.shuffle_frames,
                ),
                outputs,
                run,
            )
            return 0
        if self.prompts != ("none",) or self.no_proposals or self.shuffle_images or self.shuffle_frames:
            raise UserError(
                f"--prompts, --no-proposals, --shuffle-images: {self.config} is a detector, which takes no prompts; "
                "use a config of LaneLM"
            )
        from clrernetlm.evaluation.score_detector import score_detector

        score_detector(config, checkpoint, outputs, run)
        return 0


@dataclass(kw_only=True)
class Evaluate(WithResults):
    """Score predicted .lines.txt files with the CULane metric."""

    pred: Path = option(metavar="DIR", help="predictions; a missing file means no lanes")
    gt: Path = option(metavar="DIR", help="labels, in the same layout")
    list_file: Path = option(name="list", metavar="FILE", help="images to score, one per line")
    json: Path = option(metavar="FILE", help="write the scores here")
    categories: Path | None = option(
        None, metavar="DIR", help="folder of test*_NAME.txt lists; folders: the images' top-level folders"
    )
    implementation: Literal["clrernet", "official"] = option(
        "clrernet", help="the metric's program: CLRerNet's Python, or CULane's C++", former_name="semantics"
    )
    image_size: tuple[int, int] | None = option(
        (1640, 590),
        metavar="WxH|auto",
        help="frame the lanes are drawn on; auto: every image at its own size, scaled to be 1640 wide",
        convert=parse_size_or_auto,
    )
    width: int = option(30, metavar="PIXELS", help="lane width")
    per_image: Path | None = option(None, metavar="FILE", help="write one JSON line per image here")
    workers: int = option(0, metavar="N", help=WORKERS_HELP)

    def run(self) -> int:
        from clrernetlm.evaluation.evaluate_files import evaluate_command

        evaluate_command(
            self.pred,
            self.gt,
            self.list_file,
            categories=self.categories,
            implementation=self.implementation,
            image_size=self.image_size,
            width=self.width,
            json=self.json,
            per_image=self.per_image,
            workers=self.workers,
            overwrite=self.overwrite,
        )
        return 0


@dataclass(kw_only=True)
class Speed(WithConfig):
    """Measure latency, images per second and memory, with and without decoding."""

    checkpoint: str | None = positional(None, metavar="CHECKPOINT", help="weights; without them random ones are timed")
    device: str = option("auto", metavar="DEVICE", help=DEVICE_HELP)
    batches: tuple[int, ...] = option((1,), name="batch", metavar="N...", help="images at a time; several make rows")
    iterations: int = option(50, metavar="N", help="timed batches")
    precision: tuple[Literal["fp32", "fp16", "bf16"], ...] = option(
        ("fp32",), metavar="NAME...", help="fp32, bf16 or fp16; several make rows"
    )
    backend: Literal["torch", "onnxruntime", "openvino"] | None = option(None, help=BACKEND_HELP)
    trust_code: bool = option(False, help=TRUST_CODE_HELP)
    compiled: bool = option(False, name="compile", help="PyTorch: compile the network first, which takes a minute")

    def run(self) -> int:
        # The function checks the numbers, too, but only after imports that take seconds.
        for label, number in (("--batch", min(self.batches)), ("--iterations", self.iterations)):
            if number < 1:
                raise UserError(f"{label}: {number} is out of range; use 1 or more")
        from clrernetlm.core.memory import keep_freed_memory

        keep_freed_memory()
        from clrernetlm.evaluation.speed import speed
        from clrernetlm.weights.registry import RANDOM
        from clrernetlm.weights.resolve import has_weights, resolve_model

        default = None if has_weights(self.config) else RANDOM
        config, weights = resolve_model(self.config, self.checkpoint or default, self.overrides)
        speed(
            config,
            weights,
            device=self.device,
            batches=self.batches,
            iterations=self.iterations,
            precisions=self.precision,
            backend=self.backend,
            compiled=self.compiled,
            trust_code=self.trust_code,
        )
        return 0


@dataclass(kw_only=True)
class ShowConfig(WithConfig, WithResults):
    """Print every setting of a config; translate one from MMDetection."""

    save: str | None = option(None, metavar="FILE", help="write it as a config file of this project")

    def run(self) -> int:
        from clrernetlm.config.loading import files_of_configs, find_config
        from clrernetlm.config.mmdetection.translate import import_mmdetection, is_mmdetection
        from clrernetlm.config.serialization import flatten

        with files_of_configs() as files:
            config = self.load_config()
        if self.save:
            from clrernetlm.config.python_source import is_source, to_source
            from clrernetlm.core.files import write_text_atomically
            from clrernetlm.core.overwrite_rules import ReadFiles, check_output

            reads = ReadFiles(files)
            check_output(self.save, "a config", is_source, parameter="save", overwrite=self.overwrite, reads=reads)
            write_text_atomically(self.save, to_source(config))
        path = find_config(self.config)
        if is_mmdetection(path):
            for theirs, ours, _ in import_mmdetection(path).mapped:
                print(f"# {theirs} -> {ours}")
        for name, value in flatten(config).items():
            print(f"{name} = {value!r}")
        return 0


@dataclass(kw_only=True)
class Demo(Command):
    """Generate roads, train both models, evaluate and draw, in minutes on a plain CPU."""

    out: str = option("demo", metavar="DIR", help="folder for everything")
    device: str = option("cpu", metavar="DEVICE", help=DEVICE_HELP)

    def run(self) -> int:
        from clrernetlm.cli.demo import demo

        demo(self.out, device=self.device)
        return 0


COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "train": Train,
    "test": ScoreSplit,
    "detect": Detect,
    "models": Models,
    "pack": Pack,
    "export": Export,
    "evaluate": Evaluate,
    "speed": Speed,
    "config": ShowConfig,
    "synth": Synth,
    "check-data": CheckData,
    "tokens": Tokens,
}
