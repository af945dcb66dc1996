"""Draws lanes over an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrImage, BgrPixel, BoolArray, Points
from clrernetlm.core.lane import Lane

GREEN: BgrPixel = (60, 200, 60)
BLUE: BgrPixel = (235, 140, 30)
RED: BgrPixel = (50, 50, 235)
BLACK: BgrPixel = (0, 0, 0)
WHITE: BgrPixel = (255, 255, 255)
# Distinct on asphalt and for most colour-blind eyes: blue, orange, green, magenta, yellow, cyan, vermilion, violet.
PALETTE: tuple[BgrPixel, ...] = (
    (230, 130, 20),
    (0, 150, 255),
    (90, 200, 60),
    (190, 80, 220),
    (40, 225, 245),
    (225, 215, 60),
    (60, 70, 235),
    (210, 90, 120),
)
FRACTION_BITS = 4  # sub-pixel positions for OpenCV
COORDINATE_LIMIT = 1 << 20  # pixels; OpenCV overflows far beyond the image
MAX_LUMA_BELOW_WHITE = 140.0  # of a colour on which white text is readable; on brighter ones text is black
DOT_SPACING = 3.5  # line widths between the dots of a hidden part
MAX_DOTS = 20_000  # of one hidden part, which may reach far beyond the image


def draw_lanes(
    image: BgrImage,
    lanes: Sequence[Lane | Points],
    colours: Sequence[BgrPixel] | BgrPixel | None = None,
    width: float | None = None,
    scores: bool = False,
    attributes: bool = False,
    paint: bool = False,
) -> BgrImage:
    """Draw lanes, points in pixels of the image (H, W, 3) BGR, as anti-aliased lines on a copy of it.

    `colours`: one for all, or one per lane, repeated when there are fewer; default: a palette. `width` in pixels,
    default 1/270 of the image's longer side. The hidden points of a `Lane` (`Lane.visible`) are drawn dotted.

    `scores`: write each `Lane`'s score at its lower end; `attributes`: its position, type and colour; `paint`: its type
    and colour only. A text that would cover another one is moved up its lane, and left out if it still does.
    """
    canvas = image.copy()
    height, image_width = canvas.shape[:2]
    thickness = max(1, round(width if width is not None else max(height, image_width) / 270))
    palette: Sequence[BgrPixel] = PALETTE if colours is None else [colours] if _is_colour(colours) else colours  # type: ignore[list-item, assignment]
    captions: list[tuple[str, Points, BgrPixel]] = []
    for number, lane in enumerate(lanes):
        points = lane.points if isinstance(lane, Lane) else np.asarray(lane, np.float64)
        visible = lane.visible if isinstance(lane, Lane) else None
        finite = np.isfinite(points).all(axis=1) if len(points) else np.zeros(0, bool)
        points = points[finite] if len(points) else points
        if len(points) == 0:
            continue
        colour = palette[number % len(palette)]
        clipped = np.clip(points, -COORDINATE_LIMIT, COORDINATE_LIMIT)
        if visible is None or visible[finite].all():
            _draw_line(canvas, clipped, colour, thickness)
        else:
            _draw_partly_hidden(canvas, clipped, visible[finite], colour, thickness)
        text = _text_of(lane, scores, attributes, paint) if isinstance(lane, Lane) else ""
        if text:
            captions.append((text, points if visible is None else _seen_points(points, visible[finite]), colour))
    _draw_captions(canvas, captions)
    return canvas


def _text_of(lane: Lane, score: bool, attributes: bool, paint: bool) -> str:
    """Format the score, and the position, type and colour of a lane as far as they are known."""
    words = [f"{lane.score:.2f}"] if score else []
    words += [f"{lane.position:+d}"] if attributes and lane.position is not None else []
    words += [word for word in (lane.type, lane.colour) if word != "unknown"] if attributes or paint else []
    return " ".join(words)


def _seen_points(points: Points, visible: BoolArray) -> Points:
    """Return the visible points of a lane; all of them if none is visible."""
    return points[visible] if visible.any() else points


def _draw_line(canvas: BgrImage, points: Points, colour: BgrPixel, thickness: int) -> None:
    """Draw a line through points (N, 2); a single point as a disc."""
    fixed = np.rint(points * (1 << FRACTION_BITS)).astype(np.int32)
    if len(points) == 1:
        cv2.circle(canvas, fixed[0].tolist(), thickness << FRACTION_BITS, colour, -1, cv2.LINE_AA, FRACTION_BITS)
    else:
        cv2.polylines(canvas, [fixed[:, None]], False, colour, thickness, cv2.LINE_AA, FRACTION_BITS)


def _draw_partly_hidden(canvas: BgrImage, points: Points, visible: BoolArray, colour: BgrPixel, thickness: int) -> None:
    """Draw a line through points (N, 2), dotted wherever one of two neighbouring points is not `visible` (N,)."""
    if len(points) == 1:
        _draw_dots(canvas, points, colour, thickness)
        return
    solid = visible[1:] & visible[:-1]  # (N - 1,), one for each segment
    cuts = np.flatnonzero(np.diff(solid)) + 1
    for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(solid)], strict=True):
        draw = _draw_line if solid[start] else _draw_dots
        draw(canvas, points[start : end + 1], colour, thickness)


def _draw_dots(canvas: BgrImage, points: Points, colour: BgrPixel, thickness: int) -> None:
    """Draw dots along points (N, 2), `DOT_SPACING` line widths apart."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    spacing = max(DOT_SPACING * thickness, along[-1] / MAX_DOTS)
    places = np.arange(0.0, along[-1] + 1e-9, spacing)
    dots = np.stack([np.interp(places, along, points[:, axis]) for axis in (0, 1)], axis=1)
    height, width = canvas.shape[:2]
    inside = ((dots > -thickness) & (dots < (width + thickness, height + thickness))).all(axis=1)
    radius = round(max(0.6 * thickness, 0.75) * (1 << FRACTION_BITS))
    for dot in np.rint(dots[inside] * (1 << FRACTION_BITS)).astype(np.int32).tolist():
        cv2.circle(canvas, dot, radius, colour, -1, cv2.LINE_AA, FRACTION_BITS)


def _is_colour(colours: Sequence[BgrPixel] | BgrPixel) -> bool:
    return len(colours) == 3 and all(isinstance(value, int | np.integer) for value in colours)


@dataclass(frozen=True)
class _Plate:
    """The rectangle behind a text, in whole pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def overlaps(self, other: _Plate) -> bool:
        beside = self.right < other.left or other.right < self.left
        return not (beside or self.bottom < other.top or other.bottom < self.top)


def _draw_captions(canvas: BgrImage, captions: Sequence[tuple[str, Points, BgrPixel]]) -> None:
    """Draw texts at the lower ends of lanes, given with their points (N, 2) and colours, without overlaps."""
    height, width = canvas.shape[:2]
    scale = max(height, width) / 2400 + 0.15
    line = max(1, round(scale * 2))
    drawn: list[_Plate] = []
    for text, points, colour in captions:
        (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, line)
        pad = max(2, text_height // 3)
        for x, y in _caption_places(points, width, height, step=text_height + 2 * pad):
            left = int(np.clip(x - text_width / 2, pad, max(pad, width - text_width - pad)))
            base = int(np.clip(y - 2 * pad, text_height + pad, max(text_height + pad, height - pad)))
            plate = _Plate(left - pad, base - text_height - pad, left + text_width + pad, base + pad)
            if any(plate.overlaps(other) for other in drawn):
                continue
            corners = (plate.left, plate.top), (plate.right, plate.bottom)
            cv2.rectangle(canvas, *corners, colour, -1, cv2.LINE_AA)
            cv2.putText(canvas, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, _ink(colour), line, cv2.LINE_AA)
            drawn.append(plate)
            break


def _caption_places(points: Points, width: int, height: int, step: int) -> list[tuple[float, float]]:
    """List points of a lane inside the image, `step` pixels or more apart, the lowest first.

    The middle of the lower border if there is none.
    """
    inside = points[(points[:, 0] >= 0) & (points[:, 0] < width) & (points[:, 1] >= 0) & (points[:, 1] < height)]
    if len(inside) == 0:
        return [(width / 2, float(height))]
    places: list[tuple[float, float]] = []
    for x, y in inside[np.argsort(-inside[:, 1], kind="stable")].tolist():
        if not places or max(abs(places[-1][0] - x), places[-1][1] - y) >= step:
            places.append((x, y))
    return places


def _ink(plate: BgrPixel) -> BgrPixel:
    """Choose black or white for text on a colour, by its luma."""
    blue, green, red = plate
    return BLACK if 0.114 * blue + 0.587 * green + 0.299 * red > MAX_LUMA_BELOW_WHITE else WHITE
