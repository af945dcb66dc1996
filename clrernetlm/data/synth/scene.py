"""Scene: everything that is drawn once per picture, from the settings to the picture and its lanes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clrernetlm.data.synth.camera import Camera
from clrernetlm.data.synth.labels import Points, lane_points
from clrernetlm.data.synth.layout import Layout, Place, sample_layout
from clrernetlm.data.synth.light import Light, bloom, glare_map, mirror
from clrernetlm.data.synth.markings import Decal, draw_decals
from clrernetlm.data.synth.road import Road
from clrernetlm.data.synth.scenery import paint_sky
from clrernetlm.data.synth.section import profile
from clrernetlm.data.synth.sensor import LIGHT_STEP, Sensor, blur, develop
from clrernetlm.data.synth.stage import Stage
from clrernetlm.data.synth.surface import Surface, paint_ground
from clrernetlm.data.synth.textures import TILE

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
    light: Light = field(default_factory=Light)
    sensor: Sensor = field(default_factory=Sensor)
    decals: list[Decal] = field(default_factory=list)
    cross: tuple[float, float] = (1e9, 1e9)
    zenith: Colour = (190.0, 140.0, 90.0)
    haze: Colour = (225.0, 215.0, 205.0)
    cloud_colour: Colour = (240.0, 240.0, 240.0)
    clouds: float = 0.3
    visibility: float = 3000.0  # metres
    dapple: float = 0.0
    tracks: float = 0.04
    stain: float = 0.03
    max_lanes: int = 4
    farthest: float = 150.0  # metres to which lanes are labelled


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
    rng: np.random.Generator, category: Category, size: tuple[int, int] = (1640, 590), max_lanes: int = 4
) -> SceneSettings:
    """Draw the settings of a picture (width, height) of one of the `CATEGORIES`."""
    camera, camera_height = sample_camera(rng, size)
    places: list[Place] = ["highway", "urban", "rural"]
    place = places[int(rng.choice(3, p=[0.45, 0.42, 0.13]))]
    if category in ("cross", "arrow"):
        place = "urban"
    wear, strength = float(rng.gamma(2.0, 0.45)), float(rng.uniform(0.6, 1.0))
    if category == "noline":
        wear, strength = float(rng.uniform(2.8, 4.5)), float(rng.uniform(0.0, 0.4))
    layout = sample_layout(rng, place, wear, strength)
    road = sample_road(rng, category, place, camera_height)
    lane_width = layout.lanes[0][1] - layout.lanes[0][0]
    farthest = float(min(camera.focal * lane_width / (rng.uniform(16, 26) * size[0] / 1640), 170))
    return SceneSettings(category, camera, road, layout, max_lanes=max_lanes, farthest=farthest)


def lane_slots(scene: SceneSettings) -> list[Points]:
    """(N, 2) points of lane 1, 2, ... `max_lanes`, empty where there is none: half of them left of the camera."""
    slots = []
    half = scene.max_lanes // 2
    for number in range(scene.max_lanes):
        index = scene.layout.ego - half + 1 + number
        known = 0 <= index < len(scene.layout.borders) and scene.category != "cross"
        points = np.zeros((0, 2))
        if known:
            points = lane_points(scene.camera, scene.road, scene.layout.borders[index], scene.farthest)
        slots.append(points)
    return slots


def lanes(scene: SceneSettings) -> list[Points]:
    """Labelled lanes from left to right, each (N, 2) x, y in pixels, bottom first; none at crossroads."""
    return [points for points in lane_slots(scene) if len(points)]


def vanishing_point(scene: SceneSettings) -> tuple[float, float]:
    """(x, y) in pixels of the far end of the road."""
    far = scene.road.world(0.0, scene.road.visible_distances[-1])
    x, y, _ = scene.camera.project(far)
    return float(x), float(y)


def horizon_rows(scene: SceneSettings) -> tuple[int, int]:
    """First and last row in which the ground ends."""
    columns = np.linspace(0, scene.camera.width - 1, 9)
    rows = np.arange(scene.camera.height)
    right, up, _ = scene.camera.rays(columns[None], rows[:, None])
    ground = up - scene.road.bank * right < scene.road.horizon
    first = np.where(ground.any(0), ground.argmax(0), scene.camera.height)
    return int(first.min()), int(first.max())


def render(scene: SceneSettings, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR picture of a scene; `rng` draws the textures."""
    camera, layout = scene.camera, scene.layout
    height, width = camera.height, camera.width
    canvas = np.empty((height, width, 3), np.uint8)
    paint, shade = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    top, bottom = horizon_rows(scene)
    paint_sky(canvas, camera, bottom + 2, scene.zenith, scene.haze, scene.clouds, scene.cloud_colour, rng)
    stage = Stage(canvas, camera, scene.road, scene.light, scene.haze, scene.visibility)
    draw_decals(scene.decals, paint, shade, camera, scene.road)
    surface = Surface(
        profiles=np.stack([profile(layout.zones, [lane[:2] for lane in layout.lanes], scene.tracks, scene.stain)] * 2),
        lines=np.array([stroke for line in layout.lines for stroke in line.strokes()], np.float32),
        fog=scene.haze,
        visibility=scene.visibility,
        texture_shift=rng.integers(0, TILE, 8).astype(np.int32),
    )
    paint_ground(canvas, paint, shade, camera, scene.road, surface)
    glow = bloom(stage.emission, scene.light.bloom) + glare_map(scene.light, camera)
    if scene.light.wet > 0:
        small = canvas[::LIGHT_STEP, ::LIGHT_STEP].astype(np.float32) / 255
        lit = np.zeros_like(stage.gain)
        lit[: small.shape[0], : small.shape[1]] = small * small
        glow = glow + mirror(lit * stage.gain + glow, bottom / LIGHT_STEP, scene.light.wet)
    canvas = blur(canvas, scene.sensor, vanishing_point(scene))
    return develop(canvas, stage.gain, glow, scene.sensor, rng)
