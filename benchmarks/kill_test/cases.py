"""The commands to kill: every command that writes files."""

from __future__ import annotations

from dataclasses import dataclass

from small_networks import SMALL_LANELM

IMAGES = 12  # of the generated data set
SMALL_DETECTOR = [  # a detector that learns nothing, but writes every file that a large one does
    "--model.backbone.name=dla46_c",
    "--model.backbone.pretrained=False",
    "--model.viewport.width=96",
    "--model.viewport.height=64",
    "--model.head.num-priors=24",
    "--model.loss.seg-weight=0",
    "--data.diff-file=None",
    "--data.batch-size=4",
    "--training.device=cpu",
    "--training.epochs=3",
]
CACHED_LANELM = [*SMALL_LANELM, "--lanelm.cached_augmentations=1", "--lanelm.cache=cache"]


@dataclass(frozen=True)
class Case:
    """One command: its arguments, with names of inputs in braces, and whether it has workers that can be killed."""

    name: str
    arguments: tuple[str, ...]
    workers: bool = False

    @property
    def trains(self) -> bool:
        """Whether the command continues from checkpoints after a kill."""
        return self.arguments[0] == "train"


def list_cases() -> list[Case]:
    """List all commands that write files; `inputs.Inputs` fills in paths for the names in braces."""
    detector = [*SMALL_DETECTOR, "--data.root={roads}", "--training.work-dir=run"]
    lanelm = [*detector, *CACHED_LANELM, "--lanelm.detector={detector}"]
    evaluated = ("--pred={many}", "--gt={many}", "--list={many}/list/train.txt")
    written = ("--json=scores.json", "--per-image=images.jsonl")
    cases = [
        Case("synth", ("synth", "out", "--train=4", "--val=1", "--test=1", "--size=205x74", "--workers=2"), True),
        Case("check-data", ("check-data", "{many}", "--decode", "--workers=2"), True),
        Case("evaluate", ("evaluate", *evaluated, "--workers=2", *written), True),
        Case("detect images", ("detect", "--model={packed}", "--device=cpu", "{images}")),
        Case("detect video", ("detect", "--model={packed}", "--device=cpu", "{clip}")),
        Case("test", ("test", "{packed}", "--device=cpu", "--data.root={roads}", "--out=out", "--json=scores.json")),
        Case("pack", ("pack", "{detector}", "packed.safetensors")),
        Case("export onnx", ("export", "{packed}", "--to=onnx", "--out=lanes.onnx")),
        Case("export openvino", ("export", "{packed}", "--to=openvino", "--out=lanes.xml")),
        Case("export torch", ("export", "{packed}", "--to=torch", "--out=lanes.pt2")),
    ]
    config = "clrernet_culane_dla46_c"
    for workers in (0, 1, 3):
        option = f"--data.num-workers={workers}"
        cases.append(Case(f"train, {workers} workers", ("train", config, *detector, option), workers > 0))
        cases.append(Case(f"train lanelm, {workers} w.", ("train", "base_lanelm", *lanelm, option), workers > 0))
    averaged = ("--training.ema-momentum=0.01", "--data.num-workers=1")
    cases.append(Case("train, averaged", ("train", config, *detector, *averaged), True))
    return cases
