"""Draws the spray that vehicles raise on a wet road."""

from __future__ import annotations

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrImage
from clrernetlm.synth.environment.render_context import RenderContext
from clrernetlm.synth.environment.traffic import Vehicle

_STEP = 8  # image pixels per pixel of the map on which the spray is drawn
_FARTHEST = 70.0  # metres ahead of the last vehicle whose spray is drawn
_LEAST_SHARE = 0.02  # of spray in a pixel; less is not seen


def draw_spray(context: RenderContext, vehicles: list[Vehicle], strength: float) -> None:
    """Veil the canvas around the wheels and behind the `vehicles`; `strength` 0..1 is the opacity of dense spray."""
    height, width = context.canvas.shape[:2]
    veil = np.zeros((height // _STEP + 1, width // _STEP + 1), np.float32)
    for vehicle in sorted(vehicles, key=lambda vehicle: -vehicle.distance):
        if vehicle.oncoming or not 2.0 < vehicle.distance < _FARTHEST:
            continue
        size = np.array([0.75, 1.2]) if vehicle.shape.box else np.array([0.6, 0.55])
        foot, head = context.project(vehicle.offset, max(vehicle.distance - 1.5, 1.4), np.array([0.0, 1.0])) / _STEP
        metre = max(float(np.hypot(*(head - foot))), 0.1)
        half = size * (vehicle.shape.width * metre, metre)
        centre = (round(float(foot[0]) * 16), round(float(foot[1] - 0.4 * half[1]) * 16))
        axes = (round(float(half[0]) * 16) + 8, round(float(half[1]) * 16) + 8)
        if abs(centre[0]) < 32 * width and abs(centre[1]) < 32 * height:
            cv2.ellipse(veil, centre, axes, 0, 0, 360, [strength], -1, cv2.LINE_8, 4)
    rows = np.flatnonzero(veil.any(1))
    if not len(rows):
        return
    soft = cv2.GaussianBlur(veil, (0, 0), max(1.5, 0.022 * width / _STEP)).astype(np.float32, copy=False)
    top, bottom = max(0, (int(rows[0]) - 12) * _STEP), min(height, (int(rows[-1]) + 13) * _STEP)
    _blend(context.canvas[top:bottom], cv2.resize(soft, (width, height))[top:bottom], context.fog)


def _blend(canvas: BgrImage, share: np.ndarray, colour: tuple[float, float, float]) -> None:
    """Mix a colour into `canvas` (H, W, 3) in place by `share` (H, W) float32."""
    share = np.where(share < _LEAST_SHARE, np.float32(0), share)
    mist = np.empty_like(canvas)
    mist[:] = np.clip(colour, 0, 255)
    canvas[:] = cv2.blendLinear(canvas, mist, 1 - share, share)
