"""The commands: what each one takes, and the function of the package that it calls.

The functions are imported when their command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from clrernetlm.cli.base import (
    BackendChoice,
    Command,
    Device,
    TrustCode,
    WithCheckpoint,
    WithConfig,
    WithResults,
    check_device,
)
from clrernetlm.cli.data_commands import CheckData, Synth, Tokens, Workers
from clrernetlm.cli.export_command import Export
from clrernetlm.cli.model_commands import Detect, Models, Pack
from clrernetlm.cli.sizes import SizeOrAuto
from clrernetlm.core.errors import UserError


@dataclass(kw_only=True)
class Train(WithConfig):
    """Train a model; the checkpoints and logs go to work_dirs/NAME."""

    # Go on from the last checkpoint of the work directory.
    resume: bool = False
    resume_from: Annotated[str | None, arg(metavar="FILE", help="go on from this checkpoint")] = None
    device: Annotated[str | None, arg(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps")] = None

    def run(self) -> int:
        config = self.load(*([f"--training.device={self.device}"] if self.device else []))
        from clrernetlm.training.launch_checks import check_numbers

        check_numbers(config)  # what follows takes seconds to load
        check_device(config.training.device)
        from clrernetlm.training.resume import first_process
        from clrernetlm.training.train import train, validation_f1

        checkpoint = train(config, resume=self.resume_from or self.resume)
        if first_process():
            f1 = validation_f1(checkpoint)
            score = "not validated" if f1 is None else f"F1@50 {100 * f1:.2f} % on {config.data.val_list}"
            test = shlex.join(["clrernetlm", "test", self.config, str(checkpoint), *self.overrides])
            print(f"trained: {checkpoint} ({score}); test it: {test}")
        return 0


@dataclass(kw_only=True)
class ScoreSplit(WithCheckpoint, WithResults):
    """Detect lanes on a whole split and score them: table, JSON and HTML report."""

    split: Annotated[Literal["val", "test"], arg(help="the list to use")] = "test"
    out: Annotated[str | None, arg(metavar="DIR", help="keep the predicted .lines.txt files here")] = None
    json: Annotated[str | None, arg(metavar="FILE", help="write the scores here")] = None
    report: Annotated[str | None, arg(metavar="FILE", help="write an HTML report here")] = None
    prompts: Annotated[
        tuple[Literal["none", "start", "1", "2", "3", "4", "all"], ...],
        arg(
            metavar="MODE...",
            help="what LaneLM is told: nothing, the detector's start points, or so many clicks on every labelled lane; "
            "several at once, or all (none start 1 2 4)",
        ),
    ] = ("none",)
    noise: Annotated[
        float,
        arg(metavar="PIXELS", help="clicks miss by up to this, in x and in y; pixels of the frame the metric draws on"),
    ] = 5.0
    prompt_places: Annotated[
        Literal["start", "anywhere"], arg(help="clicks on the lowest rows of a lane, or all along it")
    ] = "start"
    seed: Annotated[int, arg(metavar="N", help="of the clicks' places and misses")] = 0
    # Clicks alone, without the detector's lane that they are near to.
    no_questions: bool = False
    starts: Annotated[
        Literal["detector", "lanelm"], arg(help="whose confidence decides which start points are lanes")
    ] = "detector"
    # A control: LaneLM reads the features of another image.
    shuffle_images: bool = False
    backend: BackendChoice = None
    trust_code: TrustCode = False
    processes: Annotated[
        int,
        arg(metavar="N", help="processes on this machine that share the images; torchrun and srun say it themselves"),
    ] = 1

    def run(self) -> int:
        from clrernetlm.cli.options import settle_crop
        from clrernetlm.core.memory import keep_freed_memory

        keep_freed_memory()
        config, checkpoint = self.load_model("test")
        config = settle_crop(config, self.overrides)
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
                    use_proposals=not self.no_questions,
                    starts=self.starts,
                    shuffle_images=self.shuffle_images,
                ),
                out=self.out,
                json=self.json,
                report=self.report,
                split=self.split,
                device=self.device,
                backend=self.backend,
                processes=self.processes,
                trust_code=self.trust_code,
                overwrite=self.overwrite,
            )
            return 0
        if self.prompts != ("none",) or self.no_questions or self.shuffle_images:
            raise UserError(
                f"--prompts, --no-questions, --shuffle-images: {self.config} is a detector, which is asked nothing; "
                "use a config of LaneLM"
            )
        from clrernetlm.evaluation.score_detector import score_detector

        score_detector(
            config,
            checkpoint,
            out=self.out,
            json=self.json,
            report=self.report,
            split=self.split,
            device=self.device,
            backend=self.backend,
            processes=self.processes,
            trust_code=self.trust_code,
            overwrite=self.overwrite,
        )
        return 0


@dataclass(kw_only=True)
class Evaluate(WithResults):
    """Score predicted .lines.txt files with the CULane metric."""

    pred: Annotated[Path, arg(metavar="DIR", help="predictions; a missing file means no lanes")]
    gt: Annotated[Path, arg(metavar="DIR", help="labels, in the same layout")]
    list_file: Annotated[Path, arg(name="list", metavar="FILE", help="images to score, one a line")] = field(
        metadata={"option": "list"}
    )
    json: Annotated[Path, arg(metavar="FILE", help="write the scores here")]
    categories: Annotated[
        Path | None, arg(metavar="DIR", help="folder of test*_NAME.txt lists; folders: the images' top-level folders")
    ] = None
    semantics: Annotated[
        Literal["clrernet", "official"], arg(help="reading of the metric: published CLRerNet figures, or CULane's C++")
    ] = "clrernet"
    image_size: Annotated[
        SizeOrAuto,
        arg(help="frame the lanes are drawn on; auto: every image at its own size, scaled to be 1640 wide"),
    ] = (1640, 590)
    width: Annotated[int, arg(metavar="PIXELS", help="lane width")] = 30
    per_image: Annotated[Path | None, arg(metavar="FILE", help="write one JSON line per image here")] = None
    workers: Workers = 0

    def run(self) -> int:
        from clrernetlm.evaluation.evaluate_files import evaluate_command

        evaluate_command(
            self.pred,
            self.gt,
            self.list_file,
            categories=self.categories,
            semantics=self.semantics,
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

    checkpoint: Annotated[
        Positional[str | None], arg(metavar="CHECKPOINT", help="weights; without them random ones are timed")
    ] = None
    device: Device = "auto"
    batch: Annotated[tuple[int, ...], arg(metavar="N...", help="images at a time; several make several rows")] = (1,)
    iterations: Annotated[int, arg(metavar="N", help="timed batches")] = 50
    precision: Annotated[
        tuple[Literal["fp32", "fp16", "bf16"], ...],
        arg(metavar="NAME...", help="fp32, bf16 or fp16; several make rows"),
    ] = ("fp32",)
    backend: BackendChoice = None
    trust_code: TrustCode = False
    # PyTorch: compile the network first, which takes a minute.
    compile: bool = False

    def run(self) -> int:
        if not self.batch or min(*self.batch, self.iterations) < 1:
            raise UserError("--batch and --iterations: use 1 or more")
        from clrernetlm.core.memory import keep_freed_memory

        keep_freed_memory()
        from clrernetlm.evaluation.speed import speed
        from clrernetlm.weights import RANDOM, REMOTE
        from clrernetlm.weights.resolve import find_settings_and_weights, is_model_name

        released = REMOTE.get(self.config)
        has_weights = is_model_name(self.config) or (released is not None and released.path.is_file())
        default = None if has_weights else RANDOM
        config, weights = find_settings_and_weights(self.config, self.checkpoint or default, self.overrides)

        speed(
            config,
            weights,
            device=self.device,
            batches=self.batch,
            iterations=self.iterations,
            precisions=self.precision,
            backend=self.backend,
            compiled=self.compile,
            trust_code=self.trust_code,
        )
        return 0


@dataclass(kw_only=True)
class ShowConfig(WithConfig, WithResults):
    """Print every setting of a config; translate one from MMDetection."""

    save: Annotated[str | None, arg(metavar="FILE", help="write it as a config file of this project")] = None

    def run(self) -> int:
        from clrernetlm.config.loading import files_of_configs, find_config
        from clrernetlm.config.mmdetection.translate import import_mmdetection, is_mmdetection
        from clrernetlm.config.serialization import flatten

        with files_of_configs() as files:
            config = self.load()
        if self.save:
            from clrernetlm.config.source import is_source, to_source
            from clrernetlm.core.files import write_text_atomically
            from clrernetlm.core.output_files import ReadFiles, check_output

            reads = ReadFiles(files)
            check_output(self.save, "a config", is_source, parameter="--save", overwrite=self.overwrite, reads=reads)
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

    out: Annotated[str, arg(metavar="DIR", help="folder for everything")] = "demo"
    device: Device = "cpu"

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
