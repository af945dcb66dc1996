"""Randomizes lane markings: fresh to nearly worn off, as paint, dots and studs."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from clrernetlm.core.arrays import BgrColour
from clrernetlm.synth.road.layout import RoadLayout
from clrernetlm.synth.road.markings import RoadLine

Style = Literal["as drawn", "dashes", "dots", "dots and dashes", "studs", "blocks"]
STYLES: dict[Style, float] = {
    "as drawn": 0.3,
    "dashes": 0.22,
    "dots": 0.1,
    "dots and dashes": 0.13,
    "studs": 0.17,
    "blocks": 0.08,
}
# Metres painted and metres per period.
_DASHES = ((3.0, 12.0), (3.7, 14.6), (3.0, 9.0), (2.0, 8.0), (1.5, 6.0), (2.4, 7.3), (3.0, 12.2), (6.0, 24.0))
_BLOCKS = ((1.0, 2.0), (1.0, 4.0), (0.9, 3.6), (1.5, 4.5))
_STUD_SIZE = 0.11  # metres: a dot or stud
_LEAST_BRIGHTNESS = 100.0  # display value of the brightest channel; darker lines are outlines
# Blue, red, orange and green paint.
_OTHER_COLOURS: tuple[BgrColour, ...] = (
    (205.0, 110.0, 50.0),
    (60.0, 55.0, 200.0),
    (35.0, 92.0, 228.0),
    (85.0, 150.0, 60.0),
)


def randomize_markings(rng: np.random.Generator, layout: RoadLayout, grey: float, faint: bool) -> None:
    """Redraw the lines of `layout` in place, on pavement of the display value `grey`.

    `faint` never makes a weak line stronger.
    """
    names = list(STYLES)
    style = names[int(rng.choice(len(names), p=list(STYLES.values())))]
    level = int(rng.choice(3, p=[0.42, 0.36, 0.22]))  # fresh, worn, hardly visible
    strength = float(rng.uniform((0.8, 0.45, 0.18)[level], (1.0, 0.85, 0.5)[level]))
    wear = float(rng.uniform((-0.4, 0.2, 0.7)[level], (0.6, 1.5, 2.4)[level]))
    white = _white(rng)
    blue, green, red = (float(v) for v in np.array([70.0, 165.0, 205.0]) * rng.uniform(0.75, 1.15, 3))
    yellow: BgrColour = (blue, green, red)
    width_scale = float(np.exp(rng.normal(0, 0.3)))
    outlined = grey > 95 and rng.random() < 0.12
    dash, period = _DASHES[int(rng.integers(len(_DASHES)))]
    block = _BLOCKS[int(rng.integers(len(_BLOCKS)))]
    phase = float(rng.uniform(0, period))
    yellow_edge = layout.road_type == "highway" and rng.random() < 0.4
    inner = {round(border, 4) for border in layout.borders}
    lines: list[RoadLine] = []
    for line in layout.lines:
        is_yellow = line.colour[2] - line.colour[0] > 70
        colour = yellow if is_yellow or (yellow_edge and line is layout.lines[0]) else white
        width = float(np.clip(line.width * width_scale * rng.uniform(0.92, 1.08), 0.07, 0.32))
        share = float(rng.uniform(0.65, 1.0))
        repainted = replace(
            line,
            width=width,
            colour=colour,
            strength=min(strength * share, line.strength) if faint else strength * share,
            wear=max(wear, line.wear) if faint else wear + float(rng.normal(0, 0.2)),
        )
        if line.dash < line.period and round(line.offset, 4) in inner and line.twin == 0:
            line_phase = phase + float(rng.uniform(0, 0.5))
            pieces = _broken(repainted, style, dash, period, block, line_phase)
        else:
            pieces = [repainted]
            if style == "studs" and line.bend == 0 and rng.random() < 0.6:
                pieces.append(_stud(repainted, float(rng.choice([6.0, 7.3, 12.0, 14.6])), phase, 0.18))
        if outlined:
            lines += [_outline(piece, grey) for piece in pieces]
        lines += pieces
    if not faint and len(layout.borders) > 2 and rng.random() < 0.36:
        lines = _doubled(rng, layout, lines, white if rng.random() < 0.6 else yellow)
    if rng.random() < 0.09:
        lines = _recoloured(rng, layout, lines)
    if rng.random() < 0.3:
        lines = [piece for line in lines for piece in _gaps(rng, line)]
    layout.lines = lines


def _white(rng: np.random.Generator) -> BgrColour:
    """Sample white, greyish or yellowed paint."""
    level = float(rng.uniform(0.78, 1.1))
    warm = float(rng.normal(0, 0.03))
    return 224 * level * (1 - warm), 226 * level, 226 * level * (1 + warm)


def _stud(line: RoadLine, period: float, phase: float, shift: float = 0.0) -> RoadLine:
    """Return one stud per period in the middle (or `shift` metres beside) of a line."""
    bright: BgrColour = (min(line.colour[0] * 1.06, 250.0), min(line.colour[1] * 1.06, 250.0), line.colour[2])
    strength = min(1.0, 0.35 + line.strength)
    return replace(
        line,
        offset=line.offset + shift,
        width=_STUD_SIZE,
        dash=_STUD_SIZE,
        period=period,
        phase=phase,
        colour=bright,
        strength=strength,
        wear=min(line.wear, 0.5),
        twin=0.0,
    )


def _broken(
    line: RoadLine, style: Style, dash: float, period: float, block: tuple[float, float], phase: float
) -> list[RoadLine]:
    """Return a broken line in a `style`; all of its parts lie at the line's offset."""
    if style == "dashes":
        return [replace(line, dash=dash, period=period, phase=phase)]
    if style == "blocks":
        return [replace(line, dash=block[0], period=block[1], phase=phase, width=max(line.width, 0.2))]
    dots = [_stud(line, 14.6, phase + 1.22 * k) for k in range(4)]
    if style == "dots":
        return dots
    if style == "dots and dashes":
        return [replace(line, dash=dash, period=14.6, phase=phase + 8.0), *dots[:: 1 if dash < 3.5 else 3]]
    if style == "studs":
        return [replace(line, dash=dash, period=period, phase=phase), _stud(line, period, phase - dash - 0.5 * period)]
    return [line]


def _outline(line: RoadLine, grey: float) -> RoadLine:
    """Return the dark paint around a line on concrete, sorted before the line."""
    tone = grey * 0.3
    longer = min(line.dash * 1.25, line.period)
    return replace(
        line,
        offset=line.offset - 1e-4,
        width=line.width * 1.9,
        colour=(tone, tone, tone),
        dash=longer,
        phase=line.phase + (longer - line.dash) / 2,
        strength=min(1.0, line.strength * 0.9),
    )


def _doubled(rng: np.random.Generator, layout: RoadLayout, lines: list[RoadLine], colour: BgrColour) -> list[RoadLine]:
    """Turn one border between lanes into a double line; each of its lines is solid or broken, broken more often."""
    inner = range(1, len(layout.borders) - 1)
    near = [layout.borders[i] for i in inner if -2 <= i - layout.ego_border <= 2]
    if not near:
        return lines
    border = near[int(rng.integers(len(near)))]
    at_border = [line for line in lines if abs(line.offset - border) < 0.01 and max(line.colour) > _LEAST_BRIGHTNESS]
    if not at_border or any(line.bend for line in at_border):
        return lines
    gap = float(rng.uniform(0.25, 0.5))
    model = replace(at_border[0], twin=0.0, colour=colour, width=float(rng.uniform(0.1, 0.15)))
    model = replace(model, strength=max(model.strength, 0.5), wear=min(model.wear, 1.5))
    solid = replace(model, dash=1.0, period=1.0)
    dash, period = _DASHES[int(rng.integers(len(_DASHES)))]
    broken = replace(model, dash=dash, period=period)
    sides = (solid if rng.random() < 0.4 else broken, solid if rng.random() < 0.4 else broken)
    pair = [replace(line, offset=border + side * gap / 2) for side, line in zip((-1, 1), sides, strict=True)]
    return [line for line in lines if abs(line.offset - border) >= 0.01] + pair


def _recoloured(rng: np.random.Generator, layout: RoadLayout, lines: list[RoadLine]) -> list[RoadLine]:
    """Paint one or all borders blue, red, orange or green, as beside bus lanes, toll lanes and temporary lanes."""
    hue = np.asarray(_OTHER_COLOURS[int(rng.integers(len(_OTHER_COLOURS)))])
    blue, green, red = (float(v) for v in np.clip(hue * rng.uniform(0.85, 1.15), 0, 245))
    chosen = layout.borders
    if rng.random() < 0.6:
        chosen = [chosen[int(np.clip(layout.ego_border + rng.integers(-1, 3), 0, len(chosen) - 1))]]
    return [
        replace(line, colour=(blue, green, red))
        if max(line.colour) > _LEAST_BRIGHTNESS and any(abs(line.offset - border) < 0.3 for border in chosen)
        else line
        for line in lines
    ]


def _gaps(rng: np.random.Generator, line: RoadLine) -> list[RoadLine]:
    """Remove a stretch of the line, or nothing."""
    if rng.random() < 0.55:
        return [line]
    near = float(rng.uniform(2, 45))
    far = near + float(rng.uniform(3, 18))
    pieces = [replace(line, last=min(near, line.last)), replace(line, first=max(far, line.first))]
    return [piece for piece in pieces if piece.last > piece.first]
