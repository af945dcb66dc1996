"""Detects lanes in images, folders and videos, and writes text, JSON and overlays: `clrernetlm detect`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2

from clrernetlm.config import Config
from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.drawing import draw_lanes
from clrernetlm.core.errors import UserError
from clrernetlm.core.image_headers import image_size
from clrernetlm.core.images import read_image
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import format_lines
from clrernetlm.core.overwrite_rules import ReadFiles, ResultFolder
from clrernetlm.core.progress import progress_bar
from clrernetlm.core.sources import Inputs, Source, find_inputs, result_names, source_file_name
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.deploy.runtimes.base import Backend
from clrernetlm.inference.detect_video import (
    BonnetCutter,
    detect_video,
    lane_json,
    require_video_results,
    source_of,
    viewport_json,
)
from clrernetlm.inference.predictor import Predictor
from clrernetlm.models.clrernet.decode import prediction_points

LANES_FILE = "lanes.json"  # the lanes of all images of a run
IMAGE_RESULT_SUFFIXES = (".lines.txt", ".jpg")
CALIBRATION_IMAGES = 12  # of one camera, from which its crop is chosen
JPEG_QUALITY = 92
ASPECT_RATIO_TOLERANCE = (0.8, 1.25)  # of frames, relative to those that a config is for

ImageNames = Mapping[Path, str]  # image file -> name of its results, without suffix


def detect(
    config: Config,
    checkpoint: str | None,
    inputs: Sequence[str],
    out: str,
    conf: float | None = None,
    device: str = "cpu",
    tracking: bool = True,
    one_camera: bool = False,
    backend: Backend | None = None,
    trust_code: bool = False,
    overwrite: bool = False,
    end_at_bonnet: bool = False,
) -> dict[str, list[Lane]]:
    """Detect lanes in images, folders of images, videos and cameras; returns {image path: lanes in frame pixels}.

    `inputs` as in `find_inputs`. `out` gets `<stem>.lines.txt` (CULane text) and `<stem>.jpg` (overlay) per image, one
    `lanes.json`, and for every video the files of `detect_video`. The results of a folder lie in the same subfolders of
    `out` as its files. Ctrl-C ends a run, after a video or `lanes.json` is completed. `conf` overrides the confidence
    threshold. `one_camera`: all images of one folder and size get the same crop, if the model chooses it
    (`model.viewport_mode` auto). `trust_code` as in `Predictor`. With `end_at_bonnet` lanes end where the bonnet of the
    own car hides them, if the model detects that.

    Detecting the same input again replaces its results in `out`; results of another input are replaced with
    `overwrite`, and other files never: see `ResultFolder`.

    Raises UserError before any work for a missing input, for two inputs with the same result names, and for a file that
    may not be replaced. Unreadable files do not stop a run; a UserError at its end names them.
    """
    sources = find_inputs(inputs, out)
    image_names = dict(zip(sources.images, result_names(sources.images, sources.relative_paths), strict=True))
    video_names = _video_names(sources)
    if not checkpoint:
        raise UserError("checkpoint: none given; without weights a detector finds nothing")
    folder = Path(out)
    results = ResultFolder(folder, overwrite=overwrite, reads=ReadFiles([*sources.images, checkpoint]))
    _require_image_results(results, image_names)
    for video, name in video_names:
        require_video_results(ResultFolder(folder, overwrite=overwrite), video, name)
    predictor = Predictor(config, checkpoint, device, backend, trust_code=trust_code)
    lanes = detect_images(predictor, image_names, results, conf, one_camera, end_at_bonnet) if image_names else {}
    undecoded = [str(path) for path in image_names if str(path) not in lanes]
    problems = []
    if undecoded:
        problems.append(f"{_first_of(undecoded)}: {len(undecoded)} of {len(image_names)} images cannot be decoded")
    for video, name in video_names:
        try:
            problems += report_video(predictor, video, folder, name, conf, tracking, overwrite, end_at_bonnet)
        except UserError as error:
            problems.append(str(error))
    if problems:
        others = "; the others are done" if len(image_names) + len(video_names) > 1 else ""
        raise UserError("; ".join(problems) + others)
    return lanes


def _video_names(sources: Inputs) -> list[tuple[Source, str]]:
    """Pair videos and cameras with the names of their results, without suffix."""
    files = [source_file_name(video) for video in sources.videos]
    return list(zip(sources.videos, result_names(files, sources.relative_paths), strict=True))


def _require_image_results(results: ResultFolder, names: ImageNames) -> None:
    """Raise UserError unless all results of the images may be written."""
    for path, name in names.items():
        for suffix in IMAGE_RESULT_SUFFIXES:
            results.check(f"{name}{suffix}", source_of(path))
    if names:
        results.check(LANES_FILE, LANES_FILE)


def detect_images(
    predictor: Predictor,
    names: ImageNames,
    results: ResultFolder,
    conf: float | None = None,
    one_camera: bool = False,
    end_at_bonnet: bool = False,
) -> dict[str, list[Lane]]:
    """Detect lanes in image files and write the results under their names; returns {path: lanes in frame pixels}.

    Images that cannot be read are left out. On Ctrl-C `lanes.json` of the finished images is still written.
    """
    evaluation, model = predictor.config.evaluation, predictor.config.model
    cut_lanes = BonnetCutter(end_at_bonnet)
    camera_crops = camera_viewports(predictor, list(names)) if one_camera else {}
    found: dict[str, list[Lane]] = {}
    viewports: dict[str, Viewport] = {}
    warned: set[FrameSize] = set()
    interruption: KeyboardInterrupt | None = None
    try:
        for path in progress_bar(list(names), "Detecting"):
            try:
                image = read_image(str(path))
            except UserError:
                continue
            frame = (image.shape[1], image.shape[0])
            if evaluation.image_size is not None and model.viewport_mode == "fixed":
                warn_about_shape(frame, evaluation.image_size, warned)
            predictor.set_image(image, camera_crops.get(path))
            lanes, viewport = cut_lanes(predictor.lanes(conf)), predictor.viewport
            text = format_lines([prediction_points(lane, frame) for lane in lanes])
            results.write_bytes(f"{names[path]}.lines.txt", text.encode("ascii"), source_of(path))
            overlay = draw_lanes(image, lanes, paint=True)
            results.write_bytes(f"{names[path]}.jpg", encode_jpeg(overlay), source_of(path))
            found[str(path)], viewports[str(path)] = lanes, viewport
    except KeyboardInterrupt as error:
        interruption = error
    if found or interruption is None:
        document = json.dumps(images_json(found, viewports), indent=1)
        results.write_bytes(LANES_FILE, document.encode(), LANES_FILE)
        stopped = ", stopped" if interruption is not None else ""
        print(f"{sum(map(len, found.values()))} lanes in {len(found)} images{stopped} -> {results.folder}")
    if interruption is not None:
        raise interruption
    return found


def camera_viewports(predictor: Predictor, paths: Sequence[Path]) -> dict[Path, Viewport]:
    """Choose the crop of every readable image: one per folder and size, from a few images spread over the folder."""
    cameras: dict[tuple[Path, FrameSize], list[Path]] = {}
    for path in paths:
        with suppress(UserError):
            cameras.setdefault((path.resolve().parent, image_size(path)), []).append(path)
    viewports: dict[Path, Viewport] = {}
    for members in cameras.values():
        chosen = members[:: max(1, len(members) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]
        images = []
        for path in chosen:
            with suppress(UserError):
                images.append(read_image(str(path)))
        viewports |= dict.fromkeys(members, predictor.calibrate(images))
    return viewports


def report_video(
    predictor: Predictor,
    video: Source,
    folder: Path,
    name: str,
    conf: float | None,
    tracking: bool,
    overwrite: bool = False,
    end_at_bonnet: bool = False,
) -> list[str]:
    """Detect lanes in one video and print a line about it; returns its problems, at most one.

    A camera or stream runs until Ctrl-C or its end. In a file Ctrl-C interrupts the whole command, after the results of
    the frames so far are written.
    """
    result = detect_video(predictor, video, folder, name, conf, tracking, overwrite, end_at_bonnet)
    mean = result.lanes / max(result.frames, 1)
    stopped = ", stopped" if result.interrupted else ", until no more came" if result.ended else ""
    print(f"{result.frames} frames{stopped}, {mean:.1f} lanes in each -> {folder / name}.mp4, {name}.lanes.json")
    if result.interrupted and isinstance(video, Path):
        raise KeyboardInterrupt
    return [f"{video}: cut short after {result.frames} frames, which are done"] if result.cut_short else []


def _first_of(names: Sequence[str]) -> str:
    """List up to three names, for a message."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def warn_about_shape(frame: FrameSize, expected: FrameSize, warned: set[FrameSize]) -> None:
    """Warn, once per frame size (width, height), that the configured crop is for frames of another aspect ratio."""
    ratio = (frame[0] / frame[1]) / (expected[0] / expected[1])
    if frame not in warned and not ASPECT_RATIO_TOLERANCE[0] < ratio < ASPECT_RATIO_TOLERANCE[1]:
        warned.add(frame)
        warnings.warn(
            f"{frame[0]}x{frame[1]} frames have another shape than the {expected[0]}x{expected[1]} ones this "
            "configuration is for; if lanes look wrong, set model.viewport.top to the height where the "
            "road begins (0 = top, 1 = bottom)",
            stacklevel=3,
        )


def encode_jpeg(image: BgrImage) -> bytes:
    """Encode a (H, W, 3) uint8 BGR image as the content of a JPEG file."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def images_json(found: Mapping[str, Sequence[Lane]], viewports: Mapping[str, Viewport]) -> list[dict[str, Any]]:
    """Convert lanes to [{image, viewport, lanes: [{score, points [[x, y], ...]}]}], points in pixels, bottom first.

    Known attributes of a lane follow its points, see `lane_json`. `viewport`: left, top, right and bottom of the crop
    that the network saw, in fractions of the frame.
    """
    return [
        {
            "image": path,
            "viewport": viewport_json(viewports[path]),
            "lanes": [lane_json(lane) for lane in lanes],
        }
        for path, lanes in found.items()
    ]
