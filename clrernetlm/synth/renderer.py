"""Picture: a scene painted, lit and photographed, and the lanes in it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.synth.camera.ego_vehicle import paint_bonnet, print_time
from clrernetlm.synth.camera.recording import exposure, grade, speckle
from clrernetlm.synth.camera.sensor import LIGHT_STEP, defocus, develop, smear
from clrernetlm.synth.camera.windscreen import look_through, print_over
from clrernetlm.synth.environment.canvas import Stage
from clrernetlm.synth.environment.light import bloom, glare_map, mirror
from clrernetlm.synth.environment.sky import paint_sky, paint_skyline
from clrernetlm.synth.environment.traffic import paint_vehicle
from clrernetlm.synth.road.cross_section import profile
from clrernetlm.synth.road.labels import Points, lane_points
from clrernetlm.synth.road.markings import draw_decals
from clrernetlm.synth.road.surface import Surface, paint_ground
from clrernetlm.synth.scene import Colour, SceneSettings
from clrernetlm.synth.textures import TILE

# Linear blue, green and red of lights in the distance.
NIGHT_LIGHTS: tuple[Colour, ...] = (
    (0.3, 0.7, 1),
    (0.9, 0.95, 1),
    (0.1, 0.1, 1),
    (1, 0.6, 0.2),
    (0.3, 1, 0.3),
    (0.2, 0.6, 1),
)


def lane_slots(scene: SceneSettings) -> list[Points]:
    """(N, 2) points of lane 1, 2, ... `max_lanes`, empty where there is none: half of them left of the camera."""
    slots = []
    half = scene.max_lanes // 2
    for number in range(scene.max_lanes):
        index = scene.layout.ego - half + 1 + number
        known = 0 <= index < len(scene.layout.borders) and scene.category != "cross"
        points = np.zeros((0, 2))
        if known:
            turn = scene.layout.turns.get(index)
            points = lane_points(scene.camera, scene.road, scene.layout.borders[index], scene.farthest, turn)
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


def horizon_rows(scene: SceneSettings, inwards: float = 0.0) -> tuple[float, float]:
    """Row of the horizon `inwards` pixels from the left and from the right side of the picture."""
    camera = scene.camera
    columns = np.array([inwards, camera.width - 1.0 - inwards])
    steps = np.arange(-camera.height, 2 * camera.height, 0.5)
    right, up, _ = camera.rays(columns[None], steps[:, None])
    ground = up - scene.road.bank * right < scene.road.horizon
    first = steps[ground.argmax(0)]
    return float(first[0]), float(first[1])


def render(scene: SceneSettings, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR picture of a scene; `rng` draws the textures."""
    camera, weather = scene.camera, scene.weather
    height, width = camera.height, camera.width
    canvas = np.empty((height, width, 3), np.uint8)
    paint, shade = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    rows = horizon_rows(scene)
    middle = horizon_rows(scene, camera.width / 2)[0] if scene.windscreen is not None else 0.0
    paint_sky(
        canvas, camera, round(max(*rows, middle)) + 3, weather.zenith, weather.haze, weather.clouds, weather.cloud, rng
    )
    for skyline in scene.skylines:
        paint_skyline(canvas, skyline, rows, rng)
    stage = Stage(canvas, camera, scene.road, scene.light, weather.haze, weather.visibility)
    if scene.light.night and scene.layout.place != "tunnel":
        _scatter_lights(stage, rows, rng)
    draw_decals(scene.decals, paint, shade, camera, scene.road)
    shade = cv2.blur(shade, (5, 5)).astype(np.uint8, copy=False)
    hidden = 0 if scene.bonnet is None else scene.bonnet.hidden_rows(height)
    paint_ground(canvas, paint, shade, camera, scene.road, _surface(scene, rng), height - hidden)
    bare = canvas[::LIGHT_STEP, ::LIGHT_STEP].copy()
    standing = [(thing.depth_key, thing.paint) for thing in scene.things]
    standing += [(v.distance, partial(paint_vehicle, vehicle=v)) for v in scene.vehicles]
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
    if scene.sensor.motion > 0:
        canvas = smear(canvas, scene.sensor.motion, vanishing_point(scene))
    ambient = 0.06 + scene.light.ambient[0] if scene.light.night else scene.light.ambient[0]
    if scene.bonnet is not None:
        paint_bonnet(canvas, stage.gain, glow, scene.bonnet, ambient)
    if scene.windscreen is not None:
        look_through(stage.gain, glow, scene.windscreen, ambient, rng)
    sensor = scene.sensor
    if scene.grading is not None:
        factor = exposure(canvas, stage.gain, glow, hidden, scene.grading)
        sensor = replace(sensor, exposure=sensor.exposure * factor)
        speckle(glow, scene.grading.blotches / factor, rng)
    canvas = defocus(canvas, sensor.defocus)
    picture = develop(canvas, stage.gain, glow, sensor, rng)
    if scene.prints:
        print_over(picture, scene.prints)
    if scene.grading is not None:
        picture = grade(picture, scene.grading)
    if scene.clock:
        print_time(picture, scene.clock, (235, 235, 235), len(scene.clock) % 2 == 0)
    return picture


def _surface(scene: SceneSettings, rng: np.random.Generator) -> Surface:
    """The ground of a scene for the shader."""
    layout = scene.layout
    along = profile(layout.zones, [lane[:2] for lane in layout.lanes], scene.tracks, scene.stain)
    paved = max((zone for zone in layout.zones if zone.left < 0), key=lambda zone: zone.left)
    relief = {}
    if scene.ground is not None:
        along[:, :3] *= scene.ground.across[:, None]
        relief = {"relief": scene.ground.relief(), "cover_colour": scene.ground.cover_colour}
    across = along.copy()
    across[:] = [*paved.colour, paved.grain, paved.mottle, paved.wear, 0, 0]
    return Surface(
        profiles=np.stack([along, across]),
        lines=np.array([stroke for line in [*layout.lines, *scene.marks] for stroke in line.strokes()], np.float32),
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
        **relief,  # type: ignore[arg-type]
    )


def _scatter_lights(stage: Stage, rows: tuple[float, float], rng: np.random.Generator) -> None:
    """Distant lamps, windows and shop signs around the horizon of a night."""
    scale = stage.camera.width / 1640
    for _ in range(int(rng.integers(0, 40))):
        x = rng.uniform(0, stage.camera.width)
        foot = rows[0] + (rows[1] - rows[0]) * x / stage.camera.width
        colour = np.asarray(NIGHT_LIGHTS[int(rng.integers(len(NIGHT_LIGHTS)))]) * rng.uniform(0.3, 3)
        stage.shine(np.array([x, foot - rng.exponential(22) * scale]), rng.uniform(0.8, 3.0) * scale, colour)
