"""Randomizes weather and light, from glaring noons to headlights on an unlit road."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.core.arrays import BgrColour
from clrernetlm.synth.environment.light import Light
from clrernetlm.synth.environment.weather_sampling import Weather


def randomize_weather(rng: np.random.Generator, weather: Weather, fixed: bool) -> Weather:
    """Sample fog, rain, dusk and wet roads more often than `sample_weather`; `fixed` keeps sun and shadows."""
    kind = float(rng.random())
    if fixed:
        return weather
    if kind < 0.07:  # thick fog, rain haze, snowfall
        grey = float(rng.uniform(150, 225))
        air: BgrColour = (grey * float(rng.uniform(0.98, 1.05)), grey, grey * float(rng.uniform(0.94, 1.0)))
        visibility = float(np.exp(rng.uniform(np.log(45), np.log(250))))
        return replace(
            weather, zenith=air, haze=air, cloud=air, visibility=visibility, sunny=0.0, wet=float(rng.uniform(0, 1))
        )
    if kind < 0.2:  # grey day
        grey = float(rng.uniform(120, 205))
        sky: BgrColour = (grey * 1.03, grey, grey * 0.97)
        dark: BgrColour = (grey * 0.75, grey * 0.72, grey * 0.7)
        clouds = float(rng.uniform(0.4, 1.0))
        wet = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.4 else 0.0
        return replace(weather, zenith=dark, haze=sky, cloud=sky, clouds=clouds, sunny=0.1, lean=0.0, wet=wet)
    if kind < 0.3:
        return replace(weather, wet=float(rng.uniform(0.3, 1.0)))
    if kind < 0.42:  # deep blue sky
        blue = float(rng.uniform(0.65, 1.05))
        zenith: BgrColour = (205 * blue, 125 * blue, 60 * blue)
        haze: BgrColour = (225 * blue, 200 * blue, 165 * blue)
        visibility = float(rng.uniform(1500, 6000))
        return replace(
            weather,
            zenith=zenith,
            haze=haze,
            clouds=float(rng.uniform(0, 0.4)),
            visibility=visibility,
            sunny=0.85,
            dusk=False,
        )
    return weather


def randomize_daylight(rng: np.random.Generator, light: Light) -> Light:
    """Sample days from gloomy to glaring, warm and cold, with stray light on the windscreen."""
    level = float(np.exp(rng.normal(0.08, 0.22)))
    if rng.random() < 0.07:
        level *= float(rng.uniform(0.25, 0.6))
    warm = float(rng.normal(0, 0.06))
    b, g, r = light.ambient
    veil = light.veil + (float(rng.uniform(0.01, 0.09)) if rng.random() < 0.15 else 0.0)
    glare, sun = light.glare, light.sun
    if glare == 0 and rng.random() < 0.06:
        glare, sun = float(rng.uniform(0.15, 0.8)), (float(rng.normal(0, 0.35)), float(rng.uniform(0.05, 0.4)))
    return replace(
        light, ambient=(b * level * (1 - warm), g * level, r * level * (1 + warm)), veil=veil, glare=glare, sun=sun
    )


def randomize_night(rng: np.random.Generator, light: Light) -> tuple[Light, bool]:
    """Sample a night; return also whether its street lamps are out.

    The light is as given, or only a cone of headlight, or dominated by the colour of the lamps.
    """
    kind = float(rng.random())
    if kind < 0.45:
        base = float(np.exp(rng.uniform(np.log(0.0004), np.log(0.008))))
        ambient: BgrColour = (base * float(rng.uniform(0.7, 1.3)), base, base * float(rng.uniform(0.7, 1.3)))
        cone = replace(
            light,
            ambient=ambient,
            headlight=float(np.exp(rng.uniform(np.log(0.6), np.log(5.0)))),
            headlight_reach=float(rng.uniform(8, 20)),
            headlight_width=float(rng.uniform(0.8, 2.4)),
            headlight_spill=float(np.exp(rng.uniform(np.log(0.004), np.log(0.1)))),
            lamps=(),
            veil=float(rng.exponential(0.0006)),
            wet=light.wet if rng.random() < 0.6 else 0.0,
        )
        return _add_oncoming_glare(rng, cone), True
    if kind < 0.65:
        tint = ((0.03, 0.8, 1.0), (0.1, 0.62, 1.0), (0.25, 0.6, 1.0), (0.05, 1.0, 0.95))[int(rng.integers(4))]
        base = float(np.exp(rng.uniform(np.log(0.02), np.log(0.2))))
        flood: BgrColour = (base * tint[0] + 0.001, base * tint[1], base * tint[2])
        lamps = tuple(replace(lamp, colour=tint) for lamp in light.lamps)
        beam = float(rng.uniform(0.1, 1.2))
        return _add_oncoming_glare(rng, replace(light, ambient=flood, lamps=lamps, headlight=beam)), False
    return _add_oncoming_glare(rng, light), False


def _add_oncoming_glare(rng: np.random.Generator, light: Light) -> Light:
    """Let the beams of an oncoming car dazzle the lens in some scenes."""
    if rng.random() > 0.12:
        return light
    position = (-float(rng.uniform(0.02, 0.5)), float(rng.uniform(-0.06, 0.01)))
    colour: BgrColour = (1.0, 0.97, 0.9) if rng.random() < 0.6 else (0.75, 0.9, 1.0)
    return replace(light, glare=float(rng.uniform(0.05, 0.4)), sun=position, glare_colour=colour)
