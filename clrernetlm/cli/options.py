"""What the command line says about the crop: given by hand, it is used as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from clrernetlm.core.errors import UserError

if TYPE_CHECKING:
    from clrernetlm.config import Config

EDGES = ("left", "top", "right", "bottom")


def settle_crop(config: Config, overrides: Sequence[str], crop: str | None = None) -> Config:
    """The config with `viewport_mode` fixed where the user has given an edge of the crop, or all of it by `--crop`.

    `crop`: `TOP` or `TOP,BOTTOM`, fractions of the frame's height. Raises UserError for anything else.
    """
    names = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in overrides}
    if "model.viewport_mode" not in names and names & {f"model.viewport.{edge}" for edge in EDGES}:
        config.model.viewport_mode = "fixed"
    if crop is not None:
        top, bottom = parse_crop(crop)
        config.model.viewport = replace(config.model.viewport, top=top, bottom=bottom)
        config.model.viewport_mode = "fixed"
    return config


def parse_crop(text: str) -> tuple[float, float]:
    """`0.4` or `0.4,0.9` -> top and bottom, fractions of the frame's height; raises UserError."""
    first, comma, second = text.partition(",")
    try:
        top, bottom = float(first), float(second) if comma else 1.0
    except ValueError:
        top, bottom = 1.0, 0.0  # not a part of a frame either
    if not 0 <= top < bottom <= 1:
        raise UserError(f"--crop: {text} is not TOP or TOP,BOTTOM; use fractions of the height such as 0.4 or 0.4,0.9")
    return top, bottom
