"""Scene: everything that is drawn once per picture, from the settings to the picture and its lanes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.data.synth.bonnet import Bonnet, paint_bonnet, print_time
from clrernetlm.data.synth.camera import Camera
from clrernetlm.data.synth.labels import Points, lane_points
from clrernetlm.data.synth.layout import Layout, Place, sample_layout
from clrernetlm.data.synth.light import Light, bloom, glare_map, mirror
from clrernetlm.data.synth.markings import Decal, arrow, draw_decals, lettering, patches, rectangle, stop_line, zebra
from clrernetlm.data.synth.road import Road
from clrernetlm.data.synth.roadside import Bridge, House, Pole, Thing
from clrernetlm.data.synth.scenery import Skyline, paint_sky, paint_skyline
from clrernetlm.data.synth.section import profile
from clrernetlm.data.synth.sensor import LIGHT_STEP, Sensor, blur, develop
from clrernetlm.data.synth.stage import Stage
from clrernetlm.data.synth.surface import Surface, paint_ground
from clrernetlm.data.synth.textures import TILE
from clrernetlm.data.synth.traffic import Vehicle, paint_vehicle, sample_traffic, shadows
from clrernetlm.data.synth.weather import Weather, sample_lamp_colour, sample_light, sample_sensor, sample_weather
from clrernetlm.data.synth.world import sample_world

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

# Blue, green and red of leaves in the seasons, and linear colours of lights in the distance.
SEASONS: tuple[Colour, ...] = ((38, 82, 62), (52, 92, 74), (40, 66, 52), (60, 104, 112), (58, 92, 130), (74, 86, 92))
NIGHT_LIGHTS: tuple[Colour, ...] = (
    (0.3, 0.7, 1),
    (0.9, 0.95, 1),
    (0.1, 0.1, 1),
    (1, 0.6, 0.2),
    (0.3, 1, 0.3),
    (0.2, 0.6, 1),
)


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
    night, dazzle = category == "night", category == "hlight"
    places: list[Place] = ["highway", "urban", "rural"]
    place = places[int(rng.choice(3, p=[0.45, 0.42, 0.13]))]
    if category in ("cross", "arrow"):
        place = "urban"
        night = rng.random() < 0.15
    wear, strength = float(rng.gamma(2.0, 0.45)), float(rng.uniform(0.6, 1.0))
    if category == "noline":
        wear, strength = float(rng.uniform(2.8, 4.5)), float(rng.uniform(0.0, 0.4))
    layout = sample_layout(rng, place, wear, strength)
    road = sample_road(rng, category, place, camera_height)
    weather = sample_weather(rng, night, category == "shadow", dazzle)
    season = SEASONS[int(rng.integers(len(SEASONS)))]
    lamp = sample_lamp_colour(rng) if night else None
    things = sample_world(rng, layout, season, night, lamp, rng.random() < 0.14)
    lamps = [(t.offset + t.arm, t.distance, t.height) for t in things if isinstance(t, Pole) and t.lamp is not None]
    light = sample_light(rng, weather, night, dazzle, lamps, lamp)
    density = {"crowd": float(rng.uniform(0.6, 1.0)), "cross": 0.3, "arrow": 0.3}.get(
        category, float(rng.beta(1.2, 3.5))
    )
    vehicles = sample_traffic(rng, layout, density)
    cross = (1e9, 1e9)
    decals = patches(layout.left_edge, layout.right_edge, rng)
    if category == "cross":
        cross, vehicles, painted = _sample_crossing(rng, layout, vehicles)
        decals += painted
        things = [thing for thing in things if not _reaches(thing, cross)]
    if category == "arrow" or (place == "urban" and category != "cross" and rng.random() < 0.15):
        decals += _sample_arrows(rng, layout)
    sunny = int(200 * weather.sunny)
    decals += shadows(vehicles, weather.lean if weather.sunny > 0.4 else 0.0, sunny)
    decals += _thing_shadows(things, weather, sunny)
    bonnet = None
    if rng.random() < 0.6:
        tall = float(rng.uniform(0.05, 0.27))
        grey = float(rng.choice([18, 30, 60, 150])) * float(rng.uniform(0.7, 1.3))
        paint = (grey, grey * float(rng.uniform(0.9, 1.15)), grey * float(rng.uniform(0.85, 1.1)))
        bonnet = Bonnet(
            tall,
            float(rng.uniform(0.02, tall)),
            float(rng.uniform(0.42, 0.58)),
            paint,
            float(rng.uniform(0.05, 0.5)),
            bool(rng.random() < 0.3),
        )
    lane_width = layout.lanes[-1][1] - layout.lanes[-1][0]
    farthest = float(min(camera.focal * lane_width / (rng.uniform(18, 30) * size[0] / 1640), 170))
    dapple = float(rng.uniform(0.7, 0.95)) if category == "shadow" else 0.0
    if dapple == 0 and weather.sunny > 0.5 and rng.random() < 0.25:
        dapple = float(rng.uniform(0.4, 0.9))
    side = float(np.sign(weather.lean)) or 1.0
    reach = float(rng.uniform(2, 16))
    shaded = (
        (layout.left_edge - 6, layout.left_edge + reach)
        if side > 0
        else (layout.right_edge - reach, layout.right_edge + 6)
    )
    return SceneSettings(
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
        skylines=_sample_skylines(rng, place, weather, season, night),
        bonnet=bonnet,
        cross=cross,
        dapple=dapple,
        dapple_between=shaded,
        tracks=float(rng.normal(0.0, 0.06)),
        stain=abs(float(rng.normal(0, 0.05))),
        max_lanes=max_lanes,
        farthest=farthest,
        clock=f"{rng.integers(2014, 2026)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d} {rng.integers(24):02d}:{rng.integers(60):02d}:{rng.integers(60):02d}"
        if rng.random() < 0.2
        else "",
    )


def _sample_skylines(
    rng: np.random.Generator, place: Place, weather: Weather, season: Colour, night: bool
) -> list[Skyline]:
    """Hills, houses and trees at the horizon, far ones first and paler."""

    def pale(colour: tuple[float, ...], share: float) -> Colour:
        b, g, r = (float(c + share * (h - c)) for c, h in zip(colour, weather.haze, strict=True))
        return b, g, r

    clear = float(np.exp(-3 * 350 / weather.visibility))
    lines = []
    if rng.random() < 0.3:
        lines.append(
            Skyline(float(rng.uniform(15, 70)), pale((120, 100, 80), max(0.55, 1 - 0.4 * clear)), 0, 0.5, 0.02)
        )
    if rng.random() < (0.75 if place == "urban" else 0.3):
        lines.append(Skyline(float(rng.uniform(15, 90)), pale((140, 132, 125), max(0.35, 1 - 0.7 * clear)), 1, 1, 0.15))
    if rng.random() < 0.9:
        leaf = tuple(0.75 * c for c in season)
        lines.append(
            Skyline(float(rng.uniform(6, 34)), pale(leaf, 1 - 0.85 * clear), 0, float(rng.uniform(0.5, 1.4)), 0.16)
        )
    return lines


def _sample_arrows(rng: np.random.Generator, layout: Layout) -> list[Decal]:
    """Arrows and text in the lanes of the own direction, in rows."""
    decals = []
    ahead = [(left + right) / 2 for left, right, direction in layout.lanes if direction > 0]
    for z in np.arange(float(rng.uniform(5, 16)), 80, float(rng.uniform(18, 45))):
        for middle in ahead:
            if rng.random() < 0.8:
                decals.append(arrow(int(rng.integers(5)), middle, z))
            elif rng.random() < 0.4:
                decals.append(lettering(middle, z, rng))
    return decals


def _sample_crossing(
    rng: np.random.Generator, layout: Layout, vehicles: list[Vehicle]
) -> tuple[tuple[float, float], list[Vehicle], list[Decal]]:
    """Where the crossing street lies; its zebras and stop lines; the vehicles that stay."""
    start, width = float(rng.uniform(-4, 26)), float(rng.uniform(14, 34))
    near, far = start, start + width
    left, right = layout.left_edge + 0.4, layout.right_edge - 0.4
    decals = []
    pitch = float(rng.uniform(0.9, 1.3))
    if rng.random() < 0.85 and near > 4:
        decals.append(zebra(left, right, near - 4.5, 4.0, pitch))
        decals.append(stop_line(layout.lanes[-1][0] if len(layout.lanes) < 2 else left, right, near - 6.5))
    if rng.random() < 0.85:
        decals.append(zebra(left, right, far + 0.5, 4.0, pitch))
    for side in (left - 5.0, right + 1.0):
        if rng.random() < 0.7:
            bars = np.arange(near + 1, far - 1, pitch)
            decals.append(Decal(tuple(rectangle(side, side + 4.0, z, z + pitch / 2) for z in bars), 215))
    layout.lines = [
        piece
        for line in layout.lines
        for piece in (replace(line, last=near - 6.5), replace(line, first=far + 6.0))
        if piece.last > 1.5
    ]
    clear = [v for v in vehicles if v.distance > far or v.distance + v.shape.length < near - 6]
    return (near, far), clear, decals


def _reaches(thing: Thing, between: tuple[float, float]) -> bool:
    """Whether a thing stands in the crossing street."""
    if isinstance(thing, House):
        return thing.distance < between[1] and thing.distance + thing.depth > between[0]
    return between[0] - 3 < thing.depth_key and thing.distance < between[1] + 3


def _thing_shadows(things: list[Thing], weather: Weather, sunny: int) -> list[Decal]:
    """Shadows that bridges, poles and trees cast across the road."""
    decals = []
    for thing in things:
        if isinstance(thing, Bridge):
            z = thing.distance + abs(weather.lean)
            decals.append(Decal((rectangle(-40, 40, z, z + thing.depth),), max(170, sunny), "shade"))
        if sunny > 110 and isinstance(thing, Pole) and thing.distance < 90:
            tip = thing.offset + weather.lean * thing.height
            half = thing.width * 0.6
            z, slant = thing.distance, 0.3 * thing.height
            shape = np.array(
                [[thing.offset, z - half], [tip, z + slant - half], [tip, z + slant + half], [thing.offset, z + half]]
            )
            decals.append(Decal((shape,), sunny, "shade"))
    return decals


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


def horizon_rows(scene: SceneSettings) -> tuple[float, float]:
    """Row of the horizon at the left and at the right side of the picture."""
    camera = scene.camera
    columns = np.array([0.0, camera.width - 1.0])
    steps = np.arange(-camera.height, 2 * camera.height, 0.5)
    right, up, _ = camera.rays(columns[None], steps[:, None])
    ground = up - scene.road.bank * right < scene.road.horizon
    first = steps[ground.argmax(0)]
    return float(first[0]), float(first[1])


def render(scene: SceneSettings, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR picture of a scene; `rng` draws the textures."""
    camera, layout, weather = scene.camera, scene.layout, scene.weather
    height, width = camera.height, camera.width
    canvas = np.empty((height, width, 3), np.uint8)
    paint, shade = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    rows = horizon_rows(scene)
    paint_sky(canvas, camera, round(max(rows)) + 3, weather.zenith, weather.haze, weather.clouds, weather.cloud, rng)
    for skyline in scene.skylines:
        paint_skyline(canvas, skyline, rows, rng)
    stage = Stage(canvas, camera, scene.road, scene.light, weather.haze, weather.visibility)
    if scene.light.night:
        _scatter_lights(stage, rows, rng)
    draw_decals(scene.decals, paint, shade, camera, scene.road)
    shade = cv2.blur(shade, (5, 5)).astype(np.uint8, copy=False)
    hidden = 0 if scene.bonnet is None else scene.bonnet.hidden_rows(height)
    paint_ground(canvas, paint, shade, camera, scene.road, _surface(scene, rng), height - hidden)
    bare = canvas[::LIGHT_STEP, ::LIGHT_STEP].copy()
    standing = [(thing.depth_key, thing.paint) for thing in scene.things]
    standing += [(v.distance, partial(_paint_vehicle, v)) for v in scene.vehicles]
    for _, paint_it in sorted(standing, key=lambda item: -item[0]):
        paint_it(stage)
    glow = bloom(stage.emission, scene.light.bloom) + glare_map(scene.light, camera)
    if scene.light.wet > 0:
        small = canvas[::LIGHT_STEP, ::LIGHT_STEP]
        lit, ground = np.zeros_like(stage.gain), np.zeros(stage.gain.shape[:2], np.float32)
        lit[: small.shape[0], : small.shape[1]] = np.square(small.astype(np.float32) / 255)
        ground[: small.shape[0], : small.shape[1]] = (small == bare).all(2)
        reflected = mirror(lit * stage.gain + glow, rows, LIGHT_STEP, scene.light.wet)
        glow = glow + reflected * cv2.blur(ground, (3, 3))[..., None]
    if scene.bonnet is not None:
        ambient = 0.06 + scene.light.ambient[0] if scene.light.night else scene.light.ambient[0]
        paint_bonnet(canvas, stage.gain, glow, scene.bonnet, ambient)
    canvas = blur(canvas, scene.sensor, vanishing_point(scene))
    picture = develop(canvas, stage.gain, glow, scene.sensor, rng)
    if scene.clock:
        print_time(picture, scene.clock, (235, 235, 235), len(scene.clock) % 2 == 0)
    return picture


def _paint_vehicle(vehicle: Vehicle, stage: Stage) -> None:
    paint_vehicle(stage, vehicle)


def _surface(scene: SceneSettings, rng: np.random.Generator) -> Surface:
    """The ground of a scene for the shader."""
    layout = scene.layout
    along = profile(layout.zones, [lane[:2] for lane in layout.lanes], scene.tracks, scene.stain)
    paved = max((zone for zone in layout.zones if zone.left < 0), key=lambda zone: zone.left)
    across = along.copy()
    across[:] = [*paved.colour, paved.grain, paved.mottle, paved.wear, 0, 0]
    return Surface(
        profiles=np.stack([along, across]),
        lines=np.array([stroke for line in layout.lines for stroke in line.strokes()], np.float32),
        cross=scene.cross,
        fog=scene.weather.haze,
        visibility=scene.weather.visibility,
        dapple=scene.dapple,
        dapple_from=scene.dapple_between[0],
        dapple_to=scene.dapple_between[1],
        dapple_slant=float(rng.uniform(-0.6, 0.6)),
        dapple_size=float(rng.uniform(3.0, 7.0)),
        dapple_threshold=float(rng.uniform(-0.8, 0.9)),
        texture_shift=rng.integers(0, TILE, 8).astype(np.int32),
    )


def _scatter_lights(stage: Stage, rows: tuple[float, float], rng: np.random.Generator) -> None:
    """Distant lamps, windows and shop signs around the horizon of a night."""
    scale = stage.camera.width / 1640
    for _ in range(int(rng.integers(0, 40))):
        x = rng.uniform(0, stage.camera.width)
        foot = rows[0] + (rows[1] - rows[0]) * x / stage.camera.width
        colour = np.asarray(NIGHT_LIGHTS[int(rng.integers(len(NIGHT_LIGHTS)))]) * rng.uniform(0.3, 3)
        stage.shine(np.array([x, foot - rng.exponential(22) * scale]), rng.uniform(0.8, 3.0) * scale, colour)
