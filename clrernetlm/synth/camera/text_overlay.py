"""Draws the texts and logos that recorders print into their images."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrImage, BgrPixel, ByteMask

FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_PLAIN,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX_SMALL,
)
_LETTERS = "ABCDEFGHKLMNPRSTUVXZ"


@dataclass(frozen=True)
class TextOverlay:
    """One printed text.

    `x`, `y` (lower left) and `size` of a letter are shares of the image's width, height and width. A `plate` of a
    colour behind the text makes it a logo.
    """

    text: str
    x: float
    y: float
    size: float
    colour: BgrPixel = (255, 255, 255)
    outline: bool = False
    font: int = cv2.FONT_HERSHEY_SIMPLEX
    plate: BgrPixel | None = None
    tilt: float = 0.0  # radians, clockwise


def sample_timestamp(rng: np.random.Generator, night: bool) -> str:
    """Sample the time that a recorder prints."""
    hour = int(rng.integers(19, 29)) % 24 if night else int(rng.integers(7, 18))
    minute, second, day = int(rng.integers(60)), int(rng.integers(60)), int(rng.integers(1, 29))
    return f"{rng.integers(2014, 2026)}-{rng.integers(1, 13):02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d}"


def sample_text_overlays(rng: np.random.Generator, timestamp: str) -> list[TextOverlay]:
    """Sample the texts of a recorder: time, speed and position, a name, a logo; most images have none."""
    if rng.random() > 0.38:
        return []
    colours: tuple[BgrPixel, ...] = ((255, 255, 255), (225, 225, 225), (90, 230, 250), (120, 160, 255), (200, 255, 200))
    colour = colours[int(rng.choice(5, p=[0.45, 0.25, 0.15, 0.08, 0.07]))]
    font, size, outline = int(rng.choice(FONTS)), float(rng.uniform(0.008, 0.02)), bool(rng.random() < 0.4)
    rows = (float(rng.uniform(0.015, 0.09)), float(rng.uniform(0.93, 1.005)))
    tilt = float(rng.normal(0, 0.12)) if rng.random() < 0.15 else 0.0
    overlays = []
    positions = rng.permutation([0.01, 0.36, 0.68])
    for text, left in zip((timestamp, _gps_text(rng), _random_word(rng)), positions, strict=True):
        if text and rng.random() < 0.55:
            y = rows[int(rng.random() < 0.7)] + float(rng.normal(0, 0.01))
            x = float(left) + float(rng.uniform(-0.01, 0.05))
            overlays.append(
                TextOverlay(text, x, y, size * float(rng.uniform(0.8, 1.2)), colour, outline, font, None, tilt)
            )
    if rng.random() < 0.35:
        plate = (int(rng.integers(256)), int(rng.integers(256)), int(rng.integers(256)))
        x, y = float(rng.choice([0.02, 0.83])) + float(rng.uniform(-0.01, 0.05)), rows[int(rng.random() < 0.4)]
        text, logo_size = _random_word(rng)[:6], float(rng.uniform(0.012, 0.03))
        behind = plate if rng.random() < 0.7 else None
        overlays.append(TextOverlay(text, x, y, logo_size, (250, 250, 250), False, font, behind, 2 * tilt))
    return overlays


def _gps_text(rng: np.random.Generator) -> str:
    """Sample speed and position in the format of satellite receivers."""
    speed = f"{int(rng.integers(0, 130))}{rng.choice([' km/h', 'KM/H', ' MPH'])}"
    if rng.random() < 0.5:
        return speed
    return f"{speed} N{rng.uniform(20, 60):.4f} E{rng.uniform(0, 140):.4f}"


def _random_word(rng: np.random.Generator) -> str:
    """Sample a meaningless name."""
    return "".join(rng.choice(list(_LETTERS), int(rng.integers(3, 9))))


def draw_text_overlays(image: BgrImage, text_overlays: list[TextOverlay]) -> None:
    """Draw the texts and logos over a finished image (H, W, 3) in place; they may extend beyond its border."""
    height, width = image.shape[:2]
    for overlay in text_overlays:
        unit = cv2.getTextSize(overlay.text, overlay.font, 1.0, 1)[0]
        scale = overlay.size * width / max(1, unit[1])
        thickness = max(1, round(overlay.size * width / 10))
        (text_width, text_height), _ = cv2.getTextSize(overlay.text, overlay.font, scale, thickness)
        pad = max(3, text_height // 3 + thickness)
        patch = np.zeros((text_height + 3 * pad, text_width + 2 * pad, 3), np.uint8)
        mask = np.zeros(patch.shape[:2], np.uint8)
        foot = (pad, text_height + pad)
        if overlay.plate is not None:
            patch[:], mask[:] = overlay.plate, 255
        if overlay.outline:
            cv2.putText(patch, overlay.text, foot, overlay.font, scale, (20, 20, 20), thickness + 2, cv2.LINE_AA)
            cv2.putText(mask, overlay.text, foot, overlay.font, scale, [255], thickness + 2, cv2.LINE_AA)
        cv2.putText(patch, overlay.text, foot, overlay.font, scale, overlay.colour, thickness, cv2.LINE_AA)
        cv2.putText(mask, overlay.text, foot, overlay.font, scale, [255], thickness, cv2.LINE_AA)
        if not overlay.outline and overlay.plate is None:
            patch[:] = overlay.colour
        _paste(image, patch, mask, (overlay.x * width - pad, overlay.y * height - text_height - pad), overlay.tilt)


def _paste(image: BgrImage, patch: BgrImage, mask: ByteMask, corner: tuple[float, float], tilt: float) -> None:
    """Blend a `patch` (h, w, 3) by its `mask` (h, w) 0..255 into the image, in place.

    `corner` is its upper left corner (x, y); the patch is rotated clockwise by `tilt` radians about it.
    """
    height, width = patch.shape[:2]
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ turn.T + corner
    low = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(0)), image.shape[1::-1]).astype(int)
    if (high - low < 1).any():
        return
    move = np.concatenate([turn, (np.asarray(corner) - low)[:, None]], 1)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    turned = cv2.warpAffine(patch, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(mask, move, size, flags=cv2.INTER_LINEAR).astype(np.float32)[..., None] / 255
    view = image[low[1] : high[1], low[0] : high[0]]
    view[:] = (view + share * (turned.astype(np.float32) - view) + 0.5).astype(np.uint8)


def draw_timestamp(canvas: BgrImage, text: str, colour: BgrPixel, right: bool) -> None:
    """Draw the date into a lower corner of the image, in place."""
    height, width = canvas.shape[:2]
    scale = width / 1640
    x = int(width * (0.74 if right else 0.02))
    cv2.putText(
        canvas,
        text,
        (x, height - int(12 * scale) - 2),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale * 0.8,
        colour,
        max(1, round(2 * scale)),
        cv2.LINE_AA,
    )
