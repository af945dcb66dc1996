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

from clrernetlm.core.drawing import PALETTE, draw_lanes
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attribute_files import hidden_entries
from clrernetlm.core.overwrite_rules import ResultFolder
from clrernetlm.core.progress import progress_bar
from clrernetlm.core.sources import Source
from clrernetlm.core.video import Video, video_writer
from clrernetlm.core.viewport import Viewport
from clrernetlm.inference.predictor import Predictor
from clrernetlm.inference.tracking import Tracks, update_tracks, visible_lanes

VIDEO_RESULTS = (".mp4", ".lanes.json")
CALIBRATION_SPAN, CALIBRATION_STEP = 120, 10  # frames at the start of a video that its crop is chosen from, every tenth


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
    """Detect lanes in a video, stream or camera; `folder` gets `<name>.mp4`, the overlay, and `<name>.lanes.json`.

    One frame is in memory at a time. Ctrl-C completes both files; so does SIGTERM, which then ends the process. With
    `tracking` every lane has an identity, which is its colour, moves smoothly, and stays for a few frames in which it
    is not detected (`"seen": false`). The JSON is `{video, width, height, fps, viewport, frames: [{frame, seconds,
    lanes}]}` with lanes `[{track, seen, score, points}]` and points [[x, y], ...] in pixels, bottom first, and no track
    without tracking; what else is known of a lane follows (`lane_json`). Width, height and points are those of the
    frames as players show them (`Video`). `viewport` is the crop of the frames; a model with automatic crops chooses it
    at the start of a file. With `end_at_bonnet` lanes end where the bonnet of the own car hides them, if the model says
    so.

    Results of the same file are replaced, others with `overwrite`, anything else never: see `ResultFolder`. Raises
    UserError for an unreadable video, and for a file that may not be replaced.
    """
    results = ResultFolder(folder, overwrite=overwrite)
    require_video_results(results, source, name)
    made_from = source_of(source)

    def rename(temporary: Path, overlay: Path) -> None:
        results.record_file(f"{name}.mp4", temporary, made_from)
        os.replace(temporary, overlay)

    state, frames, written, lanes = Tracks(), 0, 0, 0
    cut_lanes = BonnetCutter(end_at_bonnet)
    interruption: KeyboardInterrupt | None = None
    with ExitStack() as stack:
        video = stack.enter_context(Video(source))
        temporary = stack.enter_context(results.replacing(f"{name}.lanes.json", made_from))
        rows = stack.enter_context(open(temporary, "w", encoding="utf-8"))
        append = stack.enter_context(video_writer(folder / f"{name}.mp4", video.size, video.fps, rename))
        metadata = {"video": str(source), "width": video.size[0], "height": video.size[1], "fps": round(video.fps, 3)}
        view = calibrated(predictor, source)
        metadata["viewport"] = viewport_json(view) if view is not None else None
        rows.write(json.dumps(metadata)[:-1] + ', "frames": [')
        try:
            for number, image in enumerate(progress_bar(video, f"Detecting {video.source}", video.count)):
                frame = (image.shape[1], image.shape[0])
                predictor.set_image(image, view)
                found = cut_lanes(predictor.lanes(conf))
                if tracking:
                    state = update_tracks(state, found, frame)
                    tracks = visible_lanes(state, frame)
                    drawn = [lane for _, lane in tracks]
                    colours = [PALETTE[(track.identity - 1) % len(PALETTE)] for track, _ in tracks]
                    facts = [
                        {"track": one.identity, "seen": one.missed_frames == 0} | lane_json(lane)
                        for one, lane in tracks
                    ]
                else:
                    drawn, colours, facts = found, list(PALETTE), [lane_json(lane) for lane in found]
                picture = draw_lanes(image, drawn, colours)
                while written < video.frames_due:
                    append(picture)
                    written += 1
                row = {"frame": number, "seconds": round(video.seconds, 3), "lanes": facts}
                rows.write(("," if number else "") + "\n" + json.dumps(row))
                frames, lanes = frames + 1, lanes + len(drawn)
        except KeyboardInterrupt as error:
            interruption = error
        rows.write("\n]}\n")
    if interruption is not None and type(interruption) is not KeyboardInterrupt:
        raise interruption  # not Ctrl-C in front of a camera: the whole process is asked to end
    interrupted = interruption is not None
    return VideoResult(frames, lanes, interrupted, video.cut_short and not interrupted, video.live and not interrupted)


def require_video_results(results: ResultFolder, source: Source, name: str) -> None:
    """Raise UserError when what `detect_video` writes would replace the video, or a file that is no result of it."""
    if isinstance(source, Path):
        results.reads.add(source)
    for suffix in VIDEO_RESULTS:
        results.check(f"{name}{suffix}", source_of(source))


def source_of(source: Source) -> str:
    """Identify the source of results for `ResultFolder`: the path of a file; "" for a camera."""
    return str(source.resolve()) if isinstance(source, Path) else ""


def calibrated(predictor: Predictor, source: Source) -> Viewport | None:
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
    """Convert a lane for JSON: its score, its points [[x, y], ...] in pixels, bottom first, and what else is known.

    `type`, `colour`, `position`, `track` (the identity) and `hidden` (as in `.lanes.json` files) are left out where
    they are unknown.
    """
    entry: dict[str, Any] = {"score": round(lane.score, 4), "points": lane.points.round(2).tolist()}
    if lane.type != "unknown":
        entry["type"] = lane.type
    if lane.colour != "unknown":
        entry["colour"] = lane.colour
    if lane.position is not None:
        entry["position"] = lane.position
    if lane.identity is not None:
        entry["track"] = lane.identity
    if lane.hidden is not None:
        entry["hidden"] = hidden_entries(lane.hidden)
    return entry


class BonnetCutter:
    """Cut lanes at the bonnet of the own car, if `enabled`; warn once if the model does not detect what is hidden."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._warned = False

    def __call__(self, lanes: Sequence[Lane]) -> list[Lane]:
        """Return the lanes without points under the bonnet; those of which nothing is left are dropped."""
        if not self.enabled:
            return list(lanes)
        if any(lane.visible is None for lane in lanes) and not self._warned:
            self._warned = True
            warnings.warn(
                "end_at_bonnet: this model does not say where lanes are hidden; they are left as they are",
                stacklevel=2,
            )
        return [cut for lane in lanes if len(cut := lane.cut_at_bonnet())]
