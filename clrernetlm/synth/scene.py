"""Settings of a generated road scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.ego_vehicle import Bonnet
from clrernetlm.synth.camera.recording import Grading
from clrernetlm.synth.camera.sensor import Sensor
from clrernetlm.synth.camera.windscreen import Print, Windscreen
from clrernetlm.synth.environment.light import Light
from clrernetlm.synth.environment.roadside_objects import Thing
from clrernetlm.synth.environment.sky import Skyline
from clrernetlm.synth.environment.traffic import Vehicle
from clrernetlm.synth.environment.weather import Weather
from clrernetlm.synth.road.ground_map import Ground
from clrernetlm.synth.road.layout import Layout
from clrernetlm.synth.road.markings import Decal, Line
from clrernetlm.synth.road.road import Road

Category = Literal["normal", "crowd", "hlight", "shadow", "noline", "arrow", "curve", "cross", "night"]

# CULane's test categories in its order, with the number of images of each in its test set.
CATEGORIES: dict[Category, int] = {
    "normal": 9610,
    "crowd": 8115,
    "hlight": 486,
    "shadow": 930,
    "noline": 4067,
    "arrow": 890,
    "curve": 422,
    "cross": 3122,
    "night": 7029,
}

Colour = tuple[float, float, float]


@dataclass
class SceneSettings:
    """All that decides a picture, besides the random textures."""

    category: Category
    camera: Camera
    road: Road
    layout: Layout
    weather: Weather
    light: Light = field(default_factory=Light)
    sensor: Sensor = field(default_factory=Sensor)
    things: list[Thing] = field(default_factory=list)
    vehicles: list[Vehicle] = field(default_factory=list)
    decals: list[Decal] = field(default_factory=list)
    skylines: list[Skyline] = field(default_factory=list)
    bonnet: Bonnet | None = None
    cross: tuple[float, float] = (1e9, 1e9)  # metres ahead between which a street crosses
    dapple: float = 0.0
    dapple_between: tuple[float, float] = (0.0, 0.0)
    tracks: float = 0.04
    stain: float = 0.03
    clock: str = ""
    marks: list[Line] = field(default_factory=list)  # on the road, but no lane lines
    ground: Ground | None = None
    windscreen: Windscreen | None = None
    prints: list[Print] = field(default_factory=list)
    grading: Grading | None = None
    max_lanes: int = 4
    farthest: float = 150.0  # metres to which lanes are labelled
