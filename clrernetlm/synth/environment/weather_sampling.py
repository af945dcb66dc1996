"""Samples sky, light, air, and the sensor that matches them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clrernetlm.core.arrays import BgrColour
from clrernetlm.synth.camera.sensor import Sensor
from clrernetlm.synth.environment.light import Lamp, Light

SODIUM, YELLOW, COOL = (0.18, 0.55, 1.0), (0.1, 0.8, 1.0), (1.0, 0.97, 0.9)


@dataclass(frozen=True)
class Weather:
    """Display colours of sky and air, and the strength of shadows."""

    zenith: BgrColour
    haze: BgrColour
    cloud: BgrColour
    clouds: float
    visibility: float
    sunny: float  # depth of shadows 0..1
    sun: tuple[float, float]  # X/Z and Y/Z of its direction (ahead of the camera)
    lean: float  # metres a shadow falls sideways per metre of height
    wet: float = 0.0
    dusk: bool = False


def _vary(rng: np.random.Generator, colour: tuple[float, ...], spread: float = 0.08) -> BgrColour:
    """Vary a colour by a common factor within `spread` and by noise per channel."""
    b, g, r = (
        float(v)
        for v in np.clip(np.asarray(colour) * rng.uniform(1 - spread, 1 + spread) + rng.normal(0, 4, 3), 0, 250)
    )
    return b, g, r


def sample_weather(rng: np.random.Generator, night: bool, sunny: bool, dazzle: bool) -> Weather:
    """Sample the weather; `sunny` forces shadows, `dazzle` a low sun ahead."""
    lean = float(rng.uniform(-2.2, 2.2))
    sun = (float(rng.normal(0, 0.25)), float(rng.uniform(0.06, 0.3))) if dazzle else (-lean, 0.8)
    wet = float(rng.uniform(0.3, 1.0)) if rng.random() < (0.35 if night else 0.1) and not sunny else 0.0
    if night:
        zenith, haze = _vary(rng, (105, 90, 82), 0.3), _vary(rng, (150, 150, 158), 0.3)
        cloud, clouds = _vary(rng, (120, 120, 130)), float(rng.uniform(0, 0.8))
        return Weather(zenith, haze, cloud, clouds, visibility=700.0, sunny=0.0, sun=sun, lean=lean, wet=wet)
    if dazzle:
        zenith, haze = _vary(rng, (205, 165, 120)), _vary(rng, (205, 225, 240))
        cloud, clouds = _vary(rng, (235, 240, 246)), float(rng.uniform(0.1, 0.6))
        visibility, dusk = float(rng.uniform(300, 1500)), bool(rng.random() < 0.3)
        return Weather(zenith, haze, cloud, clouds, visibility, sunny=0.75, sun=sun, lean=lean, wet=wet, dusk=dusk)
    kind = 0 if sunny else int(rng.choice(5, p=[0.4, 0.22, 0.2, 0.1, 0.08]))
    return _sample_daytime_weather(rng, kind, sun, lean, wet)


def _sample_daytime_weather(
    rng: np.random.Generator, kind: int, sun: tuple[float, float], lean: float, wet: float
) -> Weather:
    """Sample a day: `kind` 0 sunny, 1 bright overcast, 2 white sky, 3 haze or fog, 4 dusk."""
    if kind == 0:
        zenith, haze = _vary(rng, (205, 140, 72), 0.15), _vary(rng, (232, 218, 198))
        cloud, clouds = _vary(rng, (246, 246, 244), 0.02), float(rng.uniform(0.1, 0.7))
        visibility, shadows = float(rng.uniform(900, 4000)), float(rng.uniform(0.6, 0.95))
        return Weather(zenith, haze, cloud, clouds, visibility, shadows, sun, lean)
    if kind == 1:
        haze, zenith = _vary(rng, (216, 212, 206)), _vary(rng, (196, 186, 176))
        cloud, clouds = _vary(rng, (228, 226, 222)), float(rng.uniform(0.5, 1.0))
        return Weather(zenith, haze, cloud, clouds, float(rng.uniform(500, 2000)), 0.15, sun, 0.0, wet)
    if kind == 2:  # overexposed
        zenith, haze = _vary(rng, (238, 236, 232), 0.04), _vary(rng, (240, 240, 238), 0.03)
        return Weather(zenith, haze, (244, 244, 244), 0.3, float(rng.uniform(300, 1200)), 0.3, sun, lean, wet)
    if kind == 3:
        grey = _vary(rng, (196, 198, 200))
        return Weather(grey, grey, grey, 0.0, float(rng.uniform(90, 320)), 0.0, sun, 0.0, wet)
    zenith, haze = _vary(rng, (150, 112, 92), 0.15), _vary(rng, (150, 185, 232), 0.1)
    cloud, clouds = _vary(rng, (150, 150, 190), 0.15), float(rng.uniform(0.2, 0.8))
    return Weather(zenith, haze, cloud, clouds, 1500.0, 0.2, sun, lean, wet, dusk=True)


def tunnel_light(rng: np.random.Generator) -> Light:
    """Sample the even light of a tunnel, often yellowish or greenish."""
    level, warm = float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.5, 1.0))
    colour = (level * warm, level * float(rng.uniform(0.88, 1.0)), level)
    return Light(
        True, colour, float(rng.uniform(0.0, 0.4)), bloom=float(rng.uniform(0.4, 1.2)), wet=float(rng.uniform(0, 0.25))
    )


def sample_lamp_colour(rng: np.random.Generator) -> BgrColour | None:
    """Sample the linear colour of the street lamps, or None where the road is dark."""
    if rng.random() < 0.3:
        return None
    base = (SODIUM, YELLOW, COOL)[int(rng.choice(3, p=[0.5, 0.25, 0.25]))]
    power = float(rng.uniform(6, 14))
    return base[0] * power, base[1] * power, base[2] * power


def sample_light(
    rng: np.random.Generator,
    weather: Weather,
    night: bool,
    dazzle: bool,
    lamps: list[tuple[float, float, float]],
    colour: BgrColour | None,
) -> Light:
    """Sample the light of a day or a night; `lamps` are offset, distance and height of the street lamps."""
    if not night:
        level = float(rng.uniform(0.35, 0.7)) if weather.dusk else 1.0
        glare = float(rng.uniform(0.35, 0.9)) if dazzle else 0.0
        return Light(
            ambient=(level, level, level),
            sun=weather.sun,
            glare=glare,
            veil=float(rng.exponential(0.012)) + 0.03 * dazzle,
            wet=weather.wet,
        )
    base = float(rng.uniform(0.008, 0.04))
    lit: tuple[Lamp, ...] = ()
    if colour is not None:
        top = max(colour)
        tint = (colour[0] / top, colour[1] / top, colour[2] / top)
        power = float(rng.uniform(0.15, 0.8))
        lit = tuple(Lamp(u, z, h, power, tint) for u, z, h in lamps if z < 110)
        base *= 1.6
    ambient = tuple(base * v for v in rng.uniform(0.8, 1.2, 3))
    beam = (1.0, 0.97, 0.92) if rng.random() < 0.6 else (0.7, 0.88, 1.0)
    return Light(
        True,
        (ambient[0], ambient[1], ambient[2]),
        float(rng.uniform(0.6, 2.8)),
        beam,
        float(rng.uniform(12, 26)),
        float(rng.uniform(1.5, 2.6)),
        lit,
        veil=float(rng.exponential(0.0015)),
        bloom=float(rng.uniform(0.5, 2.0)),
        wet=weather.wet,
    )


def sample_sensor(rng: np.random.Generator, night: bool, dazzle: bool) -> Sensor:
    """Sample a sensor and lens for the light."""
    warm = float(rng.normal(0, 0.1))
    balance = (float(np.exp(-warm)), float(np.exp(rng.normal(0, 0.03))), float(np.exp(warm)))
    exposure = float(np.exp(rng.normal(0.0, 0.25))) * (1.25 if night else 1.0) * (0.85 if dazzle else 1.0)
    noise = float(rng.gamma(2.0, 0.0035)) * (1.8 if night else 1.0)
    return Sensor(
        exposure,
        balance,
        float(rng.uniform(-0.1, 0.9)),
        float(rng.uniform(0.65, 1.2)),
        float(rng.uniform(0, 0.45)),
        noise,
        float(rng.uniform(0.0002, 0.0016)) * (1.6 if night else 1.0),
        float(rng.gamma(2.0, 0.3)) + 0.25,
        float(rng.uniform(0.003, 0.02)) if rng.random() < (0.3 if night else 0.12) else 0.0,
    )
