"""Applies the randomization groups that change the road, its light and its surroundings to a scene."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from clrernetlm.core.arrays import BgrColour
from clrernetlm.synth.environment.light import Light
from clrernetlm.synth.environment.lighting_randomization import randomize_daylight, randomize_night, randomize_weather
from clrernetlm.synth.environment.road_weather import cover_with_snow, darken_pavement, make_road_wet
from clrernetlm.synth.environment.roadside_objects import Pole, SceneObject
from clrernetlm.synth.environment.roadside_randomization import add_backdrops
from clrernetlm.synth.environment.roadworks import ROADWORKS_SHARE, Roadworks, add_roadworks
from clrernetlm.synth.environment.shadows import building_shadows
from clrernetlm.synth.environment.traffic import Vehicle, densify_traffic
from clrernetlm.synth.environment.weather_sampling import Weather
from clrernetlm.synth.randomization import RANDOMIZATION_GROUPS, Randomization, RandomizationGroup
from clrernetlm.synth.road.coloured_lanes import colour_lane
from clrernetlm.synth.road.cross_section import verge_strip
from clrernetlm.synth.road.distractors import sample_distractors
from clrernetlm.synth.road.ground_map import GroundMap
from clrernetlm.synth.road.layout import RoadLayout
from clrernetlm.synth.road.marking_randomization import randomize_markings
from clrernetlm.synth.road.markings import RoadLine
from clrernetlm.synth.road.pavement import randomize_pavement

if TYPE_CHECKING:
    from clrernetlm.synth.scene import SceneSettings


class DomainRandomizer:
    """Apply randomization groups to one scene.

    Each group has its own random stream, so leaving a group out does not change the others. `faint` keeps added
    features weak, for roads whose lines are hardly visible.
    """

    def __init__(self, rng: np.random.Generator, randomization: Randomization, faint: bool) -> None:
        self._rng: dict[RandomizationGroup, np.random.Generator] = {}
        if randomization:
            streams = dict(zip(RANDOMIZATION_GROUPS, rng.spawn(len(RANDOMIZATION_GROUPS)), strict=True))
            self._rng = {group: streams[group] for group in RANDOMIZATION_GROUPS if group in randomization}
        self._faint = faint
        self._ground_map = GroundMap()
        self._joints: list[RoadLine] = []
        self._roadworks = Roadworks()
        self._unlit = False

    def road(self, layout: RoadLayout) -> None:
        """Randomize the pavement and the markings of `layout` in place."""
        if rng := self._rng.get("surface"):
            self._joints = randomize_pavement(rng, layout, self._ground_map, self._faint)
            colour_lane(rng, layout)
        if rng := self._rng.get("paint"):
            randomize_markings(rng, layout, _grey(layout), self._faint)
            if not self._faint and layout.road_type != "tunnel" and rng.random() < ROADWORKS_SHARE:
                self._roadworks = add_roadworks(rng, layout)

    def weather(self, weather: Weather, fixed: bool) -> Weather:
        """Return a randomized weather; `fixed` returns `weather` unchanged, for scenes that need it."""
        rng = self._rng.get("light")
        return weather if rng is None else randomize_weather(rng, weather, fixed)

    def light(self, light: Light, tunnel: bool) -> Light:
        """Return a randomized light; in a tunnel, the light unchanged."""
        rng = self._rng.get("light")
        if rng is None or tunnel:
            return light
        if light.night:
            light, self._unlit = randomize_night(rng, light)
            return light
        return randomize_daylight(rng, light)

    def roadside(self, objects: list[SceneObject], layout: RoadLayout, season: BgrColour) -> list[SceneObject]:
        """Return `objects` and further backdrops, barriers and power lines, and the beacons of roadworks."""
        objects = objects + self._roadworks.objects
        rng = self._rng.get("surroundings")
        return objects if rng is None else add_backdrops(rng, layout, objects, season)

    def traffic(self, vehicles: list[Vehicle], layout: RoadLayout) -> list[Vehicle]:
        """Return `vehicles` in other colours, and vehicles close beside the camera; none on closed lanes."""
        rng = self._rng.get("surroundings")
        vehicles = vehicles if rng is None else densify_traffic(rng, layout, vehicles)
        first, last = self._roadworks.closed
        return [v for v in vehicles if not first - 0.8 < v.offset < last] if last > first else vehicles

    def complete(self, scene: SceneSettings) -> None:
        """Add distractors, shadows and weather to the road of an otherwise complete `scene`, in place."""
        layout, sunny = scene.layout, int(200 * scene.weather.sunny)
        if rng := self._rng.get("distractors"):
            distractors = sample_distractors(rng, layout, self._ground_map, _grey(layout), sunny, self._faint)
            scene.unlabelled_lines += distractors.lines
            scene.decals += distractors.decals
        if rng := self._rng.get("light"):
            self._weather_road(rng, scene, sunny)
        scene.unlabelled_lines += self._roadworks.old_lines
        if "surface" in self._rng:
            scene.unlabelled_lines += self._joints
            scene.wheel_tracks = scene.oil_stain = 0.0  # the ground map has its own
        if layout.fork is not None:
            scene.unlabelled_lines = [layout.fork.bend_line(line) for line in scene.unlabelled_lines]
        if self._rng:
            scene.unlabelled_lines = [
                replace(line, last=min(line.last, scene.junction[0])) for line in scene.unlabelled_lines
            ]
        if self._rng.keys() & {"surface", "distractors", "light"}:
            self._ground_map.limit(layout.left_edge, layout.right_edge)
            scene.ground_map = self._ground_map

    def _weather_road(self, rng: np.random.Generator, scene: SceneSettings, sunny: int) -> None:
        """Darken, wet or snow over the road, and switch off street lamps on unlit nights."""
        layout = scene.layout
        tunnel = layout.road_type == "tunnel"
        if scene.light.night and not tunnel:
            darken_pavement(rng, layout, self._ground_map)
        if self._unlit:
            scene.objects = [_without_lamp(item) for item in scene.objects]
        if not tunnel:
            scene.decals += building_shadows(rng, layout, sunny)
            if scene.light.wet > 0:
                make_road_wet(rng, layout, self._ground_map, scene.light.wet)
                if rng.random() < 0.5:
                    scene.spray = float(rng.uniform(0.2, 0.9)) * scene.light.wet
            if sunny < 60 and rng.random() < 0.07:
                cover_with_snow(rng, layout, self._ground_map)
                layout.strips = [
                    verge_strip(strip.left, "snow", rng) if strip.foliage > 0 else strip for strip in layout.strips
                ]


def _grey(layout: RoadLayout) -> float:
    """Return the mean display value of the pavement under the camera."""
    return float(np.mean(layout.own_pavement.colour))


def _without_lamp(item: SceneObject) -> SceneObject:
    """Return a pole without a burning lamp; other objects unchanged."""
    return replace(item, lamp=None) if isinstance(item, Pole) else item
