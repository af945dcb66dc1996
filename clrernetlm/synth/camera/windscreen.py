"""Windscreen: what the glass between road and camera adds, and what the recorder prints over the picture."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.textures import TILE, fractal_tile

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rgb = tuple[int, int, int]
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_PLAIN,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX_SMALL,
)
_LETTERS = "ABCDEFGHKLMNPRSTUVXZ"


@dataclass(frozen=True)
class Windscreen:
    """Linear light that the glass adds, and the shares of light that it takes.

    `veil` is the strength of the mirrored dashboard, `haze` of a low contrast all over, `dirt` the number of spots,
    `band` the height of the tinted top in shares of the picture and `band_tint` what that lets through.
    """

    veil: float = 0.0
    haze: float = 0.0
    dirt: int = 0
    band: float = 0.0
    band_tint: tuple[float, float, float] = (0.5, 0.6, 0.5)


@dataclass(frozen=True)
class Print:
    """A text that the recorder prints: `x`, `y` (lower left) and `size` of a letter in shares of the picture's width
    and height, and of its width; a `plate` of a colour behind it makes it a logo."""

    text: str
    x: float
    y: float
    size: float
    colour: Rgb = (255, 255, 255)
    outline: bool = False
    font: int = cv2.FONT_HERSHEY_SIMPLEX
    plate: Rgb | None = None
    tilt: float = 0.0  # radians, clockwise


def sample_windscreen(rng: np.random.Generator) -> Windscreen:
    """Mostly clean glass."""
    return Windscreen(
        veil=float(rng.gamma(1.2, 0.02)) if rng.random() < 0.45 else 0.0,
        haze=float(rng.gamma(1.5, 0.015)) if rng.random() < 0.3 else 0.0,
        dirt=int(rng.integers(1, 25)) if rng.random() < 0.25 else 0,
        band=float(rng.uniform(0.04, 0.18)) if rng.random() < 0.12 else 0.0,
        band_tint=(float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.25, 0.7))),
    )


def sample_prints(rng: np.random.Generator, clock: str) -> list[Print]:
    """What a recorder prints: the time, numbers, a name, a logo; mostly nothing."""
    if rng.random() > 0.38:
        return []
    colours: tuple[Rgb, ...] = ((255, 255, 255), (225, 225, 225), (90, 230, 250), (120, 160, 255), (200, 255, 200))
    colour = colours[int(rng.choice(5, p=[0.45, 0.25, 0.15, 0.08, 0.07]))]
    font, size, outline = int(rng.choice(FONTS)), float(rng.uniform(0.008, 0.02)), bool(rng.random() < 0.4)
    rows = (float(rng.uniform(0.015, 0.09)), float(rng.uniform(0.93, 1.005)))
    tilt = float(rng.normal(0, 0.12)) if rng.random() < 0.15 else 0.0
    prints = []
    places = rng.permutation([0.01, 0.36, 0.68])
    for text, place in zip((clock, _numbers(rng), _word(rng)), places, strict=True):
        if text and rng.random() < 0.55:
            y = rows[int(rng.random() < 0.7)] + float(rng.normal(0, 0.01))
            x = float(place) + float(rng.uniform(-0.01, 0.05))
            prints.append(Print(text, x, y, size * float(rng.uniform(0.8, 1.2)), colour, outline, font, None, tilt))
    if rng.random() < 0.35:
        plate = (int(rng.integers(256)), int(rng.integers(256)), int(rng.integers(256)))
        x, y = float(rng.choice([0.02, 0.83])) + float(rng.uniform(-0.01, 0.05)), rows[int(rng.random() < 0.4)]
        text, big = _word(rng)[:6], float(rng.uniform(0.012, 0.03))
        behind = plate if rng.random() < 0.7 else None
        prints.append(Print(text, x, y, big, (250, 250, 250), False, font, behind, 2 * tilt))
    return prints


def _numbers(rng: np.random.Generator) -> str:
    """Speed and place as a receiver of satellites gives them."""
    speed = f"{int(rng.integers(0, 130))}{rng.choice([' km/h', 'KM/H', ' MPH'])}"
    if rng.random() < 0.5:
        return speed
    return f"{speed} N{rng.uniform(20, 60):.4f} E{rng.uniform(0, 140):.4f}"


def _word(rng: np.random.Generator) -> str:
    """A name of no meaning."""
    return "".join(rng.choice(list(_LETTERS), int(rng.integers(3, 9))))


def look_through(gain: Floats, glow: Floats, glass: Windscreen, light: float, rng: np.random.Generator) -> None:
    """Change the light maps (h, w, 3) by what the `glass` adds under daylight of strength `light` and takes away."""
    height, width = gain.shape[:2]
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    if glass.haze > 0:
        slope = np.float32(rng.uniform(-0.4, 0.8))
        glow += np.float32(glass.haze * light) * (np.float32(0.6) + slope * rows)[..., None]
    if glass.veil > 0:
        glow += (glass.veil * light) * _mirrored(rng, height, width)[..., None] * rng.uniform(0.85, 1.1, 3)
    if glass.dirt > 0:
        mask = np.zeros((height, width), np.float32)
        for _ in range(glass.dirt):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (int(rng.uniform(0.003, 0.02) * width) + 1, int(rng.uniform(0.003, 0.02) * width) + 1)
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, [float(rng.uniform(0.1, 0.6))], -1)
        soft = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.006, 0.02)) * width).astype(np.float32)[..., None]
        gain *= 1 - soft
        glow += np.float32(0.12 * light * rng.random()) * soft
    if glass.band > 0:
        share = np.clip((glass.band - rows) / (0.5 * glass.band) + 0.5, 0, 1)[..., None]
        tint = 1 - share * (1 - np.asarray(glass.band_tint, np.float32))
        gain *= tint
        glow *= tint


def _mirrored(rng: np.random.Generator, height: int, width: int) -> Floats:
    """(h, w) about 0..1: folds, papers and vents of a dashboard as the glass shows them, growing towards the bottom."""
    top, power = float(rng.uniform(0.0, 0.7)), float(rng.uniform(0.5, 2.0))
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    fade = np.clip((rows - top) / (1.05 - top), 0, 1) ** power
    tile, start = fractal_tile(5, 1.9), rng.integers(0, TILE, 2)
    y = (np.arange(height)[:, None] * 2 + start[0]) % TILE
    columns = (np.arange(width)[None] + start[1]) % TILE
    shapes = 0.5 + 0.2 * tile[y, columns]
    lit = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(0, 7))):
        y0 = float(rng.uniform(top, 1)) * height
        kind = rng.random()
        if kind < 0.15:  # the slats of a vent
            x0, wide = float(rng.uniform(-0.05, 0.9)) * width, float(rng.uniform(0.08, 0.4)) * width
            gap, value = float(rng.uniform(0.008, 0.03)) * height, float(rng.uniform(0.3, 1.2))
            for k in range(int(rng.integers(2, 8))):
                y1, y2 = y0 + k * gap, y0 + k * gap + float(rng.normal(0, 0.01)) * height
                cv2.line(lit, (round(x0), round(y1)), (round(x0 + wide), round(y2)), [value], 1)
        elif kind < 0.5:  # a fold or rim that runs across
            x = np.linspace(-0.05, 1.05, 12)
            bow = float(rng.normal(0, 0.15)) * (x - rng.uniform(0.3, 0.7)) ** 2 * height
            line = np.stack([x * width, y0 + bow + rng.normal(0, 0.06) * height * x], 1)
            thick, value = int(rng.integers(1, max(2, width // 60))), float(rng.uniform(-0.5, 1.2))
            for a, b in pairwise(np.round(line).astype(int)):
                cv2.line(lit, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), [value], thick)
        else:
            corners = np.array([[0, 0], [1, 0], [1.2, 1], [-0.1, 1]]) * rng.uniform(0.05, 0.4, 2) * (width, height)
            corners += (rng.uniform(-0.1, 0.9) * width, y0)
            cv2.fillConvexPoly(lit, np.round(corners).astype(np.int32), [float(rng.uniform(-0.4, 1.0))])
    soft = cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.001, 0.012)) * width + 0.5)
    return np.asarray(np.maximum(shapes + soft, 0) * fade, np.float32)


def print_over(picture: Image, prints: list[Print]) -> None:
    """Print the texts and logos over a finished picture (H, W, 3); its rim may cut them."""
    height, width = picture.shape[:2]
    for item in prints:
        unit = cv2.getTextSize(item.text, item.font, 1.0, 1)[0]
        scale = item.size * width / max(1, unit[1])
        thick = max(1, round(item.size * width / 10))
        (wide, tall), _ = cv2.getTextSize(item.text, item.font, scale, thick)
        pad = max(3, tall // 3 + thick)
        patch = np.zeros((tall + 3 * pad, wide + 2 * pad, 3), np.uint8)
        mask = np.zeros(patch.shape[:2], np.uint8)
        foot = (pad, tall + pad)
        if item.plate is not None:
            patch[:], mask[:] = item.plate, 255
        if item.outline:
            cv2.putText(patch, item.text, foot, item.font, scale, (20, 20, 20), thick + 2, cv2.LINE_AA)
            cv2.putText(mask, item.text, foot, item.font, scale, [255], thick + 2, cv2.LINE_AA)
        cv2.putText(patch, item.text, foot, item.font, scale, item.colour, thick, cv2.LINE_AA)
        cv2.putText(mask, item.text, foot, item.font, scale, [255], thick, cv2.LINE_AA)
        if not item.outline and item.plate is None:
            patch[:] = item.colour
        _paste(picture, patch, mask, (item.x * width - pad, item.y * height - tall - pad), item.tilt)


def _paste(picture: Image, patch: Image, mask: Image, corner: tuple[float, float], tilt: float) -> None:
    """Blend a `patch` (h, w, 3) by its `mask` (h, w) 0..255 into the picture at its upper left corner (x, y), turned
    clockwise by `tilt` radians."""
    height, width = patch.shape[:2]
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ turn.T + corner
    low = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(0)), picture.shape[1::-1]).astype(int)
    if (high - low < 1).any():
        return
    move = np.concatenate([turn, (np.asarray(corner) - low)[:, None]], 1)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    seen = cv2.warpAffine(patch, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(mask, move, size, flags=cv2.INTER_LINEAR).astype(np.float32)[..., None] / 255
    view = picture[low[1] : high[1], low[0] : high[0]]
    view[:] = (view + share * (seen.astype(np.float32) - view) + 0.5).astype(np.uint8)
