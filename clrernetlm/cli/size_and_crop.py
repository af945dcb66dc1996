"""Parses sizes such as `1640x590` and crops such as `0.4,0.9`, as options of the command line give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from clrernetlm.core.errors import UserError

if TYPE_CHECKING:
    from clrernetlm.config import Config

EDGES = ("left", "top", "right", "bottom")


def parse_size(text: str) -> tuple[int, int]:
    """Convert a size such as `1640x590` to (width, height) in pixels; raises ValueError for any other text."""
    width, _, height = text.lower().partition("x")
    try:
        size = int(width), int(height)
    except ValueError:
        size = 0, 0
    if min(size) < 1:
        raise ValueError(f"{text} is not WIDTHxHEIGHT, such as 1640x590")
    return size


def parse_size_or_auto(text: str) -> tuple[int, int] | None:
    """Convert a size as `parse_size`, and `auto` to None; raises ValueError for any other text."""
    return None if text == "auto" else parse_size(text)


def fix_given_crop(config: Config, overrides: Sequence[str], crop: str | None = None) -> Config:
    """Fix the crop of a config (`viewport_mode`) if the user gives an edge of it as a setting, or all of it as `crop`.

    `overrides`: the settings of the command line. `crop`: `TOP` or `TOP,BOTTOM`, fractions of the frame's height.
    Changes `config` and returns it. Raises UserError for any other text.
    """
    names = {argument.partition("=")[0].removeprefix("--").replace("-", "_") for argument in overrides}
    if "model.viewport_mode" not in names and names & {f"model.viewport.{edge}" for edge in EDGES}:
        config.model.viewport_mode = "fixed"
    if crop is not None:
        top, bottom = parse_crop(crop)
        config.model.viewport = replace(config.model.viewport, top=top, bottom=bottom)
        config.model.viewport_mode = "fixed"
    return config


def parse_crop(text: str) -> tuple[float, float]:
    """Convert a crop such as `0.4` or `0.4,0.9` to (top, bottom), fractions of the frame's height.

    Raises UserError for any other text.
    """
    first, comma, second = text.partition(",")
    try:
        top, bottom = float(first), float(second) if comma else 1.0
    except ValueError:
        top, bottom = 1.0, 0.0  # fails the check below
    if not 0 <= top < bottom <= 1:
        raise UserError(f"crop: {text} is not TOP or TOP,BOTTOM; use fractions of the height such as 0.4 or 0.4,0.9")
    return top, bottom
