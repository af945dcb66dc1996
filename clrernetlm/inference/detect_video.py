"""Detects lanes in videos, frame by frame: an overlay video and a JSON file."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.drawing import PALETTE, draw_lanes
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attribute_files import known_entries
from clrernetlm.core.overwrite_rules import ResultFolder
from clrernetlm.core.progress import progress_bar
from clrernetlm.core.sources import Source
from clrernetlm.core.video import Video, video_writer
from clrernetlm.core.viewport import Viewport
from clrernetlm.inference.predictor import Predictor
from clrernetlm.inference.tracking import Tracks, update_tracks, visible_lanes

VIDEO_RESULT_SUFFIXES = (".mp4", ".lanes.json")
CALIBRATION_SPAN, CALIBRATION_STEP = 120, 10  # a video's crop is chosen from every tenth of its first 120 frames


@dataclass(frozen=True)
class VideoResult:
    """Summary of a processed video."""

    frames: int
    lanes: int  # over all frames
    interrupted: bool  # by Ctrl-C
    cut_short: bool  # the file ended before its announced end
    ended: bool = False  # a camera or stream gave no more frames


def detect_video(
    predictor: Predictor,
    source: Source,
    folder: Path,
    name: str,
    conf: float | None = None,
    tracking: bool = True,
    overwrite: bool = False,
    end_at_bonnet: bool = False,
) -> VideoResult:
    """Detect lanes in a video, stream or camera; writes the overlay `<name>.mp4` and `<name>.lanes.json` to `folder`.

    One frame is in memory at a time. On Ctrl-C both files are completed, as on SIGTERM, which then ends the process.
    `conf` overrides the confidence threshold. With `tracking` every lane has an identity, which determines its colour,
    moves smoothly, and is kept for a few frames in which it is not detected (`"seen": false`).

    The JSON is `{video, width, height, fps, viewport, frames: [{frame, seconds, lanes}]}` with lanes `[{track, seen,
    score, points}]`, without `track` and `seen` if not `tracking`. Points are [[x, y], ...] in pixels, bottom first;
    known attributes of a lane follow (`lane_json`). Width, height and points are those of the frames as players show
    them (`Video`). `viewport` is the crop of all frames, which a model with automatic crops chooses at the start of a
    file; null if it is chosen for every frame.

    With `end_at_bonnet` lanes end where the bonnet of the own car hides them, if the model detects that.

    Results of the same file are replaced, others with `overwrite`, anything else never: see `ResultFolder`. Raises
    UserError for an unreadable video, and for a file that may not be replaced.
    """
    results = ResultFolder(folder, overwrite=overwrite)
    require_video_results(results, source, name)
    made_from = source_of(source)

    def rename(temporary: Path, overlay: Path) -> None:
        results.record_file(f"{name}.mp4", temporary, made_from)
        os.replace(temporary, overlay)

    frames, frames_written, lane_count = 0, 0, 0
    interruption: KeyboardInterrupt | None = None
    with ExitStack() as stack:
        video = stack.enter_context(Video(source))
        temporary = stack.enter_context(results.replacing(f"{name}.lanes.json", made_from))
        rows = stack.enter_context(open(temporary, "w", encoding="utf-8"))
        write_frame = stack.enter_context(video_writer(folder / f"{name}.mp4", video.size, video.fps, rename))
        detector = FrameDetector(predictor, video_viewport(predictor, source), conf, tracking, end_at_bonnet)
        rows.write(json.dumps(video_json(video, detector.viewport))[:-1] + ', "frames": [')
        try:
            for number, image in enumerate(progress_bar(video, f"Detecting {video.source}", video.count)):
                overlay, lanes = detector.detect(image)
                while frames_written < video.frames_due:
                    write_frame(overlay)
                    frames_written += 1
                row = {"frame": number, "seconds": round(video.seconds, 3), "lanes": lanes}
                rows.write(("," if number else "") + "\n" + json.dumps(row))
                frames, lane_count = frames + 1, lane_count + len(lanes)
        except KeyboardInterrupt as error:
            interruption = error
        rows.write("\n]}\n")
    if interruption is not None and type(interruption) is not KeyboardInterrupt:
        raise interruption  # SIGTERM, which is to end the whole process, unlike Ctrl-C in front of a camera
    interrupted = interruption is not None
    return VideoResult(
        frames, lane_count, interrupted, video.cut_short and not interrupted, video.live and not interrupted
    )


class FrameDetector:
    """Detects, tracks and draws the lanes of the frames of one video, in their order.

    `viewport`: the crop of all frames; None: chosen for each. `conf` overrides the confidence threshold.
    """

    def __init__(
        self,
        predictor: Predictor,
        viewport: Viewport | None,
        conf: float | None,
        tracking: bool,
        end_at_bonnet: bool = False,
    ) -> None:
        self.predictor, self.viewport, self.conf = predictor, viewport, conf
        self.cut_lanes = BonnetCutter(end_at_bonnet)
        self.tracks = Tracks() if tracking else None

    def detect(self, image: BgrImage) -> tuple[BgrImage, list[dict[str, Any]]]:
        """Return the overlay of a (H, W, 3) BGR frame, and its lanes for JSON; with tracking, those of all tracks."""
        self.predictor.set_image(image, self.viewport)
        lanes = self.cut_lanes(self.predictor.lanes(self.conf))
        if self.tracks is None:
            return draw_lanes(image, lanes, paint=True), [lane_json(lane) for lane in lanes]
        frame = (image.shape[1], image.shape[0])
        self.tracks = update_tracks(self.tracks, lanes, frame)
        tracked = visible_lanes(self.tracks, frame)
        colours = [PALETTE[(track.identity - 1) % len(PALETTE)] for track, _ in tracked]
        documents = [
            {"track": track.identity, "seen": track.missed_frames == 0} | lane_json(lane) for track, lane in tracked
        ]
        return draw_lanes(image, [lane for _, lane in tracked], colours, paint=True), documents


def video_json(video: Video, viewport: Viewport | None) -> dict[str, Any]:
    """Describe a video for JSON: source, width and height in pixels, frames per second, and the crop of its frames."""
    return {
        "video": str(video.source),
        "width": video.size[0],
        "height": video.size[1],
        "fps": round(video.fps, 3),
        "viewport": None if viewport is None else viewport_json(viewport),
    }


def require_video_results(results: ResultFolder, source: Source, name: str) -> None:
    """Raise UserError if `detect_video` would replace the video itself, or a file that may not be replaced."""
    if isinstance(source, Path):
        results.reads.add(source)
    for suffix in VIDEO_RESULT_SUFFIXES:
        results.check(f"{name}{suffix}", source_of(source))


def source_of(source: Source) -> str:
    """Identify the source of results for `ResultFolder`: the path of a file; "" for a camera."""
    return str(source.resolve()) if isinstance(source, Path) else ""


def video_viewport(predictor: Predictor, source: Source) -> Viewport | None:
    """Choose one crop for all frames of a video file from its first seconds; None for a camera."""
    if predictor.config.model.viewport_mode == "fixed":
        return predictor.config.model.viewport
    if not isinstance(source, Path):
        return None
    with Video(source) as video:
        return predictor.calibrate([image.copy() for image in islice(video, 0, CALIBRATION_SPAN, CALIBRATION_STEP)])


def viewport_json(viewport: Viewport) -> dict[str, float]:
    """Convert a viewport to its edges in fractions of the frame, for JSON."""
    return {edge: round(getattr(viewport, edge), 4) for edge in ("left", "top", "right", "bottom")}


def lane_json(lane: Lane) -> dict[str, Any]:
    """Convert a lane for JSON: its score, its points [[x, y], ...] in pixels, bottom first, and its known attributes.

    The attributes `type`, `colour`, `position`, `track` (the identity) and `hidden` (as in `.lanes.json` files) are
    left out if they are unknown.
    """
    named = {"type": lane.type, "colour": lane.colour}
    known = known_entries(
        **{key: name for key, name in named.items() if name != "unknown"},
        position=lane.position,
        track=lane.identity,
        hidden=lane.hidden,
    )
    return {"score": round(lane.score, 4), "points": lane.points.round(2).tolist()} | known


class BonnetCutter:
    """Cuts lanes at the bonnet of the own car, if `enabled`; warns once if the model does not detect hidden points."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._warned = False

    def __call__(self, lanes: Sequence[Lane]) -> list[Lane]:
        """Return the lanes without points under the bonnet; lanes without any other point are dropped."""
        if not self.enabled:
            return list(lanes)
        if any(lane.visible is None for lane in lanes) and not self._warned:
            self._warned = True
            warnings.warn(
                "end_at_bonnet: this model does not say where lanes are hidden; they are left as they are "
                "(a LaneLM with lanelm.network.fovea says it)",
                stacklevel=2,
            )
        return [cut for lane in lanes if len(cut := lane.cut_at_bonnet())]
