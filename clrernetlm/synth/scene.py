"""Defines the settings of a generated road scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.ego_vehicle import EgoVehicle
from clrernetlm.synth.camera.recording import Recording
from clrernetlm.synth.camera.sensor import Sensor
from clrernetlm.synth.camera.text_overlay import TextOverlay
from clrernetlm.synth.camera.windscreen import Windscreen
from clrernetlm.synth.environment.light import Light
from clrernetlm.synth.environment.roadside_objects import SceneObject
from clrernetlm.synth.environment.sky import Skyline
from clrernetlm.synth.environment.traffic import Vehicle
from clrernetlm.synth.environment.weather_sampling import Weather
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.ground_map import GroundMap
from clrernetlm.synth.road.layout import RoadLayout
from clrernetlm.synth.road.markings import Decal, RoadLine

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


@dataclass
class SceneSettings:
    """All settings of an image, except the random textures."""

    category: Category
    camera: Camera
    road: RoadGeometry
    layout: RoadLayout
    weather: Weather
    light: Light = field(default_factory=Light)
    sensor: Sensor = field(default_factory=Sensor)
    objects: list[SceneObject] = field(default_factory=list)
    vehicles: list[Vehicle] = field(default_factory=list)
    decals: list[Decal] = field(default_factory=list)
    skylines: list[Skyline] = field(default_factory=list)
    ego_vehicle: EgoVehicle | None = None
    junction: tuple[float, float] = (1e9, 1e9)  # metres ahead between which a street crosses
    leaf_shadow: float = 0.0  # depth 0..1
    leaf_shadow_between: tuple[float, float] = (0.0, 0.0)  # offsets in metres
    spray: float = 0.0  # opacity 0..1 of the water that vehicles raise
    wheel_tracks: float = 0.04  # as in `cross_section_profile`
    oil_stain: float = 0.03
    timestamp: str = ""
    unlabelled_lines: list[RoadLine] = field(default_factory=list)  # on the road, but not lane lines
    ground_map: GroundMap | None = None
    windscreen: Windscreen | None = None
    text_overlays: list[TextOverlay] = field(default_factory=list)
    recording: Recording | None = None
    max_lanes: int = 4
    label_range: float = 150.0  # metres to which lanes are labelled
