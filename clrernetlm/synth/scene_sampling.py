"""Samples all settings of one scene for a category."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.core.arrays import BgrColour
from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.camera_sampling import (
    sample_camera,
    sample_ego_vehicle,
    sample_frame_size,
    sample_randomized_camera,
    sample_randomized_ego_vehicle,
)
from clrernetlm.synth.camera.recording import sample_randomized_sensor, sample_recording
from clrernetlm.synth.camera.text_overlay import sample_text_overlays, sample_timestamp
from clrernetlm.synth.camera.windscreen import sample_windscreen
from clrernetlm.synth.domain_randomizer import DomainRandomizer
from clrernetlm.synth.environment.fork_placement import move_objects, move_vehicles
from clrernetlm.synth.environment.junction import sample_junction, sample_lane_arrows, stands_in_junction
from clrernetlm.synth.environment.light import Light
from clrernetlm.synth.environment.roadside_objects import Pole, SceneObject
from clrernetlm.synth.environment.roadside_placement import sample_roadside
from clrernetlm.synth.environment.shadows import object_shadows, sample_leaf_shadow, vehicle_shadows
from clrernetlm.synth.environment.sky import sample_skylines
from clrernetlm.synth.environment.traffic import Vehicle, sample_traffic
from clrernetlm.synth.environment.weather_sampling import (
    Weather,
    sample_lamp_colour,
    sample_light,
    sample_sensor,
    sample_weather,
    tunnel_light,
)
from clrernetlm.synth.randomization import NO_RANDOMIZATION, Randomization
from clrernetlm.synth.road.forks import add_fork
from clrernetlm.synth.road.geometry import RoadGeometry
from clrernetlm.synth.road.geometry_sampling import sample_geometry, sample_lane_plan, sample_randomized_geometry
from clrernetlm.synth.road.layout import RoadLayout, RoadType, sample_layout
from clrernetlm.synth.road.layout_randomization import randomize_layout
from clrernetlm.synth.road.markings import Decal
from clrernetlm.synth.road.pavement import sample_pavement_damage
from clrernetlm.synth.scene import Category, SceneSettings

_WIDE_FOCAL = 0.5  # focal length in shares of the width below which a lens is wide
# Colours of leaves in the seasons.
SEASONS: tuple[BgrColour, ...] = ((38, 82, 62), (52, 92, 74), (40, 66, 52), (60, 104, 112), (58, 92, 130), (74, 86, 92))


def sample_scene(
    rng: np.random.Generator,
    category: Category,
    size: tuple[int, int] = (1640, 590),
    max_lanes: int = 4,
    randomization: Randomization = NO_RANDOMIZATION,
) -> SceneSettings:
    """Sample the settings of an image of `size` (width, height) pixels for one of the `CATEGORIES`.

    Without randomization the same random numbers give the same scene in all versions of the generator.
    """
    camera, camera_height = _sample_camera(rng, size, randomization)
    road_type, night = _sample_road_type(rng, category)
    layout, road, randomizer = _sample_road(rng, category, road_type, camera_height, randomization)
    weather, light, objects, season = _sample_surroundings(rng, category, layout, night, randomizer)
    vehicles, objects, decals, junction = _sample_traffic_and_decals(
        rng, category, layout, weather, objects, randomizer
    )
    ego_vehicle = sample_ego_vehicle(rng) if rng.random() < 0.6 else None
    lane_width = layout.lanes[-1][1] - layout.lanes[-1][0]
    label_range = float(min(camera.focal * lane_width / (rng.uniform(18, 30) * camera.width / 1640), 170))
    leaf_shadow, leaf_shadow_between = sample_leaf_shadow(rng, category == "shadow", weather, layout)
    scene = SceneSettings(
        category,
        camera,
        road,
        layout,
        light=light,
        sensor=sample_sensor(rng, night, category == "hlight"),
        weather=weather,
        objects=objects,
        vehicles=vehicles,
        decals=decals,
        skylines=[] if road_type == "tunnel" else sample_skylines(rng, road_type, weather, season),
        ego_vehicle=ego_vehicle,
        junction=junction,
        leaf_shadow=leaf_shadow,
        leaf_shadow_between=leaf_shadow_between,
        wheel_tracks=float(rng.normal(0.0, 0.06)),
        oil_stain=abs(float(rng.normal(0, 0.05))),
        max_lanes=max_lanes,
        label_range=label_range,
        timestamp=sample_timestamp(rng, night) if rng.random() < 0.2 else "",
    )
    randomizer.complete(scene)
    _add_camera_effects(scene, rng, randomization)
    return scene


def _sample_camera(
    rng: np.random.Generator, size: tuple[int, int], randomization: Randomization
) -> tuple[Camera, float]:
    """Sample a camera and its height above the road in metres; the group `cameras` also varies the image height."""
    if "cameras" in randomization:
        return sample_randomized_camera(rng, sample_frame_size(rng, size[0]))
    return sample_camera(rng, size)


def _sample_road_type(rng: np.random.Generator, category: Category) -> tuple[RoadType, bool]:
    """Sample the type of road for a category, and whether it is night."""
    road_types: list[RoadType] = ["highway", "urban", "rural"]
    road_type = road_types[int(rng.choice(3, p=[0.45, 0.42, 0.13]))]
    if category in ("cross", "arrow"):
        return "urban", bool(rng.random() < 0.15)
    if category in ("normal", "crowd", "curve") and rng.random() < 0.05:
        road_type = "tunnel"
    return road_type, category == "night"


def _sample_road(
    rng: np.random.Generator,
    category: Category,
    road_type: RoadType,
    camera_height: float,
    randomization: Randomization,
) -> tuple[RoadLayout, RoadGeometry, DomainRandomizer]:
    """Sample lanes and geometry with randomized pavement and markings; return also the randomizer."""
    wear, strength = float(rng.gamma(2.0, 0.45)), float(rng.uniform(0.6, 1.0))
    if category == "noline":
        wear, strength = float(rng.uniform(2.8, 4.5)), float(rng.uniform(0.0, 0.4))
    randomizer = DomainRandomizer(rng, randomization, category == "noline")
    bent = category == "curve"
    if "course" in randomization:
        layout = sample_layout(rng, road_type, wear, strength, sample_lane_plan(rng, road_type))
        randomize_layout(rng, layout)
        randomizer.road(layout)
        add_fork(layout, rng)
        return layout, sample_randomized_geometry(rng, bent, road_type, camera_height), randomizer
    layout = sample_layout(rng, road_type, wear, strength)
    randomizer.road(layout)
    return layout, sample_geometry(rng, bent, road_type, camera_height), randomizer


def _sample_surroundings(
    rng: np.random.Generator, category: Category, layout: RoadLayout, night: bool, randomizer: DomainRandomizer
) -> tuple[Weather, Light, list[SceneObject], BgrColour]:
    """Sample weather, light and roadside objects that match; return also the colour of leaves in the season."""
    dazzle, tunnel = category == "hlight", layout.road_type == "tunnel"
    weather = sample_weather(rng, night, category == "shadow", dazzle)
    weather = randomizer.weather(weather, night or dazzle or category == "shadow")
    season = SEASONS[int(rng.integers(len(SEASONS)))]
    lamp = sample_lamp_colour(rng) if night else None
    objects = sample_roadside(rng, layout, season, night, lamp, rng.random() < 0.14)
    objects = randomizer.roadside(objects, layout, season)
    if layout.fork is not None:
        objects = move_objects(objects, layout.fork)
    lamps = [(t.offset + t.arm, t.distance, t.height) for t in objects if isinstance(t, Pole) and t.lamp is not None]
    light = sample_light(rng, weather, night, dazzle, lamps, lamp)
    if tunnel:
        light = tunnel_light(rng)
        weather = replace(weather, sunny=0.0, visibility=float(rng.uniform(300, 900)), haze=(120.0, 130.0, 135.0))
    return weather, randomizer.light(light, tunnel), objects, season


def _sample_traffic_and_decals(
    rng: np.random.Generator,
    category: Category,
    layout: RoadLayout,
    weather: Weather,
    objects: list[SceneObject],
    randomizer: DomainRandomizer,
) -> tuple[list[Vehicle], list[SceneObject], list[Decal], tuple[float, float]]:
    """Sample vehicles, and damage, paint and shadows on the road; return also the objects outside of a junction.

    The last value is the junction: metres ahead between which a street crosses.
    """
    vehicles = randomizer.traffic(sample_traffic(rng, layout, _sample_traffic_density(rng, category)), layout)
    if layout.fork is not None:
        vehicles = move_vehicles(vehicles, layout.fork)
    junction = (1e9, 1e9)
    decals = layout.decals + sample_pavement_damage(layout.left_edge, layout.right_edge, rng)
    if category == "cross":
        junction, vehicles, painted = sample_junction(rng, layout, vehicles)
        decals += painted
        objects = [item for item in objects if not stands_in_junction(item, junction)]
    if category == "arrow" or (layout.road_type == "urban" and category != "cross" and rng.random() < 0.15):
        decals += sample_lane_arrows(rng, layout)
    sunny = int(200 * weather.sunny)
    decals += vehicle_shadows(vehicles, weather.lean if weather.sunny > 0.4 else 0.0, sunny)
    decals += object_shadows(objects, weather, sunny)
    return vehicles, objects, decals, junction


def _sample_traffic_density(rng: np.random.Generator, category: Category) -> float:
    """Sample the density of traffic; 1 is dense."""
    crowded, ordinary = float(rng.uniform(0.6, 1.0)), float(rng.beta(1.2, 3.5))
    if category == "crowd":
        return crowded
    return 0.3 if category in ("cross", "arrow") else ordinary


def _add_camera_effects(scene: SceneSettings, rng: np.random.Generator, randomization: Randomization) -> None:
    """Add own car, windscreen and texts (group `cameras`), sensor and recorder (group `sensor`) to a scene."""
    night = scene.light.night and scene.layout.road_type != "tunnel"
    if "cameras" in randomization:
        scene.ego_vehicle = sample_randomized_ego_vehicle(rng, scene.camera)
        wide = scene.camera.focal < _WIDE_FOCAL * scene.camera.width
        scene.windscreen, scene.timestamp = sample_windscreen(rng, scene.light.wet > 0.3, wide), ""
        scene.text_overlays = sample_text_overlays(rng, sample_timestamp(rng, night))
    if "sensor" in randomization:
        scene.sensor = sample_randomized_sensor(rng, night, scene.light.glare > 0)
        scene.recording = sample_recording(rng, night)
