"""Lanes of images, folders and videos, as text, JSON and overlays: `clrernetlm detect`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2

from clrernetlm.config import Config
from clrernetlm.core.drawing import draw_lanes
from clrernetlm.core.errors import UserError
from clrernetlm.core.image_headers import image_size
from clrernetlm.core.images import read_image
from clrernetlm.core.lane import Lane, format_lines
from clrernetlm.core.overwrite_rules import ReadFiles, ResultFolder
from clrernetlm.core.progress import progress_bar
from clrernetlm.core.sources import Source, find_inputs, result_names, source_file_name
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

LANES_FILE = "lanes.json"  # all images of one run
IMAGE_RESULTS = (".lines.txt", ".jpg")
CALIBRATION_IMAGES = 12  # of one camera


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

    `inputs` as `find_inputs` has them. `out` gets `<stem>.lines.txt` (CULane text), `<stem>.jpg` (overlay) per image
    and one `lanes.json`; of videos what `detect_video` says. Results of a folder lie as its files do, in folders below
    `out`. Ctrl-C ends a video or `lanes.json` properly. With `one_camera` images of one folder and size are seen
    through one crop, where the model chooses it (`model.viewport_mode` auto). `trust_code` as in `Predictor`. With
    `end_at_bonnet` lanes end where the bonnet of the own car hides them, if the model says so.

    Detecting the same input again replaces its results in `out`; results of another input are replaced with
    `overwrite`, and anything else never: see `ResultFolder`.

    Raises UserError for a missing input, two that would get the same results, and a file that may not be replaced,
    before any work is done; unreadable files are named, the others finished, and UserError raised at the end.
    """
    given = find_inputs(inputs, out)
    names = dict(zip(given.images, result_names(given.images, given.relative_paths), strict=True))
    clips = [source_file_name(video) for video in given.videos]
    clip_names = result_names(clips, given.relative_paths)
    folder = Path(out)
    if not checkpoint:
        raise UserError("checkpoint: none given; without weights a detector finds nothing")
    results = ResultFolder(folder, overwrite=overwrite, reads=ReadFiles([*given.images, checkpoint]))
    for path, name in names.items():
        for suffix in IMAGE_RESULTS:
            results.check(f"{name}{suffix}", source_of(path))
    if names:
        results.check(LANES_FILE, LANES_FILE)
    for video, name in zip(given.videos, clip_names, strict=True):
        require_video_results(ResultFolder(folder, overwrite=overwrite), video, name)
    predictor = Predictor(config, checkpoint, device, backend, trust_code=trust_code)
    found = detect_images(predictor, names, results, conf, one_camera, end_at_bonnet) if names else {}
    failures = [str(path) for path in names if str(path) not in found]
    problem = f"{len(failures)} of {len(names)} images cannot be decoded" if failures else ""
    problems = [f"{_listed(failures)}: {problem}"] if failures else []
    for video, name in zip(given.videos, clip_names, strict=True):
        try:
            problems += report_video(predictor, video, folder, name, conf, tracking, overwrite, end_at_bonnet)
        except UserError as error:
            problems.append(str(error))
    if problems:
        others = "; the others are done" if len(names) + len(clips) > 1 else ""
        raise UserError("; ".join(problems) + others)
    return found


def detect_images(
    predictor: Predictor,
    names: Mapping[Path, str],
    results: ResultFolder,
    conf: float | None = None,
    one_camera: bool = False,
    end_at_bonnet: bool = False,
) -> dict[str, list[Lane]]:
    """Lanes of image files, written to a folder under their names; returns {path: lanes} of those that can be read.

    Ctrl-C ends it after `lanes.json` of those that are done was written.
    """
    config, paths = predictor.config, list(names)
    found: dict[str, list[Lane]] = {}
    seen: dict[str, Viewport] = {}
    warned: set[FrameSize] = set()
    views = camera_viewports(predictor, paths) if one_camera else {}
    cut_lanes = BonnetCutter(end_at_bonnet)
    stop: KeyboardInterrupt | None = None
    try:
        for path in progress_bar(paths, "Detecting"):
            try:
                image = read_image(str(path))
            except UserError:
                continue
            frame = (image.shape[1], image.shape[0])
            if config.evaluation.image_size is not None and config.model.viewport_mode == "fixed":
                warn_about_shape(frame, config.evaluation.image_size, warned)
            predictor.set_image(image, views.get(path))
            lanes, view = cut_lanes(predictor.lanes(conf)), predictor.viewport
            text = format_lines([prediction_points(lane, frame) for lane in lanes])
            results.write_bytes(f"{names[path]}.lines.txt", text.encode("ascii"), source_of(path))
            results.write_bytes(f"{names[path]}.jpg", jpeg(draw_lanes(image, lanes)), source_of(path))
            found[str(path)], seen[str(path)] = lanes, view
    except KeyboardInterrupt as error:
        stop = error
    if found or stop is None:
        document = json.dumps(images_json(found, seen), indent=1)
        results.write_bytes(LANES_FILE, document.encode(), LANES_FILE)
        stopped = ", stopped" if stop is not None else ""
        print(f"{sum(map(len, found.values()))} lanes in {len(found)} images{stopped} -> {results.folder}")
    if stop is not None:
        raise stop
    return found


def camera_viewports(predictor: Predictor, paths: Sequence[Path]) -> dict[Path, Viewport]:
    """The crop of every readable image: one for all of a folder and size, from a few of them spread over the folder."""
    cameras: dict[tuple[Path, FrameSize], list[Path]] = {}
    for path in paths:
        with suppress(UserError):
            cameras.setdefault((path.resolve().parent, image_size(path)), []).append(path)
    views: dict[Path, Viewport] = {}
    for members in cameras.values():
        chosen = members[:: max(1, len(members) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]
        images = []
        for path in chosen:
            with suppress(UserError):
                images.append(read_image(str(path)))
        views |= dict.fromkeys(members, predictor.calibrate(images))
    return views


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
    """Detect lanes in one video and print a line about it; returns what is wrong with it, if anything.

    A camera or stream runs until Ctrl-C, or until it gives no more; during a file Ctrl-C interrupts the whole command,
    after its results are written.
    """
    result = detect_video(predictor, video, folder, name, conf, tracking, overwrite, end_at_bonnet)
    mean = result.lanes / max(result.frames, 1)
    stopped = ", stopped" if result.interrupted else ", until no more came" if result.ended else ""
    print(f"{result.frames} frames{stopped}, {mean:.1f} lanes in each -> {folder / name}.mp4, {name}.lanes.json")
    if result.interrupted and isinstance(video, Path):
        raise KeyboardInterrupt
    return [f"{video}: cut short after {result.frames} frames, which are done"] if result.cut_short else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def warn_about_shape(frame: FrameSize, expected: FrameSize, warned: set[FrameSize]) -> None:
    """Say once per frame size that the crop was made for frames of another shape."""
    ratio = (frame[0] / frame[1]) / (expected[0] / expected[1])
    if frame not in warned and not 0.8 < ratio < 1.25:
        warned.add(frame)
        warnings.warn(
            f"{frame[0]}x{frame[1]} frames have another shape than the {expected[0]}x{expected[1]} ones this "
            "configuration is for; if lanes look wrong, set model.viewport.top to the height where the "
            "road begins (0 = top, 1 = bottom)",
            stacklevel=3,
        )


def jpeg(image: Any) -> bytes:
    """(H, W, 3) BGR as the content of a JPEG file."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def images_json(found: Mapping[str, Sequence[Lane]], seen: Mapping[str, Viewport]) -> list[dict[str, Any]]:
    """[{image, viewport, lanes: [{score, points [[x, y], ...]}]}] with points in frame pixels, bottom first.

    What else is known of a lane follows its points: see `lane_json`.

    `viewport`: left, top, right, bottom of what the network saw, in fractions of the frame.
    """
    return [
        {
            "image": path,
            "viewport": viewport_json(seen[path]),
            "lanes": [lane_json(lane) for lane in lanes],
        }
        for path, lanes in found.items()
    ]
