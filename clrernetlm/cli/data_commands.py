"""Defines the commands about data sets: generating one, checking one, and showing labels as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clrernetlm.cli.command import Command, WithResults, option, positional
from clrernetlm.cli.size_and_crop import parse_size

WORKERS_HELP = "processes; 0: one per core"


@dataclass(kw_only=True)
class Synth(Command):
    """Generate road scenes with exact lanes in CULane's layout."""

    out: str = positional(metavar="OUT", help="folder for the data set")
    train: int = option(metavar="N", help="training images")
    val: int = option(metavar="N", help="validation images")
    test: int = option(metavar="N", help="test images")
    seed: int = option(0, metavar="N", help="the same seed gives the same bytes")
    size: tuple[int, int] = option((1640, 590), metavar="WxH", help="image size", convert=parse_size)
    randomization: tuple[str, ...] = option(
        ("none",),
        metavar="GROUP...",
        help="what is varied to train models for real roads: all, none, or any of cameras, course, surface, paint, "
        "distractors, surroundings, light, sensor; no-GROUP leaves one out, as in `all no-paint`",
        former_name="realism",
    )
    workers: int = option(0, metavar="N", help=WORKERS_HELP)

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

    root: str = positional(metavar="ROOT", help="folder of the data set, the one that holds list/")
    lists: tuple[str, ...] = option((), metavar="FILE...", help="lists under ROOT to check; default: all")
    contact_sheet: str = option("contact_sheet.jpg", metavar="FILE", help="picture of images with their lanes")
    max_lanes: int = option(4, metavar="N", help="lanes an image may have")
    decode: bool = option(False, help="decode every JPEG instead of checking its header and end")
    workers: int = option(0, metavar="N", help=WORKERS_HELP)

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

    lines: Path = positional(metavar="FILE", help="a .lines.txt file")
    config: str | None = option(None, metavar="CONFIG", help="take the viewport from it; default: CULane's")
    frame: tuple[int, int] | None = option(
        None, metavar="WxH", help="frame size; default: that of the image beside the file", convert=parse_size
    )
    steps: int = option(40, metavar="N", help="rows")
    bins: int = option(800, metavar="N", help="x tokens")
    lane: int | None = option(None, metavar="N", help="only this line of the file, from 1")

    def run(self) -> int:
        viewport = None
        if self.config is not None:
            from clrernetlm.config import load_config

            viewport = load_config(self.config).model.viewport
        from clrernetlm.cli.token_text import print_tokens

        print_tokens(self.lines, frame=self.frame, viewport=viewport, steps=self.steps, bins=self.bins, lane=self.lane)
        return 0
