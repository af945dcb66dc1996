"""A look at images: crop, resize and run the detector, and look again where the horizon is not where it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from clrernetlm.config.schema import ClrernetConfig
from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.deploy.runtimes.detector import ExportedDetector
from clrernetlm.inference.horizon import aimed_viewport, first_viewport, horizon_row, viewport_at
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.clrernet.detector import CLRerNet, DetectorOutput

Detector = CLRerNet | ExportedDetector
WITNESS = 0.5  # lanes from this share of the confidence threshold on have a say where the horizon is

SURE = 0.9  # a second look counts where the sum of its scores is at least this share of the first one's


@dataclass
class Look:
    """What the detector saw of B images, their sizes (width, height), and which part of each it was."""

    observation: DetectorOutput
    frames: list[FrameSize]
    viewports: list[Viewport]


@torch.inference_mode()
def look(
    config: ClrernetConfig, detector: Detector, images: Sequence[BgrImage], viewport: Viewport | None = None
) -> Look:
    """Run the detector on B (H, W, 3) uint8 BGR images, each of its own size.

    `viewport` is used as it is. Without one it is the configured viewport, unless `viewport_mode` is auto: then images
    whose horizon lies outside the usual band of that are seen a second time, cropped around it. The second look counts
    where the detector is about as sure of its lanes, or surer.
    """
    frames = [(image.shape[1], image.shape[0]) for image in images]
    if viewport is not None or config.viewport_mode == "fixed":
        viewports = [viewport or config.viewport] * len(frames)
        return Look(_observe(detector, images, viewports), frames, viewports)
    viewports = [first_viewport(config.viewport, frame) for frame in frames]
    first = Look(_observe(detector, images, viewports), frames, viewports)
    seen = _witnesses(config, first)
    aimed = [
        aimed_viewport(view, config.viewport, frame, horizon_row(lanes, frame))
        for view, frame, lanes in zip(viewports, frames, seen, strict=True)
    ]
    moved = [i for i, view in enumerate(aimed) if view != viewports[i]]
    if not moved:
        return first
    again = Look(
        _observe(detector, [images[i] for i in moved], [aimed[i] for i in moved]),
        [frames[i] for i in moved],
        [aimed[i] for i in moved],
    )
    better = [
        place
        for place, (i, lanes) in enumerate(zip(moved, _witnesses(config, again), strict=True))
        if _certainty(lanes) >= SURE * _certainty(seen[i])
    ]
    if len(better) == len(frames):  # one image, as a rule: nothing to copy
        return again
    for place in better:
        _replace(first, moved[place], again, place)
    return first


def camera_viewport(config: ClrernetConfig, detector: Detector, images: Sequence[BgrImage]) -> Viewport:
    """The crop for all images of one camera and size: around the median of their horizons, where they show one."""
    frame = (images[0].shape[1], images[0].shape[0])
    view = first_viewport(config.viewport, frame)
    rows = []
    for image in images:
        (lanes,) = _witnesses(config, look(config, detector, [image], view))
        row = horizon_row(lanes, frame)
        if row is not None and aimed_viewport(view, config.viewport, frame, row) != view:
            # What is cut off or far away is seen worse: the row counts as it is found from nearer to the right crop.
            near = viewport_at(config.viewport, frame, row)
            (lanes,) = _witnesses(config, look(config, detector, [image], near))
            row = horizon_row(lanes, frame) or row
        if row is not None:
            rows.append(row)
    return aimed_viewport(view, config.viewport, frame, float(np.median(rows)) if rows else None)


def _observe(detector: Detector, images: Sequence[BgrImage], viewports: Sequence[Viewport]) -> DetectorOutput:
    batch = np.stack([view.apply(image) for view, image in zip(viewports, images, strict=True)])  # (B, H, W, 3)
    return detector.run(torch.from_numpy(batch).permute(0, 3, 1, 2))


def _witnesses(config: ClrernetConfig, seen: Look) -> list[list[Lane]]:
    decode = replace(config.decode, conf_threshold=WITNESS * config.decode.conf_threshold, extend_bottom=False)
    return decode_lanes(seen.observation.predictions, decode, seen.viewports, seen.frames, max_lanes=config.max_lanes)


def _certainty(lanes: Sequence[Lane]) -> float:
    return sum(lane.score for lane in lanes)


def _replace(seen: Look, image: int, other: Look, place: int) -> None:
    """Put one image of another look in the place of one of this."""
    seen.viewports[image] = other.viewports[place]
    for ours, theirs in zip(seen.observation.levels, other.observation.levels, strict=True):
        ours[image] = theirs[place]
    for name, tensor in other.observation.predictions.items():
        seen.observation.predictions[name][image] = tensor[place]
