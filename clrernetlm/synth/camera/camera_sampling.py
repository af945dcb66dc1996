"""Samples cameras: image shape, focal length, mounting, and the part of the own car in the image."""

from __future__ import annotations

import numpy as np

from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.ego_vehicle import Bump, EgoVehicle

# Width over height of recorded images, and how often it occurs.
ASPECT_RATIOS: tuple[tuple[float, float], ...] = (
    (1640 / 590, 0.25),
    (16 / 9, 0.44),
    (4 / 3, 0.1),
    (2.0, 0.08),
    (2.4, 0.07),
    (9 / 16, 0.04),  # telephones held upright
    (3 / 4, 0.02),
)
_TALLEST = 3 / 4  # height of the tallest frame, in shares of the width asked for
# Colours of cars that are not grey: red, blue, green, gold, brown.
CAR_COLOURS = ((28, 26, 130), (110, 62, 30), (62, 72, 40), (110, 150, 165), (42, 52, 72))
_NEAREST = 1.22  # metres: the geometry of the road is tabulated from here on


def sample_frame_size(rng: np.random.Generator, width: int) -> tuple[int, int]:
    """Sample (width, height) in pixels of a frame of this width with one of the `ASPECT_RATIOS`; the height is even.

    Portrait frames are as tall as the tallest landscape frame, and narrower.
    """
    chances = np.array([chance for _, chance in ASPECT_RATIOS])
    shape = ASPECT_RATIOS[int(rng.choice(len(ASPECT_RATIOS), p=chances / chances.sum()))][0]
    if shape < 1:
        height = max(64, 2 * round(width * _TALLEST / 2))
        return max(64, 2 * round(height * shape / 2)), height
    return width, max(64, 2 * round(width / shape / 2))


def _sample_field_of_view(rng: np.random.Generator, wide: bool, portrait: bool) -> float:
    """Sample the angle in degrees between the left and the right side of the image, without the lens's distortion."""
    if wide:
        return float(rng.uniform(92, 122))
    if portrait:
        return float(np.clip(rng.normal(44, 8), 30, 62))
    return float(np.clip(rng.normal(66, 17), 38, 110))


def _sample_mounting_height(rng: np.random.Generator) -> float:
    """Sample the height of a camera above the road in metres: in cars, low in sports cars, high in vans and trucks."""
    kind = rng.random()
    if kind < 0.05:
        return float(rng.uniform(0.55, 0.95))
    if kind < 0.17:
        return float(rng.uniform(2.0, 3.4))
    return float(np.clip(rng.normal(1.45, 0.25), 0.9, 2.2))


def sample_randomized_camera(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Camera, float]:
    """Sample a camera for images of `size` (width, height), and its height above the road in metres.

    Ground nearer than `_NEAREST` metres, for which the geometry of the road is not tabulated, is never visible.
    """
    width, height = size
    portrait = height > width
    wide = not portrait and rng.random() < 0.14
    mounting_height = _sample_mounting_height(rng)
    for attempt in range(50):
        field_of_view = _sample_field_of_view(rng, wide, portrait)
        focal = width / 2 / float(np.tan(np.radians(field_of_view) / 2))
        aspect_ratio = width / height
        low, high, middle, spread = (0.34, 0.56, 0.45, 0.04) if aspect_ratio > 2.2 else (0.22, 0.62, 0.385, 0.075)
        if wide or portrait:
            low, high, middle, spread = 0.3, 0.64, 0.48, 0.07
        horizon = float(np.clip(rng.normal(middle, spread), low, high)) * height
        barrel = float(rng.uniform(0.0, 0.12)) if rng.random() < 0.4 else 0.0
        if wide or rng.random() < 0.12:
            barrel = float(rng.uniform(0.12, 0.3))
        roll = float(np.clip(rng.normal(0, 0.03), -0.07, 0.07)) if rng.random() < 0.3 else float(rng.normal(0, 0.01))
        shift = (float(rng.normal(0, 0.012)) * width, float(rng.normal(0, 0.02)) * height)
        yaw = float(np.clip(rng.normal(0, 0.05), -0.14, 0.14)) * min(1.0, field_of_view / 66)
        if attempt == 49:  # a telephoto lens sees no near ground
            focal, barrel = 1.8 * max(width, height), 0.0
        pitch = float(np.arctan(((height - 1) / 2 + shift[1] - horizon) / focal))
        camera = Camera(width, height, focal, pitch, yaw, roll, barrel, shift)
        _, up, ahead = camera.rays(np.array([0.0, width / 2, width - 1.0]), height - 1.0)
        if ahead.all() and (-up).max() < mounting_height / _NEAREST:
            break
    return camera, mounting_height


def sample_randomized_ego_vehicle(rng: np.random.Generator, camera: Camera) -> EgoVehicle | None:
    """Sample the visible part of the own car: nothing, the rim of a bonnet, a whole bonnet, or the dashboard."""
    kind = int(rng.choice(4, p=[0.36, 0.2, 0.26, 0.18]))
    if kind == 0:
        return None
    dashboard = kind == 3
    low, high = ((0.02, 0.08), (0.08, 0.26), (0.03, 0.3))[kind - 1]
    covered = float(rng.uniform(low, high)) if kind != 2 else float(low + (high - low) * rng.beta(1.3, 1.8))
    horizon = camera.project([0.0, 0.0, 1.0])[1] / camera.height
    covered = min(covered, 0.5 * (1 - float(horizon)))
    flat = rng.random() < (0.5 if dashboard else 0.2)
    drop = float(rng.uniform(0.0, 0.15) if flat else rng.uniform(0.2, 1.0)) * covered
    if rng.random() < 0.06:
        drop = -0.5 * drop  # higher at the sides: the wings of the car
    if dashboard:
        grey, tint = float(rng.uniform(6, 46)), rng.uniform(0.9, 1.08, 3)
        gloss = float(rng.uniform(0.0, 0.12))
    else:
        grey = float(rng.choice([10.0, 20.0, 45.0, 90.0, 150.0, 205.0]))
        tint = rng.uniform(0.92, 1.06, 3)
        if rng.random() < 0.25:
            grey, tint = float(rng.uniform(0.5, 1.3)), np.asarray(CAR_COLOURS[int(rng.integers(len(CAR_COLOURS)))])
        gloss = float(rng.uniform(0.03, 0.6))
    b, g, r = (float(v) for v in np.clip(grey * rng.uniform(0.75, 1.25) * tint, 2, 240))
    return EgoVehicle(
        covered,
        drop,
        float(rng.uniform(0.3, 0.7) if rng.random() < 0.4 else rng.uniform(0.44, 0.56)),
        (b, g, r),
        gloss,
        bool(rng.random() < 0.35),
        power=float(rng.choice([2.0, 2.0, 4.0, 6.0])),
        slant=float(rng.normal(0, 0.02)) * (rng.random() < 0.4),
        grain=float(rng.uniform(0.02, 0.3)) if dashboard else float(rng.uniform(0, 0.04)),
        streaks=0.0 if dashboard or rng.random() < 0.4 else float(rng.gamma(1.5, 0.4)),
        bumps=_sample_bumps(rng, covered, dashboard),
    )


def _sample_bumps(rng: np.random.Generator, covered: float, dashboard: bool) -> tuple[Bump, ...]:
    """Sample vents, phones and clusters on a dashboard; creases and badges on a bonnet."""
    count = int(rng.integers(0, 4)) if dashboard else int(rng.random() < 0.25)
    rise = min(0.35 * covered, 0.05)
    return tuple(
        (float(rng.uniform(0.05, 0.95)), float(rng.uniform(0.04, 0.2)), float(rng.uniform(0.1, 1.0)) * rise)
        for _ in range(count)
    )


def sample_camera(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Camera, float]:
    """Sample a CULane-like camera for images of `size` (width, height), and its height above the road in metres."""
    width, height = size
    focal = float(rng.uniform(760, 1250)) * width / 1640
    horizon = float(np.clip(rng.normal(0.455, 0.018), 0.40, 0.495)) * height
    pitch = float(np.arctan(((height - 1) / 2 - horizon) / focal))
    yaw, roll = float(rng.normal(0, 0.025)), float(rng.normal(0, 0.012))
    k1 = float(rng.uniform(0, 0.12)) if rng.random() < 0.5 else 0.0
    return Camera(width, height, focal, pitch, yaw, roll, k1), float(rng.uniform(1.15, 1.75))


def sample_ego_vehicle(rng: np.random.Generator) -> EgoVehicle:
    """Sample the bonnet of the own car."""
    covered = float(rng.uniform(0.05, 0.27))
    grey = float(rng.choice([18, 30, 60, 150])) * float(rng.uniform(0.7, 1.3))
    paint = (grey, grey * float(rng.uniform(0.9, 1.15)), grey * float(rng.uniform(0.85, 1.1)))
    return EgoVehicle(
        covered,
        float(rng.uniform(0.02, covered)),
        float(rng.uniform(0.42, 0.58)),
        paint,
        float(rng.uniform(0.05, 0.5)),
        bool(rng.random() < 0.3),
    )
