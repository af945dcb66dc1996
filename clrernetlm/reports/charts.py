"""Draws line charts as inline SVG, styled by the page that contains them (classes `axis`, `grid`, `series-0`, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 460, 300  # pixels, as all lengths here
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 14, 44  # margins
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LETTER_WIDTH, LINE_HEIGHT = 7.0, 16.0  # upper bounds of a label's text
NUM_STYLES = 6  # styles of series in the style sheet


@dataclass(frozen=True)
class Series:
    """One curve of a chart: its name, (x, y) points in [0, 1] in drawing order, and a point to mark with a label."""

    name: str
    points: Sequence[tuple[float, float]]
    mark: tuple[float, float] | None = None
    mark_label: str = ""


def line_chart(
    series: Sequence[Series],
    title: str,
    x_label: str,
    y_label: str,
    legend: Literal["left", "right"] = "left",
    percent: str = "",
) -> str:
    """Draw curves over the unit square as SVG, with a legend in the lower left or right corner.

    `percent`: the axes whose numbers are in percent, "x", "y" or "xy". Colours, fonts and dark mode come from the
    page's style sheet.
    """
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">',
        f"<title>{escape(title)}</title>",
    ]
    for tick in TICKS:
        x, y = _to_pixels(tick, tick)
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
        pixels = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_to_pixels(*point) for point in line.points))
        parts.append(f'<polyline class="series series-{number % NUM_STYLES}" points="{pixels}"/>')
        if len(series) > 1:
            parts.extend(_legend_entry([line.name for line in series], number, legend))
    return "".join([*parts, *_marks(series), "</svg>"])


def _legend_entry(names: Sequence[str], number: int, corner: Literal["left", "right"]) -> list[str]:
    """Draw the legend's line and name of one series, in a lower corner."""
    y = HEIGHT - BOTTOM - 14 - 18 * (len(names) - 1 - number)
    widest = 28 + LETTER_WIDTH * max(map(len, names))
    x = LEFT + 12 if corner == "left" else WIDTH - RIGHT - 12 - widest
    return [
        f'<line class="series series-{number % NUM_STYLES}" x1="{x:g}" y1="{y}" x2="{x + 22:g}" y2="{y}"/>',
        f'<text class="value" x="{x + 28:g}" y="{y + 4}">{escape(names[number])}</text>',
    ]


def _marks(series: Sequence[Series]) -> list[str]:
    """Draw the marked points with their labels; if possible, these cover neither a curve nor another label."""
    occupied = np.concatenate([np.empty((0, 2)), *(_curve_pixels(line) for line in series)])
    parts = []
    for number, line in enumerate(series):
        if line.mark is None:
            continue
        x, y = _to_pixels(*line.mark)
        width = LETTER_WIDTH * len(line.mark_label)
        # Upper left corners to try: right above, left above, right below, left below; then the same farther away.
        corners = [
            (x + 9 - (width + 18) * left, y + down)
            for lines in range(3)
            for down in (-6 - LINE_HEIGHT * (1 + lines), 6 + LINE_HEIGHT * lines)
            for left in (0, 1)
        ]
        text_x, text_y = min(corners, key=lambda corner: _covered_pixels(corner, width, occupied))
        parts.append(f'<circle class="mark mark-{number % NUM_STYLES}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
        colour = f" of-{number % NUM_STYLES}" if len(series) > 1 else ""
        anchor, edge = ("start", text_x) if text_x > x else ("end", text_x + width)
        parts.append(
            f'<text class="value{colour}" x="{edge:.1f}" y="{text_y + 12:.1f}" text-anchor="{anchor}">'
            f"{escape(line.mark_label)}</text>"
        )
        box = [(text_x + width * i / 20, text_y + LINE_HEIGHT * j / 2) for i in range(21) for j in range(3)]
        occupied = np.concatenate([occupied, box])
    return parts


def _curve_pixels(line: Series) -> NDArray[np.float64]:
    """Sample a curve at (N, 2) pixels, so densely that every letter on it covers at least one."""
    points = np.array([_to_pixels(*point) for point in line.points]).reshape(-1, 2)
    steps = np.linspace(0, 1, 50)[:, None, None]
    return np.concatenate([points, (points[:-1] + steps * (points[1:] - points[:-1])).reshape(-1, 2)])


def _covered_pixels(corner: tuple[float, float], width: float, occupied: NDArray[np.float64]) -> int:
    """Count the occupied pixels that a text with this upper left corner covers; outside the axes more than all."""
    (x, y), right, bottom = corner, corner[0] + width, corner[1] + LINE_HEIGHT
    if x < LEFT or right > WIDTH - RIGHT or y < TOP or bottom > HEIGHT - BOTTOM:
        return len(occupied) + 1
    inside = (occupied >= (x, y)) & (occupied <= (right, bottom))
    return int(inside.all(axis=1).sum())


def _tick(value: float, percent: bool) -> str:
    return f"{100 * value if percent else value:g}"


def _to_pixels(x: float, y: float) -> tuple[float, float]:
    pixel_x = LEFT + min(max(x, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)
    return pixel_x, TOP + (1 - min(max(y, 0.0), 1.0)) * (HEIGHT - TOP - BOTTOM)
