"""Scene: everything that decides one picture, drawn at random for a category."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clrernetlm.synth.camera.camera import Camera
from clrernetlm.synth.camera.dashcam import sample_dashcam, sample_front, sample_size
from clrernetlm.synth.camera.ego_vehicle import Bonnet
from clrernetlm.synth.camera.recording import sample_grading, sample_taken
from clrernetlm.synth.camera.windscreen import sample_prints, sample_windscreen
from clrernetlm.synth.environment.junction import reaches, sample_arrows, sample_crossing, thing_shadows
from clrernetlm.synth.environment.roadside_objects import Pole
from clrernetlm.synth.environment.roadside_placement import sample_world
from clrernetlm.synth.environment.sky import Skyline
from clrernetlm.synth.environment.traffic import sample_traffic, shadows
from clrernetlm.synth.environment.weather import (
    Weather,
    sample_lamp_colour,
    sample_light,
    sample_sensor,
    sample_weather,
    tunnel_light,
)
from clrernetlm.synth.randomization import PLAIN, Realism
from clrernetlm.synth.randomizer import Dressing
from clrernetlm.synth.road.course import sample_course, sample_plan
from clrernetlm.synth.road.forks import fork
from clrernetlm.synth.road.layout import Layout, Place, sample_layout
from clrernetlm.synth.road.markings import patches
from clrernetlm.synth.road.road import Road
from clrernetlm.synth.scene import Category, Colour, SceneSettings

# Blue, green and red of leaves in the seasons.
SEASONS: tuple[Colour, ...] = ((38, 82, 62), (52, 92, 74), (40, 66, 52), (60, 104, 112), (58, 92, 130), (74, 86, 92))


def sample_camera(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Camera, float]:
    """A dashboard camera of this picture size (width, height), and its height above the road in metres."""
    width, height = size
    focal = float(rng.uniform(760, 1250)) * width / 1640
    horizon = float(np.clip(rng.normal(0.455, 0.018), 0.40, 0.495)) * height
    pitch = float(np.arctan(((height - 1) / 2 - horizon) / focal))
    yaw, roll = float(rng.normal(0, 0.025)), float(rng.normal(0, 0.012))
    k1 = float(rng.uniform(0, 0.12)) if rng.random() < 0.5 else 0.0
    return Camera(width, height, focal, pitch, yaw, roll, k1), float(rng.uniform(1.15, 1.75))


def sample_road(rng: np.random.Generator, category: Category, place: Place, camera_height: float) -> Road:
    """A course: mostly straight, always bent in the category `curve`."""
    if category == "curve":
        curvature = float(rng.choice([-1, 1]) / rng.uniform(70, 350))
    elif rng.random() < 0.45:
        curvature = float(rng.normal(0, 1 / 900 if place == "highway" else 1 / 600))
    else:
        curvature = 0.0
    begin = float(rng.uniform(0, 60)) if rng.random() < 0.5 and category != "curve" else 0.0
    rate = float(rng.normal(0, 1e-5 if category != "curve" else 3e-5))
    hilly = rng.random() < 0.5
    return Road(
        camera_height,
        curvature,
        rate,
        begin,
        begin + float(rng.uniform(60, 400)),
        float(rng.exponential(0.6)) if hilly else 0.0,
        float(rng.uniform(180, 600)),
        float(rng.uniform(0, 2 * np.pi)),
        float(np.clip(curvature * rng.uniform(-6, 10), -0.05, 0.05)) + float(rng.normal(0, 0.004)),
    )


def sample_scene(
    rng: np.random.Generator,
    category: Category,
    size: tuple[int, int] = (1640, 590),
    max_lanes: int = 4,
    realism: Realism = PLAIN,
) -> SceneSettings:
    """Draw the settings of a picture (width, height) of one of the `CATEGORIES`.

    Without any piece of `realism` the same random numbers give the same scene in all versions of the generator.
    """
    if "cameras" in realism:
        size = sample_size(rng, size[0])
        camera, camera_height = sample_dashcam(rng, size)
    else:
        camera, camera_height = sample_camera(rng, size)
    night, dazzle = category == "night", category == "hlight"
    places: list[Place] = ["highway", "urban", "rural"]
    place = places[int(rng.choice(3, p=[0.45, 0.42, 0.13]))]
    if category in ("cross", "arrow"):
        place = "urban"
        night = rng.random() < 0.15
    elif category in ("normal", "crowd", "curve") and rng.random() < 0.05:
        place = "tunnel"
    wear, strength = float(rng.gamma(2.0, 0.45)), float(rng.uniform(0.6, 1.0))
    if category == "noline":
        wear, strength = float(rng.uniform(2.8, 4.5)), float(rng.uniform(0.0, 0.4))
    plan = sample_plan(rng, place) if "course" in realism else None
    layout = sample_layout(rng, place, wear, strength, plan)
    dressing = Dressing(rng, realism, category == "noline")
    dressing.lay(layout)
    if "course" in realism:
        fork(layout, rng)
        road = sample_course(rng, category == "curve", place, camera_height)
    else:
        road = sample_road(rng, category, place, camera_height)
    weather = sample_weather(rng, night, category == "shadow", dazzle)
    weather = dressing.weather(weather, night or dazzle or category == "shadow")
    season = SEASONS[int(rng.integers(len(SEASONS)))]
    lamp = sample_lamp_colour(rng) if night else None
    things = sample_world(rng, layout, season, night, lamp, rng.random() < 0.14)
    things = dressing.surround(things, layout, season)
    lamps = [(t.offset + t.arm, t.distance, t.height) for t in things if isinstance(t, Pole) and t.lamp is not None]
    light = sample_light(rng, weather, night, dazzle, lamps, lamp)
    if place == "tunnel":
        light = tunnel_light(rng)
        weather = replace(weather, sunny=0.0, visibility=float(rng.uniform(300, 900)), haze=(120.0, 130.0, 135.0))
    light = dressing.light(light, place == "tunnel")
    density = {"crowd": float(rng.uniform(0.6, 1.0)), "cross": 0.3, "arrow": 0.3}.get(
        category, float(rng.beta(1.2, 3.5))
    )
    vehicles = dressing.traffic(sample_traffic(rng, layout, density), layout)
    cross = (1e9, 1e9)
    decals = patches(layout.left_edge, layout.right_edge, rng)
    if category == "cross":
        cross, vehicles, painted = sample_crossing(rng, layout, vehicles)
        decals += painted
        things = [thing for thing in things if not reaches(thing, cross)]
    if category == "arrow" or (place == "urban" and category != "cross" and rng.random() < 0.15):
        decals += sample_arrows(rng, layout)
    sunny = int(200 * weather.sunny)
    decals += shadows(vehicles, weather.lean if weather.sunny > 0.4 else 0.0, sunny)
    decals += thing_shadows(things, weather, sunny)
    bonnet = _sample_bonnet(rng) if rng.random() < 0.6 else None
    lane_width = layout.lanes[-1][1] - layout.lanes[-1][0]
    farthest = float(min(camera.focal * lane_width / (rng.uniform(18, 30) * size[0] / 1640), 170))
    dapple, shaded = _sample_dapple(rng, category, weather, layout)
    scene = SceneSettings(
        category,
        camera,
        road,
        layout,
        light=light,
        sensor=sample_sensor(rng, night, dazzle),
        weather=weather,
        things=things,
        vehicles=vehicles,
        decals=decals,
        skylines=[] if place == "tunnel" else _sample_skylines(rng, place, weather, season),
        bonnet=bonnet,
        cross=cross,
        dapple=dapple,
        dapple_between=shaded,
        tracks=float(rng.normal(0.0, 0.06)),
        stain=abs(float(rng.normal(0, 0.05))),
        max_lanes=max_lanes,
        farthest=farthest,
        clock=_sample_clock(rng, night) if rng.random() < 0.2 else "",
    )
    dressing.finish(scene)
    _equip(scene, rng, realism)
    return scene


def _equip(scene: SceneSettings, rng: np.random.Generator, realism: Realism) -> None:
    """What the `cameras` and the `sensor` of `realism` add to a scene: the own car, the glass, the recorder."""
    night = scene.light.night and scene.layout.place != "tunnel"
    if "cameras" in realism:
        scene.bonnet = sample_front(rng, scene.camera)
        scene.windscreen, scene.clock = sample_windscreen(rng), ""
        scene.prints = sample_prints(rng, _sample_clock(rng, night))
    if "sensor" in realism:
        scene.sensor = sample_taken(rng, night, scene.light.glare > 0)
        scene.grading = sample_grading(rng, night)


def _sample_bonnet(rng: np.random.Generator) -> Bonnet:
    """The front of the own car."""
    tall = float(rng.uniform(0.05, 0.27))
    grey = float(rng.choice([18, 30, 60, 150])) * float(rng.uniform(0.7, 1.3))
    paint = (grey, grey * float(rng.uniform(0.9, 1.15)), grey * float(rng.uniform(0.85, 1.1)))
    return Bonnet(
        tall,
        float(rng.uniform(0.02, tall)),
        float(rng.uniform(0.42, 0.58)),
        paint,
        float(rng.uniform(0.05, 0.5)),
        bool(rng.random() < 0.3),
    )


def _sample_dapple(
    rng: np.random.Generator, category: Category, weather: Weather, layout: Layout
) -> tuple[float, tuple[float, float]]:
    """Depth 0..1 of the shadow of leaves, and the offsets in metres between which it lies: on the side of the sun."""
    depth = float(rng.uniform(0.7, 0.95)) if category == "shadow" else 0.0
    if depth == 0 and weather.sunny > 0.5 and rng.random() < 0.25:
        depth = float(rng.uniform(0.4, 0.9))
    reach = float(rng.uniform(2, 16))
    if weather.lean < 0:
        return depth, (layout.right_edge - reach, layout.right_edge + 6)
    return depth, (layout.left_edge - 6, layout.left_edge + reach)


def _sample_clock(rng: np.random.Generator, night: bool) -> str:
    """The time a recorder prints."""
    hour = int(rng.integers(19, 29)) % 24 if night else int(rng.integers(7, 18))
    minute, second, day = int(rng.integers(60)), int(rng.integers(60)), int(rng.integers(1, 29))
    return f"{rng.integers(2014, 2026)}-{rng.integers(1, 13):02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d}"


def _sample_skylines(rng: np.random.Generator, place: Place, weather: Weather, season: Colour) -> list[Skyline]:
    """Hills, houses and trees at the horizon, far ones first and paler."""

    def pale(colour: tuple[float, ...], share: float) -> Colour:
        b, g, r = (float(c + share * (h - c)) for c, h in zip(colour, weather.haze, strict=True))
        return b, g, r

    clear = float(np.exp(-3 * 350 / weather.visibility))
    lines = []
    if rng.random() < 0.3:
        lines.append(
            Skyline(float(rng.uniform(15, 70)), pale((120, 100, 80), max(0.55, 1 - 0.4 * clear)), 0, 0.5, 0.02 * clear)
        )
    if rng.random() < (0.75 if place == "urban" else 0.3):
        lines.append(
            Skyline(float(rng.uniform(15, 90)), pale((140, 132, 125), max(0.35, 1 - 0.7 * clear)), 1, 1, 0.15 * clear)
        )
    if rng.random() < 0.9:
        leaf = tuple(0.75 * c for c in season)
        lines.append(
            Skyline(
                float(rng.uniform(6, 34)), pale(leaf, 1 - 0.85 * clear), 0, float(rng.uniform(0.5, 1.4)), 0.16 * clear
            )
        )
    return lines
