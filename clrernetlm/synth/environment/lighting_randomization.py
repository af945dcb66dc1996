"""Nightfall: weather and light as dashboard cameras meet them, from glaring noons to headlights on an unlit road."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.environment.light import Light
from clrernetlm.synth.environment.weather import Weather
from clrernetlm.synth.road.ground_map import LENGTH, PER_METRE, SIZE, Ground
from clrernetlm.synth.road.layout import Layout
from clrernetlm.synth.road.markings import Decal, rectangle

Colour = tuple[float, float, float]


def vary_weather(rng: np.random.Generator, weather: Weather, fixed: bool) -> Weather:
    """Fog, rain, dusk and wet roads more often than `sample_weather` has them; `fixed` leaves sun and shadows."""
    kind = float(rng.random())
    if fixed:
        return weather
    if kind < 0.07:  # thick fog, rain haze, snowfall
        grey = float(rng.uniform(150, 225))
        air: Colour = (grey * float(rng.uniform(0.98, 1.05)), grey, grey * float(rng.uniform(0.94, 1.0)))
        seen = float(np.exp(rng.uniform(np.log(45), np.log(250))))
        return replace(
            weather, zenith=air, haze=air, cloud=air, visibility=seen, sunny=0.0, wet=float(rng.uniform(0, 1))
        )
    if kind < 0.2:  # grey day
        grey = float(rng.uniform(120, 205))
        sky: Colour = (grey * 1.03, grey, grey * 0.97)
        dark: Colour = (grey * 0.75, grey * 0.72, grey * 0.7)
        clouds = float(rng.uniform(0.4, 1.0))
        wet = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.4 else 0.0
        return replace(weather, zenith=dark, haze=sky, cloud=sky, clouds=clouds, sunny=0.1, lean=0.0, wet=wet)
    if kind < 0.3:
        return replace(weather, wet=float(rng.uniform(0.3, 1.0)))
    if kind < 0.42:  # deep blue sky
        blue = float(rng.uniform(0.65, 1.05))
        zenith: Colour = (205 * blue, 125 * blue, 60 * blue)
        haze: Colour = (225 * blue, 200 * blue, 165 * blue)
        seen = float(rng.uniform(1500, 6000))
        return replace(
            weather,
            zenith=zenith,
            haze=haze,
            clouds=float(rng.uniform(0, 0.4)),
            visibility=seen,
            sunny=0.85,
            dusk=False,
        )
    return weather


def vary_daylight(rng: np.random.Generator, light: Light) -> Light:
    """Days from gloomy to glaring, warm and cold, with stray light on the windscreen."""
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


def vary_night(rng: np.random.Generator, light: Light) -> tuple[Light, bool]:
    """A night and whether its street lamps are out.

    It is lit as `light` is, or not at all but for a cone of headlight, or drenched in the colour of the lamps.
    """
    kind = float(rng.random())
    if kind < 0.45:
        base = float(np.exp(rng.uniform(np.log(0.0004), np.log(0.008))))
        ambient: Colour = (base * float(rng.uniform(0.7, 1.3)), base, base * float(rng.uniform(0.7, 1.3)))
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
        return _dazzle(rng, cone), True
    if kind < 0.65:
        tint = ((0.03, 0.8, 1.0), (0.1, 0.62, 1.0), (0.25, 0.6, 1.0), (0.05, 1.0, 0.95))[int(rng.integers(4))]
        base = float(np.exp(rng.uniform(np.log(0.02), np.log(0.2))))
        flood: Colour = (base * tint[0] + 0.001, base * tint[1], base * tint[2])
        lamps = tuple(replace(lamp, colour=tint) for lamp in light.lamps)
        beam = float(rng.uniform(0.1, 1.2))
        return _dazzle(rng, replace(light, ambient=flood, lamps=lamps, headlight=beam)), False
    return _dazzle(rng, light), False


def _dazzle(rng: np.random.Generator, light: Light) -> Light:
    """Now and then the beams of an oncoming car flood the lens."""
    if rng.random() > 0.12:
        return light
    place = (-float(rng.uniform(0.02, 0.5)), float(rng.uniform(-0.06, 0.01)))
    colour: Colour = (1.0, 0.97, 0.9) if rng.random() < 0.6 else (0.75, 0.9, 1.0)
    return replace(light, glare=float(rng.uniform(0.05, 0.4)), sun=place, glare_colour=colour)


def darken_pavement(rng: np.random.Generator, layout: Layout, ground: Ground) -> None:
    """At night paint throws the headlights back and the pavement does not."""
    ground.across *= np.float32(rng.uniform(0.3, 0.95))


def house_shadows(rng: np.random.Generator, layout: Layout, sunny: int) -> list[Decal]:
    """Hard shadows of houses, walls and overpasses on parts of the road."""
    if sunny < 110 or rng.random() < 0.6:
        return []
    decals = []
    depth = int(np.clip(sunny * float(rng.uniform(0.75, 1.1)), 0, 235))
    side = float(rng.choice([-1, 1]))
    edge = layout.left_edge if side < 0 else layout.right_edge
    reach = edge - side * float(rng.uniform(0.5, 11))
    z = float(rng.uniform(-12, 10))
    while z < 90:
        long = float(rng.uniform(6, 45))
        skew = float(rng.normal(0, 4))
        corners = rectangle(min(edge + side * 8, reach), max(edge + side * 8, reach), max(z, 1.3), max(z + long, 1.5))
        corners[:, 1] += skew * (corners[:, 0] == reach)
        decals.append(Decal((corners,), depth, "shade"))
        z += long + float(rng.uniform(0, 25))
    return decals


def soak(rng: np.random.Generator, layout: Layout, ground: Ground, wet: float) -> None:
    """A wet road is dark, darkest where it is not driven dry, and puddles stand on it."""
    ground.across *= np.float32(1 - 0.45 * wet)
    if rng.random() < 0.6:
        ground.darken(_puddles(rng, float(rng.uniform(0.4, 1.8))), float(rng.uniform(-0.4, 0.5)))


def _puddles(rng: np.random.Generator, dry: float) -> NDArray[np.uint8]:
    """(SIZE, SIZE) 255 in pools drawn out along the road; the higher `dry`, the fewer."""
    coarse = cv2.resize(rng.standard_normal((20, 26)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.standard_normal((80, 160)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return np.clip((coarse + 0.3 * fine - dry) * 400, 0, 255).astype(np.uint8)


def snow_over(rng: np.random.Generator, layout: Layout, ground: Ground) -> None:
    """Snow and slush: banks at the edges, ridges beside and between the tracks, thin remains elsewhere."""
    white = float(rng.uniform(165, 235))
    ground.cover_colour = (white, white * 0.985, white * 0.97)
    u = np.linspace(-SIZE / PER_METRE[1] / 2, SIZE / PER_METRE[1] / 2, SIZE, endpoint=False)
    amount = np.zeros(SIZE)
    for left, right, _ in layout.lanes:
        middle = (left + right) / 2
        between = np.exp(-(((u - middle) / 0.35) ** 2))
        amount += float(rng.uniform(0, 0.5)) * between * ((u > left) & (u < right))
        amount += float(rng.uniform(0, 0.5)) * np.exp(-(((u - left) / 0.4) ** 2))
    bank = float(rng.uniform(-0.4, 0.8))
    amount += 1.5 * np.clip(layout.left_edge + bank - u, 0, 1) + 1.5 * np.clip(u - layout.right_edge + bank, 0, 1)
    rough = rng.standard_normal((int(LENGTH), SIZE // 6)).astype(np.float32)
    field = cv2.resize(rough, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    ground.cover = np.clip(255 * (amount[None] * (1 + 0.5 * field) - 0.12), 0, 245).astype(np.uint8)
