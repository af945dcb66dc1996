"""Renders HTML reports: one self-contained file, readable offline, in light and dark mode.

The HTML lies in `templates/`: `report.html` is the page, the others are one block each, named after the classes below.
Jinja2 escapes every text except `Markup`, which only this package creates.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from clrernetlm.core.arrays import BgrImage, BgrPixel
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, write_text_atomically
from clrernetlm.core.overwrite_rules import begins_with

IMAGE_WIDTH = 800  # pixels of the pictures in a report, at most
JPEG_QUALITY = 80
# Checks whether a file is a report: whether it begins with the first characters of `templates/report.html`.
is_report = begins_with('<!doctype html><html lang="en"><head><meta name="generator" content="clrernetlm">')


@dataclass(frozen=True)
class Block:
    """A part of a section; `template` is the file in `templates/` that renders it."""

    template: ClassVar[str]


@dataclass(frozen=True)
class Html(Block):
    """Markup that is inserted unchanged."""

    template = "html.html"
    html: Markup


@dataclass(frozen=True)
class Note(Block):
    """A paragraph in small print."""

    template = "note.html"
    text: str


@dataclass(frozen=True)
class Table(Block):
    """A table of text cells; `total`: the last row is emphasised."""

    template = "table.html"
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: bool = False


@dataclass(frozen=True)
class ConfusionMatrix(Block):
    """Counts of predicted names (columns) for every labelled name (rows), shaded by their share of the row."""

    template = "confusion.html"
    title: str
    labelled: Sequence[str]
    predicted: Sequence[str]
    counts: Sequence[Sequence[int]]  # (labelled, predicted)


@dataclass(frozen=True)
class Facts(Block):
    """A table of names and values."""

    template = "facts.html"
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Charts(Block):
    """SVG charts beside each other."""

    template = "charts.html"
    charts: Sequence[Markup]


@dataclass(frozen=True)
class Picture:
    """A picture with its caption; `url` is a data URL that contains the image."""

    caption: str
    url: str


@dataclass(frozen=True)
class PictureRow:
    """Pictures beside each other: several of the image `path`, or of several images when `path` is empty."""

    pictures: Sequence[Picture]
    path: str = ""


@dataclass(frozen=True)
class Pictures(Block):
    """Rows of pictures under a legend of the colours drawn into them, {name: CSS colour}."""

    template = "pictures.html"
    colours: Mapping[str, str]
    rows: Sequence[PictureRow]


@dataclass(frozen=True)
class Section:
    """A heading and the blocks under it."""

    heading: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def write_page(path: PathLike, title: str, headline: Sequence[tuple[str, str]], sections: Sequence[Section]) -> None:
    """Write one self-contained HTML file, atomically.

    `headline`: names and values of the most important figures, shown large. Raises UserError when the file cannot be
    written.
    """
    page = _templates().get_template("report.html").render(title=title, headline=headline, sections=sections)
    write_text_atomically(path, page)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("clrernetlm.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["zip"] = zip
    return environment


def picture(caption: str, image: BgrImage) -> Picture:
    """Encode a (H, W, 3) BGR image as a JPEG of at most `IMAGE_WIDTH` pixels inside the page; raises UserError."""
    height, width = image.shape[:2]
    if width > IMAGE_WIDTH:
        size = (IMAGE_WIDTH, max(1, round(height * IMAGE_WIDTH / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded:
        raise UserError("report: a picture cannot be written as JPEG; expected a (height, width, 3) uint8 image")
    return Picture(caption, "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii"))


def css_colours(colours: Mapping[str, BgrPixel]) -> dict[str, str]:
    """Convert (blue, green, red) colours by name to those of CSS."""
    return {name: f"rgb({red}, {green}, {blue})" for name, (blue, green, red) in colours.items()}
