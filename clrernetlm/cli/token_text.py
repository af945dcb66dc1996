"""Prints the tokens of lanes as text: a picture of letters, then the numbers."""

from __future__ import annotations

import glob
import textwrap
from itertools import cycle, islice
from pathlib import Path
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from clrernetlm.core.drawing import PALETTE
from clrernetlm.core.errors import UserError
from clrernetlm.core.image_headers import image_size
from clrernetlm.core.lane_files import monotone_label, read_lines
from clrernetlm.core.sources import IMAGE_SUFFIXES
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.models.lanelm import LaneTokenizer, LaneTokenizerConfig

MAX_ROWS, MAX_BINS = 1000, 65_536  # the same limits as for the settings of LaneLM
MAX_COLUMNS = 100  # of the picture
MARGIN = 12  # columns for the row's number and its y

_COLOURS = [f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in PALETTE]
_PADDING, _CROSSING = " ", "*"


def print_tokens(
    lines: Path,
    *,
    frame: FrameSize | None = None,
    viewport: Viewport | None = None,
    steps: int = 40,
    bins: int = 800,
    lane: int | None = None,
) -> None:
    """Print the lanes of a `.lines.txt` file as LaneLM is trained on them: first a picture, then the tokens.

    `frame`: (width, height) of the image in pixels; default: that of the image beside the file. `steps`: number of
    rows. `bins`: number of x tokens. `lane`: the line of the file, from 1; default: all. Small letters are rows below
    the label's lowest point, to which training targets extend. Raises UserError for `steps` and `bins` out of range,
    and, naming the file, if it cannot be read, has no such line, or has no image beside it.
    """
    for name, value, most in (("steps", steps, MAX_ROWS), ("bins", bins, MAX_BINS)):
        if not 2 <= value <= most:
            raise UserError(f"{name}: {value} is out of range; use 2 to {most}")
    viewport = viewport or Viewport()
    labels = read_lines(lines)
    if lane is not None and not 1 <= lane <= len(labels):
        raise UserError(f"{lines}: no lane {lane}; it has {len(labels)}")
    frame = frame or _frame_beside(lines)
    tokenizer = LaneTokenizer(LaneTokenizerConfig(viewport.width, viewport.height, steps, bins))
    labels = [monotone_label(label, lines, number) for number, label in enumerate(labels, start=1)]
    points = [viewport.to_network(label, frame) for label in labels]
    x_tokens, y_tokens = tokenizer.encode_lanes(points, extend_bottom=True)
    labelled = tokenizer.encode_lanes(points)[1] < steps
    letters = list(islice(cycle(ascii_uppercase), len(points)))
    chosen = range(len(points)) if lane is None else [lane - 1]

    console = Console(highlight=False)
    sizes = f"frame {frame[0]}x{frame[1]} -> input {viewport.width}x{viewport.height}"
    console.print(f"{lines}: {sizes}, {steps} rows, {bins} bins of {tokenizer.config.bin_width:g} px", soft_wrap=True)
    if not labels:
        console.print("no lane")
        return
    grid = draw_tokens(x_tokens[chosen], labelled[chosen], [letters[i] for i in chosen], _columns(console, bins), bins)
    console.print(f"{'t':>3} {'y':>6}")
    for step, row in enumerate(grid):
        text = Text(f"{step:3d} {tokenizer.rows[step]:6.1f} |{''.join(row)}|")
        for i in chosen:
            text.highlight_regex(letters[i], _style(i))
            text.highlight_regex(letters[i].lower(), _style(i))
        console.print(text, soft_wrap=True)
    for i in chosen:
        console.print(Text(letters[i], _style(i)), _spans(y_tokens[i], steps), soft_wrap=True)
        numbers = " ".join(str(token) for token in x_tokens[i][x_tokens[i] > 0])
        if numbers:
            width = max(40, console.width)
            wrapped = textwrap.fill(numbers, width, initial_indent="  x ", subsequent_indent="    ")
            console.print(wrapped, soft_wrap=True)


def draw_tokens(
    x_tokens: NDArray[np.int64], capital: NDArray[np.bool_], letters: list[str], columns: int, bins: int
) -> NDArray[np.str_]:
    """Draw x tokens (L, T) as (T, columns) characters, one letter per lane, in capitals where `capital` (L, T).

    Columns share the `bins` evenly; where two lanes meet there is a star.
    """
    grid = np.full((x_tokens.shape[1], columns), _PADDING)
    for tokens, large, letter in zip(x_tokens, capital, letters, strict=True):
        rows = np.flatnonzero(tokens)
        cells = rows, tokens[rows] * columns // bins
        own = np.where(large[rows], letter, letter.lower())
        grid[cells] = np.where(grid[cells] == _PADDING, own, _CROSSING)
    return grid


def _columns(console: Console, bins: int) -> int:
    return max(20, min(MAX_COLUMNS, bins, console.width - MARGIN - 1))


def _style(lane: int) -> str:
    return _COLOURS[lane % len(_COLOURS)]


def _spans(y_tokens: NDArray[np.int64], steps: int) -> str:
    """Describe y tokens (T,) by their number and runs: `27 rows, t 13..39`."""
    rows = y_tokens[y_tokens < steps]
    if not rows.size:
        return "on no row: padding"
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return f"{len(rows)} rows, t " + " and ".join(f"{run[0]}..{run[-1]}" for run in runs)


def _frame_beside(lines: Path) -> FrameSize:
    """Return the (width, height) of the image beside a label file; raises UserError if there is none."""
    stem = lines.name.removesuffix(".lines.txt").removesuffix(".txt")
    for path in sorted(lines.parent.glob(f"{glob.escape(stem)}.*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            return image_size(path)
    raise UserError(f"{lines}: no image {stem}.* beside it to tell the frame's size; give it as `frame`")
