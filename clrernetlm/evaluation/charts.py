"""Line charts as inline SVG, styled by the page they stand in (classes `axis`, `grid`, `series-0`, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 14, 44  # margins
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Series:
    """One line of a chart: name, (x, y) points in [0, 1] in drawing order, and a point to mark with its label."""

    name: str
    points: Sequence[tuple[float, float]]
    mark: tuple[float, float] | None = None
    mark_label: str = ""


def line_chart(series: Sequence[Series], title: str, x_label: str, y_label: str) -> str:
    """SVG of curves over the unit square. Colours, fonts and dark mode come from the page's style sheet."""
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">',
        f"<title>{escape(title)}</title>",
    ]
    for tick in TICKS:
        x, y = _place(tick, tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="label" x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="label" x="14" y="{middle_y}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle_y})">{escape(y_label)}</text>'
    )
    for number, line in enumerate(series):
        parts.extend(_series(line, number, len(series)))
    return "".join([*parts, "</svg>"])


def _series(line: Series, number: int, total: int) -> list[str]:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(*point) for point in line.points))
    parts = [f'<polyline class="series series-{number % 6}" points="{places}"/>']
    if line.mark is not None:
        x, y = _place(*line.mark)
        anchor, shift = ("end", -9) if x > WIDTH / 2 else ("start", 9)
        below = y + 18 if y < TOP + 24 else y - 10
        parts.append(f'<circle class="mark mark-{number % 6}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
        parts.append(
            f'<text class="value" x="{x + shift:.1f}" y="{below:.1f}" text-anchor="{anchor}">'
            f"{escape(line.mark_label)}</text>"
        )
    if total > 1:
        y = HEIGHT - BOTTOM - 14 - 18 * (total - 1 - number)
        parts.append(f'<line class="series series-{number % 6}" x1="{LEFT + 12}" y1="{y}" x2="{LEFT + 34}" y2="{y}"/>')
        parts.append(f'<text class="value" x="{LEFT + 40}" y="{y + 4}">{escape(line.name)}</text>')
    return parts


def _place(x: float, y: float) -> tuple[float, float]:
    across = LEFT + min(max(x, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)
    return across, TOP + (1 - min(max(y, 0.0), 1.0)) * (HEIGHT - TOP - BOTTOM)
