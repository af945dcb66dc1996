"""Runs the detector on frames of any size; crops and runs frames again whose horizon is outside the expected range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from clrernetlm.config.schema import ClrernetConfig
from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.deploy.runtimes.exported_detector import ExportedDetector
from clrernetlm.inference.horizon import horizon_row, initial_viewport, viewport_for_horizon, viewport_with_horizon_at
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.clrernet.detector import CLRerNet, DetectorOutput
from clrernetlm.models.lanelm.fovea.patches import FrameCrop

Detector = CLRerNet | ExportedDetector
HORIZON_VOTE_THRESHOLD = 0.5  # lanes vote for a horizon from this share of the confidence threshold on
MIN_SCORE_RATIO = 0.9  # the second crop is used if its scores add up to at least this share of the first one's


@dataclass
class DetectorBatch:
    """Output of the detector for B images, with their sizes (width, height) and the crop of each."""

    output: DetectorOutput
    frames: list[FrameSize]
    viewports: list[Viewport]
    crops: list[FrameCrop] | None = None  # for a LaneLM with a fovea

    def keep_crops(self, images: Sequence[BgrImage]) -> None:
        """Copy the part of each image that the detector saw, at its own resolution."""
        self.crops = [FrameCrop.of(image, view) for image, view in zip(images, self.viewports, strict=True)]


@torch.inference_mode()
def run_detector(
    config: ClrernetConfig, detector: Detector, images: Sequence[BgrImage], viewport: Viewport | None = None
) -> DetectorBatch:
    """Run the detector on B (H, W, 3) uint8 BGR images, each of its own size.

    A given `viewport` is used for all of them. Without one it is the configured viewport, unless `viewport_mode` is
    auto: then images whose horizon lies outside the usual range of that crop are cropped around the horizon and run a
    second time. The second result replaces the first where its lanes have about the same scores, or higher ones.
    """
    frames = [(image.shape[1], image.shape[0]) for image in images]
    if viewport is not None or config.viewport_mode == "fixed":
        viewports = [viewport or config.viewport] * len(frames)
        return DetectorBatch(_detect(detector, images, viewports), frames, viewports)
    viewports = [initial_viewport(config.viewport, frame) for frame in frames]
    first = DetectorBatch(_detect(detector, images, viewports), frames, viewports)
    first_lanes = _low_confidence_lanes(config, first)
    recropped = [
        viewport_for_horizon(view, config.viewport, frame, horizon_row(lanes, frame))
        for view, frame, lanes in zip(viewports, frames, first_lanes, strict=True)
    ]
    moved = [i for i, view in enumerate(recropped) if view != viewports[i]]
    if not moved:
        return first
    second = DetectorBatch(
        _detect(detector, [images[i] for i in moved], [recropped[i] for i in moved]),
        [frames[i] for i in moved],
        [recropped[i] for i in moved],
    )
    better = [
        row
        for row, (i, lanes) in enumerate(zip(moved, _low_confidence_lanes(config, second), strict=True))
        if _score_sum(lanes) >= MIN_SCORE_RATIO * _score_sum(first_lanes[i])
    ]
    if len(better) == len(frames):  # one image, as a rule: nothing to copy
        return second
    for row in better:
        _replace_image(first, moved[row], second, row)
    return first


def camera_viewport(config: ClrernetConfig, detector: Detector, images: Sequence[BgrImage]) -> Viewport:
    """Choose one crop for all images of a camera, of one size: around the median of the horizons found in them."""
    frame = (images[0].shape[1], images[0].shape[0])
    view = initial_viewport(config.viewport, frame)
    rows = []
    for image in images:
        (lanes,) = _low_confidence_lanes(config, run_detector(config, detector, [image], view))
        row = horizon_row(lanes, frame)
        if row is not None and viewport_for_horizon(view, config.viewport, frame, row) != view:
            # Lanes that are cut off or far away are detected less well: measure again nearer to the right crop.
            nearer = viewport_with_horizon_at(config.viewport, frame, row)
            (lanes,) = _low_confidence_lanes(config, run_detector(config, detector, [image], nearer))
            row = horizon_row(lanes, frame) or row
        if row is not None:
            rows.append(row)
    return viewport_for_horizon(view, config.viewport, frame, float(np.median(rows)) if rows else None)


def _detect(detector: Detector, images: Sequence[BgrImage], viewports: Sequence[Viewport]) -> DetectorOutput:
    crops = np.stack([view.apply(image) for view, image in zip(viewports, images, strict=True)])  # (B, H, W, 3)
    return detector.run(torch.from_numpy(crops).permute(0, 3, 1, 2))


def _low_confidence_lanes(config: ClrernetConfig, batch: DetectorBatch) -> list[list[Lane]]:
    """Decode the lanes that vote for the horizon, those of low confidence among them."""
    threshold = HORIZON_VOTE_THRESHOLD * config.decode.conf_threshold
    decode = replace(config.decode, conf_threshold=threshold, extend_bottom=False)
    return decode_lanes(batch.output.predictions, decode, batch.viewports, batch.frames, max_lanes=config.max_lanes)


def _score_sum(lanes: Sequence[Lane]) -> float:
    return sum(lane.score for lane in lanes)


def _replace_image(target: DetectorBatch, image: int, source: DetectorBatch, row: int) -> None:
    """Overwrite one image of `target` with image `row` of `source`."""
    target.viewports[image] = source.viewports[row]
    for levels, new_levels in zip(target.output.levels, source.output.levels, strict=True):
        levels[image] = new_levels[row]
    for name, tensor in source.output.predictions.items():
        target.output.predictions[name][image] = tensor[row]
