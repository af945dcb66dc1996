"""Dressing: applies the pieces of realism that change the road, its light and its surroundings to a scene."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from clrernetlm.synth.environment.light import Light
from clrernetlm.synth.environment.lighting_randomization import (
    darken_pavement,
    house_shadows,
    snow_over,
    soak,
    vary_daylight,
    vary_night,
    vary_weather,
)
from clrernetlm.synth.environment.roadside_objects import Colour, Pole, Thing
from clrernetlm.synth.environment.surroundings import crowd, surround
from clrernetlm.synth.environment.traffic import Vehicle
from clrernetlm.synth.environment.weather import Weather
from clrernetlm.synth.randomization import PIECES, Piece, Realism
from clrernetlm.synth.road.cross_section import verge
from clrernetlm.synth.road.distractors import Clutter, sample_clutter
from clrernetlm.synth.road.ground_map import Ground
from clrernetlm.synth.road.layout import Layout
from clrernetlm.synth.road.marking_wear import repaint
from clrernetlm.synth.road.markings import Line
from clrernetlm.synth.road.pavement import lay_pavement

if TYPE_CHECKING:
    from clrernetlm.synth.scene import SceneSettings


class Dressing:
    """The pieces of `realism` for one scene, each with random numbers of its own, so that leaving one out changes no
    other. `faint` is for roads whose lines can hardly be seen."""

    def __init__(self, rng: np.random.Generator, realism: Realism, faint: bool) -> None:
        self._rng: dict[Piece, np.random.Generator] = {}
        if realism:
            streams = dict(zip(PIECES, rng.spawn(len(PIECES)), strict=True))
            self._rng = {piece: streams[piece] for piece in PIECES if piece in realism}
        self._faint = faint
        self._ground = Ground()
        self._joints: list[Line] = []
        self._unlit = False

    def lay(self, layout: Layout) -> None:
        """Pavement and paint of the `layout`."""
        if rng := self._rng.get("surface"):
            self._joints = lay_pavement(rng, layout, self._ground, self._faint)
        if rng := self._rng.get("paint"):
            repaint(rng, layout, _grey(layout), self._faint)

    def weather(self, weather: Weather, fixed: bool) -> Weather:
        """Another weather; `fixed` where the scene needs the one it has."""
        rng = self._rng.get("light")
        return weather if rng is None else vary_weather(rng, weather, fixed)

    def light(self, light: Light, tunnel: bool) -> Light:
        """Another light."""
        rng = self._rng.get("light")
        if rng is None or tunnel:
            return light
        if light.night:
            light, self._unlit = vary_night(rng, light)
            return light
        return vary_daylight(rng, light)

    def surround(self, things: list[Thing], layout: Layout, season: Colour) -> list[Thing]:
        """More beside the road."""
        rng = self._rng.get("surroundings")
        return things if rng is None else surround(rng, layout, things, season)

    def traffic(self, vehicles: list[Vehicle], layout: Layout) -> list[Vehicle]:
        """Traffic of other colours, and closer."""
        rng = self._rng.get("surroundings")
        return vehicles if rng is None else crowd(rng, layout, vehicles)

    def finish(self, scene: SceneSettings) -> None:
        """What lies on the road of an otherwise complete `scene` and stands around it."""
        layout, sunny = scene.layout, int(200 * scene.weather.sunny)
        if rng := self._rng.get("distractors"):
            clutter: Clutter = sample_clutter(rng, layout, self._ground, _grey(layout), sunny, self._faint)
            scene.marks += clutter.lines
            scene.decals += clutter.decals
        if rng := self._rng.get("light"):
            self._weather_road(rng, scene, sunny)
        if "surface" in self._rng:
            scene.marks += self._joints
            scene.tracks = scene.stain = 0.0  # the ground has its own
        if self._rng:
            scene.marks = [replace(line, last=min(line.last, scene.cross[0])) for line in scene.marks]
        if self._rng.keys() & {"surface", "distractors", "light"}:
            self._ground.limit(layout.left_edge, layout.right_edge)
            scene.ground = self._ground

    def _weather_road(self, rng: np.random.Generator, scene: SceneSettings, sunny: int) -> None:
        layout = scene.layout
        tunnel = layout.place == "tunnel"
        if scene.light.night and not tunnel:
            darken_pavement(rng, layout, self._ground)
        if self._unlit:
            scene.things = [_put_out(thing) for thing in scene.things]
        if not tunnel:
            scene.decals += house_shadows(rng, layout, sunny)
            if scene.light.wet > 0:
                soak(rng, layout, self._ground, scene.light.wet)
            if sunny < 60 and rng.random() < 0.07:
                snow_over(rng, layout, self._ground)
                layout.zones = [verge(zone.left, "snow", rng) if zone.leaf > 0 else zone for zone in layout.zones]


def _grey(layout: Layout) -> float:
    """Mean display value of the own lanes' pavement."""
    own = max((zone for zone in layout.zones if zone.left < 0), key=lambda zone: zone.left)
    return float(np.mean(own.colour))


def _put_out(thing: Thing) -> Thing:
    """A lamp that does not burn."""
    return replace(thing, lamp=None) if isinstance(thing, Pole) else thing
