"""Collects and prints the problems of a data set, and counts of its images and lanes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_attributes import LaneColour, LaneType

MAX_PRINTED_PROBLEMS = 50


@dataclass(frozen=True)
class Problem:
    """A fault of a data set. `line` counts from 1; None: the whole file."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        position = self.path if self.line is None else f"{self.path}, line {self.line}"
        return f"{position}: {self.message}"


@dataclass
class DataReport:
    """The result of `check_data`: problems, images per list, images per number of lanes, frames per size.

    `top_first` counts lanes written from the top downwards; this package reads them, other tools may not. `types` and
    `colours` count the lanes of `described` images, which have a `.lanes.json` file.
    """

    root: str
    problems: list[Problem] = field(default_factory=list)
    lists: dict[str, int] = field(default_factory=dict)
    lane_counts: Counter[int] = field(default_factory=Counter)
    frame_sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    top_first: int = 0
    described: int = 0
    types: Counter[LaneType] = field(default_factory=Counter)
    colours: Counter[LaneColour] = field(default_factory=Counter)
    contact_sheet: str | None = None

    @property
    def exit_code(self) -> int:
        """Return 0 without problems, 1 otherwise."""
        return 1 if self.problems else 0

    def print(self, console: Console | None = None) -> None:
        """Print the problems, at most `MAX_PRINTED_PROBLEMS` of them, and a summary."""
        console = console or Console()
        for problem in self.problems[:MAX_PRINTED_PROBLEMS]:
            console.print(str(problem), style="red", markup=False, highlight=False, soft_wrap=True)
        if len(self.problems) > MAX_PRINTED_PROBLEMS:
            console.print(f"... and {len(self.problems) - MAX_PRINTED_PROBLEMS} more problems", style="red")
        table = Table(title=self.root, title_justify="left", show_header=False)
        for name, count in self.lists.items():
            table.add_row(name, f"{count} images")
        for (width, height), count in self.frame_sizes.most_common(5):
            table.add_row(f"{width}x{height}", f"{count} images")
        for lanes, count in sorted(self.lane_counts.items()):
            table.add_row("1 lane" if lanes == 1 else f"{lanes} lanes", f"{count} images")
        if self.top_first:
            table.add_row("top first", f"{self.top_first} lanes start at the top; fine here, unusual elsewhere")
        if self.described:
            table.add_row("with .lanes.json", "1 image" if self.described == 1 else f"{self.described} images")
            table.add_row("lane types", _listed(self.types))
            table.add_row("lane colours", _listed(self.colours))
        if self.contact_sheet:
            table.add_row("contact sheet", self.contact_sheet)
        table.add_row("problems", str(len(self.problems)), style="red" if self.problems else "green")
        console.print(table)


def _listed(counts: Counter[Any]) -> str:
    """Format counts, the largest first: `dashed 12, solid 7`."""
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "no lanes"


def problem_from_error(path: str, error: UserError) -> Problem:
    """Convert a UserError to a problem; its message may begin with the path and a line."""
    message = str(error).removeprefix(path)
    if message.startswith(", line "):
        number, _, message = message.removeprefix(", line ").partition(":")
        return Problem(path, int(number), message.strip())
    return Problem(path, None, message.removeprefix(":").removeprefix(",").strip())
