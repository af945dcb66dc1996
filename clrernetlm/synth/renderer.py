"""Renders a scene to an image and projects its lanes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrColour, BgrImage, Float64Array, LinearImage, Points
from clrernetlm.core.lane_attributes import HiddenBy, LaneAttributes, hidden_ranges
from clrernetlm.synth.camera.ego_vehicle import draw_ego_vehicle
from clrernetlm.synth.camera.recording import add_chroma_noise, apply_recording, exposure_factor
from clrernetlm.synth.camera.sensor import LIGHT_MAP_STEP, defocus_blur, motion_blur, simulate_sensor
from clrernetlm.synth.camera.text_overlay import draw_text_overlays, draw_timestamp
from clrernetlm.synth.camera.windscreen import apply_windscreen, draw_drops
from clrernetlm.synth.environment.light import bloom, glare_map, wet_road_reflection
from clrernetlm.synth.environment.render_context import RenderContext
from clrernetlm.synth.environment.sky import draw_sky, draw_skyline
from clrernetlm.synth.environment.spray import draw_spray
from clrernetlm.synth.environment.traffic import draw_vehicle
from clrernetlm.synth.road.cross_section import cross_section_profile
from clrernetlm.synth.road.ground_renderer import GroundAppearance, draw_ground
from clrernetlm.synth.road.labels import label_points, point_distances
from clrernetlm.synth.road.line_attributes import line_attributes
from clrernetlm.synth.road.markings import draw_decals
from clrernetlm.synth.scene import SceneSettings
from clrernetlm.synth.textures import TILE_SIZE
from clrernetlm.synth.visibility import LaneVisibility

_HORIZON_COLUMNS = 13  # at which the lowest row of the horizon is looked for
LEAST_SATURATION = 0.2  # of a picture in which white and yellow lines can be told apart
# Linear colours of distant lights.
DISTANT_LIGHT_COLOURS: tuple[BgrColour, ...] = (
    (0.3, 0.7, 1),
    (0.9, 0.95, 1),
    (0.1, 0.1, 1),
    (1, 0.6, 0.2),
    (0.3, 1, 0.3),
    (0.2, 0.6, 1),
)


def labelled_lane_slots(scene: SceneSettings) -> list[Points]:
    """Return (N, 2) points of lane 1, 2, ... `max_lanes`, empty where there is no lane.

    Half of the slots lie left of the camera.
    """
    slots = []
    half = scene.max_lanes // 2
    for number in range(scene.max_lanes):
        index = scene.layout.ego_border - half + 1 + number
        known = 0 <= index < len(scene.layout.borders) and scene.category != "cross"
        points = np.zeros((0, 2))
        if known:
            path = scene.layout.border_paths.get(index)
            points = label_points(scene.camera, scene.road, scene.layout.borders[index], scene.label_range, path)
        slots.append(points)
    return slots


def labelled_lanes(scene: SceneSettings) -> list[Points]:
    """Return the labelled lanes from left to right, each (N, 2) x, y in pixels, bottom first; none at crossroads."""
    return [points for points in labelled_lane_slots(scene) if len(points)]


def labelled_lane_attributes(
    scene: SceneSettings, slots: Sequence[Points], visibility: LaneVisibility
) -> list[LaneAttributes]:
    """Return the attributes of the lanes of `labelled_lane_slots` that exist, in their order.

    `visibility` has observed the rendering of these lanes.
    """
    attributes = []
    half = scene.max_lanes // 2
    numbers = [number for number, points in enumerate(slots) if len(points)]
    distances = point_distances(scene.camera, scene.road, np.concatenate([np.zeros((0, 2)), *slots]))
    circle = 0.0 if scene.windscreen is None else scene.windscreen.circle
    for number, hidden_by in zip(numbers, visibility.hidden_by(scene.ego_vehicle, circle), strict=True):
        border = scene.layout.ego_border - half + 1 + number
        lane_distances, distances = np.split(distances, [len(slots[number])])
        kind, colour = line_attributes(scene.layout, border, lane_distances, scene.ground_map)
        if scene.sensor.saturation < LEAST_SATURATION:
            colour = "unknown"
        position = number - half if number < half else number - half + 1
        attributes.append(LaneAttributes(len(slots[number]), kind, colour, position, None, hidden_ranges(hidden_by)))
    return attributes


def vanishing_point(scene: SceneSettings) -> tuple[float, float]:
    """Return (x, y) in pixels of the far end of the road."""
    far = scene.road.world(0.0, scene.road.visible_distances[-1])
    x, y, _ = scene.camera.project(far)
    return float(x), float(y)


def horizon_rows(scene: SceneSettings, inwards: float = 0.0) -> tuple[float, float]:
    """Return the row of the horizon `inwards` pixels from the left and from the right side of the image."""
    first, last = _horizon_at(scene, np.array([inwards, scene.camera.width - 1.0 - inwards]), 0.5)
    return float(first), float(last)


def _horizon_at(scene: SceneSettings, columns: Float64Array, step: float) -> Float64Array:
    """Return (N,) rows of the horizon in columns (N,), to `step` pixels."""
    camera = scene.camera
    rows = np.arange(-camera.height, 2 * camera.height, step)
    right, up, _ = camera.rays(columns[None], rows[:, None])
    ground = up - scene.road.bank * right < scene.road.horizon
    return np.asarray(rows[ground.argmax(0)], np.float64)


def render(scene: SceneSettings, rng: np.random.Generator, visibility: LaneVisibility | None = None) -> BgrImage:
    """Render a scene to a (H, W, 3) uint8 BGR image; `rng` draws the textures, `visibility` observes what is hidden."""
    rows = horizon_rows(scene)
    hidden = 0 if scene.ego_vehicle is None else scene.ego_vehicle.hidden_rows(scene.camera.height)
    context = _draw_background(scene, rows, hidden, rng)
    background = context.canvas[::LIGHT_MAP_STEP, ::LIGHT_MAP_STEP].copy()
    _draw_objects(scene, context, visibility)
    if scene.spray > 0:
        lanes = scene.layout.lanes
        moving = [v for v in scene.vehicles if any(left < v.offset < right for left, right, _ in lanes)]
        draw_spray(context, moving, scene.spray)
    glow = bloom(context.emission, scene.light.bloom) + glare_map(scene.light, scene.camera)
    if scene.light.wet > 0:
        glow = glow + _reflected_light(context, background, glow, rows)
    return _photograph(scene, context, glow, hidden, rng)


def _draw_background(
    scene: SceneSettings, rows: tuple[float, float], hidden: int, rng: np.random.Generator
) -> RenderContext:
    """Draw sky, skyline and ground; `rows` of the horizon, `hidden` rows at the bottom show only the own car."""
    camera, weather = scene.camera, scene.weather
    height, width = camera.height, camera.width
    canvas = np.empty((height, width, 3), np.uint8)
    bottom = round(max(rows)) + 3
    if scene.windscreen is not None:  # a wide lens bends the horizon down between the sides
        between = np.linspace(0, width - 1, _HORIZON_COLUMNS)[1:-1]
        bottom = max(bottom, round(float(_horizon_at(scene, between, 2.0).max())) + 6)
    draw_sky(canvas, camera, bottom, weather.zenith, weather.haze, weather.clouds, weather.cloud, rng)
    for skyline in scene.skylines:
        draw_skyline(canvas, skyline, rows, rng)
    context = RenderContext(canvas, camera, scene.road, scene.light, weather.haze, weather.visibility)
    if scene.light.night and scene.layout.road_type != "tunnel":
        _add_distant_lights(context, rows, rng)
    paint, shade = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    draw_decals(scene.decals, paint, shade, camera, scene.road)
    shade = cv2.blur(shade, (5, 5)).astype(np.uint8, copy=False)
    # Motion blur spreads the ground some rows below the rim of the own car over it.
    drawn = min(height, height - hidden + math.ceil(scene.sensor.motion * height)) if hidden else height
    draw_ground(canvas, paint, shade, camera, scene.road, _ground_appearance(scene, rng), drawn)
    canvas[drawn:] = 0
    return context


def _draw_objects(scene: SceneSettings, context: RenderContext, visibility: LaneVisibility | None) -> None:
    """Draw roadside objects and vehicles from far to near."""
    drawings: list[tuple[float, HiddenBy, Callable[[RenderContext], None]]] = [
        (item.depth_key, "object", item.draw) for item in scene.objects
    ]
    drawings += [(v.distance, "vehicle", partial(draw_vehicle, vehicle=v)) for v in scene.vehicles]
    if visibility is not None:
        visibility.start(context.canvas)
    for kind, group in groupby(sorted(drawings, key=lambda drawing: -drawing[0]), key=lambda drawing: drawing[1]):
        for *_, draw in group:
            draw(context)
        if visibility is not None:
            visibility.record(context.canvas, kind)


def _reflected_light(
    context: RenderContext, background: BgrImage, glow: LinearImage, rows: tuple[float, float]
) -> LinearImage:
    """Return the (h, w, 3) light that the visible part of a wet road reflects.

    `background` (h, w, 3) is the canvas before objects were drawn, at light-map resolution.
    """
    small = context.canvas[::LIGHT_MAP_STEP, ::LIGHT_MAP_STEP]
    lit, ground = np.zeros_like(context.gain), np.zeros(context.gain.shape[:2], np.float32)
    lit[: small.shape[0], : small.shape[1]] = np.square(small.astype(np.float32) / 255)
    ground[: small.shape[0], : small.shape[1]] = (small == background).all(2)
    reflected = wet_road_reflection(lit * context.gain + glow, rows, LIGHT_MAP_STEP, context.light.wet)
    return reflected * cv2.blur(ground, (3, 3))[..., None]


def _photograph(
    scene: SceneSettings, context: RenderContext, glow: LinearImage, hidden: int, rng: np.random.Generator
) -> BgrImage:
    """Apply own car, windscreen, lens, sensor and recorder to the drawn scene."""
    canvas = context.canvas
    if scene.sensor.motion > 0:
        canvas = motion_blur(canvas, scene.sensor.motion, vanishing_point(scene))
    ambient = 0.06 + scene.light.ambient[0] if scene.light.night else scene.light.ambient[0]
    if scene.ego_vehicle is not None:
        draw_ego_vehicle(canvas, context.gain, glow, scene.ego_vehicle, ambient)
    if scene.windscreen is not None:
        apply_windscreen(context.gain, glow, scene.windscreen, ambient, rng)
        draw_drops(canvas, scene.windscreen, rng)
    sensor = scene.sensor
    if scene.recording is not None:
        factor = exposure_factor(canvas, context.gain, glow, hidden, scene.recording)
        sensor = replace(sensor, exposure=sensor.exposure * factor)
        add_chroma_noise(glow, scene.recording.chroma_noise / factor, rng)
    canvas = defocus_blur(canvas, sensor.defocus)
    image = simulate_sensor(canvas, context.gain, glow, sensor, rng)
    if scene.text_overlays:
        draw_text_overlays(image, scene.text_overlays)
    if scene.recording is not None:
        image = apply_recording(image, scene.recording)
    if scene.timestamp:
        draw_timestamp(image, scene.timestamp, (235, 235, 235), len(scene.timestamp) % 2 == 0)
    return image


def _ground_appearance(scene: SceneSettings, rng: np.random.Generator) -> GroundAppearance:
    """Collect the parameters of the ground shader."""
    layout = scene.layout
    along = cross_section_profile(
        layout.strips, [lane[:2] for lane in layout.lanes], scene.wheel_tracks, scene.oil_stain
    )
    paved = layout.own_pavement
    if scene.ground_map is not None:
        along[:, :3] *= scene.ground_map.across[:, None]
    across = along.copy()
    across[:] = [*paved.colour, paved.grain, paved.mottle, paved.wear, 0, 0]
    appearance = GroundAppearance(
        profiles=np.stack([along, across]),
        lines=np.array(
            [stroke for line in [*layout.lines, *scene.unlabelled_lines] for stroke in line.strokes()], np.float32
        ),
        junction=scene.junction,
        fork=layout.fork,
        fog=scene.weather.haze,
        visibility=scene.weather.visibility,
        leaf_shadow=scene.leaf_shadow,
        leaf_shadow_from=scene.leaf_shadow_between[0],
        leaf_shadow_to=scene.leaf_shadow_between[1],
        leaf_shadow_slant=float(rng.uniform(-0.6, 0.6)),
        leaf_shadow_size=float(rng.uniform(3.0, 7.0)),
        leaf_shadow_threshold=float(rng.uniform(-0.8, 0.9)),
        texture_shift=rng.integers(0, TILE_SIZE, 8).astype(np.int32),
    )
    if scene.ground_map is not None:
        appearance.relief = scene.ground_map.relief()
        appearance.cover_colour = scene.ground_map.cover_colour
    return appearance


def _add_distant_lights(context: RenderContext, rows: tuple[float, float], rng: np.random.Generator) -> None:
    """Add distant lamps, windows and shop signs around the horizon of a night."""
    scale = context.camera.width / 1640
    for _ in range(int(rng.integers(0, 40))):
        x = rng.uniform(0, context.camera.width)
        foot = rows[0] + (rows[1] - rows[0]) * x / context.camera.width
        colour = np.asarray(DISTANT_LIGHT_COLOURS[int(rng.integers(len(DISTANT_LIGHT_COLOURS)))]) * rng.uniform(0.3, 3)
        context.add_light(np.array([x, foot - rng.exponential(22) * scale]), rng.uniform(0.8, 3.0) * scale, colour)
