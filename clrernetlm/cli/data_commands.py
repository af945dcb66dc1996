"""The commands about data sets: generating one, checking one, labels as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from clrernetlm.cli.base import Command, WithResults
from clrernetlm.cli.sizes import OptionalSize, Size

Workers = Annotated[int, arg(metavar="N", help="processes; 0: one per core")]


@dataclass(kw_only=True)
class Synth(Command):
    """Generate road scenes with exact lanes in CULane's layout."""

    out: Annotated[Positional[str], arg(metavar="OUT", help="folder for the data set")]
    train: Annotated[int, arg(metavar="N", help="training images")]
    val: Annotated[int, arg(metavar="N", help="validation images")]
    test: Annotated[int, arg(metavar="N", help="test images")]
    seed: Annotated[int, arg(help="the same seed gives the same bytes")] = 0
    size: Annotated[Size, arg(help="image size")] = (1640, 590)
    randomization: Annotated[
        tuple[str, ...],
        arg(
            metavar="GROUP...",
            help="what is varied to train models for real roads: all, none, or any of cameras, course, surface, paint, "
            "distractors, surroundings, light, sensor; no-GROUP leaves one out, as in `all no-paint`",
        ),
    ] = ("none",)
    workers: Workers = 0
    renamed_options: ClassVar[dict[str, str]] = {"--realism": "--randomization"}

    def run(self) -> int:
        from clrernetlm.synth import generate_dataset
        from clrernetlm.synth.randomization import parse_randomization

        generate_dataset(
            self.out,
            self.train,
            self.val,
            self.test,
            seed=self.seed,
            size=self.size,
            workers=self.workers,
            randomization=parse_randomization(self.randomization),
        )
        return 0


@dataclass(kw_only=True)
class CheckData(WithResults):
    """Check a data set: name every broken file and line, draw a contact sheet."""

    root: Annotated[Positional[str], arg(metavar="ROOT", help="folder of the data set, the one that holds list/")]
    lists: Annotated[tuple[str, ...], arg(metavar="FILE...", help="lists under ROOT to check; default: all")] = ()
    contact_sheet: Annotated[str, arg(metavar="FILE", help="picture of images with their lanes")] = "contact_sheet.jpg"
    max_lanes: Annotated[int, arg(metavar="N", help="lanes an image may have")] = 4
    # Decode every JPEG instead of checking its header and end.
    decode: bool = False
    workers: Workers = 0

    def run(self) -> int:
        from clrernetlm.datasets.check import check_data

        report = check_data(
            self.root,
            self.lists or None,
            contact_sheet=self.contact_sheet,
            workers=self.workers,
            max_lanes=self.max_lanes,
            decode=self.decode,
            overwrite=self.overwrite,
        )
        report.print()
        return report.exit_code


@dataclass(kw_only=True)
class Tokens(Command):
    """Show the tokens of labelled lanes: a picture of letters, then the numbers."""

    lines: Annotated[Positional[Path], arg(metavar="FILE", help="a .lines.txt file")]
    config: Annotated[str | None, arg(metavar="CONFIG", help="take the viewport from it; default: CULane's")] = None
    frame: Annotated[OptionalSize, arg(help="frame size; default: that of the image beside the file")] = None
    steps: Annotated[int, arg(metavar="N", help="rows")] = 40
    bins: Annotated[int, arg(metavar="N", help="x tokens")] = 800
    lane: Annotated[int | None, arg(metavar="N", help="only this line of the file, from 1")] = None

    def run(self) -> int:
        viewport = None
        if self.config is not None:
            from clrernetlm.config import load_config

            viewport = load_config(self.config).model.viewport
        from clrernetlm.cli.token_text import print_tokens

        print_tokens(self.lines, frame=self.frame, viewport=viewport, steps=self.steps, bins=self.bins, lane=self.lane)
        return 0
