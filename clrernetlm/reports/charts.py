"""Line charts as inline SVG, styled by the page they stand in (classes `axis`, `grid`, `series-0`, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 14, 44  # margins
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LETTER, LINE = 7.0, 16.0  # pixels that a letter of a label is wide, and a line of text high, at most


@dataclass(frozen=True)
class Series:
    """One line of a chart: name, (x, y) points in [0, 1] in drawing order, and a point to mark with its label."""

    name: str
    points: Sequence[tuple[float, float]]
    mark: tuple[float, float] | None = None
    mark_label: str = ""


def line_chart(
    series: Sequence[Series],
    title: str,
    x_label: str,
    y_label: str,
    key: Literal["left", "right"] = "left",
    percent: str = "",
) -> str:
    """SVG of curves over the unit square, with the key in a lower corner.

    `percent`: the axes whose numbers are shown in percent, "x", "y" or both.
    Colours, fonts and dark mode come from the page's style sheet.
    """
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">',
        f"<title>{escape(title)}</title>",
    ]
    for tick in TICKS:
        x, y = _place(tick, tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
            f"{_tick(tick, 'x' in percent)}</text>"
        )
        parts.append(
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_tick(tick, "y" in percent)}</text>'
        )
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="label" x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="label" x="14" y="{middle_y}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle_y})">{escape(y_label)}</text>'
    )
    for number, line in enumerate(series):
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(*point) for point in line.points))
        parts.append(f'<polyline class="series series-{number % 6}" points="{places}"/>')
        if len(series) > 1:
            parts.extend(_key([line.name for line in series], number, key))
    return "".join([*parts, *_marks(series), "</svg>"])


def _key(names: Sequence[str], number: int, corner: Literal["left", "right"]) -> list[str]:
    """What stands for a series in a lower corner."""
    y = HEIGHT - BOTTOM - 14 - 18 * (len(names) - 1 - number)
    widest = 28 + LETTER * max(map(len, names))
    x = LEFT + 12 if corner == "left" else WIDTH - RIGHT - 12 - widest
    return [
        f'<line class="series series-{number % 6}" x1="{x:g}" y1="{y}" x2="{x + 22:g}" y2="{y}"/>',
        f'<text class="value" x="{x + 28:g}" y="{y + 4}">{escape(names[number])}</text>',
    ]


def _marks(series: Sequence[Series]) -> list[str]:
    """The marked points and their labels, each label where it covers neither a curve nor another label, if it can."""
    taken = np.concatenate([np.empty((0, 2)), *(_ink(line) for line in series)])
    parts = []
    for number, line in enumerate(series):
        if line.mark is None:
            continue
        x, y = _place(*line.mark)
        width = LETTER * len(line.mark_label)
        # Where the text could begin: right above, left above, right below, left below; then the same farther away.
        corners = [
            (x + 9 - (width + 18) * left, y + down)
            for lines in range(3)
            for down in (-6 - LINE * (1 + lines), 6 + LINE * lines)
            for left in (0, 1)
        ]
        text_x, text_y = min(corners, key=lambda corner: _covered(corner, width, taken))
        parts.append(f'<circle class="mark mark-{number % 6}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
        of = f" of-{number % 6}" if len(series) > 1 else ""
        anchor, edge = ("start", text_x) if text_x > x else ("end", text_x + width)
        parts.append(
            f'<text class="value{of}" x="{edge:.1f}" y="{text_y + 12:.1f}" text-anchor="{anchor}">'
            f"{escape(line.mark_label)}</text>"
        )
        box = [(text_x + width * i / 20, text_y + LINE * j / 2) for i in range(21) for j in range(3)]
        taken = np.concatenate([taken, box])
    return parts


def _ink(line: Series) -> NDArray[np.float64]:
    """(N, 2) pixels along a curve, dense enough that a letter cannot slip between two."""
    points = np.array([_place(*point) for point in line.points]).reshape(-1, 2)
    steps = np.linspace(0, 1, 50)[:, None, None]
    return np.concatenate([points, (points[:-1] + steps * (points[1:] - points[:-1])).reshape(-1, 2)])


def _covered(corner: tuple[float, float], width: float, taken: NDArray[np.float64]) -> int:
    """How much a text with this upper left corner would hide; outside of the axes counts most."""
    (x, y), right, bottom = corner, corner[0] + width, corner[1] + LINE
    if x < LEFT or right > WIDTH - RIGHT or y < TOP or bottom > HEIGHT - BOTTOM:
        return len(taken) + 1
    inside = (taken >= (x, y)) & (taken <= (right, bottom))
    return int(inside.all(axis=1).sum())


def _tick(value: float, percent: bool) -> str:
    return f"{100 * value if percent else value:g}"


def _place(x: float, y: float) -> tuple[float, float]:
    across = LEFT + min(max(x, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)
    return across, TOP + (1 - min(max(y, 0.0), 1.0)) * (HEIGHT - TOP - BOTTOM)
